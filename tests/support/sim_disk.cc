// SPDX-License-Identifier: Apache-2.0
#include "tests/support/sim_disk.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace umbra::test {
namespace {

constexpr std::uint64_t kSectorBytes = 512;
constexpr std::size_t kUnsyncedMax = 512;  // More are written back by themselves, oldest first.
constexpr std::uint64_t kInlineStepsMax = 3;

[[nodiscard]] bool changes(const block::Request& request) noexcept {
  return request.op != block::Op::read;
}

}  // namespace

// --- the machine -----------------------------------------------------------------------------

bool SimMachine::step() {
  // A job may wait for what the call that is waiting for its I/O holds: only at the top level.
  const std::size_t jobs = inline_ == 0 ? jobs_.size() : 0;
  if (queue_.empty() && jobs == 0) return false;
  const std::uint64_t bound = queue_.size() + jobs;
  const std::uint64_t choice = choose ? choose(bound) : prng_.below(bound);
  const int outer = std::exchange(inline_, 0);
  if (choice < queue_.size()) {
    const Queued queued = queue_[choice];
    queue_.erase(queue_.begin() + static_cast<std::ptrdiff_t>(choice));
    run(queued);
  } else {
    std::function<void()> job = std::move(jobs_.front());  // Jobs keep their order.
    jobs_.erase(jobs_.begin());
    const Inline waits_for_its_io(*this);
    job();
  }
  inline_ = outer;
  return true;
}

void SimMachine::run_until_idle() {
  while (step()) {
  }
}

bool SimMachine::step_one(
    const std::function<bool(const SimDisk&, const block::Request&)>& wanted) {
  for (auto it = queue_.begin(); it != queue_.end(); ++it) {
    if (!wanted(*it->disk, *it->request)) continue;
    const Queued queued = *it;
    queue_.erase(it);
    run(queued);
    return true;
  }
  return false;
}

std::size_t SimMachine::count_queued(
    const std::function<bool(const SimDisk&, const block::Request&)>& wanted) const {
  return static_cast<std::size_t>(std::count_if(
      queue_.begin(), queue_.end(), [&](const Queued& q) { return wanted(*q.disk, *q.request); }));
}

bool SimMachine::take_effect() {
  if (!powered_) return false;
  if (operations_++ != cut_at_) return true;
  powered_ = false;
  return false;
}

void SimMachine::run(const Queued& queued) {
  const int error = queued.disk->effect(*queued.request, queued.flush_mark);
  if (!powered_) fail_queue();
  block::finish(*queued.request, error);
}

void SimMachine::fail_queue() {
  while (!queue_.empty()) {
    const Queued queued = queue_.back();
    queue_.pop_back();
    // In flight when the power went: it may have reached the medium in part.
    queued.disk->tear(*queued.request, killed_ ? queued.disk->cache_ : queued.disk->stable_);
    block::finish(*queued.request, EIO);
  }
}

void SimMachine::cut_power() {
  const std::lock_guard lock(mutex_);
  powered_ = false;
  fail_queue();
}

void SimMachine::kill() {
  const std::lock_guard lock(mutex_);
  killed_ = true;
  cut_power();
}

void SimMachine::power_on() {
  const std::lock_guard lock(mutex_);
  jobs_.clear();
  if (!killed_) {
    for (SimDisk* disk : disks_) disk->lose_power();
  }
  killed_ = false;
  powered_ = true;
  operations_ = 0;
  cut_at_ = ~std::uint64_t{0};
}

// --- a disk ----------------------------------------------------------------------------------

SimDisk::SimDisk(SimMachine& machine, std::uint64_t size_bytes)
    : machine_(machine), cache_(size_bytes), stable_(size_bytes) {
  machine_.disks_.push_back(this);
}

SimDisk::~SimDisk() { std::erase(machine_.disks_, this); }

void SimDisk::settle() {
  stable_ = cache_;
  unsynced_.clear();
  torn_.clear();
  touched_ = false;
}

block::Geometry SimDisk::geometry() const noexcept {
  block::Geometry geometry;
  geometry.size_bytes = cache_.size();
  geometry.can_discard = true;
  return geometry;
}

