// SPDX-License-Identifier: Apache-2.0
//
// A random load on a CowWorld in scheduled mode: writes, zeroes, discards, flushes and snapshot
// reads in flight at the same time, snapshots made and removed in between, every completion in a
// random order. It keeps a twin that is short enough to be obviously right: one full copy per
// snapshot, and for every sector which writes it may show after a crash.
//
// The rest of it: cow_load_requests.h, _snapshots.h, _history.h (recovery windows, reverts),
// _area.h (resizing, moving, retention), _crash.h (what has to be there afterwards).
//
// A test that fails leaves requests in flight: they end, with the volume, before the load does.
// What a completion finds wrong is told by the next call of the load (verdict.h).
#pragma once

#include <algorithm>
#include <array>
#include <list>
#include <optional>
#include <set>

#include "provider/cow/migrate.h"
#include "tests/support/cow_world.h"
#include "tests/support/verdict.h"

namespace umbra::test {

struct CowLoadOptions {
  bool zeroes_and_discards = true;
  std::size_t in_flight_max = 12;
  std::size_t snapshots_max = 5;
  std::uint64_t write_bytes_max = 96U << 10U;
  bool free_blocks = false;  // Of most snapshots, some ranges are told to have been free.
  // What is off takes no part in the draw.
  bool live_reads = false;
  bool windows = false;  // Of recovery, between post_commit and confirm.
  bool reverts = false;
  bool stopped_reverts = false;  // By an origin that fails; they are resumed or given up.
  bool retention = false;
  std::uint64_t segments_least = 0;  // The maximum is changed between these; 0: it is not.
  std::uint64_t segments_most = 0;
  bool moves = false;  // Of the diff area, to CowWorld::spare and back.
};

/// What a load chooses from, again and again.
enum class CowAction : std::uint8_t {
  write,
  zero,
  discard,
  flush,
  read,       // A part of a snapshot.
  snapshot,   // The next step of making one.
  remove,     // Of a snapshot.
  live_read,  // A part of the live volume.
  window,     // A write to the snapshot that is being made.
  revert,
  resize,
  move,    // The diff area, to another disk.
  retain,  // A snapshot, or time goes on.
  step,    // Completes something that is in flight. The last one.
};
inline constexpr std::array kCowActionNames = {
    "writes",     "zeroes",   "discards",   "flushes",         "reads of snapshots",
    "snapshots",  "removals", "live reads", "recovery writes", "reverts",
    "new maxima", "moves",    "locks"};
inline constexpr std::size_t kCowActions = static_cast<std::size_t>(CowAction::step) + 1;
using CowWeights = std::array<std::uint32_t, kCowActions>;
inline constexpr CowWeights kCowWeights = {24, 3, 3, 4, 10, 8, 2, 4, 8, 1, 1, 1, 2, 46};
static_assert(kCowActionNames.size() + 1 == kCowActions);

class CowLoad {
 public:
  using Shared = std::shared_ptr<const Image>;
  struct Known {
    Shared image;
    bool persistent = false;
    bool created = false;                      // confirm() has succeeded.
    std::vector<cow::ChangedRange> free = {};  // Told so just now: zeroes there, or as it was.
    std::uint64_t order = 0;                   // Of the points in time.
    std::int64_t locked_until = 0;
    std::set<std::uint64_t> rewritten = {};  // Chunks, in its recovery window.
    std::vector<SnapshotId> members = {};    // Of its set.
  };

  CowLoad(CowWorld& world, std::uint64_t seed, const CowLoadOptions& options)
      : world_(world), prng_(seed), options_(options) {
    world_.machine.set_scheduled(true);
    const std::uint64_t sectors = world_.options.origin_bytes / kSector;
    floor_.assign(sectors, 0);
    last_.assign(sectors, 0);
    history_.resize(sectors);
    for (auto& sequences : history_) sequences.insert(0);
  }
  ~CowLoad() {
    if (ops_.empty()) return;
    world_.machine.cut_power();
    world_.volume.reset();
  }
  CowLoad(const CowLoad&) = delete;
  CowLoad& operator=(const CowLoad&) = delete;

  /// One random action, as often as its weight says.
  void act() {
    verdict_.check();
    // What a volume puts off: here the checksums of what it shared.
    if (world_.options.reflink && prng_.chance(1, 64)) world_.executor.elapse();
    std::uint64_t all = 0;
    for (std::size_t i = 0; i < kCowActions; ++i) all += weight(i);
    std::uint64_t dice = prng_.below(all);
    std::size_t action = 0;
    for (; dice >= weight(action); ++action) dice -= weight(action);
    act(static_cast<CowAction>(action));
  }

