// SPDX-License-Identifier: Apache-2.0
//
// One queue of a ublk device: its thread, its ring, its buffers (device.h).

#pragma once

#include <liburing.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

#include "engine/platform/block.h"
#include "engine/platform/log.h"
#include "engine/platform/unique_fd.h"
#include "provider/frontend/ublk/plan.h"
#include "provider/frontend/ublk/wire_linux.h"
#include "umbra/result.h"

namespace umbra::ublk {

/// Threads: prepare(), fetch() and end() from one; done with by any.
class Queue {
 public:
  Queue(std::uint16_t index, const Shape& shape, bool encoded, block::Device& served,
        const Logger& log);
  /// Lets go of what the kernel has given it (a crash, for the kernel), after what is in flight in
  /// the served device has ended. end() comes first if the device is stopped.
  ~Queue();
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;

  /// Buffers, thread and ring; nothing is fetched. Errors: out_of_memory; missing_kernel_feature.
  [[nodiscard]] Status prepare();
  /// Maps the requests' descriptions and fetches all of them; returns before that has happened.
  /// `device`: of /dev/ublkcN, stays open until the destructor has returned. Errors: io_error.
  [[nodiscard]] Status fetch(int device);
  /// The device is being stopped: returns when the kernel has taken every request back. Then the
  /// character device is not used any more.
  void end();

 private:
  struct Slot {
    block::Request io;
    Queue* queue = nullptr;
    Slot* next = nullptr;
    std::byte* buffer = nullptr;
    std::uint16_t tag = 0;
  };
  enum class Phase : int { preparing, prepared, fetching, ended };

  static void completed(block::Request& io) noexcept;
  void run() noexcept;
  [[nodiscard]] int set_up() noexcept;
  [[nodiscard]] io_uring_sqe& next_entry() noexcept;
  void ask(Slot& slot, unsigned command, std::int32_t result) noexcept;
  void listen() noexcept;
  void serve() noexcept;
  void reap() noexcept;
  void answer_done() noexcept;
  void wake() const noexcept;

  const std::uint16_t index_;
  const Shape shape_;
  const bool encoded_;
  block::Device& served_;
  const Logger log_;

  std::vector<Slot> slots_;
  std::byte* arena_ = nullptr;
  const ublksrv_io_desc* descriptions_ = nullptr;
  UniqueFd event_;
  std::thread thread_;
  int device_ = -1;
  int error_ = 0;  // Of preparing.
  std::atomic<Phase> phase_{Phase::preparing};

  std::atomic<Slot*> done_{nullptr};  // Newest first.
  std::atomic<bool> asleep_{false};
  std::atomic<std::uint32_t> pushing_{0};  // Whoever completes is not done with us yet.
  std::atomic<bool> abandoned_{false};

  // The thread's.
  io_uring ring_{};
  std::uint64_t event_count_ = 0;
  std::size_t with_kernel_ = 0;  // Requests that the kernel may hand to us.
  std::size_t with_device_ = 0;  // Those that it has.
};

}  // namespace umbra::ublk
