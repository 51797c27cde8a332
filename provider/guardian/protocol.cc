// SPDX-License-Identifier: Apache-2.0
#include "provider/guardian/protocol.h"

#include <algorithm>
#include <type_traits>

namespace umbra::guardian {
namespace {

constexpr std::size_t kHeadBytes = 52;

template <class T>
void put(std::vector<std::byte>& out, T value) {
  static_assert(std::is_unsigned_v<T>);
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    out.push_back(static_cast<std::byte>(static_cast<std::uint64_t>(value) >> (8 * i)));
  }
}

// Reads from the front; past the end it gives zeroes and remembers that it failed.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> rest) : rest_(rest) {}

  template <class T>
  T take() {
    std::uint64_t value = 0;
    if (!enough(sizeof(T))) return 0;
    for (std::size_t i = 0; i < sizeof(T); ++i) {
      value |= static_cast<std::uint64_t>(rest_[i]) << (8 * i);
    }
    rest_ = rest_.subspan(sizeof(T));
    return static_cast<T>(value);
  }
  std::span<const std::byte> bytes(std::size_t count) {
    if (!enough(count)) return {};
    const auto taken = rest_.first(count);
    rest_ = rest_.subspan(count);
    return taken;
  }
  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] bool at_end() const { return rest_.empty(); }

 private:
  bool enough(std::size_t count) {
    if (rest_.size() < count) ok_ = false;
    return ok_;
  }

  std::span<const std::byte> rest_;
  bool ok_ = true;
};

}  // namespace

Result<std::vector<std::byte>> encode(const Message& message) {
  std::size_t size_bytes = kHeadBytes + 8 * message.devices.size();
  for (const auto& text : message.texts) size_bytes += 4 + text.size();
  if (size_bytes > kDatagramBytesMax || message.devices.size() > kDevicesMax ||
      message.texts.size() > kTextsMax) {
    return fail(Errc::limit_reached, "a message to or from the guardian is too long");
  }
  std::vector<std::byte> out;
  out.reserve(size_bytes);
  put(out, kMagic);
  put(out, kVersion);
  put(out, static_cast<std::uint16_t>(message.kind));
  put(out, message.id);
  put(out, static_cast<std::uint32_t>(message.code));
  for (const auto byte : message.set.bytes) put(out, byte);
  put(out, message.limit_ms);
  put(out, message.lease_ms);
  put(out, std::uint32_t{message.flag});
  put(out, static_cast<std::uint32_t>(message.devices.size()));
  put(out, static_cast<std::uint32_t>(message.texts.size()));
  for (const auto device : message.devices) put(out, device);
  for (const auto& text : message.texts) {
    put(out, static_cast<std::uint32_t>(text.size()));
    const auto bytes = std::as_bytes(std::span(text));
    out.insert(out.end(), bytes.begin(), bytes.end());
  }
  return out;
}

Result<Message> decode(std::span<const std::byte> datagram) {
  Reader reader(datagram);
  if (reader.take<std::uint32_t>() != kMagic) {
    return fail(Errc::protocol_violation, "not a message of the guardian's protocol");
  }
  if (const auto version = reader.take<std::uint16_t>(); version != kVersion) {
    return fail(Errc::version_mismatch, "guardian protocol version " + std::to_string(version) +
                                            ", this program speaks " + std::to_string(kVersion));
  }
  Message message;
  message.kind = static_cast<Kind>(reader.take<std::uint16_t>());
  message.id = reader.take<std::uint32_t>();
  message.code = static_cast<Errc>(reader.take<std::uint32_t>());
  for (auto& byte : message.set.bytes) byte = reader.take<std::uint8_t>();
  message.limit_ms = reader.take<std::uint32_t>();
  message.lease_ms = reader.take<std::uint32_t>();
  message.flag = reader.take<std::uint32_t>() != 0;
  const auto device_count = reader.take<std::uint32_t>();
  const auto text_count = reader.take<std::uint32_t>();
  if (device_count > kDevicesMax || text_count > kTextsMax) {
    return fail(Errc::protocol_violation, "too many devices or texts in a guardian message");
  }
  for (std::uint32_t i = 0; i < device_count && reader.ok(); ++i) {
    message.devices.push_back(reader.take<std::uint64_t>());
  }
  for (std::uint32_t i = 0; i < text_count && reader.ok(); ++i) {
    const auto bytes = reader.bytes(reader.take<std::uint32_t>());
    auto& text = message.texts.emplace_back(bytes.size(), '\0');
    std::transform(bytes.begin(), bytes.end(), text.begin(),
                   [](std::byte byte) { return static_cast<char>(byte); });
  }
  if (!reader.ok() || !reader.at_end()) {
    return fail(Errc::protocol_violation, "a guardian message is cut short or too long");
  }
  return message;
}

}  // namespace umbra::guardian
