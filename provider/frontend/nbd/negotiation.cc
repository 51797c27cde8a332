// SPDX-License-Identifier: Apache-2.0
#include "provider/frontend/nbd/negotiation.h"

#include <algorithm>
#include <cstring>

#include "engine/platform/assert.h"

namespace umbra::nbd {
namespace {

constexpr std::string_view kAllocationName = "base:allocation";

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void put_text(std::byte* to, std::string_view text) {
  if (!text.empty()) std::memcpy(to, text.data(), text.size());
}

// Takes length-prefixed pieces off a client's bytes. After a piece that does not fit, ok() is
// false and every further piece is empty.
class Cursor {
 public:
  explicit Cursor(std::span<const std::byte> bytes) : rest_(bytes) {}

  template <class T>
  T number() {
    const auto bytes = take(sizeof(T));
    return bytes.empty() ? T{0} : load_be<T>(bytes.data());
  }
  // A string with a 32-bit length before it.
  std::string_view text() {
    const std::size_t size = number<std::uint32_t>();
    if (size > kNameBytesMax) ok_ = false;
    return text_of(take(size));
  }
  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] bool done() const { return ok_ && rest_.empty(); }

 private:
  std::span<const std::byte> take(std::size_t size) {
    if (!ok_ || size > rest_.size()) {
      ok_ = false;
      return {};
    }
    const auto piece = rest_.first(size);
    rest_ = rest_.subspan(size);
    return piece;
  }

  std::span<const std::byte> rest_;
  bool ok_ = true;
};

std::uint32_t payload_bytes_max(const block::Geometry& geometry) {
  const auto limit = std::min<std::uint64_t>(std::max<std::uint64_t>(geometry.request_bytes_max, 1),
                                             kPayloadBytesMax);
  // A multiple of the block, as the protocol wants it, and never less than one.
  const auto blocks = std::max<std::uint64_t>(limit / geometry.block_bytes, 1);
  return static_cast<std::uint32_t>(blocks * geometry.block_bytes);
}

}  // namespace

std::uint16_t transmission_flags(const block::Geometry& geometry) noexcept {
  unsigned flags = kHasFlags | kSendFlush | kSendFua | kCanMultiConn;
  if (geometry.read_only) {
    flags |= kReadOnly;
  } else {
    flags |= kSendWriteZeroes;
    if (geometry.can_discard) flags |= kSendTrim;
  }
  return static_cast<std::uint16_t>(flags);
}

Negotiation::Negotiation(const Catalog& catalog) : catalog_(catalog) {
  std::byte* at = append(kGreetingBytes);
  store_be(at, kMagicGreeting);
  store_be(at + 8, kMagicOption);
  store_be(at + 16, static_cast<std::uint16_t>(kFlagFixedNewstyle | kFlagNoZeroes));
}

Negotiation::State Negotiation::feed(std::span<const std::byte> bytes) {
  UMBRA_ASSERT(state_ == State::running && bytes.size() == wanted_);
  switch (piece_) {
    case Piece::client_flags: take_client_flags(bytes); break;
    case Piece::option_header: take_option_header(bytes); break;
    case Piece::option_data: take_option(bytes); break;
  }
  return state_;
}

Negotiation::State Negotiation::export_has_gone() {
  UMBRA_ASSERT(state_ == State::agreed);
  output_.clear();
  if (static_cast<Option>(option_) != Option::go) {
    close();
    return state_;
  }
  state_ = State::running;
  expect_option();
  reply(OptionReply::unknown, "the export has just gone");
  return state_;
}

void Negotiation::take_client_flags(std::span<const std::byte> bytes) {
  const auto flags = load_be<std::uint32_t>(bytes.data());
  if ((flags & ~(kFlagFixedNewstyle | kFlagNoZeroes)) != 0) return close();
  // Without fixed newstyle only EXPORT_NAME is valid; answering the others all the same is allowed.
  no_zeroes_ = (flags & kFlagNoZeroes) != 0;
  expect_option();
}

