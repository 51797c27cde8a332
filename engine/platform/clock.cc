// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "engine/platform/clock.h"

namespace umbra {
namespace {

// Seconds between 1601-01-01 and 1970-01-01.
constexpr std::int64_t kFiletimeToUnixSeconds = 11'644'473'600;
constexpr std::int64_t kTicksPerSecond = 10'000'000;

class SystemClock final : public Clock {
 public:
  [[nodiscard]] TimePoint now() const noexcept override {
    return std::chrono::time_point_cast<Duration>(std::chrono::steady_clock::now());
  }
  [[nodiscard]] std::int64_t wall_filetime() const noexcept override {
    const auto since_unix = std::chrono::system_clock::now().time_since_epoch();
    return std::chrono::duration_cast<
               std::chrono::duration<std::int64_t, std::ratio<1, kTicksPerSecond>>>(since_unix)
               .count() +
           kFiletimeToUnixSeconds * kTicksPerSecond;
  }
};

}  // namespace

const Clock& system_clock() noexcept {
  static const SystemClock clock;
  return clock;
}

}  // namespace umbra
