// SPDX-License-Identifier: Apache-2.0
//
// One write hold: the time in which nothing reaches the volumes of a set, and its end, which always
// comes.
//
// The order is always freeze, gates shut, drain, flip, gates open, thaw. Where volumes lie on each
// other it is taken layer by layer, dependants first, up to the drain, and undone hosts first: a
// dependant writes to its host until its gate is shut and its copies are done, and can write again
// only when the host is thawed. All gates are shut when the flip comes, so the instant is one.
// Docs: design/0004-volumes-on-volumes.md. Whoever is first ends the
// hold: the caller (end), somebody else (cancel), or the lease, which a thread of the hold's own
// watches. After begin() has failed and after any end, the gates are open and nothing is frozen; a
// commit that comes later is refused. The destructor ends what is still held.
//
// Between freeze and thaw nothing here logs, allocates on behalf of a volume or touches storage.

#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/platform/clock.h"
#include "provider/contract/ports.h"
#include "provider/cow/volume.h"
#include "umbra/ids.h"
#include "umbra/provider.h"
#include "umbra/result.h"

namespace umbra::contract {

struct HoldMember {
  cow::Volume* volume = nullptr;  // Outlives the hold, or what `on_gates_open` ends.
  SnapshotId snapshot;            // Nil: writes to the volume are held, and nothing is committed.
  std::string name;
};

/// Volumes that do not lie on each other.
struct HoldLayer {
  std::vector<HoldMember> members;
  std::vector<std::uint64_t> devices;  // Block devices that may carry mounted file systems.
};

/// From before the first gate was shut to after the last was open. Both zero: none was shut.
struct GateTimes {
  TimePoint begin{};
  TimePoint end{};
};

/// Threads: begin() once, from one thread; the other members from any thread afterwards.
class Hold {
 public:
  struct Setup {
    SnapshotSetId set;
    std::vector<HoldLayer> layers;  // Dependants before hosts.
    HoldLimits limits;
    TimePoint called{};  // When the limits began to run.
    // Each is called at most once, from any thread, and dropped afterwards; may be null.
    std::function<void()> before_freeze;
    /// The last gate is open: the members' volumes are not used any more.
    std::function<void()> on_gates_open;
    /// Everything is thawed, after success or failure.
    std::function<void(const GateTimes&)> after_thaw;
  };

  Hold(Freezer& freezer, const Clock& clock, Setup setup);
  ~Hold();
  Hold(const Hold&) = delete;
  Hold& operator=(const Hold&) = delete;

  /// Freezes, shuts the gates, drains. Blocks at most limits.flush and limits.hold. Errors:
  /// flush_writes_timeout and freeze_failed (as Freezer::freeze); hold_writes_timeout (writes in
  /// flight did not end within the lease); writererror_timeout (nor within the window); bad_state
  /// (cancelled).
  [[nodiscard]] Status begin();

  /// Takes the point in time on every volume. Does not block for storage. Errors:
  /// hold_writes_timeout (the hold has ended, or its lease); writererror_timeout (the smallest
  /// freeze window may have ended).
  [[nodiscard]] Status commit(std::int64_t creation_filetime);

  /// Waits `duration`, or until the hold ends: drills only.
  void linger(std::chrono::milliseconds duration);

  /// Opens the gates, then thaws; waits for whoever is already doing so. Idempotent: later calls
  /// give the same answer. Errors: hold_writes_timeout (the lease ended before, here or at the
  /// freezer); bad_state (cancelled); what Freezer::thaw answers.
  [[nodiscard]] Result<HoldReport> end();
  /// What the freezer has found to be free. After end() has succeeded; given once.
  [[nodiscard]] std::vector<FreeExtent> take_free();

  /// Ends the hold from outside; begin() unwinds if it is still running, also out of a slow freeze.
  /// Returns when nothing is held or frozen.
  void cancel() noexcept;

 private:
  enum class State : std::uint8_t { idle, starting, held, ending, ended };
  enum class Cause : std::uint8_t { caller, cancelled, lease };

  struct Taken {
    bool frozen = false;
    std::size_t gates_shut = 0;  // Of the first members.
  };

  [[nodiscard]] bool is_cancelled();
  [[nodiscard]] Status freeze(std::size_t layer);
  [[nodiscard]] Status shut_and_drain(std::size_t layer);
  void finish(Cause cause) noexcept;
  void release_all() noexcept;
  void open_gates(std::size_t layer) noexcept;
  void thaw(std::size_t layer) noexcept;
  [[nodiscard]] SnapshotSetId freeze_id(std::size_t layer) const noexcept;
  void wait_ended(std::unique_lock<std::mutex>& lock);
  void watch_lease();
  [[nodiscard]] TimePoint lease_end() const noexcept { return lease_begin_ + setup_.limits.hold; }
  [[nodiscard]] TimePoint window_end() const noexcept {
    return setup_.called + setup_.limits.window;
  }

  Freezer& freezer_;
  const Clock& clock_;
  Setup setup_;

  std::stop_source freeze_stop_;  // Requested by cancel().
  std::mutex mutex_;              // Guards the next three.
  std::condition_variable changed_;
  State state_ = State::idle;
  Cause cause_ = Cause::caller;
  bool cancel_asked_ = false;
  // Written by whoever moved state_ to `starting` or `ending`, read after `held` or `ended`.
  TimePoint lease_begin_{};  // Just before the first FIFREEZE.
  TimePoint gate_begin_{};
  TimePoint gate_end_{};
  TimePoint thawed_{};
  std::vector<Taken> taken_;  // Of each layer.
  Status thaw_status_;
  std::vector<FreeExtent> free_;
  std::thread watcher_;
};

}  // namespace umbra::contract