void SimDisk::submit(block::Request& first) noexcept {
  for (block::Request* request = &first; request != nullptr;) {
    block::Request* const next = std::exchange(request->next, nullptr);
    request->error = 0;
    int error = 0;
    {
      const std::lock_guard lock(machine_.mutex_);
      error = block::check(geometry(), *request);
      if (error == 0 && machine_.scheduled_ && machine_.powered_ && machine_.inline_ == 0) {
        machine_.queue_.push_back({this, request, next_number_});
        request = next;
        continue;
      }
      if (error == 0 && machine_.scheduled_ && machine_.inline_ > 0) {
        for (auto steps = machine_.prng_.below(kInlineStepsMax + 1); steps > 0; --steps) {
          (void)machine_.step();
        }
      }
      if (error == 0) error = effect(*request, next_number_);
      if (!machine_.powered_) machine_.fail_queue();
    }
    block::finish(*request, error);
    request = next;
  }
}

int SimDisk::effect(block::Request& request, std::uint64_t flush_mark) {
  const std::lock_guard lock(machine_.mutex_);
  if (!machine_.powered_) return EIO;
  if (changes(request) && !machine_.take_effect()) {
    tear(request, machine_.killed_ ? cache_ : stable_);
    return EIO;
  }
  if (fault) {
    if (const int error = fault(request); error != 0) {
      if (request.op == block::Op::flush && failed_flush_drops) drop(flush_mark);
      return error;
    }
  }
  if (request.op == block::Op::share && (!can_share || request.source == nullptr)) {
    return EOPNOTSUPP;
  }
  if (can_share) {
    if (const int error = use_host(request); error != 0) return error;
  }
  if (request.op == block::Op::read) {
    std::memcpy(request.buffer, cache_.data() + request.offset_bytes, request.size_bytes);
    return 0;
  }
  if (request.op == block::Op::flush) {
    std::size_t done = 0;
    for (; done < unsynced_.size() && unsynced_[done].number < flush_mark; ++done) {
      std::copy(unsynced_[done].bytes.begin(), unsynced_[done].bytes.end(),
                stable_.begin() + static_cast<std::ptrdiff_t>(unsynced_[done].offset_bytes));
    }
    unsynced_.erase(unsynced_.begin(), unsynced_.begin() + static_cast<std::ptrdiff_t>(done));
    return 0;
  }
  if (request.op == block::Op::discard && machine_.prng_.chance(1, 2)) return 0;
  apply(request);
  return 0;
}

void SimDisk::apply(const block::Request& request) {
  Unsynced write;
  write.number = next_number_++;
  write.offset_bytes = request.offset_bytes;
  write.bytes.resize(request.size_bytes);
  if (request.op == block::Op::write) {
    std::memcpy(write.bytes.data(), request.buffer, request.size_bytes);
  } else if (request.op == block::Op::share) {
    const auto& source = dynamic_cast<SimDisk&>(*request.source).cache_;
    std::memcpy(write.bytes.data(), source.data() + request.source_offset_bytes,
                request.size_bytes);
  }
  const auto offset = static_cast<std::ptrdiff_t>(write.offset_bytes);
  std::copy(write.bytes.begin(), write.bytes.end(), cache_.begin() + offset);
  unsynced_.push_back(std::move(write));
  // Durable at once with FUA, or by the disk's own accord; everything before it goes along.
  while (!unsynced_.empty() && (request.fua || unsynced_.size() > kUnsyncedMax)) {
    const Unsynced& oldest = unsynced_.front();
    std::copy(oldest.bytes.begin(), oldest.bytes.end(),
              stable_.begin() + static_cast<std::ptrdiff_t>(oldest.offset_bytes));
    unsynced_.erase(unsynced_.begin());
  }
}

void SimDisk::drop(std::uint64_t flush_mark) {
  std::erase_if(unsynced_, [&](const Unsynced& write) {
    if (write.number >= flush_mark || machine_.prng_.chance(1, 2)) return false;
    torn_.emplace_back(write.offset_bytes, write.bytes.size());
    return true;
  });
}