  /// A swarm: each action is left out, rare or frequent, so that runs differ in what they are made
  /// of and no action hides another. Completions go on in any case.
  void draw_weights() {
    for (std::uint32_t& weight : weights_) {
      weight = prng_.chance(1, 4) ? 0 : 1U << (2 * prng_.below(4));
    }
    weights_.back() = 16U << prng_.below(3);
  }
  /// How often each action had an effect, but for steps.
  [[nodiscard]] const CowWeights& counts() const noexcept { return counts_; }
  [[nodiscard]] std::uint64_t operations() const noexcept {
    std::uint64_t all = 0;
    for (std::size_t i = 0; i + 1 < kCowActions; ++i) all += counts_[i];
    return all;
  }

  /// Finishes what is in flight, a snapshot being made included.
  void settle() {
    while (stage_ != Stage::none && world_.machine.powered()) {
      advance_snapshot();
      world_.machine.run_until_idle();
    }
    world_.machine.run_until_idle();
    verdict_.check();
    if (world_.machine.powered()) REQUIRE(ops_.empty());
  }

  /// Finishes the disk's work only: a snapshot that is being made, a window, a revert and the rest
  /// of the volume's jobs are left as they are. What waits for them fails when the volume goes.
  void settle_disks() {
    while (world_.machine.step_one([](const auto&, const auto&) { return true; })) {
    }
    verdict_.check();
    forget_evicted();
    closing = true;
  }

  /// After a crash: forgets what was in flight. The volume is gone by now.
  void crashed() {
    verdict_.check();
    REQUIRE(ops_.empty());
    stage_ = Stage::none;
    window_.reset();
    closing = false;
    evicted_since_open_ = 0;
    gone_by_maximum_ = false;
  }
  /// A flush of the origin or of the diff area fails from now on, or seems to: some calls may.
  void syncs_fail() noexcept { syncs_fail_ = true; }

  /// After a crash, before open(): which area is in force, if a move was cut; what it has said once
  /// it says again. io_error: the power went.
  [[nodiscard]] Status settle_move();
  /// After settle_move(), once: the other area of a move that was cut cannot be opened.
  void check_one_in_force();
  /// What the live volume shows after a crash: for every sector a write that was issued, not older
  /// than the last one that was flushed. The twin takes it over.
  void check_live_after_crash(bool nothing_completed_is_lost);
  /// Every snapshot that must be there is, and every one that is there is right.
  void check_snapshots_after_crash(bool auto_release_too);
  /// Everything now, in full. Idle.
  void check_all();
  /// Writes are held for a snapshot that is being made.
  [[nodiscard]] bool holding() const noexcept { return stage_ == Stage::held; }
  [[nodiscard]] bool is_lost(const SnapshotId& id) const;
  /// Of snapshots that were deleted to make room, the oldest first, nothing is known any more.
  void forget_evicted();
  /// After an open() without a crash: what was being made is created or gone, the rest is there.
  void reopened();

  /// What completions found wrong so far; the next call fails the test with it.
  [[nodiscard]] const std::string& wrong() const noexcept { return verdict_.text(); }

  std::map<SnapshotId, Known> known;  // Committed ones.
  std::uint64_t evictions_seen = 0;
  std::uint64_t losses_seen = 0;
  std::uint64_t moves_cut = 0;  // Or failed.

 private:
  enum class Stage { none, prepared, held, committed, window };

  struct Op {
    CowLoad* load = nullptr;
    block::Request request;
    Image buffer;
    std::uint64_t sequence = 0;
    std::uint64_t issued_sequence = 0;  // flush: writes up to here may be in flight.
    std::vector<std::uint64_t> floor;   // flush: what it makes durable.
    SnapshotId snapshot;                // Snapshot reads, and writes to it.
    Shared image;                       // Reads: what is right.
    std::shared_ptr<block::Device> device;
  };

  [[nodiscard]] std::uint32_t weight(std::size_t action) const noexcept {
    return is_on(static_cast<CowAction>(action)) ? weights_[action] : 0;
  }
  [[nodiscard]] bool is_on(CowAction action) const noexcept {
    switch (action) {
      case CowAction::zero:
      case CowAction::discard: return options_.zeroes_and_discards;
      case CowAction::live_read: return options_.live_reads;
      case CowAction::window: return options_.windows;
      case CowAction::revert: return options_.reverts && !moving_;
      case CowAction::resize: return options_.segments_least != 0 && !moving_;
      case CowAction::move: return options_.moves && !moving_ && !move_in_doubt_;
      case CowAction::retain: return options_.retention;
      default: return true;
    }
  }
  void count(CowAction action) noexcept { ++counts_[static_cast<std::size_t>(action)]; }

