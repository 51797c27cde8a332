// SPDX-License-Identifier: Apache-2.0
//
// Where a preserved chunk is.

#pragma once

#include <array>
#include <cstdint>

namespace umbra::cow {

/// What a record says of its chunk, and where: `segment` is the one whose index holds the record,
/// whatever its kind, and is needed as long as the record is. The segment's generation tells a
/// reused one from the one meant.
struct Home {
  enum class Kind : std::uint8_t {
    data,     // In `slot` of the segment's data.
    zeroes,   // The chunk was all zeroes; no slot.
    nothing,  // The chunk changed and nobody needed the old content; no slot, reads as zeroes.
  };
  std::uint32_t segment = 0;
  std::uint16_t slot = 0;  // Kind data only.
  Kind kind = Kind::data;
  bool unchecked = false;  // Its checksums were not taken yet; kind data only.

  [[nodiscard]] static constexpr Home data(std::uint32_t segment, std::uint32_t slot) noexcept {
    return {segment, static_cast<std::uint16_t>(slot), Kind::data, false};
  }
  friend bool operator==(const Home&, const Home&) = default;
};

/// A home in five bytes, since there is one in memory for every preserved chunk.
class PackedHome {
 public:
  static constexpr unsigned kSegmentBits = 24;
  static constexpr unsigned kSlotBits = 14;

  constexpr explicit PackedHome(Home home) noexcept
      : bytes_{byte(home.slot), byte(home.slot >> 8U | state(home) << (kSlotBits - 8)),
               byte(home.segment), byte(home.segment >> 8U), byte(home.segment >> 16U)} {}

  [[nodiscard]] constexpr Home unpack() const noexcept {
    const auto state = static_cast<State>(bytes_[1] >> (kSlotBits - 8));
    const unsigned high = bytes_[1] & ((1U << (kSlotBits - 8)) - 1);
    Home home;
    home.segment = bytes_[2] | std::uint32_t{bytes_[3]} << 8U | std::uint32_t{bytes_[4]} << 16U;
    home.slot = static_cast<std::uint16_t>(bytes_[0] | high << 8U);
    home.kind = state == State::zeroes    ? Home::Kind::zeroes
                : state == State::nothing ? Home::Kind::nothing
                                          : Home::Kind::data;
    home.unchecked = state == State::unchecked;
    return home;
  }

 private:
  enum class State : std::uint8_t { data, zeroes, nothing, unchecked };

  [[nodiscard]] static constexpr unsigned state(Home home) noexcept {
    const auto kind = static_cast<unsigned>(home.kind);  // The first three are the same.
    return home.unchecked ? static_cast<unsigned>(State::unchecked) : kind;
  }
  [[nodiscard]] static constexpr std::uint8_t byte(std::uint32_t value) noexcept {
    return static_cast<std::uint8_t>(value);
  }

  std::array<std::uint8_t, 5> bytes_;
};
static_assert(sizeof(PackedHome) == 5 && alignof(PackedHome) == 1);

}  // namespace umbra::cow
