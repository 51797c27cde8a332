// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "engine/shm/wire.h"

#include <algorithm>
#include <cstring>

namespace umbra::shm {
namespace {

template <class T>
T get(std::span<const std::byte> bytes, std::size_t at) noexcept {
  T value{};
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

template <class T>
void put(std::span<std::byte> bytes, std::size_t at, T value) noexcept {
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

[[nodiscard]] Status check_head(std::span<const std::byte> bytes) {
  if (get<std::uint32_t>(bytes, 0) != kWireMagic) {
    return fail(Errc::protocol_violation, "this is not the protocol of snapshot readers");
  }
  const auto version = get<std::uint32_t>(bytes, 4);
  if (version == kWireVersion) return {};
  return fail(Errc::version_mismatch, "snapshot readers of version " + std::to_string(version) +
                                          "; this program speaks version " +
                                          std::to_string(kWireVersion));
}

}  // namespace

std::array<std::byte, kRequestBytes> encode_request(const SnapshotId& snapshot) {
  std::array<std::byte, kRequestBytes> request{};
  put(request, 0, kWireMagic);
  put(request, 4, kWireVersion);
  put(request, 8, snapshot.bytes);
  return request;
}

Result<SnapshotId> decode_request(std::span<const std::byte, kRequestBytes> request) {
  if (const Status head = check_head(request); !head) return fail(head.error());
  SnapshotId snapshot;
  snapshot.bytes = get<decltype(snapshot.bytes)>(request, 8);
  return snapshot;
}

std::vector<std::byte> encode_answer(Errc code, std::string_view text) {
  if (code == Errc::ok) text = {};
  text = text.substr(0, kAnswerTextBytesMax);
  std::vector<std::byte> answer(kAnswerHeadBytes + text.size());
  put(answer, 0, kWireMagic);
  put(answer, 4, kWireVersion);
  put(answer, 8, static_cast<std::uint32_t>(code));
  put(answer, 12, static_cast<std::uint32_t>(text.size()));
  std::transform(text.begin(), text.end(), answer.begin() + kAnswerHeadBytes,
                 [](char c) { return static_cast<std::byte>(c); });
  return answer;
}

Result<AnswerHead> decode_answer_head(std::span<const std::byte, kAnswerHeadBytes> head) {
  if (const Status known = check_head(head); !known) return fail(known.error());
  const auto text_bytes = get<std::uint32_t>(head, 12);
  if (text_bytes > kAnswerTextBytesMax) {
    return fail(Errc::protocol_violation,
                "an answer of " + std::to_string(text_bytes) + " bytes of text");
  }
  return AnswerHead{static_cast<Errc>(get<std::uint32_t>(head, 8)), text_bytes};
}

}  // namespace umbra::shm