  void act(CowAction action) {
    switch (action) {
      case CowAction::write: submit_change(block::Op::write, action); break;
      case CowAction::zero: submit_change(block::Op::write_zeroes, action); break;
      case CowAction::discard: submit_change(block::Op::discard, action); break;
      case CowAction::flush:
        count(action);
        submit(block::Op::flush, 0, 0);
        break;
      case CowAction::read:
        if (ops_.size() < options_.in_flight_max) submit_read();
        break;
      case CowAction::snapshot: advance_snapshot(); break;
      case CowAction::remove: remove_one(); break;
      case CowAction::live_read: submit_live_read(); break;
      case CowAction::window: write_to_window(); break;
      case CowAction::revert: revert_to_one(); break;
      case CowAction::resize: change_maximum(); break;
      case CowAction::move: move_area(); break;
      case CowAction::retain: retain_one(); break;
      case CowAction::step:
        for (auto steps = prng_.below(4); steps > 0; --steps) (void)world_.machine.step();
        break;
    }
  }

  // --- cow_load_requests.h ---
  void submit_change(block::Op kind, CowAction action);
  [[nodiscard]] bool is_in_flight(std::uint64_t offset, std::uint64_t size, bool reads_too) const;
  void submit(block::Op kind, std::uint64_t offset, std::uint64_t size);
  void submit_read();
  void submit_live_read();
  void issue(Op& op, block::Device& target);
  void completed(Op& op);
  void completed_read(const Op& op);
  void completed_live_read(const Op& op);
  void changed(const Op& op);
  // --- cow_load_snapshots.h ---
  void advance_snapshot();
  void post_commit_snapshot();
  void confirm_snapshot();
  void abort_snapshot();
  bool exempt_some();
  void adopt_free(Known& snapshot, const Image& seen);
  void remove_one();
  // --- cow_load_crash.h ---
  [[nodiscard]] bool must_be_there(const SnapshotId& id, const Known& snapshot,
                                   bool auto_release_too) const;
  // --- cow_load_history.h ---
  [[nodiscard]] bool open_window();
  void write_to_window();
  void completed_in_window(const Op& op);
  [[nodiscard]] bool close_window();
  [[nodiscard]] std::optional<SnapshotId> created_persistent();
  void revert_to_one();
  [[nodiscard]] std::vector<bool> left_alone(const SnapshotId& id);
  void shows(const Image& image, const std::vector<bool>& left_alone);
  void doom_newer(std::uint64_t order);
  void settle_revert_in_doubt();
  void stop_revert(const Image& before, const Image& target);
  // --- cow_load_area.h ---
  void change_maximum();
  void forget_evicted_by(const std::vector<SnapshotId>& deleted);
  void move_area();
  void retain_one();

 public:
  bool closing = false;
  std::uint64_t free_bytes = 0;  // That were exempt.

 private:
  CowWorld& world_;
  Prng prng_;
  CowLoadOptions options_;
  std::list<Op> ops_;
  Verdict verdict_;
  CowWeights weights_ = kCowWeights;
  CowWeights counts_{};
  Stage stage_ = Stage::none;
  SnapshotId making_;
  bool making_persistent_ = false;
  std::uint64_t orders_ = 0;
  std::shared_ptr<block::Device> window_;
  std::vector<bool> reverting_left_alone_;  // Sectors.
  bool window_spoiled_ = false;
  struct Move {
    SimDisk* source = nullptr;
    SimDisk* target = nullptr;
    std::optional<cow::MoveSide> said = {};  // In force.
  };
  bool moving_ = false;
  std::optional<Move> move_in_doubt_;
  bool syncs_fail_ = false;
  std::set<SnapshotId> in_doubt_;        // A removal that was cut, or has failed.
  std::set<SnapshotId> doomed_;          // Newer than what was reverted to.
  std::optional<SnapshotId> reverting_;  // A start that was cut.
  std::uint64_t evicted_since_open_ = 0;
  bool gone_by_maximum_ = false;      // It did not say which.
  std::vector<std::uint64_t> floor_;  // Per sector: the newest write that is surely durable.
  std::vector<std::uint64_t> last_;   // Per sector: the newest completed write.
  std::vector<std::set<std::uint64_t>> history_;
};

}  // namespace umbra::test

#include "tests/support/cow_load_area.h"
#include "tests/support/cow_load_crash.h"
#include "tests/support/cow_load_history.h"
#include "tests/support/cow_load_requests.h"
#include "tests/support/cow_load_snapshots.h"
