// SPDX-License-Identifier: Apache-2.0
//
// /dev/ublk-control: makes, starts, stops and removes ublk devices, and asks about them. One
// command at a time, each with a bound. No command here reads or writes a device, but STOP_DEV
// waits until what is in flight has ended, and must not be waited for by the thread that has to end
// it.
//
// A device that is started and whose server has gone stands still: whoever uses it waits for a
// server that takes it over (begin_recovery), or for stop(), after which it is gone and they get
// errors. What is left of it, a number and /dev/ublkcN, goes with remove(), which older kernels
// must not be asked for while somebody still has the dead block device open: they would let nobody
// else make or remove devices until that is closed.

#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/platform/unique_fd.h"
#include "provider/frontend/ublk/plan.h"
#include "umbra/result.h"

namespace umbra::ublk {

inline constexpr std::chrono::seconds kCommandLimit{20};  // Starting, stopping, removing one.
/// For the kernel to have seen that the former server has gone (up to 6.6 it looks every 5 s, newer
/// ones are told), and for all that this one had in the kernel to have ended.
inline constexpr std::chrono::seconds kRecoveryLimit{30};

struct Info {
  enum class State : std::uint8_t { dead, live, quiesced, other };
  std::uint32_t id = 0;
  State state = State::other;
  Shape shape;
  std::uint64_t flags = 0;  // As granted.
  std::uint64_t mark = 0;   // The owner's.
};

/// Threads: every member from any thread.
class Control {
 public:
  /// Errors: missing_kernel_feature (no ublk, or io_uring is switched off); missing_privilege;
  /// io_error.
  [[nodiscard]] static Result<Control> open();
  /// The same with a descriptor of /dev/ublk-control.
  [[nodiscard]] static Result<Control> over(UniqueFd descriptor);

  [[nodiscard]] int descriptor() const noexcept { return descriptor_.get(); }
  [[nodiscard]] const Offer& offer() const noexcept { return offer_; }

  /// A new device that survives its server; nothing serves it yet. Errors: limit_reached (the
  /// kernel has no more of them); missing_kernel_feature (it would not survive; it is gone again);
  /// out_of_memory; missing_privilege; io_error.
  [[nodiscard]] Result<Info> add(const Shape& shape, std::uint64_t mark) const;
  /// Before start(). Errors: io_error.
  [[nodiscard]] Status set_parameters(std::uint32_t id, const Parameters& parameters) const;
  /// Every queue's requests have been fetched: afterwards it is a block device. Errors: io_error
  /// (also: they have not, within kCommandLimit).
  [[nodiscard]] Status start(std::uint32_t id) const;
  /// Nobody serves it: the next server may open its character device. Blocks until the kernel has
  /// seen the end of the last one, at most kRecoveryLimit. Errors: bad_state (somebody still has
  /// it, or it cannot be recovered); object_not_found; io_error.
  [[nodiscard]] Status begin_recovery(std::uint32_t id) const;
  /// As start(): afterwards it goes on.
  [[nodiscard]] Status end_recovery(std::uint32_t id) const;
  /// There is no such block device any more; what waits for it gets errors, and so does what is in
  /// flight, unless a server ends it first. Errors: object_not_found; io_error (not within
  /// kCommandLimit: it goes on).
  [[nodiscard]] Status stop(std::uint32_t id) const;
  /// Stops, and frees the number. Nobody has it open, neither as a block device nor to serve it.
  /// Errors: as stop().
  [[nodiscard]] Status remove(std::uint32_t id) const;
  /// The same, and somebody may still have it open: it goes with the last one. Errors:
  /// not_supported (Linux before 6.9); as stop().
  [[nodiscard]] Status remove_later(std::uint32_t id) const;
  /// Errors: object_not_found; io_error.
  [[nodiscard]] Result<Info> info(std::uint32_t id) const;
  /// Everybody's, started or not.
  [[nodiscard]] std::vector<std::uint32_t> list() const;

 private:
  explicit Control(UniqueFd descriptor) noexcept : descriptor_(std::move(descriptor)) {}
  struct Command;
  [[nodiscard]] int run(std::unique_ptr<Command> command, std::chrono::seconds limit) const;
  [[nodiscard]] int run(unsigned number, std::uint32_t id, std::uint64_t data,
                        std::chrono::seconds limit) const;

  UniqueFd descriptor_;
  Offer offer_;
};

// The following open the block device: never call them in a process that serves it.

/// Stops a device that nobody uses, after what its former users wrote has been flushed. Errors:
/// volume_in_use (mounted, mapped or open: it is as before); object_not_found; io_error.
[[nodiscard]] Status stop_unused(const Control& control, std::uint32_t id);
/// Stops a device, used or not, and removes what is left of it. Whoever uses it gets errors, and
/// then the rest goes when he lets go (older kernels: at the next call after that). Errors:
/// object_not_found; io_error.
[[nodiscard]] Status remove_device(const Control& control, std::uint32_t id);

}  // namespace umbra::ublk
