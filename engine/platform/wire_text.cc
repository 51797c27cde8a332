// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "engine/platform/wire_text.h"

#include <cstdint>

namespace umbra {
namespace {

constexpr std::string_view kEscape = "\xE2\x90\x9B";  // U+241B.
constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
constexpr std::string_view kDigits = "0123456789ABCDEF";

struct Sequence {
  std::size_t length = 0;  // 0: not well-formed.
  std::uint32_t point = 0;
};

std::size_t announced_length(unsigned char first) noexcept {
  if (first < 0x80) return 1;
  if ((first & 0xE0U) == 0xC0U) return 2;
  if ((first & 0xF0U) == 0xE0U) return 3;
  if ((first & 0xF8U) == 0xF0U) return 4;
  return 0;
}

Sequence first_sequence(std::string_view text) noexcept {
  constexpr std::uint32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  const auto first = static_cast<unsigned char>(text[0]);
  const std::size_t length = announced_length(first);
  if (length == 0 || length > text.size()) return {};
  if (length == 1) return {1, first};
  std::uint32_t point = first & (0x7FU >> length);
  for (std::size_t i = 1; i < length; ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if ((byte & 0xC0U) != 0x80U) return {};
    point = point << 6U | (byte & 0x3FU);
  }
  const bool surrogate = point >= 0xD800 && point <= 0xDFFF;
  if (point < kSmallest[length] || point > 0x10FFFF || surrogate) return {};
  return {length, point};
}

bool travels_as_it_is(std::uint32_t point) noexcept {
  const bool control = point < 0x20 || point == 0x7F;
  return !control && point != 0x241B && point != 0xFFFE && point != 0xFFFF;
}

int digit_value(char digit) noexcept {
  if (digit >= '0' && digit <= '9') return digit - '0';
  if (digit >= 'A' && digit <= 'F') return digit - 'A' + 10;
  if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
  return -1;
}

}  // namespace

bool is_utf8(std::string_view text) noexcept {
  while (!text.empty()) {
    const Sequence sequence = first_sequence(text);
    if (sequence.length == 0) return false;
    text.remove_prefix(sequence.length);
  }
  return true;
}

std::string escape_bytes(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  while (!bytes.empty()) {
    const Sequence sequence = first_sequence(bytes);
    if (sequence.length != 0 && travels_as_it_is(sequence.point)) {
      text.append(bytes.substr(0, sequence.length));
      bytes.remove_prefix(sequence.length);
      continue;
    }
    const std::size_t count = sequence.length == 0 ? 1 : sequence.length;
    for (std::size_t i = 0; i < count; ++i) {
      const auto byte = static_cast<unsigned char>(bytes[i]);
      text.append(kEscape).push_back(kDigits[byte >> 4U]);
      text.push_back(kDigits[byte & 0x0FU]);
    }
    bytes.remove_prefix(count);
  }
  return text;
}

std::optional<std::string> unescape_bytes(std::string_view text) {
  std::string bytes;
  bytes.reserve(text.size());
  while (true) {
    const std::size_t at = text.find(kEscape);
    bytes.append(text.substr(0, at));
    if (at == std::string_view::npos) return bytes;
    text.remove_prefix(at + kEscape.size());
    if (text.size() < 2) return std::nullopt;
    const int high = digit_value(text[0]);
    const int low = digit_value(text[1]);
    if (high < 0 || low < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(high * 16 + low));
    text.remove_prefix(2);
  }
}

std::string to_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Sequence sequence = first_sequence(text);
    if (sequence.length == 0) {
      out.append(kReplacement);
      text.remove_prefix(1);
    } else {
      out.append(text.substr(0, sequence.length));
      text.remove_prefix(sequence.length);
    }
  }
  return out;
}

}  // namespace umbra
