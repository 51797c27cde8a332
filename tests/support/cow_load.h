// SPDX-License-Identifier: Apache-2.0
//
// A random load on a CowWorld in scheduled mode: writes, zeroes, discards, flushes and snapshot
// reads in flight at the same time, snapshots made and removed in between, every completion in a
// random order. It keeps a twin that is short enough to be obviously right: one full copy per
// snapshot, and for every sector which writes it may show after a crash.
#pragma once

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
};

/// What a load chooses from, again and again.
enum class CowAction : std::uint8_t {
  write,
  zero,
  discard,
  flush,
  read,      // A part of a snapshot.
  snapshot,  // The next step of making one.
  remove,    // Of a snapshot.
  step,      // Completes something that is in flight. The last one.
};
inline constexpr std::size_t kCowActions = static_cast<std::size_t>(CowAction::step) + 1;
using CowWeights = std::array<std::uint32_t, kCowActions>;
inline constexpr CowWeights kCowWeights = {24, 3, 3, 4, 10, 8, 2, 46};

class CowLoad {
 public:
  using Shared = std::shared_ptr<const Image>;
  struct Known {
    Shared image;
    bool persistent = false;
    bool created = false;                      // confirm() has succeeded.
    std::vector<cow::ChangedRange> free = {};  // Told so just now: zeroes there, or as it was.
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

  /// After a crash: forgets what was in flight. The volume is gone by now.
  void crashed() {
    REQUIRE(ops_.empty());
    stage_ = Stage::none;
  }

  /// What the live volume shows after a crash: for every sector a write that was issued, not older
  /// than the last one that was flushed. The twin takes it over.
  void check_live_after_crash(bool nothing_completed_is_lost) {
    Image seen;
    REQUIRE(world_.read(world_.volume->live(), seen) == 0);
    for (std::uint64_t sector = 0; sector < floor_.size(); ++sector) {
      std::uint64_t words[2] = {};
      std::memcpy(words, seen.data() + sector * kSector, sizeof words);
      const std::uint64_t least = nothing_completed_is_lost ? last_[sector] : floor_[sector];
      if (words[0] != sector * kSector || words[1] < least ||
          !history_[sector].contains(words[1])) {
        FAIL("live sector " << sector << " shows offset " << words[0] << " sequence " << words[1]
                            << ", at least " << least);
      }
      last_[sector] = floor_[sector] = words[1];
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
      REQUIRE(!record.lost);
      present.insert(record.id);
      Image seen;
      REQUIRE(world_.read_snapshot(record.id, seen) == 0);
      adopt_free(known.at(record.id), seen);
      CowWorld::check_same(seen, *known.at(record.id).image, "snapshot");
    }
    for (auto it = known.begin(); it != known.end();) {
      const bool must = it->second.created && (auto_release_too || it->second.persistent) &&
                        removing_ != it->first;
      INFO("snapshot " << it->first.to_string());
      if (must) REQUIRE(present.contains(it->first));
      it = present.contains(it->first) ? std::next(it) : known.erase(it);
    }
    removing_.reset();
    for (auto& [id, snapshot] : known) {
      const SimMachine::Inline waits(world_.machine);
      REQUIRE(world_.volume->confirm(id));
      snapshot.created = true;
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
    evictions_seen += std::erase_if(known, [&](const auto& entry) {
      return (stage_ != Stage::committed || entry.first != making_) &&
             !present.contains(entry.first);
    });
  }

  std::map<SnapshotId, Known> known;  // Committed ones.
  std::uint64_t evictions_seen = 0;
  std::uint64_t losses_seen = 0;

 private:
  enum class Stage { none, prepared, held, committed };

  struct Op {
    CowLoad* load = nullptr;
    block::Request request;
    Image buffer;
    std::uint64_t sequence = 0;
    std::uint64_t issued_sequence = 0;  // flush: writes up to here may be in flight.
    std::vector<std::uint64_t> floor;   // flush: what it makes durable.
    SnapshotId snapshot;                // Snapshot reads.
    Shared image;
    std::shared_ptr<block::Device> device;
  };

  [[nodiscard]] std::uint32_t weight(std::size_t action) const noexcept {
    const auto kind = static_cast<CowAction>(action);
    const bool off =
        !options_.zeroes_and_discards && (kind == CowAction::zero || kind == CowAction::discard);
    return off ? 0 : weights_[action];
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
    for (const Op& op : ops_) {  // Overlapping writes in flight would be our own mistake.
      if (op.request.op != block::Op::read && op.request.offset_bytes < offset + size &&
          offset < op.request.offset_bytes + op.request.size_bytes) {
        return;
      }
    }
    count(action);
    submit(kind, offset, size);
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
    if (options_.free_blocks && !it->second.created) return;  // It may still become exempt.
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
    op.request.buffer = op.buffer.data();
    op.request.owner = &op;
    op.request.complete = [](block::Request& request) noexcept {
      auto& done = *static_cast<Op*>(request.owner);
      done.load->completed(done);
    };
    block::Device& target = *op.device;
    target.submit(op.request);
  }

  void completed(Op& op) {
    const block::Request& request = op.request;
    if (request.op == block::Op::read) {
      if (request.error == 0) {
        const auto first = op.image->begin() + static_cast<std::ptrdiff_t>(request.offset_bytes);
        if (!std::equal(op.buffer.begin(), op.buffer.end(), first)) {
          FAIL("a read of snapshot " << op.snapshot.to_string() << " at " << request.offset_bytes
                                     << " is wrong");
        }
      } else if (world_.machine.powered() && known.contains(op.snapshot) &&
                 removing_ != op.snapshot && !closing) {
        ++losses_seen;  // check_all() wants it to be marked lost.
      }
    } else if (request.error == 0) {
      changed(op);
    } else {
      REQUIRE((!world_.machine.powered() || closing));
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
      const Image& now = world_.origin.bytes();
      for (auto at = offset; at < end; at += static_cast<std::ptrdiff_t>(kSector)) {
        const auto sector = now.begin() + at;
        const bool zero =
            std::all_of(sector, sector + kSector, [](std::byte b) { return b == std::byte{0}; });
        REQUIRE((zero || std::equal(sector, sector + kSector, world_.twin.begin() + at)));
        std::copy(sector, sector + kSector, world_.twin.begin() + at);
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
        known[making_] = {std::make_shared<const Image>(world_.twin), making_persistent_, false};
        volume.release();
        stage_ = Stage::committed;
        break;
      case Stage::committed:
        if (volume.post_commit(making_, {making_}) && exempt_some() && volume.confirm(making_)) {
          known.at(making_).created = true;
        } else if (world_.machine.powered()) {
          // As a provider would abort the set.
          if (is_lost(making_)) {
            REQUIRE(volume.remove(making_, true));
          } else {
            REQUIRE(volume.statistics().snapshots_evicted > 0);
          }
          known.erase(making_);
        }
        stage_ = Stage::none;
        break;
    }
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
               world_.volume->statistics().snapshots_evicted > 0));
      snapshot.free.clear();
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
    removing_ = it->first;
    count(CowAction::remove);
    const SimMachine::Inline waits(world_.machine);
    if (!world_.volume->remove(it->first, true)) return;
    removing_.reset();
    known.erase(it);
  }

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
  std::optional<SnapshotId> removing_;
  std::vector<std::uint64_t> floor_;  // Per sector: the newest write that is surely durable.
  std::vector<std::uint64_t> last_;   // Per sector: the newest completed write.
  std::vector<std::set<std::uint64_t>> history_;
};

}  // namespace umbra::test
