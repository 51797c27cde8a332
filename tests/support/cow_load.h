// SPDX-License-Identifier: Apache-2.0
//
// A random load on a CowWorld in scheduled mode: writes, zeroes, discards, flushes and snapshot
// reads in flight at the same time, snapshots made and removed in between, every completion in a
// random order. It keeps a twin that is short enough to be obviously right: one full copy per
// snapshot, and for every sector which writes it may show after a crash. What is done to snapshots
// and to the diff area as a whole (recovery windows, reverts, resizing, moving, retention) is in
// cow_load_history.h.
#pragma once

#include <algorithm>
#include <array>
#include <list>
#include <optional>
#include <set>

#include "tests/support/cow_world.h"

namespace umbra::test {

struct CowLoadOptions {
  bool zeroes_and_discards = true;
  std::size_t in_flight_max = 12;
  std::size_t snapshots_max = 5;
  std::uint64_t write_bytes_max = 96U << 10U;
  bool free_blocks = false;  // Of most snapshots, some ranges are told to have been free.
  // What is off takes no part in the draw, see cow_load_history.h.
  bool live_reads = false;
  bool windows = false;  // Of recovery, between post_commit and confirm.
  bool reverts = false;
  bool stopped_reverts = false;  // By an origin that fails; they are resumed or given up.
  bool retention = false;
  std::uint64_t segments_least = 0;  // The maximum is changed between these; 0: it is not.
  std::uint64_t segments_most = 0;
  SimDisk* spare = nullptr;  // The diff area is moved to it, and back.
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

  /// One random action, as often as its weight says.
  void act() {
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
    if (world_.machine.powered()) REQUIRE(ops_.empty());
  }

  /// Finishes the disk's work only: a snapshot that is being made, a window, a revert and the rest
  /// of the volume's jobs are left as they are. What waits for them fails when the volume goes.
  void settle_disks() {
    while (world_.machine.step_one([](const auto&, const auto&) { return true; })) {
    }
    forget_evicted();
    closing = true;
  }

  /// After a crash: forgets what was in flight. The volume is gone by now.
  void crashed() {
    REQUIRE(ops_.empty());
    stage_ = Stage::none;
    window_.reset();
    closing = false;
    evicted_since_open_ = 0;
    gone_by_maximum_ = false;
  }
  /// A flush of the origin or of the diff area fails from now on, or seems to: some calls may.
  void syncs_fail() noexcept { syncs_fail_ = true; }

  /// What the live volume shows after a crash: for every sector a write that was issued, not older
  /// than the last one that was flushed. The twin takes it over.
  void check_live_after_crash(bool nothing_completed_is_lost) {
    Image seen;
    REQUIRE(world_.read(world_.volume->live(), seen) == 0);
    settle_revert_in_doubt();
    for (std::uint64_t sector = 0; sector < floor_.size(); ++sector) {
      std::uint64_t words[2] = {};
      std::memcpy(words, seen.data() + sector * kSector, sizeof words);
      // A window may have written to a part of a chunk that was free; the rest of it is zeroes.
      if (options_.free_blocks && words[0] == 0 && words[1] == 0) words[0] = sector * kSector;
      const std::uint64_t least = nothing_completed_is_lost ? last_[sector] : floor_[sector];
      if (words[0] != sector * kSector || words[1] < least ||
          !history_[sector].contains(words[1])) {
        FAIL("live sector " << sector << " shows offset " << words[0] << " sequence " << words[1]
                            << ", at least " << least);
      }
      last_[sector] = floor_[sector] = words[1];
      history_[sector] = {words[1]};  // Nothing else comes back.
    }
    world_.twin = seen;
  }

