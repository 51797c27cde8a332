// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "umbra/ids.h"

#include <algorithm>
#include <atomic>
#include <boost/uuid/random_generator.hpp>

#include "engine/platform/ids_source.h"

namespace umbra {
namespace {

constexpr std::size_t kTextLength = 36;
constexpr std::size_t kShownLengthMax = 64;  // Of a wrong text, in an error.

bool is_dash_position(std::size_t position) {
  return position == 8 || position == 13 || position == 18 || position == 23;
}

int digit_value(char digit) {
  if (digit >= '0' && digit <= '9') return digit - '0';
  if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
  if (digit >= 'A' && digit <= 'F') return digit - 'A' + 10;
  return -1;
}

std::atomic<Prng*> g_seeded = nullptr;

}  // namespace

SeededIds::SeededIds(Prng& source) noexcept { g_seeded = &source; }
SeededIds::~SeededIds() { g_seeded = nullptr; }

Guid Guid::random() {
  if (Prng* const seeded = g_seeded.load(std::memory_order_relaxed)) {
    Guid guid;
    for (auto& byte : guid.bytes) byte = static_cast<std::uint8_t>(seeded->next() >> 32U);
    guid.bytes[6] = static_cast<std::uint8_t>((guid.bytes[6] & 0x0FU) | 0x40U);  // Version 4.
    guid.bytes[8] = static_cast<std::uint8_t>((guid.bytes[8] & 0x3FU) | 0x80U);
    return guid;
  }
  const boost::uuids::uuid fresh = boost::uuids::random_generator_pure{}();
  Guid guid;
  std::copy(fresh.begin(), fresh.end(), guid.bytes.begin());
  return guid;
}

Result<Guid> Guid::parse(std::string_view text) {
  const auto refuse = [shown = text.substr(0, kShownLengthMax)] {
    return fail(Errc::invalid_argument, "'" + std::string(shown) + "' is not a GUID");
  };
  if (text.size() == kTextLength + 2 && text.front() == '{' && text.back() == '}') {
    text = text.substr(1, kTextLength);
  }
  if (text.size() != kTextLength) return refuse();

  Guid guid;
  std::size_t nibble = 0;
  for (std::size_t i = 0; i < kTextLength; ++i) {
    if (is_dash_position(i)) {
      if (text[i] != '-') return refuse();
      continue;
    }
    const int value = digit_value(text[i]);
    if (value < 0) return refuse();
    auto& byte = guid.bytes.at(nibble / 2);
    byte = static_cast<std::uint8_t>(byte << 4 | value);
    ++nibble;
  }
  return guid;
}

std::string Guid::to_string() const {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  text.reserve(kTextLength);
  for (const auto byte : bytes) {
    if (is_dash_position(text.size())) text.push_back('-');
    text.push_back(kDigits[byte >> 4]);
    text.push_back(kDigits[byte & 0x0F]);
  }
  return text;
}

}  // namespace umbra
