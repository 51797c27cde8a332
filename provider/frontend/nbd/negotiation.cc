// SPDX-License-Identifier: Apache-2.0
#include "provider/frontend/nbd/negotiation.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <set>

#include "engine/platform/assert.h"

namespace umbra::nbd {
namespace {

constexpr std::string_view kAllocationName = "base:allocation";
constexpr std::string_view kNoSuchExport = "no such export; NBD_OPT_LIST shows what there is";

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
  unsigned flags = kHasFlags | kSendFlush | kSendFua | kCanMultiConn | kSendCache;
  if (geometry.read_only) {
    flags |= kReadOnly;
  } else {
    flags |= kSendWriteZeroes | kSendFastZero;
    if (geometry.can_discard) flags |= kSendTrim;
  }
  return static_cast<std::uint16_t>(flags);
}

Negotiation::Negotiation(const Catalog& catalog, Encryption encryption)
    : catalog_(catalog), encryption_(encryption) {
  UMBRA_ASSERT(encryption != Encryption::established);
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

void Negotiation::is_encrypted() {
  UMBRA_ASSERT(state_ == State::upgrading);
  // Nothing was accepted before, so that there is nothing to forget.
  UMBRA_ASSERT(!structured_replies_ && !extended_headers_ && selected_.empty());
  encryption_ = Encryption::established;
  state_ = State::running;
  expect_option();
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
  // But there is no TLS without it.
  if (encryption_ == Encryption::required && (flags & kFlagFixedNewstyle) == 0) return close();
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
  const auto option = static_cast<Option>(option_);
  if (encryption_ == Encryption::required && option != Option::starttls &&
      option != Option::abort) {
    if (option == Option::export_name) return close();  // It has no way to say why.
    reply(OptionReply::tls_required, "this server wants TLS first");
    return expect_option();
  }
  switch (option) {
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
    case Option::starttls: start_tls(data); break;
    case Option::extended_headers: extended_headers(data); break;
    default: reply(OptionReply::unsupported); break;
  }
  if (state_ == State::running) expect_option();
}

void Negotiation::export_name(std::span<const std::byte> data) {
  if (data.size() > kNameBytesMax || extended_headers_) return close();
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
  if (!found) return reply(OptionReply::unknown, kNoSuchExport);
  const bool go = static_cast<Option>(option_) == Option::go;
  if (go) agree(*found);
  send_infos(*found, want_name, want_description);
  reply(OptionReply::ack);
}

std::uint16_t Negotiation::flags_for(const ExportDescription& found) const {
  unsigned flags = transmission_flags(found.geometry);
  if (structured_replies_ || extended_headers_) flags |= kSendDf;
  // A context holds for the export it was selected for, and for no other.
  if (extended_headers_ && !selected_.empty() && meta_export_ == found.name) {
    flags |= kBlockStatusPayload;
  }
  return static_cast<std::uint16_t>(flags);
}

void Negotiation::send_infos(const ExportDescription& found, bool want_name,
                             bool want_description) {
  std::byte* at = begin_reply(OptionReply::info, 12);
  store_be(at, kInfoExport);
  store_be(at + 2, found.geometry.size_bytes);
  store_be(at + 10, flags_for(found));
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

void Negotiation::start_tls(std::span<const std::byte> data) {
  if (encryption_ == Encryption::none) {
    return reply(OptionReply::policy, "no TLS here: this is a local socket, guarded by its mode");
  }
  if (encryption_ == Encryption::established) {
    return reply(OptionReply::invalid, "TLS has begun already");
  }
  if (!data.empty()) return reply(OptionReply::invalid, "this option takes no data");
  reply(OptionReply::ack);
  state_ = State::upgrading;
  wanted_ = 0;
}

void Negotiation::structured_reply(std::span<const std::byte> data) {
  if (!data.empty()) return reply(OptionReply::invalid, "this option takes no data");
  if (extended_headers_) {
    return reply(OptionReply::extended_headers_required, "extended headers are agreed already");
  }
  structured_replies_ = true;
  reply(OptionReply::ack);
}

void Negotiation::extended_headers(std::span<const std::byte> data) {
  if (!data.empty()) return reply(OptionReply::invalid, "this option takes no data");
  extended_headers_ = true;
  reply(OptionReply::ack);
}

// --- metadata contexts -----------------------------------------------------------------------

void Negotiation::meta_context(std::span<const std::byte> data) {
  const bool set = static_cast<Option>(option_) == Option::set_meta_context;
  if (set) forget_selection();  // Each one replaces the one before, also when it fails.
  if (!structured_replies_ && !extended_headers_) {
    return reply(OptionReply::invalid, "negotiate structured replies or extended headers first");
  }
  Cursor cursor(data);
  const auto name = cursor.text();
  const auto count = cursor.number<std::uint32_t>();
  if (count > kMetaQueriesMax) return reply(OptionReply::too_big, "too many queries");
  std::vector<std::string_view> queries;
  for (std::size_t i = 0; i < count && cursor.ok(); ++i) queries.push_back(cursor.text());
  if (!cursor.done()) {
    return reply(OptionReply::invalid, "the option's lengths do not add up");
  }
  const auto found = catalog_.find(name);
  if (!found) return reply(OptionReply::unknown, kNoSuchExport);
  const auto contexts = catalog_.contexts(found->name);
  if (!set) return list_contexts(queries, contexts.get());
  meta_export_ = found->name;
  select_contexts(queries, contexts.get());
}

// No query asks for all. One that ends with a colon asks for all that begin with it, but for a mere
// colon.
void Negotiation::list_contexts(const std::vector<std::string_view>& queries,
                                const Contexts* contexts) {
  std::set<std::string, std::less<>> told;
  const auto tell = [&](std::string_view name) {
    if (told.emplace(name).second) send_context(0, name);
  };
  const auto is_wanted = [&](std::string_view name) {
    return queries.empty() || std::any_of(queries.begin(), queries.end(), [&](auto query) {
             return query == name ||
                    (query.size() > 1 && query.back() == ':' && name.starts_with(query));
           });
  };
  if (is_wanted(kAllocationName)) tell(kAllocationName);
  if (contexts != nullptr) {
    for (const auto& name : contexts->list()) {
      if (is_wanted(name)) tell(name);
    }
    // Not every context is listed, and not every name of one.
    for (const auto query : queries) {
      if (told.find(query) == told.end() && contexts->open(query) != nullptr) tell(query);
    }
  }
  reply(OptionReply::ack);
}

void Negotiation::select_contexts(const std::vector<std::string_view>& queries,
                                  const Contexts* contexts) {
  for (const auto query : queries) {
    if (std::any_of(selected_.begin(), selected_.end(),
                    [&](const auto& other) { return other.name == query; })) {
      continue;
    }
    std::shared_ptr<Context> context;
    if (query != kAllocationName) {
      if (contexts != nullptr) context = contexts->open(query);
      if (context == nullptr) continue;
    }
    if (selected_.size() == kContextsMax) {
      forget_selection();
      return reply(OptionReply::too_big, "more contexts than a connection can have");
    }
    const auto id = static_cast<std::uint32_t>(kFirstContext + selected_.size());
    selected_.push_back({id, std::string(query), std::move(context)});
  }
  for (const auto& selected : selected_) send_context(selected.id, selected.name);
  reply(OptionReply::ack);
}

void Negotiation::forget_selection() {
  meta_export_.clear();
  selected_.clear();
}

void Negotiation::send_context(std::uint32_t id, std::string_view name) {
  std::byte* at = begin_reply(OptionReply::meta_context, 4 + name.size());
  store_be(at, id);
  put_text(at + 4, name);
}

// --- the agreement ---------------------------------------------------------------------------

void Negotiation::agree(const ExportDescription& found) {
  agreement_.export_name = found.name;
  agreement_.size_bytes = found.geometry.size_bytes;
  agreement_.block_bytes = found.geometry.block_bytes;
  agreement_.payload_bytes_max = payload_bytes_max(found.geometry);
  agreement_.transmission_flags = flags_for(found);
  agreement_.structured_replies = structured_replies_;
  agreement_.extended_headers = extended_headers_;
  agreement_.contexts.clear();
  if (meta_export_ == found.name) agreement_.contexts = selected_;
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
