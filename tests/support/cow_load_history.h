// SPDX-License-Identifier: Apache-2.0
//
// Of CowLoad (cow_load.h, which includes this): recovery windows and reverts, and what the twin
// makes of them.
#pragma once

#include "provider/cow/exempt.h"
#include "tests/support/cow_load.h"
#include "tests/support/volume_inside.h"

namespace umbra::test {

// --- the recovery window -----------------------------------------------------------------------

inline bool CowLoad::open_window() {
  if (!prng_.chance(1, 2)) return false;
  if (!world_.volume->begin_recovery(making_)) return false;
  auto device = world_.volume->open_for_recovery(making_);
  REQUIRE(device);
  window_ = std::move(*device);
  window_spoiled_ = false;
  stage_ = Stage::window;
  return true;
}

inline void CowLoad::write_to_window() {
  if (stage_ != Stage::window || ops_.size() >= options_.in_flight_max) return;
  count(CowAction::window);
  Op& op = ops_.emplace_back();
  op.load = this;
  op.device = window_;
  op.snapshot = making_;
  op.request.op = options_.zeroes_and_discards && prng_.chance(1, 8) ? block::Op::write_zeroes
                                                                     : block::Op::write;
  op.request.offset_bytes = kSector * prng_.below(world_.options.origin_bytes / kSector);
  op.request.size_bytes = std::min(kSector * (1 + prng_.below(options_.write_bytes_max / kSector)),
                                   world_.options.origin_bytes - op.request.offset_bytes);
  op.buffer.resize(op.request.size_bytes);
  const std::uint64_t chunk_bytes = world_.options.chunk_bytes;
  const std::uint64_t last = (op.request.offset_bytes + op.request.size_bytes - 1) / chunk_bytes;
  for (std::uint64_t chunk = op.request.offset_bytes / chunk_bytes; chunk <= last; ++chunk) {
    known.at(making_).rewritten.insert(chunk);
  }
  if (op.request.op == block::Op::write) {
    stamp(op.buffer, op.request.offset_bytes, ++world_.sequence);
  }
  issue(op, *window_);
}

// They are served in the order in which they were issued.
inline void CowLoad::completed_in_window(const Op& op) {
  if (op.request.error != 0) {
    window_spoiled_ = true;  // Of several chunks, some may have been written.
    return;
  }
  const auto it = known.find(op.snapshot);
  if (it == known.end()) return;
  Image image = *it->second.image;
  std::copy(op.buffer.begin(), op.buffer.end(),
            image.begin() + static_cast<std::ptrdiff_t>(op.request.offset_bytes));
  it->second.image = std::make_shared<const Image>(std::move(image));
}

// False: the snapshot was given up.
inline bool CowLoad::close_window() {
  window_.reset();
  const Status closed = world_.volume->end_recovery(making_);
  if (closed && !window_spoiled_) return true;
  abort_snapshot();
  return false;
}

// --- revert ------------------------------------------------------------------------------------

inline std::optional<SnapshotId> CowLoad::created_persistent() {
  forget_evicted();
  std::vector<SnapshotId> candidates;
  for (const auto& [id, snapshot] : known) {
    if (snapshot.created && snapshot.persistent && !is_lost(id) && !in_doubt_.contains(id)) {
      candidates.push_back(id);
    }
  }
  if (candidates.empty()) return {};
  return candidates[prng_.below(candidates.size())];
}

// Sectors that a revert to the snapshot does not touch: those that were free, if nobody has written
// them in its window. Empty: none.
inline std::vector<bool> CowLoad::left_alone(const SnapshotId& id) {
  if (!options_.free_blocks) return {};
  const SimMachine::Inline waits(world_.machine);
  const auto bytes = cow::VolumeInside::get(*world_.volume, cow::BlobKind::exemption, id);
  if (!bytes) return {};
  const std::uint64_t chunk_bytes = world_.options.chunk_bytes;
  const auto exemption =
      cow::Exemption::decode(*bytes, (world_.options.origin_bytes + chunk_bytes - 1) / chunk_bytes);
  REQUIRE(exemption);
  std::vector<bool> sectors(floor_.size());
  const std::set<std::uint64_t>& rewritten = known.at(id).rewritten;
  for (std::size_t sector = 0; sector < sectors.size(); ++sector) {
    const std::uint64_t chunk = sector * kSector / chunk_bytes;
    sectors[sector] = exemption->free.contains(chunk) && !rewritten.contains(chunk);
  }
  return sectors;
}

// From now on, durably, but for sectors that are left alone.
inline void CowLoad::shows(const Image& image, const std::vector<bool>& left_alone) {
  for (std::size_t sector = 0; sector < floor_.size(); ++sector) {
    if (!left_alone.empty() && left_alone[sector]) continue;
    std::copy_n(image.begin() + static_cast<std::ptrdiff_t>(sector * kSector), kSector,
                world_.twin.begin() + static_cast<std::ptrdiff_t>(sector * kSector));
    std::uint64_t words[2] = {};
    std::memcpy(words, image.data() + sector * kSector, sizeof words);
    floor_[sector] = last_[sector] = words[1];
    history_[sector] = {words[1]};
  }
}

inline void CowLoad::doom_newer(std::uint64_t order) {
  for (const auto& [id, snapshot] : known) {
    if (snapshot.order > order) doomed_.insert(id);
  }
}

inline void CowLoad::revert_to_one() {
  if (stage_ != Stage::none || syncs_fail_) return;
  world_.machine.run_until_idle();  // It waits for what is in flight, which nobody else completes.
  if (!world_.machine.powered() || !ops_.empty()) return;
  const auto target = created_persistent();
  if (!target || world_.volume->revert_status().under_way) return;
  const Known to = known.at(*target);
  const Image before = world_.twin;
  reverting_left_alone_ = left_alone(*target);
  if (!world_.machine.powered()) return;
  reverting_ = target;
  Status begun;
  {
    const SimMachine::Inline waits(world_.machine);
    begun = world_.volume->begin_revert(*target);
  }
  if (!world_.machine.powered() && !begun) return;
  reverting_.reset();
  if (!begun) {  // Somebody has a lock on a newer one.
    INFO(begun.error().to_string());
    REQUIRE(begun.error().code == Errc::access_denied);
    return;
  }
  count(CowAction::revert);
  shows(*to.image, reverting_left_alone_);
  doom_newer(to.order);
  forget_evicted();
  if (options_.stopped_reverts && prng_.chance(1, 4)) {
    stop_revert(before, Image(world_.twin));
  }
}

// The origin takes no more writes. Nothing but the revert writes meanwhile.
inline void CowLoad::stop_revert(const Image& before, const Image& target) {
  for (auto steps = prng_.below(40); steps > 0; --steps) (void)world_.machine.step();
  world_.origin.fault = [](const block::Request& request) {
    return request.op == block::Op::read ? 0 : EIO;
  };
  world_.machine.run_until_idle();
  world_.origin.fault = nullptr;
  const cow::RevertStatus status = world_.volume->revert_status();
  REQUIRE(status.under_way == status.stopped);
  if (!status.stopped) return;  // It had ended.
  Image seen;
  REQUIRE(world_.read(world_.volume->live(), seen) == 0);
  CowWorld::check_same(seen, target, "live, of a revert that has stopped");
  // A failed flush of the origin is for good; and it has to go on after reopening.
  const bool gives_up = prng_.chance(1, 2);
  if (gives_up) {
    const SimMachine::Inline waits(world_.machine);
    REQUIRE(world_.volume->abandon_revert());
    REQUIRE(world_.read(world_.volume->live(), seen) == 0);
    for (std::uint64_t at = 0; at < seen.size(); at += kSector) {
      const auto is = [&](const Image& image) {
        return std::memcmp(seen.data() + at, image.data() + at, kSector) == 0;
      };
      REQUIRE((is(before) || is(target)));
    }
    shows(seen, {});
  }
  world_.volume.reset();
  world_.open();
  crashed();
  REQUIRE(world_.volume->revert_status().under_way == !gives_up);
  reopened();
}

// Before anything else is done with the volume: a revert that was begun is under way.
inline void CowLoad::settle_revert_in_doubt() {
  if (!reverting_) return;
  const auto target = known.find(*std::exchange(reverting_, std::nullopt));
  REQUIRE(target != known.end());
  if (!world_.volume->revert_status().under_way) return;
  shows(*target->second.image, reverting_left_alone_);
  doom_newer(target->second.order);
}

}  // namespace umbra::test