void SimDisk::tear(const block::Request& request, std::vector<std::byte>& target) {
  const bool shares = request.op == block::Op::share && request.source != nullptr;
  if (request.op != block::Op::write && request.op != block::Op::write_zeroes && !shares) return;
  const std::uint64_t kind = machine_.prng_.below(3);  // Dropped, kept, torn.
  torn_.emplace_back(request.offset_bytes, request.size_bytes);
  for (std::uint64_t at = 0; at < request.size_bytes; at += kSectorBytes) {
    if (kind == 0 || (kind == 2 && machine_.prng_.chance(1, 2))) continue;
    std::byte* const to = target.data() + request.offset_bytes + at;
    if (request.op == block::Op::write) {
      std::memcpy(to, request.buffer + at, kSectorBytes);
    } else if (shares) {
      const auto& source = dynamic_cast<SimDisk&>(*request.source).cache_;
      std::memcpy(to, source.data() + request.source_offset_bytes + at, kSectorBytes);
    } else {
      std::memset(to, 0, kSectorBytes);
    }
  }
}

void SimDisk::lose_power() {
  for (const Unsynced& write : unsynced_) {
    const std::uint64_t kind = machine_.prng_.below(3);
    for (std::uint64_t at = 0; at < write.bytes.size(); at += kSectorBytes) {
      if (kind == 0 || (kind == 2 && machine_.prng_.chance(1, 2))) continue;
      std::memcpy(stable_.data() + write.offset_bytes + at, write.bytes.data() + at, kSectorBytes);
    }
  }
  // The whole of a disk is a lot to copy for a power cut.
  for (const Unsynced& write : unsynced_)
    torn_.emplace_back(write.offset_bytes, write.bytes.size());
  unsynced_.clear();
  if (touched_ || cache_.size() != stable_.size()) {
    cache_ = stable_;
  } else {
    for (const auto& [offset, size] : torn_) {
      std::memcpy(cache_.data() + offset, stable_.data() + offset, size);
    }
  }
  torn_.clear();
  touched_ = false;
}

Status SimDisk::allocate(std::uint64_t offset_bytes, std::uint64_t size_bytes) {
  if (host && !host(offset_bytes, size_bytes)) {
    return fail(Errc::insufficient_storage, "simulated host");
  }
  if (can_share) {
    const std::lock_guard lock(machine_.mutex_);
    prepare_host();
    std::uint64_t wanted = 0;
    const std::uint64_t first = offset_bytes / kBlock;
    const std::uint64_t end = (offset_bytes + size_bytes) / kBlock;
    for (std::uint64_t i = first; i < end; ++i) wanted += host_[i].allocated ? 0 : kBlock;
    if (wanted > machine_.host_free_bytes) {
      return fail(Errc::insufficient_storage, "simulated host");
    }
    machine_.host_free_bytes -= wanted;
    for (std::uint64_t i = first; i < end; ++i) host_[i].allocated = true;
  }
  return {};
}

// --- the host's space ------------------------------------------------------------------------

bool SimDisk::shares(const HostBlock& block) const noexcept {
  return block.source != nullptr &&
         block.source->host_[block.source_block].version == block.source_version;
}

void SimDisk::release(HostBlock& block) noexcept {
  if (shares(block)) {
    --block.source->host_[block.source_block].sharers;
  } else if (block.allocated) {
    machine_.host_free_bytes += kBlock;
  }
  block.source = nullptr;
  block.allocated = false;
}

