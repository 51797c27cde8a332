// SPDX-License-Identifier: Apache-2.0
//
// Of CowLoad (cow_load.h, which includes this): live writes, flushes and reads, and what their
// completions tell the twin.
#pragma once

#include "tests/support/cow_load.h"

namespace umbra::test {

inline void CowLoad::submit_change(block::Op kind, CowAction action) {
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
inline bool CowLoad::is_in_flight(std::uint64_t offset, std::uint64_t size, bool reads_too) const {
  return std::any_of(ops_.begin(), ops_.end(), [&](const Op& op) {
    return op.device == nullptr && (reads_too || op.request.op != block::Op::read) &&
           op.request.offset_bytes < offset + size &&
           offset < op.request.offset_bytes + op.request.size_bytes;
  });
}

inline void CowLoad::submit(block::Op kind, std::uint64_t offset, std::uint64_t size) {
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

inline void CowLoad::submit_read() {
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

inline void CowLoad::issue(Op& op, block::Device& target) {
  op.request.buffer = op.buffer.data();
  op.request.owner = &op;
  op.request.complete = [](block::Request& request) noexcept {
    auto& done = *static_cast<Op*>(request.owner);
    done.load->completed(done);
  };
  target.submit(op.request);
}

inline void CowLoad::completed(Op& op) {
  const block::Request& request = op.request;
  if (request.op == block::Op::read && op.device == nullptr) {
    completed_live_read(op);
  } else if (op.device != nullptr && request.op != block::Op::read) {
    completed_in_window(op);
  } else if (request.op == block::Op::read) {
    completed_read(op);
  } else if (request.error == 0) {
    changed(op);
  } else {
    const bool flush_fails = syncs_fail_ && request.op == block::Op::flush;
    verdict_.require(!world_.machine.powered() || closing || flush_fails,
                     "a request of the live volume has failed");
  }
  ops_.remove_if([&](const Op& other) { return &other == &op; });
}

// Of a snapshot.
inline void CowLoad::completed_read(const Op& op) {
  if (op.request.error != 0) {
    if (world_.machine.powered() && known.contains(op.snapshot) &&
        !in_doubt_.contains(op.snapshot) && !closing) {
      ++losses_seen;  // check_all() wants it to be marked lost.
    }
    return;
  }
  const std::uint64_t at = op.request.offset_bytes;
  const auto wanted = std::span(*op.image).subspan(at, op.buffer.size());
  if (std::string wrong = CowWorld::difference(op.buffer, wanted, "a part"); !wrong.empty()) {
    verdict_.wrong("snapshot " + op.snapshot.to_string() + " read at " + std::to_string(at) + ": " +
                   wrong);
  }
}

inline void CowLoad::changed(const Op& op) {
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
    verdict_.require(error == 0 || !world_.machine.powered() || closing,
                     "what was discarded cannot be read");
    if (error != 0) return;
    for (std::uint64_t at = 0; at < now.size(); at += kSector) {
      const std::span<const std::byte> sector(now.data() + at, kSector);
      std::byte* const twin = world_.twin.data() + request.offset_bytes + at;
      const bool zero =
          std::all_of(sector.begin(), sector.end(), [](std::byte b) { return b == std::byte{0}; });
      verdict_.require(zero || std::equal(sector.begin(), sector.end(), twin),
                       "what was discarded shows neither zeroes nor what was there");
      std::copy(sector.begin(), sector.end(), twin);
    }
  }
}

inline void CowLoad::submit_live_read() {
  if (ops_.size() >= options_.in_flight_max) return;
  const std::uint64_t offset = kSector * prng_.below(world_.options.origin_bytes / kSector);
  const std::uint64_t size =
      std::min(kSector * (1 + prng_.below(256)), world_.options.origin_bytes - offset);
  if (is_in_flight(offset, size, false)) return;
  count(CowAction::live_read);
  Op& op = ops_.emplace_back();
  op.load = this;
  op.request.offset_bytes = offset;
  op.request.size_bytes = size;
  op.buffer.resize(size);
  const auto first = world_.twin.begin() + static_cast<std::ptrdiff_t>(offset);
  op.image = std::make_shared<const Image>(first, first + static_cast<std::ptrdiff_t>(size));
  issue(op, world_.volume->live());
}

inline void CowLoad::completed_live_read(const Op& op) {
  if (op.request.error == 0) {
    std::string wrong = CowWorld::difference(op.buffer, *op.image, "a part of the live volume");
    if (!wrong.empty()) {
      verdict_.wrong("read at " + std::to_string(op.request.offset_bytes) + ": " + wrong);
    }
  } else {
    verdict_.require(!world_.machine.powered() || closing, "a read of the live volume has failed");
  }
}

}  // namespace umbra::test
