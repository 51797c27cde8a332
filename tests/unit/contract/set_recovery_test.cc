// SPDX-License-Identifier: Apache-2.0

#include "provider/contract/set_recovery.h"

#include "tests/support/catch.h"

namespace {

using namespace umbra;
using namespace umbra::contract;
using Kind = RecoveryAction::Kind;

cow::SnapshotRecord copy_of(const SnapshotSetId& set, const SnapshotId& id, cow::Stage stage,
                            std::vector<SnapshotId> members) {
  cow::SnapshotRecord record;
  record.id = id;
  record.set_id = set;
  record.stage = stage;
  record.members = std::move(members);
  return record;
}

const SnapshotSetId kSet = SnapshotSetId::random();
const SnapshotId kA = SnapshotId::random();
const SnapshotId kB = SnapshotId::random();
constexpr auto kCommitted = cow::Stage::committed;
constexpr auto kCreated = cow::Stage::created;

TEST_CASE("one created member rolls the others forward",
          "[contract]"
          "[vss:rule.no-partial-commit]") {
  const auto actions = decide_recovery(
      {copy_of(kSet, kA, kCreated, {kA, kB}), copy_of(kSet, kB, kCommitted, {kA, kB})}, false);
  CHECK(actions == std::vector<RecoveryAction>{{Kind::confirm, kB}});
}

TEST_CASE("all members seen and none created: all go", "[contract]") {
  const auto actions = decide_recovery(
      {copy_of(kSet, kA, kCommitted, {kA, kB}), copy_of(kSet, kB, kCommitted, {kA, kB})}, false);
  CHECK(actions == std::vector<RecoveryAction>{{Kind::remove, kA}, {Kind::remove, kB}});
}

TEST_CASE("an absent member is waited for, until all volumes are attached", "[contract]") {
  const std::vector copies{copy_of(kSet, kA, kCommitted, {kA, kB})};
  CHECK(decide_recovery(copies, false).empty());
  CHECK(decide_recovery(copies, true) == std::vector<RecoveryAction>{{Kind::remove, kA}});
}

TEST_CASE("a copy without a member list proves that nobody is created", "[contract]") {
  const auto actions = decide_recovery(
      {copy_of(kSet, kA, kCommitted, {}), copy_of(kSet, kB, kCommitted, {kB, kA})}, false);
  CHECK(actions.size() == 2);
  CHECK(actions.front().kind == Kind::remove);
}

TEST_CASE("members of other providers are waited for without end", "[contract]") {
  const auto stored = encode_members(kA, {kA, kB}, true);
  CHECK(decide_recovery({copy_of(kSet, kA, kCommitted, stored)}, true).empty());
}

TEST_CASE("sets are decided one by one", "[contract]") {
  const SnapshotSetId other = SnapshotSetId::random();
  const auto actions = decide_recovery(
      {copy_of(kSet, kA, kCreated, {kA}), copy_of(other, kB, kCommitted, {kB})}, false);
  CHECK(actions == std::vector<RecoveryAction>{{Kind::remove, kB}});
}

TEST_CASE("a member list is stored and read back", "[contract]") {
  CHECK(encode_members(kA, {kA, kB}, false) == std::vector<SnapshotId>{kA, kB});
  const auto ours = decode_members(kA, encode_members(kA, {kA, kB}, false));
  CHECK_FALSE(ours.foreign);
  CHECK(ours.ids == std::vector<SnapshotId>{kA, kB});
  const auto shared = decode_members(kB, encode_members(kB, {kA, kB}, true));
  CHECK(shared.foreign);
  CHECK(shared.ids == std::vector<SnapshotId>{kA, kB});
}

}  // namespace