  /// Every snapshot that must be there is, and every one that is there is right.
  void check_snapshots_after_crash(bool auto_release_too) {
    std::set<SnapshotId> present;
    for (const cow::SnapshotRecord& record : world_.volume->list()) {
      REQUIRE(known.contains(record.id));
      INFO("snapshot " << record.id.to_string() << " epoch " << record.epoch << " persistent "
                       << record.persistent);
      present.insert(record.id);
      if (record.lost) {
        REQUIRE(syncs_fail_);
        continue;
      }
      Image seen;
      REQUIRE(world_.read_snapshot(record.id, seen) == 0);
      adopt_free(known.at(record.id), seen);
      CowWorld::check_same(seen, *known.at(record.id).image, "snapshot");
    }
    // Where space is taken away, the oldest may have gone, one after the other.
    const bool may_go = options_.segments_least != 0;
    std::uint64_t oldest_left = ~std::uint64_t{0};
    for (const auto& [id, snapshot] : known) {
      if (present.contains(id) && must_be_there(id, snapshot, auto_release_too)) {
        oldest_left = std::min(oldest_left, snapshot.order);
      }
    }
    for (auto it = known.begin(); it != known.end();) {
      INFO("snapshot " << it->first.to_string());
      if (must_be_there(it->first, it->second, auto_release_too) && !present.contains(it->first)) {
        REQUIRE(may_go);
        REQUIRE(it->second.order < oldest_left);
      }
      it = present.contains(it->first) ? std::next(it) : known.erase(it);
    }
    in_doubt_.clear();
    syncs_fail_ = false;
    const SimMachine::Inline waits(world_.machine);
    for (auto it = known.begin(); it != known.end();) {
      REQUIRE(world_.volume->confirm(it->first));
      it->second.created = true;
      const bool lost = is_lost(it->first);
      if (lost) REQUIRE(world_.volume->remove(it->first, true));
      it = lost ? known.erase(it) : std::next(it);
    }
  }

  /// Everything now, in full. Idle.
  void check_all() {
    Image seen;
    REQUIRE(world_.read(world_.volume->live(), seen) == 0);
    CowWorld::check_same(seen, world_.twin, "live");
    forget_evicted();
    for (const auto& [id, snapshot] : known) {
      const int error = world_.read_snapshot(id, seen);
      if (error != 0) {
        REQUIRE(is_lost(id));
      } else {
        CowWorld::check_same(seen, *snapshot.image, "snapshot");
      }
    }
  }
  /// Writes are held for a snapshot that is being made.
  [[nodiscard]] bool holding() const noexcept { return stage_ == Stage::held; }
  [[nodiscard]] bool is_lost(const SnapshotId& id) const {
    for (const auto& record : world_.volume->list()) {
      if (record.id == id) return record.lost;
    }
    return false;
  }

  /// Of snapshots that were deleted to make room, the oldest first, nothing is known any more.
  void forget_evicted() {
    std::set<SnapshotId> present;
    for (const auto& record : world_.volume->list()) present.insert(record.id);
    std::uint64_t gone = 0;
    std::erase_if(known, [&](const auto& entry) {
      const bool being_made =
          (stage_ == Stage::committed || stage_ == Stage::window) && entry.first == making_;
      if (being_made || present.contains(entry.first)) return false;
      if (!doomed_.contains(entry.first) && !in_doubt_.contains(entry.first)) ++gone;
      return true;
    });
    evicted_since_open_ += gone;
    evictions_seen += gone;
    REQUIRE(
        (gone_by_maximum_ || evicted_since_open_ <= world_.volume->statistics().snapshots_evicted));
  }
  /// After an open() without a crash: what was being made is created or gone, the rest is there.
  void reopened() {
    std::set<SnapshotId> present;
    const SimMachine::Inline waits(world_.machine);
    for (const auto& record : world_.volume->list()) {
      present.insert(record.id);
      REQUIRE(known.contains(record.id));
      REQUIRE(record.retain_until_filetime == known.at(record.id).locked_until);
      REQUIRE(world_.volume->confirm(record.id));
      known.at(record.id).created = true;
    }
    std::erase_if(known, [&](const auto& entry) {
      if (present.contains(entry.first)) return false;
      INFO("snapshot " << entry.first.to_string());
      REQUIRE((!entry.second.created || doomed_.contains(entry.first)));
      return true;
    });
  }

  std::map<SnapshotId, Known> known;  // Committed ones.
  std::uint64_t evictions_seen = 0;
  std::uint64_t losses_seen = 0;

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
      case CowAction::move: return options_.spare != nullptr && !moving_;
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

