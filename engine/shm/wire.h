// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// What a reader and umbra-cowd say to each other over RUN/reader.sock, once, at the start. The
// connection is the reader's claim on the view: it ends with it. docs/formats/shm.md is the
// reference.
//
//   request   0 magic u32 · 4 version u32 · 8 snapshot 16 bytes
//   answer    0 magic u32 · 4 version u32 · 8 code u32 · 12 text bytes u32 · 16 text
//             with code 0 four descriptors, beside the first byte: view, page of life, origin,
//             diff area
//
// Decoding is total.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "umbra/ids.h"
#include "umbra/result.h"

namespace umbra::shm {

inline constexpr std::string_view kSocketName = "reader.sock";
inline constexpr std::uint32_t kWireMagic = 0x52445231;  // "1RDR"
inline constexpr std::uint32_t kWireVersion = 1;
inline constexpr std::size_t kRequestBytes = 24;
inline constexpr std::size_t kAnswerHeadBytes = 16;
inline constexpr std::size_t kAnswerTextBytesMax = 4096;
/// With an answer, in this order.
enum class Descriptor : std::size_t { view, life, origin, diff_area };
inline constexpr std::size_t kDescriptors = 4;

[[nodiscard]] std::array<std::byte, kRequestBytes> encode_request(const SnapshotId& snapshot);
/// Errors: version_mismatch; protocol_violation.
[[nodiscard]] Result<SnapshotId> decode_request(std::span<const std::byte, kRequestBytes> request);
/// Code ok: `text` is not looked at. What is too long is cut.
[[nodiscard]] std::vector<std::byte> encode_answer(Errc code, std::string_view text);
struct AnswerHead {
  Errc code = Errc::ok;
  std::size_t text_bytes = 0;  // At most kAnswerTextBytesMax.
};
/// Errors: version_mismatch; protocol_violation.
[[nodiscard]] Result<AnswerHead> decode_answer_head(
    std::span<const std::byte, kAnswerHeadBytes> head);

}  // namespace umbra::shm
