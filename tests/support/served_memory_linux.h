// SPDX-License-Identifier: Apache-2.0
//
// For tests of servers that are killed: a device in memory that processes share, so that the next
// server goes on where the last one died, processes that write self-describing blocks through
// whatever serves it, each in a part of its own, and read all of it back at the end; and a server
// that leaves requests that it took unanswered, so that only asking again can end them.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "engine/platform/block.h"

namespace umbra::test {

class ServedMemory {
 public:
  static constexpr std::uint64_t kSize = 16U << 20U;
  static constexpr std::size_t kBlock = 4096;
  static constexpr std::size_t kWriters = 4;
  static constexpr std::uint64_t kStallEvery = 97;  // One request in so many is never answered.

  /// Seen by every process that is forked from now on, for ever.
  static ServedMemory& make();

  std::atomic<std::uint64_t> served{0};
  std::atomic<std::uint64_t> stalled{0};
  std::atomic<bool> may_stall{false};
  std::atomic<bool> stop{false};  // The writers verify and end.
  std::atomic<std::uint64_t> written{0};
  alignas(kBlock) std::byte bytes[kSize];
};

/// The same for all processes.
class ServedMemoryDevice final : public block::Device {
 public:
  explicit ServedMemoryDevice(ServedMemory& memory) : memory_(memory) {}
  [[nodiscard]] block::Geometry geometry() const noexcept override;
  void submit(block::Request& first) noexcept override;

 private:
  ServedMemory& memory_;
};

[[nodiscard]] pid_t in_child(const std::function<int()>& work);
/// Until `memory.stop`. 0: every block is what was last written; else 1 + the errno, or 200 for
/// wrong data.
[[nodiscard]] int write_and_verify(const std::string& device, ServedMemory& memory,
                                   std::size_t writer);
/// Memory of other processes: nothing to wait on. False: not within 20 s.
[[nodiscard]] bool wait_for(const std::function<bool()>& condition);
void kill_and_reap(pid_t pid);

}  // namespace umbra::test