int SimDisk::use_host(const block::Request& request) {
  if (request.op == block::Op::read || request.op == block::Op::flush || request.size_bytes == 0 ||
      request.op == block::Op::discard) {
    return 0;
  }
  prepare_host();
  const std::uint64_t first = request.offset_bytes / kBlock;
  const std::uint64_t last = (request.offset_bytes + request.size_bytes - 1) / kBlock;
  if (request.op == block::Op::share) {
    auto& source = dynamic_cast<SimDisk&>(*request.source);
    if (!source.can_share) return EXDEV;
    source.prepare_host();
    ++times_shared;
    for (std::uint64_t i = first; i <= last; ++i) {
      HostBlock& block = host_[i];
      release(block);
      block.source = &source;
      block.source_block = request.source_offset_bytes / kBlock + (i - first);
      HostBlock& shared = source.host_[block.source_block];
      block.source_version = shared.version;
      block.allocated = true;
      ++shared.sharers;
    }
    return 0;
  }
  const bool punches = request.op == block::Op::write_zeroes && !request.no_hole;
  std::uint64_t wanted = 0;
  for (std::uint64_t i = first; i <= last; ++i) {
    if (host_[i].sharers > 0 || shares(host_[i]) || !host_[i].allocated) wanted += kBlock;
  }
  // A source's holes are of no interest here: it keeps what it has.
  const bool is_source = std::any_of(host_.begin() + static_cast<std::ptrdiff_t>(first),
                                     host_.begin() + static_cast<std::ptrdiff_t>(last) + 1,
                                     [](const HostBlock& block) { return block.sharers > 0; });
  if (punches && !is_source) {
    for (std::uint64_t i = first; i <= last; ++i) release(host_[i]);
    return 0;
  }
  if (wanted > machine_.host_free_bytes) return ENOSPC;
  machine_.host_free_bytes -= wanted;
  for (std::uint64_t i = first; i <= last; ++i) {
    HostBlock& block = host_[i];
    if (shares(block)) --block.source->host_[block.source_block].sharers;
    block.source = nullptr;
    block.allocated = true;
    // The old space stays with one of the sharers, for which nothing changes.
    if (block.sharers > 0) ++block.version;
    block.sharers = 0;
  }
  return 0;
}

Result<std::uint32_t> SimDisk::share_unit(block::Device& source) {
  const auto* other = dynamic_cast<SimDisk*>(&source);
  if (!can_share || other == nullptr || !other->can_share) return Device::share_unit(source);
  return static_cast<std::uint32_t>(kBlock);
}

std::uint64_t SimDisk::shared_bytes(std::uint64_t offset_bytes,
                                    std::uint64_t size_bytes) const noexcept {
  const std::lock_guard lock(machine_.mutex_);
  std::uint64_t bytes = 0;
  const std::uint64_t end =
      std::min<std::uint64_t>(host_.size(), (offset_bytes + size_bytes + kBlock - 1) / kBlock);
  for (std::uint64_t i = offset_bytes / kBlock; i < end; ++i) {
    if (host_[i].sharers > 0 || shares(host_[i])) bytes += kBlock;
  }
  return bytes;
}

Status SimDisk::resize(std::uint64_t size_bytes) {
  const std::lock_guard lock(machine_.mutex_);
  if (size_bytes > size_bytes_max) return fail(Errc::insufficient_storage, "simulated disk");
  if (can_share) {
    prepare_host();
    const std::uint64_t blocks = (size_bytes + kBlock - 1) / kBlock;
    const std::uint64_t more = blocks > host_.size() ? (blocks - host_.size()) * kBlock : 0;
    if (more > machine_.host_free_bytes) {
      return fail(Errc::insufficient_storage, "simulated host");
    }
    if (machine_.powered_ && machine_.operations_ != machine_.cut_at_) {
      for (std::uint64_t i = blocks; i < host_.size(); ++i) release(host_[i]);
      machine_.host_free_bytes -= more;
      host_.resize(blocks);
    }
  }
  if (!machine_.take_effect()) return fail(Errc::io_error, "no power");
  cache_.resize(size_bytes);
  stable_.resize(size_bytes);          // A real one is durable on return as well.
  for (Unsynced& write : unsynced_) {  // What was cut off takes its writes with it.
    const std::uint64_t left = size_bytes - std::min(size_bytes, write.offset_bytes);
    if (write.bytes.size() > left) write.bytes.resize(left);
  }
  std::erase_if(unsynced_, [](const Unsynced& write) { return write.bytes.empty(); });
  for (auto& [offset, size] : torn_) {
    offset = std::min(offset, size_bytes);
    size = std::min(size, size_bytes - offset);
  }
  return {};
}

}  // namespace umbra::test
