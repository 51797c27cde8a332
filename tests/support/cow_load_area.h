// SPDX-License-Identifier: Apache-2.0
//
// Of CowLoad (cow_load.h, which includes this): what is done to the diff area as a whole, and to
// time.
#pragma once

#include "provider/cow/migrate.h"
#include "tests/support/cow_load.h"

namespace umbra::test {

// --- the diff area -----------------------------------------------------------------------------

inline void CowLoad::change_maximum() {
  if (stage_ != Stage::none || syncs_fail_) return;
  const std::uint64_t segments =
      options_.segments_least + prng_.below(options_.segments_most - options_.segments_least + 1);
  world_.area->size_bytes_max = world_.diff_bytes(options_.segments_most);
  count(CowAction::resize);
  Result<cow::MaximumChange> changed = [&] {
    const SimMachine::Inline waits(world_.machine);
    return world_.volume->set_diff_maximum(world_.diff_bytes(segments));
  }();
  if (!changed) {
    INFO(changed.error().to_string());
    const Errc why = changed.error().code;
    const bool reverting = world_.volume->revert_status().under_way;
    REQUIRE((!world_.machine.powered() || why == Errc::access_denied ||
             (reverting && why == Errc::revert_in_progress)));
    gone_by_maximum_ = true;
    return;
  }
  forget_evicted_by(changed->deleted);
}

// They are the oldest of those that are not lost.
inline void CowLoad::forget_evicted_by(const std::vector<SnapshotId>& deleted) {
  for (const SnapshotId& id : deleted) {
    const auto gone = known.find(id);
    if (gone == known.end()) continue;  // In doubt, or evicted at the same time.
    for (const auto& [other, snapshot] : known) {
      if (other == id || is_lost(other) || snapshot.order > gone->second.order) continue;
      REQUIRE_FALSE(world_.volume->find(other).has_value());
    }
    known.erase(gone);
  }
}

inline void CowLoad::move_area() {
  if (stage_ == Stage::held) return;
  SimDisk& source = *world_.area;
  SimDisk& target = &source == &world_.diff ? world_.spare : world_.diff;
  target.size_bytes_max = source.size_bytes_max;
  // Nothing may be in flight when it begins, nor at the switch: nobody would complete it.
  world_.machine.run_until_idle();
  if (!world_.machine.powered()) return;
  moving_ = true;
  const Result<cow::MigrateReport> moved = [&] {
    const SimMachine::Inline waits(world_.machine);
    cow::MigrateOptions options;
    options.hold_max = std::chrono::seconds(30);
    options.to_path = "/target";
    // What a cut has left of the target's first mark may be nobody's any more, and in the way.
    options.force = moves_cut > 0;
    return world_.volume->migrate(target, options, [this](const cow::MigrateProgress& progress) {
      const SimMachine::Queueing load_is_queued(world_.machine);
      for (int i = 0; i < 3; ++i) act();
      // Nothing new meanwhile: a swarm of flushes would keep writes held for ever.
      while (holding() && world_.machine.powered()) {
        act(CowAction::step);
        if (holding()) advance_snapshot();
      }
      if (progress.bytes_copied >= progress.bytes_total) world_.machine.run_until_idle();
      // A hold that the cut has met ends never, and would be waited for.
      return world_.machine.powered() || !holding();
    });
  }();
  moving_ = false;
  INFO((moved ? std::string() : moved.error().to_string()));
  REQUIRE((moved || !world_.machine.powered() || syncs_fail_));
  if (!moved || !moved->settled) {
    move_in_doubt_ = {&source, &target};
    ++moves_cut;
  }
  if (!moved) return;
  count(CowAction::move);
  REQUIRE((moved->settled || !world_.machine.powered() || syncs_fail_));
  REQUIRE(moved->source_left);
  world_.area = &target;
}

inline Status CowLoad::settle_move() {
  if (!move_in_doubt_) return {};
  const SimMachine::Inline waits(world_.machine);
  Move& move = *move_in_doubt_;
  const auto side = cow::settle_move(*move.source, *move.target);
  if (!side) return fail(side.error());
  if (move.said) REQUIRE(*move.said == *side);
  move.said = *side;
  world_.area = *side == cow::MoveSide::target ? move.target : move.source;
  return {};
}

inline void CowLoad::check_one_in_force() {
  if (!move_in_doubt_) return;
  const Move move = *std::exchange(move_in_doubt_, std::nullopt);
  REQUIRE(move.said);
  SimDisk* const in_force = world_.area;
  world_.area = in_force == move.target ? move.source : move.target;
  const Status opened = world_.try_open();
  world_.area = in_force;
  REQUIRE((!opened || syncs_fail_));
  world_.volume.reset();
}

// --- retention ---------------------------------------------------------------------------------

inline void CowLoad::retain_one() {
  constexpr std::int64_t kSecond = 10'000'000;
  if (prng_.chance(1, 2)) {
    world_.clock.advance(std::chrono::seconds(prng_.below(120)));
    return;
  }
  const auto id = created_persistent();
  if (!id) return;
  Known& snapshot = known.at(*id);
  const std::int64_t until =
      world_.clock.wall_filetime() + static_cast<std::int64_t>(1 + prng_.below(240)) * kSecond;
  const SimMachine::Inline waits(world_.machine);
  const Status locked = world_.volume->retain(*id, until);
  if (!locked) {
    REQUIRE((!world_.machine.powered() || until < snapshot.locked_until));
    return;
  }
  count(CowAction::retain);
  snapshot.locked_until = until;
}

}  // namespace umbra::test
