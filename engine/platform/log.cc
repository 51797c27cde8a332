// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "engine/platform/log.h"

namespace umbra {
namespace {

class NullLog final : public Log {
 public:
  void write(LogLevel, std::string_view, std::string_view,
             std::span<const LogField>) noexcept override {}
};

// Length of the well-formed UTF-8 sequence at the start of `text`, 0 if there is none.
std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  std::size_t length = 0;
  std::uint32_t point = 0;
  if (byte(0) < 0x80) return 1;
  if ((byte(0) & 0xE0U) == 0xC0U) {
    length = 2;
    point = byte(0) & 0x1FU;
  } else if ((byte(0) & 0xF0U) == 0xE0U) {
    length = 3;
    point = byte(0) & 0x0FU;
  } else if ((byte(0) & 0xF8U) == 0xF0U) {
    length = 4;
    point = byte(0) & 0x07U;
  } else {
    return 0;
  }
  if (text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0U) != 0x80U) return 0;
    point = point << 6U | (byte(i) & 0x3FU);
  }
  constexpr std::uint32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = point >= 0xD800 && point <= 0xDFFF;
  const bool c1_control = point < 0xA0;
  if (point < kSmallest[length] || point > 0x10FFFF || surrogate || c1_control) return 0;
  return length;
}

void append_escaped(std::string& out, unsigned char byte) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  out.append("\\x").push_back(kDigits[byte >> 4U]);
  out.push_back(kDigits[byte & 0x0FU]);
}

}  // namespace

Log& null_log() noexcept {
  static NullLog log;
  return log;
}

std::string printable(std::string_view text, std::size_t length_max) {
  constexpr std::string_view kCut = "...";
  std::string out;
  while (!text.empty()) {
    const std::size_t length = utf8_length(text);
    const auto first = static_cast<unsigned char>(text.front());
    std::string piece;
    if (length == 0 || (length == 1 && (first < 0x20 || first == 0x7F))) {
      append_escaped(piece, first);
    } else if (first == '"' || first == '\\') {
      piece.append({'\\', text.front()});
    } else {
      piece.assign(text.substr(0, length));
    }
    if (out.size() + piece.size() > length_max) return out.append(kCut);
    out.append(piece);
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return out;
}

}  // namespace umbra