  void submit_change(block::Op kind, CowAction action) {
    if (ops_.size() >= options_.in_flight_max) return;
    std::uint64_t size = kSector * (1 + prng_.below(options_.write_bytes_max / kSector));
    if (prng_.chance(1, 2)) size = kSector * (1 + prng_.below(8));
    const std::uint64_t sectors = world_.options.origin_bytes / kSector;
    const std::uint64_t offset = kSector * prng_.below(sectors);
    size = std::min(size, world_.options.origin_bytes - offset);
    if (is_in_flight(offset, size, true)) return;  // That would be our own mistake.
    count(action);
    submit(kind, offset, size);
  }
  // Of the live volume.
  [[nodiscard]] bool is_in_flight(std::uint64_t offset, std::uint64_t size, bool reads_too) const {
    return std::any_of(ops_.begin(), ops_.end(), [&](const Op& op) {
      return op.device == nullptr && (reads_too || op.request.op != block::Op::read) &&
             op.request.offset_bytes < offset + size &&
             offset < op.request.offset_bytes + op.request.size_bytes;
    });
  }

  void submit(block::Op kind, std::uint64_t offset, std::uint64_t size) {
    Op& op = ops_.emplace_back();
    op.load = this;
    op.request.op = kind;
    op.request.offset_bytes = offset;
    op.request.size_bytes = size;
    op.request.owner = &op;
    op.request.complete = [](block::Request& request) noexcept {
      auto& done = *static_cast<Op*>(request.owner);
      done.load->completed(done);
    };
    if (kind == block::Op::write) {
      op.sequence = ++world_.sequence;
      op.buffer.resize(size);
      stamp(op.buffer, offset, op.sequence);
      op.request.buffer = op.buffer.data();
      op.request.fua = prng_.chance(1, 16);
      for (std::uint64_t at = offset; at < offset + size; at += kSector) {
        history_[at / kSector].insert(op.sequence);
      }
    } else if (kind == block::Op::flush) {
      op.floor = last_;
    }
    world_.volume->live().submit(op.request);
  }

  void submit_read() {
    if (known.empty()) return;
    auto it = known.begin();
    std::advance(it, static_cast<std::ptrdiff_t>(prng_.below(known.size())));
    // One that takes writes, or may become exempt, is looked at when that has ended.
    if ((options_.windows || options_.free_blocks) && !it->second.created) return;
    auto device = world_.volume->open_snapshot(it->first);
    if (!device) {
      REQUIRE(device.error().code == Errc::object_not_found);
      forget_evicted();
      return;
    }
    count(CowAction::read);
    Op& op = ops_.emplace_back();
    op.load = this;
    op.device = *device;
    op.snapshot = it->first;
    op.image = it->second.image;
    const std::uint64_t sectors = world_.options.origin_bytes / kSector;
    op.request.offset_bytes = kSector * prng_.below(sectors);
    op.request.size_bytes = std::min(kSector * (1 + prng_.below(256)),
                                     world_.options.origin_bytes - op.request.offset_bytes);
    op.buffer.resize(op.request.size_bytes);
    issue(op, *op.device);
  }
  void issue(Op& op, block::Device& target) {
    op.request.buffer = op.buffer.data();
    op.request.owner = &op;
    op.request.complete = [](block::Request& request) noexcept {
      auto& done = *static_cast<Op*>(request.owner);
      done.load->completed(done);
    };
    target.submit(op.request);
  }

  void completed(Op& op) {
    const block::Request& request = op.request;
    if (request.op == block::Op::read && op.device == nullptr) {
      completed_live_read(op);
    } else if (op.device != nullptr && request.op != block::Op::read) {
      completed_in_window(op);
    } else if (request.op == block::Op::read) {
      if (request.error == 0) {
        const auto first = op.image->begin() + static_cast<std::ptrdiff_t>(request.offset_bytes);
        if (!std::equal(op.buffer.begin(), op.buffer.end(), first)) {
          FAIL("a read of snapshot " << op.snapshot.to_string() << " at " << request.offset_bytes
                                     << " is wrong");
        }
      } else if (world_.machine.powered() && known.contains(op.snapshot) &&
                 !in_doubt_.contains(op.snapshot) && !closing) {
        ++losses_seen;  // check_all() wants it to be marked lost.
      }
    } else if (request.error == 0) {
      changed(op);
    } else {
      const bool flush_fails = syncs_fail_ && request.op == block::Op::flush;
      REQUIRE((!world_.machine.powered() || closing || flush_fails));
    }
    ops_.remove_if([&](const Op& other) { return &other == &op; });
  }

