// SPDX-License-Identifier: Apache-2.0
//
// Simulated disks behind the same seam as real ones: seeded, deterministic, one machine with one
// power supply.
//
// The fault model. A completed write is in the disk's volatile cache: every later read sees it. A
// flush makes durable what had completed before the flush was submitted. When the power is cut,
// each 512-byte sector of every other write is kept or dropped: whole writes, or torn ones, and so
// in any order between writes; a write that was still in flight too. A killed process loses nothing
// that completed; what was in flight is kept, dropped or torn. Errors are injected by a predicate;
// a flush that fails may lose what it was to make durable.
//
// Sharing (block::Op::share) is a write of what the source holds when it takes effect, and as
// volatile. Disks with `can_share` lie on one host: SimMachine::host_free_bytes is its free space.
// A block (4 KiB) of a disk that shares has space of its own, shares that of a block of the source,
// or has none; the first write to a shared block of a source takes space, or meets ENOSPC. The
// space is as of the cache: a power cut does not take it back.
//
// A SimMachine either completes requests inside submit() (immediate), or queues them and completes
// one at random with each step() (scheduled). With scheduling on, calls that wait for their own
// I/O run under a SimMachine::Inline: their requests complete at once, after a few random steps.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <utility>
#include <vector>

#include "engine/platform/block.h"
#include "engine/platform/prng.h"

namespace umbra::test {

class SimDisk;

/// Power, schedule and operation counter of all its disks. Threads: one, or any in immediate mode.
class SimMachine {
 public:
  explicit SimMachine(std::uint64_t seed) : prng_(seed) {}

  void set_scheduled(bool scheduled) noexcept { scheduled_ = scheduled; }
  /// Completes one queued request or runs one posted job. False: there is none.
  bool step();
  void run_until_idle();
  /// Completes the oldest queued request that `wanted` takes. False: there is none.
  bool step_one(const std::function<bool(const SimDisk&, const block::Request&)>& wanted);
  /// How many queued requests `wanted` takes.
  [[nodiscard]] std::size_t count_queued(
      const std::function<bool(const SimDisk&, const block::Request&)>& wanted) const;
  /// Takes the place of chance in step(): given a bound, a number below it. Null: chance.
  std::function<std::uint64_t(std::uint64_t)> choose;
  [[nodiscard]] std::size_t queued() const noexcept { return queue_.size() + jobs_.size(); }
  /// Of the file system that disks with `can_share` lie on.
  std::uint64_t host_free_bytes = std::uint64_t{1} << 40U;
  /// Runs later, as a step of its own.
  void post(std::function<void()> job) { jobs_.push_back(std::move(job)); }

  /// Operations that change a disk (writes, zeroes, flushes, resizes) that took effect so far.
  [[nodiscard]] std::uint64_t operations() const noexcept { return operations_; }
  /// The power fails when operation number `operation` (from 0) is about to take effect.
  void cut_at(std::uint64_t operation) noexcept { cut_at_ = operation; }
  [[nodiscard]] bool powered() const noexcept {
    const std::lock_guard lock(mutex_);
    return powered_;
  }
  /// Fails everything that is queued; nothing takes effect any more.
  void cut_power();
  /// After cut_power(): disks are as the fault model says. Clears the counter and the queue.
  void power_on();
  /// The process dies: like cut_power(), but what completed is kept by power_on().
  void kill();

  class Inline {
   public:
    explicit Inline(SimMachine& machine) noexcept : machine_(machine) { ++machine_.inline_; }
    ~Inline() { --machine_.inline_; }
    Inline(const Inline&) = delete;
    Inline& operator=(const Inline&) = delete;

   private:
    SimMachine& machine_;
  };

  /// Inside an Inline, as long as this lives: requests are queued again.
  class Queueing {
   public:
    explicit Queueing(SimMachine& machine) noexcept
        : machine_(machine), before_(std::exchange(machine.inline_, 0)) {}
    ~Queueing() { machine_.inline_ = before_; }
    Queueing(const Queueing&) = delete;
    Queueing& operator=(const Queueing&) = delete;

   private:
    SimMachine& machine_;
    int before_;
  };

  [[nodiscard]] Prng& prng() noexcept { return prng_; }