void Negotiation::take_option_header(std::span<const std::byte> bytes) {
  if (load_be<std::uint64_t>(bytes.data()) != kMagicOption) return close();
  if (++option_count_ > kOptionCountMax) return close();
  option_ = load_be<std::uint32_t>(bytes.data() + 8);
  const auto size = load_be<std::uint32_t>(bytes.data() + 12);
  if (size > kOptionBytesMax) {
    // Reading on only to find the next option is not worth it: no honest client gets here.
    if (static_cast<Option>(option_) != Option::export_name) {
      reply(OptionReply::too_big, "the option is longer than this server reads");
    }
    return close();
  }
  if (size == 0) return take_option({});
  piece_ = Piece::option_data;
  wanted_ = size;
}

void Negotiation::take_option(std::span<const std::byte> data) {
  switch (static_cast<Option>(option_)) {
    case Option::export_name: export_name(data); break;
    case Option::abort:
      reply(OptionReply::ack);
      close();
      break;
    case Option::list: list(data); break;
    case Option::info:
    case Option::go: info_or_go(data); break;
    case Option::structured_reply: structured_reply(data); break;
    case Option::list_meta_context:
    case Option::set_meta_context: meta_context(data); break;
    case Option::starttls:
    case Option::extended_headers:
    default: reply(OptionReply::unsupported); break;
  }
  if (state_ == State::running) expect_option();
}

void Negotiation::export_name(std::span<const std::byte> data) {
  if (data.size() > kNameBytesMax) return close();
  const auto found = catalog_.find(text_of(data));
  if (!found) return close();  // This option has no way to say why.
  agree(*found);
  std::byte* at = append(8 + 2 + (no_zeroes_ ? 0 : kExportNameZeroes));
  store_be(at, agreement_.size_bytes);
  store_be(at + 8, agreement_.transmission_flags);
}

void Negotiation::list(std::span<const std::byte> data) {
  if (!data.empty()) return reply(OptionReply::invalid, "NBD_OPT_LIST takes no data");
  for (const auto& entry : catalog_.list()) {
    std::byte* at =
        begin_reply(OptionReply::server, 4 + entry.name.size() + entry.description.size());
    store_be(at, static_cast<std::uint32_t>(entry.name.size()));
    put_text(at + 4, entry.name);
    put_text(at + 4 + entry.name.size(), entry.description);
  }
  reply(OptionReply::ack);
}

void Negotiation::info_or_go(std::span<const std::byte> data) {
  Cursor cursor(data);
  const auto name = cursor.text();
  bool want_name = false;
  bool want_description = false;
  const auto requests = cursor.number<std::uint16_t>();
  for (std::size_t i = 0; i < requests && cursor.ok(); ++i) {
    const auto wanted = cursor.number<std::uint16_t>();
    want_name |= wanted == kInfoName;
    want_description |= wanted == kInfoDescription;
  }
  if (!cursor.done()) {
    return reply(OptionReply::invalid, "the option's lengths do not add up");
  }
  const auto found = catalog_.find(name);
  if (!found)
    return reply(OptionReply::unknown, "no such export; NBD_OPT_LIST shows what there is");
  const bool go = static_cast<Option>(option_) == Option::go;
  if (go) agree(*found);
  send_infos(*found, want_name, want_description);
  reply(OptionReply::ack);
}