  void changed(const Op& op) {
    const block::Request& request = op.request;
    const auto offset = static_cast<std::ptrdiff_t>(request.offset_bytes);
    const auto end = offset + static_cast<std::ptrdiff_t>(request.size_bytes);
    if (request.op == block::Op::flush) {
      for (std::size_t i = 0; i < floor_.size(); ++i) floor_[i] = std::max(floor_[i], op.floor[i]);
    } else if (request.op == block::Op::write) {
      std::copy(op.buffer.begin(), op.buffer.end(), world_.twin.begin() + offset);
      for (std::uint64_t at = request.offset_bytes / kSector;
           at < (request.offset_bytes + request.size_bytes) / kSector; ++at) {
        last_[at] = op.sequence;
        if (request.fua) floor_[at] = op.sequence;
      }
    } else if (request.op == block::Op::write_zeroes) {
      std::fill(world_.twin.begin() + offset, world_.twin.begin() + end, std::byte{0});
    } else {
      // A discard may have done something or nothing: old or zero, sector by sector.
      Image now;
      const int error =
          world_.read(world_.volume->live(), now, request.offset_bytes, request.size_bytes);
      REQUIRE((error == 0 || !world_.machine.powered() || closing));
      if (error != 0) return;
      for (std::uint64_t at = 0; at < now.size(); at += kSector) {
        const std::span<const std::byte> sector(now.data() + at, kSector);
        std::byte* const twin = world_.twin.data() + request.offset_bytes + at;
        const bool zero = std::all_of(sector.begin(), sector.end(),
                                      [](std::byte b) { return b == std::byte{0}; });
        REQUIRE((zero || std::equal(sector.begin(), sector.end(), twin)));
        std::copy(sector.begin(), sector.end(), twin);
      }
    }
  }

  void advance_snapshot() {
    const SimMachine::Inline waits(world_.machine);
    cow::Volume& volume = *world_.volume;
    switch (stage_) {
      case Stage::none: {
        if (known.size() >= options_.snapshots_max) return;
        cow::PrepareRequest request;
        request.id = making_ = world_.next_id();
        making_persistent_ = request.persistent = prng_.chance(1, 2);
        if (volume.prepare(request)) stage_ = Stage::prepared;
        count(CowAction::snapshot);
        break;
      }
      case Stage::prepared:
        volume.hold();
        stage_ = Stage::held;
        break;
      case Stage::held:
        if (!volume.drain(Duration::zero())) return;
        volume.commit(making_, 1);
        known[making_] = {std::make_shared<const Image>(world_.twin),
                          making_persistent_,
                          false,
                          {},
                          ++orders_,
                          0};
        volume.release();
        stage_ = Stage::committed;
        break;
      case Stage::committed:
        if (!volume.post_commit(making_, {making_}) || !exempt_some()) {
          abort_snapshot();
        } else if (weight(static_cast<std::size_t>(CowAction::window)) == 0 || !open_window()) {
          confirm_snapshot();
        }
        break;
      case Stage::window:
        if (close_window()) confirm_snapshot();
        break;
    }
  }
  void confirm_snapshot() {
    stage_ = Stage::none;
    if (world_.volume->confirm(making_)) {
      known.at(making_).created = true;
    } else {
      abort_snapshot();
    }
  }
  // As a provider would abort the set.
  void abort_snapshot() {
    stage_ = Stage::none;
    if (!world_.machine.powered()) return;
    const bool is_there = world_.volume->find(making_).has_value();
    if (!is_there) {
      REQUIRE((world_.volume->statistics().snapshots_evicted > 0 || options_.segments_least != 0));
    } else {
      REQUIRE((is_lost(making_) || window_spoiled_ || syncs_fail_));
      const Status removed = world_.volume->remove(making_, true);
      REQUIRE((removed || syncs_fail_));
      if (!removed) {
        in_doubt_.insert(making_);
        return;
      }
    }
    known.erase(making_);
  }

