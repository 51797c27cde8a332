// SPDX-License-Identifier: Apache-2.0
//
// What to do about the space of a diff area, as pure functions of what is known: how fast it fills,
// how much to keep ready, which threshold is crossed. Nothing here waits, locks or does I/O.

#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "engine/platform/clock.h"

namespace umbra::cow {

/// How fast space is taken into use, in the last few seconds. Threads: the caller's lock.
class WriteRate {
 public:
  void note(TimePoint now, std::uint64_t bytes) noexcept;
  /// Of the fastest of the last kSeconds seconds: one that was fast may come again.
  [[nodiscard]] std::uint64_t bytes_per_second(TimePoint now) const noexcept;

 private:
  static constexpr std::size_t kSeconds = 8;
  struct Second {
    std::int64_t number = -1;
    std::uint64_t bytes = 0;
  };
  std::array<Second, kSeconds> seconds_{};
};

/// Space is kept ready for this long at the rate of the last seconds.
inline constexpr std::uint64_t kAheadSeconds = 10;
/// And never more than this ahead.
inline constexpr std::uint64_t kAheadBytesMax = std::uint64_t{4} << 30U;

/// Bytes that should be ready to take records: for kAheadSeconds of `rate`, at least `step_bytes`.
[[nodiscard]] std::uint64_t ahead_bytes(std::uint64_t rate, std::uint64_t step_bytes) noexcept;

/// What the host can give to a file of ours on it.
struct HostRoom {
  std::uint64_t free_bytes = 0;      // Of the host's file system, for us.
  std::uint64_t promised_bytes = 0;  // That a sparse origin on it may still want.
  [[nodiscard]] std::uint64_t for_us() const noexcept {
    return free_bytes > promised_bytes ? free_bytes - promised_bytes : 0;
  }
};

struct Growth {
  std::uint64_t size_bytes = 0;     // Of the diff area now.
  std::uint64_t wanted_bytes = 0;   // To add.
  std::uint64_t least_bytes = 0;    // Less is of no use.
  std::uint64_t maximum_bytes = 0;  // 0: no bound.
  std::optional<HostRoom> host;     // Nothing: not known.
};
/// The size to grow to. Nothing: it cannot, by the maximum or the host; `by_host` says which.
struct GrowthDecision {
  std::optional<std::uint64_t> size_bytes;
  bool by_host = false;
};
[[nodiscard]] GrowthDecision decide_growth(const Growth& growth) noexcept;

/// Which thresholds are crossed. One that was crossed is left only kHysteresisPercent below.
class Thresholds {
 public:
  static constexpr std::size_t kCount = 3;
  static constexpr std::uint32_t kHysteresisPercent = 3;

  /// Rising; 0 switches one off, and so does being the same as the one before.
  void set(const std::array<std::uint8_t, kCount>& percents) noexcept {
    percents_ = percents;
    for (std::size_t i = 1; i < kCount; ++i) {
      if (percents[i] == percents[i - 1]) percents_[i] = 0;
    }
    crossed_ = {};
  }
  struct Crossed {
    std::uint32_t percent = 0;
    bool upwards = false;
  };
  /// The next change that `used` of `limit` bytes make, if there is one: call it until there is
  /// none. Without a limit (0) nothing is crossed.
  [[nodiscard]] std::optional<Crossed> next(std::uint64_t used, std::uint64_t limit) noexcept;

 private:
  std::array<std::uint8_t, kCount> percents_ = {80, 90, 95};
  std::array<bool, kCount> crossed_{};
};

/// Waits before something that failed is tried again: 1 s, then twice as long, up to 60 s.
class Backoff {
 public:
  void failed(TimePoint now) noexcept;
  void reset() noexcept { wait_ = Duration::zero(); }
  [[nodiscard]] bool over(TimePoint now) const noexcept {
    return wait_ == Duration::zero() || now - since_ >= wait_;
  }
  [[nodiscard]] bool pending() const noexcept { return wait_ != Duration::zero(); }

 private:
  TimePoint since_{};
  Duration wait_ = Duration::zero();
};

}  // namespace umbra::cow
