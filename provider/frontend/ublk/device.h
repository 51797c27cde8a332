// SPDX-License-Identifier: Apache-2.0
//
// Serves a block::Device as /dev/ublkbN.
//
// Each of the kernel's queues has a thread with a ring of its own, which alone may fetch and answer
// that queue's requests. It hands what has come to the device in one batch and answers in batches;
// whoever completes a request pushes it on the queue's stack, without a lock, and wakes the thread
// if it sleeps. Buffers are locked and prefaulted: what the kernel cannot copy while we die, or
// while memory is short, would have to be asked for again.
//
// Surviving kill -9: the kernel keeps a device whose server has gone, holds what comes, and queues
// again what was not answered (USER_RECOVERY with REISSUE). The next process gives saved_state() to
// take_over() and calls start(). It must not do so before it has the locks of what it serves from:
// what its predecessor had in flight below may still land. A write that was done but not answered
// is done again: it had not been acknowledged, so nobody could rely on either outcome. For this to
// hold
//   - nobody may keep a descriptor of /dev/ublkcN: the kernel lets one server have it at a time;
//   - the process must never wait inside its own device. Starting one does not: the kernel's search
//     for partitions, which it leaves out for a server without privilege, would have start() wait
//     for reads from the device, and a process killed just then would neither end nor be followed.
//     So the threads put CAP_SYS_ADMIN away while they fetch for the first time. Partitions of the
//     volume are made visible by partx.
// A process that is killed in the instant between taking over and fetching (well below a
// millisecond) leaves a device that this and newer kernels let nobody have again; it has to be
// removed. Nothing can be done about that here.

#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "engine/platform/block.h"
#include "engine/platform/log.h"
#include "provider/frontend/ublk/control.h"
#include "umbra/result.h"

namespace umbra::ublk {

class Device {
 public:
  /// A new one, which nobody sees before start(). `mark`: owner_mark(). `control` and `log` outlive
  /// it. Errors: those of parameters_for() and Control::add(); io_error.
  [[nodiscard]] static Result<std::unique_ptr<Device>> create(const Control& control,
                                                              std::uint64_t mark,
                                                              std::shared_ptr<block::Device> served,
                                                              Log& log);
  /// One whose server has gone. Errors: those of parse_state(); object_not_found (it was removed);
  /// bad_state (stopped, or not `mark`'s).
  [[nodiscard]] static Result<std::unique_ptr<Device>> take_over(
      const Control& control, std::uint64_t mark, std::string_view saved_state,
      std::shared_ptr<block::Device> served, Log& log);
  /// Stops the device, in use or not, unless it was stopped already; waits for what is in flight.
  /// Not taken over in the end (start() failed): it stays as it was found. What is left then is for
  /// remove_device().
  virtual ~Device() = default;

  /// Blocks: a new one for a moment, one that is taken over until the kernel has seen the end of
  /// its former server, at most kRecoveryLimit. Call it once. Errors: those of Control::start() and
  /// begin_recovery(); out_of_memory (buffers); missing_kernel_feature (no io_uring); io_error.
  [[nodiscard]] virtual Status start() = 0;

  [[nodiscard]] virtual std::uint32_t id() const noexcept = 0;
  [[nodiscard]] virtual const Shape& shape() const noexcept = 0;

 protected:
  Device() = default;
};

}  // namespace umbra::ublk