void Negotiation::send_infos(const ExportDescription& found, bool want_name,
                             bool want_description) {
  auto flags = transmission_flags(found.geometry);
  if (structured_replies_) flags = static_cast<std::uint16_t>(flags | kSendDf);
  std::byte* at = begin_reply(OptionReply::info, 12);
  store_be(at, kInfoExport);
  store_be(at + 2, found.geometry.size_bytes);
  store_be(at + 10, flags);
  // Sent unasked too: a client that does not know it ignores it, and one that does is spared
  // EINVAL.
  at = begin_reply(OptionReply::info, 14);
  store_be(at, kInfoBlockSize);
  store_be(at + 2, found.geometry.block_bytes);
  store_be(at + 6, std::max(kPreferredBlockBytes, found.geometry.block_bytes));
  store_be(at + 10, payload_bytes_max(found.geometry));
  if (want_name) {
    at = begin_reply(OptionReply::info, 2 + found.name.size());
    store_be(at, kInfoName);
    put_text(at + 2, found.name);
  }
  if (want_description && !found.description.empty()) {
    at = begin_reply(OptionReply::info, 2 + found.description.size());
    store_be(at, kInfoDescription);
    put_text(at + 2, found.description);
  }
}

void Negotiation::structured_reply(std::span<const std::byte> data) {
  if (!data.empty()) return reply(OptionReply::invalid, "this option takes no data");
  structured_replies_ = true;
  reply(OptionReply::ack);
}

void Negotiation::meta_context(std::span<const std::byte> data) {
  const bool set = static_cast<Option>(option_) == Option::set_meta_context;
  if (set) meta_export_.reset();  // Each one replaces the one before, also when it fails.
  if (!structured_replies_) {
    return reply(OptionReply::invalid, "negotiate structured replies first");
  }
  Cursor cursor(data);
  const auto name = cursor.text();
  const auto queries = cursor.number<std::uint32_t>();
  if (queries > kMetaQueriesMax) return reply(OptionReply::too_big, "too many queries");
  bool matches = !set && queries == 0;
  for (std::size_t i = 0; i < queries && cursor.ok(); ++i) {
    const auto query = cursor.text();
    matches |= query == kAllocationName || (!set && query == "base:");
  }
  if (!cursor.done()) {
    return reply(OptionReply::invalid, "the option's lengths do not add up");
  }
  const auto found = catalog_.find(name);
  if (!found)
    return reply(OptionReply::unknown, "no such export; NBD_OPT_LIST shows what there is");
  if (matches) {
    std::byte* at = begin_reply(OptionReply::meta_context, 4 + kAllocationName.size());
    store_be(at, set ? kAllocationContext : std::uint32_t{0});
    put_text(at + 4, kAllocationName);
    if (set) meta_export_ = found->name;
  }
  reply(OptionReply::ack);
}

void Negotiation::agree(const ExportDescription& found) {
  agreement_.export_name = found.name;
  agreement_.size_bytes = found.geometry.size_bytes;
  agreement_.block_bytes = found.geometry.block_bytes;
  agreement_.payload_bytes_max = payload_bytes_max(found.geometry);
  agreement_.transmission_flags = transmission_flags(found.geometry);
  if (structured_replies_) {
    agreement_.transmission_flags =
        static_cast<std::uint16_t>(agreement_.transmission_flags | kSendDf);
  }
  agreement_.structured_replies = structured_replies_;
  // A context holds for the export it was selected for, and for no other.
  agreement_.allocation_context = meta_export_.has_value() && *meta_export_ == found.name;
  state_ = State::agreed;
  wanted_ = 0;
}

void Negotiation::expect_option() {
  piece_ = Piece::option_header;
  wanted_ = kOptionHeaderBytes;
}

void Negotiation::close() noexcept {
  state_ = State::closed;
  wanted_ = 0;
}

std::byte* Negotiation::append(std::size_t size) {
  const auto old = output_.size();
  output_.resize(old + size);
  return output_.data() + old;
}

std::byte* Negotiation::begin_reply(OptionReply type, std::size_t size) {
  std::byte* at = append(kOptionReplyHeaderBytes + size);
  store_be(at, kMagicOptionReply);
  store_be(at + 8, option_);
  store_be(at + 12, static_cast<std::uint32_t>(type));
  store_be(at + 16, static_cast<std::uint32_t>(size));
  return at + kOptionReplyHeaderBytes;
}

void Negotiation::reply(OptionReply type, std::string_view text) {
  put_text(begin_reply(type, text.size()), text);
}

}  // namespace umbra::nbd