 private:
  friend class SimDisk;
  struct Queued {
    SimDisk* disk = nullptr;
    block::Request* request = nullptr;
    std::uint64_t flush_mark = 0;
  };
  /// Counts an operation. False: the power is off, perhaps since just now.
  bool take_effect();
  void run(const Queued& queued);
  void fail_queue();

  Prng prng_;
  mutable std::recursive_mutex mutex_;
  std::vector<SimDisk*> disks_;
  std::vector<Queued> queue_;
  std::vector<std::function<void()>> jobs_;
  bool scheduled_ = false;
  bool powered_ = true;
  bool killed_ = false;
  int inline_ = 0;
  std::uint64_t operations_ = 0;
  std::uint64_t cut_at_ = ~std::uint64_t{0};
};

class SimDisk final : public block::ResizableDevice {
 public:
  SimDisk(SimMachine& machine, std::uint64_t size_bytes);
  ~SimDisk() override;

  /// resize() above this fails with insufficient_storage. Default: no growth.
  std::uint64_t size_bytes_max = 0;
  /// Called when a request takes effect: 0, or the errno value it completes with, without effect.
  std::function<int(const block::Request&)> fault;
  /// A flush that `fault` fails loses what it was to make durable: reads see it until the power is
  /// cut, and no later flush makes it durable. As pages are that a failed sync has marked clean.
  bool failed_flush_drops = false;
  /// Called by allocate(): false, and the host has no room for the range.
  std::function<bool(std::uint64_t offset_bytes, std::uint64_t size_bytes)> host;
  /// It can share blocks of others that can.
  bool can_share = false;
  std::uint64_t times_shared = 0;  // It did.
  /// What read requests see, for tests that look behind the scenes or spoil bytes.
  [[nodiscard]] std::vector<std::byte>& bytes() noexcept {
    touched_ = true;
    return cache_;
  }
  /// Makes what is in the cache durable, as if by a flush: a starting point.
  void settle();

  [[nodiscard]] block::Geometry geometry() const noexcept override;
  void submit(block::Request& first) noexcept override;
  [[nodiscard]] Status resize(std::uint64_t size_bytes) override;
  [[nodiscard]] Status allocate(std::uint64_t offset_bytes, std::uint64_t size_bytes) override;
  [[nodiscard]] Result<std::uint32_t> share_unit(block::Device& source) override;
  [[nodiscard]] std::uint64_t shared_bytes(std::uint64_t offset_bytes,
                                           std::uint64_t size_bytes) const noexcept override;

 private:
  friend class SimMachine;
  static constexpr std::uint64_t kBlock = 4096;
  /// One of its blocks, as the host sees it.
  struct HostBlock {
    bool allocated = true;
    std::uint32_t sharers = 0;  // Of other disks' blocks, if it is a source.
    std::uint64_t version = 0;  // Counts how often it left its sharers.
    SimDisk* source = nullptr;  // It shares a block of that disk,
    std::uint64_t source_block = 0;
    std::uint64_t source_version = 0;  // unless that has left since.
  };
  [[nodiscard]] bool shares(const HostBlock& block) const noexcept;
  void release(HostBlock& block) noexcept;
  /// What the request does to the host's space. 0 or errno: without effect then.
  int use_host(const block::Request& request);
  void prepare_host() { host_.resize((cache_.size() + kBlock - 1) / kBlock); }
  struct Unsynced {
    std::uint64_t number = 0;
    std::uint64_t offset_bytes = 0;
    std::vector<std::byte> bytes;
  };
  int effect(block::Request& request, std::uint64_t flush_mark);
  void apply(const block::Request& request);
  void lose_power();
  void drop(std::uint64_t flush_mark);
  void tear(const block::Request& request, std::vector<std::byte>& target);

  SimMachine& machine_;
  std::vector<std::byte> cache_;
  std::vector<std::byte> stable_;
  std::vector<Unsynced> unsynced_;
  // Where else the cache differs from what is stable: whole, or parts that were torn.
  bool touched_ = false;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> torn_;
  std::uint64_t next_number_ = 1;
  std::vector<HostBlock> host_;  // Empty unless can_share.
};

}  // namespace umbra::test