  // False: the power went.
  bool exempt_some() {
    if (!options_.free_blocks || !prng_.chance(3, 4)) return true;
    Known& snapshot = known.at(making_);
    for (auto ranges = 1 + prng_.below(4); ranges > 0; --ranges) {
      const std::uint64_t first = prng_.below(last_.size());
      const std::uint64_t count = 1 + prng_.below(last_.size() / 3);
      snapshot.free.push_back(
          {kSector * first, kSector * std::min<std::uint64_t>(count, last_.size() - first)});
    }
    const Status exempted = world_.volume->exempt_free(making_, snapshot.free);
    if (!world_.machine.powered()) return false;
    if (!exempted) {
      REQUIRE((exempted.error().code == Errc::insufficient_storage || is_lost(making_) ||
               world_.volume->statistics().snapshots_evicted > 0 || syncs_fail_));
      if (!syncs_fail_) snapshot.free.clear();  // Else it is in doubt.
      return true;
    }
    Image seen;
    if (world_.read_snapshot(making_, seen) == 0) {
      free_bytes += world_.volume->find(making_)->exempt_bytes;
      adopt_free(snapshot, seen);
    }
    return true;
  }

  // Each chunk that was told to be free shows zeroes from now on, or what it showed before.
  void adopt_free(Known& snapshot, const Image& seen) {
    if (snapshot.free.empty()) return;
    std::vector<bool> free(last_.size());
    for (const cow::ChangedRange& range : std::exchange(snapshot.free, {})) {
      std::fill_n(free.begin() + static_cast<std::ptrdiff_t>(range.offset_bytes / kSector),
                  range.size_bytes / kSector, true);
    }
    const std::uint64_t chunk_bytes = world_.options.chunk_bytes;
    auto image = std::make_shared<Image>(*snapshot.image);
    for (std::uint64_t at = 0; at < seen.size(); at += chunk_bytes) {
      const std::uint64_t end = std::min<std::uint64_t>(at + chunk_bytes, seen.size());
      const auto sectors = free.begin() + static_cast<std::ptrdiff_t>(at / kSector);
      const auto bytes = seen.begin() + static_cast<std::ptrdiff_t>(at);
      const auto stop = seen.begin() + static_cast<std::ptrdiff_t>(end);
      const auto is_free = [](bool is) { return is; };
      const auto is_zero = [](std::byte b) { return b == std::byte{0}; };
      if (std::all_of(sectors, free.begin() + static_cast<std::ptrdiff_t>(end / kSector),
                      is_free) &&
          std::all_of(bytes, stop, is_zero)) {
        std::copy(bytes, stop, image->begin() + static_cast<std::ptrdiff_t>(at));
      }
    }
    snapshot.image = std::move(image);
  }

  void remove_one() {
    if (known.empty() || stage_ != Stage::none) return;
    auto it = known.begin();
    std::advance(it, static_cast<std::ptrdiff_t>(prng_.below(known.size())));
    const SnapshotId id = it->first;
    const bool locked = it->second.locked_until > world_.clock.wall_filetime();
    in_doubt_.insert(id);
    count(CowAction::remove);
    const SimMachine::Inline waits(world_.machine);
    const Status removed = world_.volume->remove(id, true);
    if (!removed && world_.machine.powered() && !syncs_fail_) {
      in_doubt_.erase(id);  // It is still there.
      const Errc why = removed.error().code;
      INFO(removed.error().to_string());
      REQUIRE((why == Errc::revert_in_progress || why == Errc::object_not_found ||
               (locked && why == Errc::access_denied)));
      if (why == Errc::object_not_found) forget_evicted();
    }
    if (!removed) return;
    REQUIRE_FALSE(locked);
    in_doubt_.erase(id);
    known.erase(id);
  }

  [[nodiscard]] bool must_be_there(const SnapshotId& id, const Known& snapshot,
                                   bool auto_release_too) const {
    return snapshot.created && (auto_release_too || snapshot.persistent) &&
           !in_doubt_.contains(id) && !doomed_.contains(id);
  }

  // --- cow_load_history.h ---
  void submit_live_read();
  void completed_live_read(const Op& op);
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
  CowWeights weights_ = kCowWeights;
  CowWeights counts_{};
  Stage stage_ = Stage::none;
  SnapshotId making_;
  bool making_persistent_ = false;
  std::uint64_t orders_ = 0;
  std::shared_ptr<block::Device> window_;
  std::vector<bool> reverting_left_alone_;  // Sectors.
  bool window_spoiled_ = false;
  bool moving_ = false;
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

#include "tests/support/cow_load_history.h"
