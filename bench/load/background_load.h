// SPDX-License-Identifier: Apache-2.0
//
// Random writes to several volumes at once, from a thread, while the main one does something else.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bench/load/content.h"

namespace umbra::bench {

struct BackgroundOptions {
  std::vector<std::string> uris;
  std::uint64_t size_bytes = 0;  // Of each volume.
  std::uint32_t request_bytes = 4096;
  std::size_t depth = 32;  // On each connection.
  std::uint64_t seed = 1;
  bool note_each = false;  // For samples() and take_samples().
  /// A lost connection is made again within this time, and what was not answered is written again;
  /// 0: it is a failure.
  std::chrono::seconds reconnect_limit{0};
};

/// One request: when it was answered (seconds since the begin), and what it took.
struct Sample {
  double at_seconds = 0;
  std::uint32_t latency_ns = 0;
};

/// What a volume held at some moment between two: granules are from a write between both.
struct ContentBetween {
  Content earliest;  // Of writes that were answered.
  Content latest;    // Of writes that were sent.
};

/// Threads: one at a time.
class BackgroundLoad {
 public:
  /// Connects. Throws Failed.
  [[nodiscard]] static std::unique_ptr<BackgroundLoad> start(const BackgroundOptions& options);
  /// stop(), whatever went wrong.
  virtual ~BackgroundLoad() = default;
  /// Since start().
  [[nodiscard]] virtual double seconds() const = 0;
  /// Requests that were answered so far. Throws Failed if one failed, or if none is answered for
  /// kStallSecondsMax.
  [[nodiscard]] virtual std::uint64_t completed() const = 0;
  /// What the volume number `line` certainly holds now, and what it may hold. Any time.
  [[nodiscard]] virtual ContentBetween content(std::size_t line) const = 0;
  /// Those noted since the last call. Any time.
  [[nodiscard]] virtual std::vector<Sample> take_samples() = 0;
  /// Waits for what is in flight. Throws Failed if a request failed.
  virtual void stop() = 0;
  /// Reads everything back, after stop(). The digest of all volumes.
  [[nodiscard]] virtual std::uint32_t verify() = 0;
  /// After stop().
  [[nodiscard]] virtual const std::vector<Sample>& samples() const = 0;
};

}  // namespace umbra::bench
