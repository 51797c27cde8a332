// SPDX-License-Identifier: Apache-2.0

#include "tests/conformance/provider_suite.h"

#include <algorithm>
#include <array>
#include <functional>
#include <future>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/catch.h"
#include "umbra/diff_area_management.h"

namespace umbra::test {
namespace {

constexpr std::size_t kBlock = 512;
constexpr auto kNever = std::chrono::seconds{20};  // Bound of waits for what must happen.

bool refuses_order(const Status& status) {
  return !status &&
         (status.error().code == Errc::provider_veto || status.error().code == Errc::bad_state);
}

std::string block_of(char fill) { return std::string(kBlock, fill); }

// One set on its way; the calls in their order, by number.
struct SetStory {
  Provider& provider;
  SnapshotSetId id = SnapshotSetId::random();
  SessionId session = SessionId::random();
  std::uint32_t attributes = context::kAppRollback;
  std::vector<SnapshotId> snapshots{};
  HoldLimits limits{};

  Status add(const VolumeRef& volume) {
    const auto snapshot = SnapshotId::random();
    auto status = provider.begin_prepare_snapshot({id, snapshot, volume, attributes, session});
    if (status) snapshots.push_back(snapshot);
    return status;
  }
  static constexpr int kSteps = 9;
  static constexpr int kHold = 2;     // flush_and_hold; kHold + 2 is the release.
  static constexpr int kConfirm = 8;  // confirm_set
  Status step(int number) {
    switch (number) {
      case 0: return provider.end_prepare_snapshots(id);
      case 1: return provider.pre_commit_snapshots(id);
      case 2: return provider.flush_and_hold(id, limits);
      case 3: return provider.commit_snapshots(id);
      case 4: return provider.release_hold(id).map([](const HoldReport&) {});
      case 5: return provider.post_commit_snapshots(id, snapshots);
      case 6: return provider.pre_final_commit_snapshots(id);
      case 7: return provider.post_final_commit_snapshots(id);
      default: return provider.confirm_set(id);
    }
  }
  // Calls from..to-1, each of which must be good.
  void run(int from, int to) {
    for (int number = from; number < to; ++number) {
      INFO("step " << number);
      const auto status = step(number);
      INFO((status ? std::string() : status.error().to_string()));
      REQUIRE(status);
    }
  }
  void create() { run(0, kSteps); }
};

bool shown(Provider& provider, const SnapshotId& id, bool incomplete = false) {
  const auto list = provider.query_snapshots(incomplete);
  REQUIRE(list);
  return std::any_of(list->begin(), list->end(),
                     [&](const SnapshotProperties& one) { return one.snapshot_id == id; });
}

// vss: IVssSoftwareSnapshotProvider.IsVolumeSupported
void volumes_are_found(ProviderWorld& world) {
  auto& provider = world.provider();
  const auto a = world.add_volume("a");
  const auto b = world.add_volume("b");
  const auto found = provider.find_volume(a);
  REQUIRE(found);
  CHECK(found->name == "a");
  CHECK(found->size_bytes >= 64 * 1024);
  VolumeRef by_name;
  by_name.name = "a";
  REQUIRE(provider.find_volume(by_name));
  CHECK(provider.find_volume(by_name)->volume_id == found->volume_id);
  by_name.name = found->volume_id.to_string();  // A volume answers to its id's text, too.
  REQUIRE(provider.find_volume(by_name));
  VolumeRef both;
  both.name = "b";
  both.id = found->volume_id;
  const auto clash = provider.find_volume(both);
  REQUIRE(!clash);
  CHECK(clash.error().code == Errc::object_not_found);
  CHECK(!provider.find_volume(VolumeRef{}));
  const auto list = provider.list_volumes();
  REQUIRE(list);
  CHECK(list->size() == 2);
  const auto supported = provider.is_volume_supported(b, context::kAppRollback);
  REQUIRE(supported);
  CHECK(*supported);
  VolumeRef absent;
  absent.id = VolumeId::random();
  const auto nothing = provider.is_volume_supported(absent, context::kAppRollback);
  REQUIRE(!nothing);
  CHECK(nothing.error().code == Errc::object_not_found);
}

// vss: IVssSoftwareSnapshotProvider.BeginPrepareSnapshot
// vss: IVssSoftwareSnapshotProvider.GetSnapshotProperties IVssSoftwareSnapshotProvider.Query
// vss: IVssProviderCreateSnapshotSet.EndPrepareSnapshots
// vss: IVssProviderCreateSnapshotSet.PreCommitSnapshots
// vss: IVssProviderCreateSnapshotSet.CommitSnapshots
// vss: IVssProviderCreateSnapshotSet.PostCommitSnapshots
// vss: IVssProviderCreateSnapshotSet.PreFinalCommitSnapshots
// vss: IVssProviderCreateSnapshotSet.PostFinalCommitSnapshots
void a_set_is_created(ProviderWorld& world) {
  const auto a = world.add_volume("a");
  const auto b = world.add_volume("b");
  world.write(a, 0, block_of('1'));
  SetStory set{world.provider()};
  REQUIRE(set.add(a));
  REQUIRE(set.add(b));
  set.create();
  world.write(a, 0, block_of('2'));
  world.write(b, kBlock, block_of('3'));
  CHECK(world.read_snapshot(set.snapshots[0], 0, kBlock) == block_of('1'));
  CHECK(world.read_snapshot(set.snapshots[1], kBlock, kBlock) == block_of('\0'));
  const auto list = world.provider().query_snapshots(false);
  REQUIRE(list);
  REQUIRE(list->size() == 2);
  for (const auto& snapshot : *list) {
    CHECK(snapshot.set_id == set.id);
    CHECK(snapshot.snapshots_count == 2);
    CHECK(snapshot.provider_id == world.provider().properties().provider_id);
    // One of hardware brings its copies in by itself.
    CHECK((snapshot.attributes & ~attribute::kImported) == set.attributes);
    CHECK(snapshot.state == SnapshotState::created);
    CHECK(snapshot.creation_filetime > 0);
    CHECK(!snapshot.lost);
  }
}

void the_fused_call_is_the_three(ProviderWorld& world) {
  const auto a = world.add_volume("a");
  world.write(a, 0, block_of('1'));
  SetStory set{world.provider()};
  REQUIRE(set.add(a));
  set.run(0, SetStory::kHold);
  REQUIRE(world.provider().flush_commit_release(set.id, set.limits));
  world.write(a, 0, block_of('2'));  // Nothing is held: this does not block.
  set.run(SetStory::kHold + 3, SetStory::kSteps);
  CHECK(world.read_snapshot(set.snapshots[0], 0, kBlock) == block_of('1'));
}

// vss: IVssSoftwareSnapshotProvider.Query VSS_SS.CREATED
void shown_only_when_created(ProviderWorld& world) {
  const auto a = world.add_volume("a");
  SetStory set{world.provider()};
  REQUIRE(set.add(a));
  for (int number = 0; number < SetStory::kSteps; ++number) {
    CHECK(!shown(world.provider(), set.snapshots[0]));
    REQUIRE(set.step(number));
    // From PreFinalCommit on it can be asked for, for the writers' PostSnapshot.
    if (number >= SetStory::kConfirm - 2) CHECK(shown(world.provider(), set.snapshots[0], true));
  }
  CHECK(shown(world.provider(), set.snapshots[0]));
}

// vss: IVssProviderCreateSnapshotSet.EndPrepareSnapshots
// vss: IVssProviderCreateSnapshotSet.PreCommitSnapshots
// vss: IVssProviderCreateSnapshotSet.CommitSnapshots
// vss: IVssProviderCreateSnapshotSet.PostCommitSnapshots
// vss: IVssProviderCreateSnapshotSet.PreFinalCommitSnapshots
// vss: IVssProviderCreateSnapshotSet.PostFinalCommitSnapshots
void order_is_kept(ProviderWorld& world) {
  // From every point of the sequence, every call that is not the next one.
  const auto a = world.add_volume("a");
  for (int at = 0; at <= SetStory::kSteps; ++at) {
    for (int wrong = 0; wrong < SetStory::kSteps; ++wrong) {
      if (wrong == at || wrong == SetStory::kHold + 2) continue;  // The release is idempotent.
      INFO("after " << at << " good calls, call " << wrong);
      SetStory set{world.provider()};
      REQUIRE(set.add(a));
      set.run(0, at);
      CHECK(refuses_order(set.step(wrong)));
      set.provider.abort_snapshots(set.id);
      // A created set is not hurt; another is gone.
      CHECK(shown(set.provider, set.snapshots[0], true) == (at == SetStory::kSteps));
      if (at == SetStory::kSteps)
        CHECK(set.provider.delete_snapshots(set.id, ObjectType::snapshot_set, true).status);
    }
  }
}

void unknown_sets_are_refused(ProviderWorld& world) {
  SetStory set{world.provider()};
  for (int number = 0; number < SetStory::kSteps; ++number) {
    INFO("call " << number);
    if (number == SetStory::kHold + 2) {
      CHECK(set.step(number));
      continue;
    }
    const auto status = set.step(number);
    CHECK((refuses_order(status) || (!status && status.error().code == Errc::object_not_found)));
  }
  set.provider.abort_snapshots(set.id);  // No effect, no harm.
}

// vss: IVssProviderCreateSnapshotSet.AbortSnapshots rule.abort-idempotent VSS_SS.ABORTED
void abort_at_every_step(ProviderWorld& world) {
  const auto a = world.add_volume("a");
  for (int at = 0; at < SetStory::kSteps; ++at) {
    INFO("after " << at << " calls");
    SetStory set{world.provider()};
    REQUIRE(set.add(a));
    set.run(0, at);
    set.provider.abort_snapshots(set.id);
    set.provider.abort_snapshots(set.id);
    CHECK(!shown(set.provider, set.snapshots[0], true));
    if (at != SetStory::kHold + 2) CHECK(!set.step(at));
    world.write(a, 0, block_of('x'));  // Nothing is held.
    CHECK(set.provider.find_volume(a)->snapshot_count == 0);
  }
  // The volume is as good as new.
  SetStory next{world.provider()};
  REQUIRE(next.add(a));
  next.create();
}

// vss: IVssProviderCreateSnapshotSet.AbortSnapshots
void created_sets_survive_abort(ProviderWorld& world) {
  SetStory set{world.provider()};
  REQUIRE(set.add(world.add_volume("a")));
  set.create();
  set.provider.abort_snapshots(set.id);
  CHECK(shown(set.provider, set.snapshots[0]));
}

// vss: IVssProviderCreateSnapshotSet.AbortSnapshots rule.abort-passes-end-prepare
void abort_ends_a_blocked_end_prepare(ProviderWorld& world) {
  const auto a = world.add_volume("a");
  if (!world.block_end_prepare()) {
    WARN("skipped: this world cannot block EndPrepareSnapshots");
    return;
  }
  SetStory set{world.provider()};
  REQUIRE(set.add(a));
  Status ended;
  std::thread caller([&] { ended = set.provider.end_prepare_snapshots(set.id); });
  const bool blocked = world.end_prepare_is_blocked();
  auto aborted = std::async(std::launch::async, [&] { set.provider.abort_snapshots(set.id); });
  const bool prompt = aborted.wait_for(kNever) == std::future_status::ready;
  world.let_end_prepare();
  caller.join();
  aborted.wait();
  CHECK(blocked);
  CHECK(prompt);
  CHECK(!ended);
  CHECK(!shown(set.provider, set.snapshots[0], true));
  SetStory next{world.provider()};
  REQUIRE(next.add(a));
  next.create();
}

void a_new_set_discards_the_old(ProviderWorld& world) {
  const auto a = world.add_volume("a");
  for (const int at : {0, 1, 2}) {
    INFO("after " << at << " calls");
    SetStory old{world.provider()};
    REQUIRE(old.add(a));
    old.run(0, at);
    SetStory next{world.provider()};
    REQUIRE(next.add(a));
    CHECK(!old.step(at));
    if (at == 0)
      next.create();
    else
      next.provider.abort_snapshots(next.id);
    CHECK(!shown(world.provider(), old.snapshots[0], true));
  }
}

// A call that was under way when its set or session ended comes late, while a newer set is made.
void late_calls_begin_nothing(ProviderWorld& world) {
  const auto a = world.add_volume("a");
  const auto b = world.add_volume("b");
  SetStory discarded{world.provider()};
  REQUIRE(discarded.add(a));
  SetStory aborted{world.provider()};
  REQUIRE(aborted.add(a));  // Discards the first.
  world.provider().abort_snapshots(aborted.id);
  SetStory unheard{world.provider()};
  world.provider().abort_snapshots(unheard.id);  // Passes the begin of its set.
  SetStory ended{world.provider()};
  world.provider().end_session(ended.session);
  SetStory next{world.provider()};
  REQUIRE(next.add(a));
  for (SetStory* late : {&discarded, &aborted, &unheard, &ended}) {
    const auto begun = late->add(b);
    REQUIRE(!begun);
    CHECK(begun.error().code == Errc::provider_veto);
  }
  REQUIRE(next.add(b));
  next.create();
  for (const auto& snapshot : next.snapshots) CHECK(shown(world.provider(), snapshot));
}

// vss: IVssSoftwareSnapshotProvider.BeginPrepareSnapshot VSS_E_OBJECT_ALREADY_EXISTS
void a_refused_volume_leaves_the_set(ProviderWorld& world) {
  const auto a = world.add_volume("a");
  SetStory set{world.provider()};
  REQUIRE(set.add(a));
  const auto twice = set.add(a);
  REQUIRE(!twice);
  CHECK(twice.error().code == Errc::object_already_exists);
  VolumeRef absent;
  absent.id = VolumeId::random();
  const auto missing = set.add(absent);
  REQUIRE(!missing);
  CHECK(missing.error().code == Errc::object_not_found);
  set.create();
  CHECK(world.provider().query_snapshots(false)->size() == 1);
}

// vss: IVssSoftwareSnapshotProvider.SetContext
void foreign_attributes_are_refused(ProviderWorld& world) {
  const auto a = world.add_volume("a");
  SetStory set{world.provider()};
  set.attributes = context::kBackup | attribute::kFileShare;  // No share, whatever it is else.
  if (world.provider().hardware() == nullptr)
    set.attributes |= attribute::kHardwareAssisted | attribute::kTransportable;
  const auto status = set.add(a);
  REQUIRE(!status);
  CHECK((status.error().code == Errc::unsupported_context ||
         status.error().code == Errc::volume_not_supported_by_provider));
}

void held_writes_miss_the_snapshot(ProviderWorld& world) {
  const auto a = world.add_volume("a");
  world.write(a, 0, block_of('1'));
  SetStory set{world.provider()};
  REQUIRE(set.add(a));
  set.run(0, SetStory::kHold + 1);
  // Issued after the hold and before the commit: it waits, and the snapshot does not have it.
  auto writer = std::async(std::launch::async, [&] { world.write(a, 0, block_of('2')); });
  CHECK(set.step(SetStory::kHold + 1));
  CHECK(writer.wait_for(std::chrono::milliseconds{1}) == std::future_status::timeout);
  CHECK(set.step(SetStory::kHold + 2));
  CHECK(writer.wait_for(kNever) == std::future_status::ready);
  writer.wait();
  set.run(SetStory::kHold + 3, SetStory::kSteps);
  CHECK(world.read_snapshot(set.snapshots[0], 0, kBlock) == block_of('1'));
}

void abort_opens_the_gate(ProviderWorld& world) {
  const auto a = world.add_volume("a");
  SetStory set{world.provider()};
  REQUIRE(set.add(a));
  set.run(0, SetStory::kHold + 1);
  auto writer = std::async(std::launch::async, [&] { world.write(a, 0, block_of('2')); });
  set.provider.abort_snapshots(set.id);
  CHECK(writer.wait_for(kNever) == std::future_status::ready);
  writer.wait();
}

// vss: limit.hold-of-writes-10s VSS_E_HOLD_WRITES_TIMEOUT
void a_lease_ends_the_hold(ProviderWorld& world) {
  const auto a = world.add_volume("a");
  constexpr std::chrono::milliseconds lease{300};
  for (const bool committed : {false, true}) {
    INFO("after the commit: " << committed);
    SetStory set{world.provider()};
    set.limits.hold = lease;
    REQUIRE(set.add(a));
    set.run(0, SetStory::kHold + (committed ? 2 : 1));
    world.pass(lease + std::chrono::milliseconds{1});
    world.write(a, 0, block_of('2'));  // Does not block: nobody has to release.
    if (!committed) {
      const auto late = set.provider.commit_snapshots(set.id);
      REQUIRE(!late);
      CHECK(late.error().code == Errc::hold_writes_timeout);
    } else {
      const auto torn = set.provider.release_hold(set.id);
      REQUIRE(!torn);
      CHECK(torn.error().code == Errc::hold_writes_timeout);
    }
    set.provider.abort_snapshots(set.id);
    CHECK(!shown(set.provider, set.snapshots[0], true));
  }
}

void release_is_idempotent(ProviderWorld& world) {
  const auto a = world.add_volume("a");
  SetStory set{world.provider()};
  REQUIRE(set.add(a));
  set.run(0, SetStory::kHold + 3);
  CHECK(set.provider.release_hold(set.id));
  set.run(SetStory::kHold + 3, SetStory::kSteps);
  CHECK(shown(set.provider, set.snapshots[0]));
}

// vss: limit.freeze-to-thaw-60s
void an_ended_window_refuses(ProviderWorld& world) {
  const auto a = world.add_volume("a");
  SetStory set{world.provider()};
  set.limits.window = std::chrono::milliseconds{0};
  REQUIRE(set.add(a));
  set.run(0, SetStory::kHold);
  const auto late = set.provider.flush_commit_release(set.id, set.limits);
  REQUIRE(!late);
  CHECK(late.error().code == Errc::writererror_timeout);
  world.write(a, 0, block_of('2'));  // Nothing is held.
  set.provider.abort_snapshots(set.id);
  CHECK(!shown(set.provider, set.snapshots[0], true));
}

// vss: IVssSoftwareSnapshotProvider.DeleteSnapshots VSS_OBJECT_TYPE.SNAPSHOT
// vss: VSS_OBJECT_TYPE.SNAPSHOT_SET VSS_E_OBJECT_NOT_FOUND VSS_SS.DELETED
void snapshots_are_deleted(ProviderWorld& world) {
  const auto a = world.add_volume("a");
  const auto b = world.add_volume("b");
  SetStory set{world.provider()};
  REQUIRE(set.add(a));
  REQUIRE(set.add(b));
  set.create();
  auto& provider = world.provider();
  const auto wrong = provider.delete_snapshots(set.snapshots[0], ObjectType::snapshot_set, false);
  REQUIRE(!wrong.status);
  CHECK(wrong.status.error().code == Errc::object_not_found);
  CHECK(wrong.deleted == 0);
  const auto one = provider.delete_snapshots(set.snapshots[0], ObjectType::snapshot, false);
  CHECK(one.status);
  CHECK(one.deleted == 1);
  CHECK(!one.not_deleted);
  CHECK(!shown(provider, set.snapshots[0]));
  CHECK(shown(provider, set.snapshots[1]));
  const auto rest = provider.delete_snapshots(set.id, ObjectType::snapshot_set, false);
  CHECK(rest.status);
  CHECK(rest.deleted == 1);
  const auto again = provider.delete_snapshots(set.id, ObjectType::snapshot_set, false);
  REQUIRE(!again.status);
  CHECK(again.status.error().code == Errc::object_not_found);
}

// vss: IVssSoftwareSnapshotProvider.IsVolumeSnapshotted
// vss: IVssSoftwareSnapshotProvider.DeleteSnapshots
void deletion_in_any_order(ProviderWorld& world) {
  const auto a = world.add_volume("a");
  std::vector<SnapshotId> made;
  for (char fill = '1'; fill <= '3'; ++fill) {
    world.write(a, 0, block_of(fill));
    SetStory set{world.provider()};
    REQUIRE(set.add(a));
    set.create();
    made.push_back(set.snapshots[0]);
  }
  world.write(a, 0, block_of('4'));
  REQUIRE(world.provider().delete_snapshots(made[1], ObjectType::snapshot, false).status);
  CHECK(world.read_snapshot(made[0], 0, kBlock) == block_of('1'));
  CHECK(world.read_snapshot(made[2], 0, kBlock) == block_of('3'));
  REQUIRE(world.provider().delete_snapshots(made[2], ObjectType::snapshot, false).status);
  CHECK(world.read_snapshot(made[0], 0, kBlock) == block_of('1'));
  CHECK(world.provider().find_volume(a)->snapshot_count == 1);
}

// vss: IVssSoftwareSnapshotProvider.DeleteSnapshots VSS_E_VOLUME_IN_USE
void snapshots_in_use_stay(ProviderWorld& world) {
  const auto a = world.add_volume("a");
  SetStory set{world.provider()};
  REQUIRE(set.add(a));
  set.create();
  if (!world.set_in_use(set.snapshots[0], true)) {
    WARN("skipped: this world cannot open a snapshot");
    return;
  }
  const auto refused = world.provider().delete_snapshots(set.id, ObjectType::snapshot_set, false);
  REQUIRE(!refused.status);
  CHECK(refused.status.error().code == Errc::volume_in_use);
  CHECK(refused.not_deleted == set.snapshots[0]);
  CHECK(shown(world.provider(), set.snapshots[0]));
  CHECK(world.provider().delete_snapshots(set.id, ObjectType::snapshot_set, true).status);
  CHECK(!shown(world.provider(), set.snapshots[0]));
}

// vss: rule.auto-release-on-disconnect VSS_VOLSNAP_ATTR.PERSISTENT
// vss: VSS_VOLSNAP_ATTR.NO_AUTO_RELEASE
void sessions_end(ProviderWorld& world) {
  const auto a = world.add_volume("a");
  auto& provider = world.provider();
  SetStory kept{provider};
  REQUIRE(kept.add(a));
  kept.create();
  SetStory released{provider};
  released.attributes = context::kBackup;
  REQUIRE(released.add(a));
  released.create();
  SetStory other{provider};
  other.attributes = context::kBackup;
  REQUIRE(other.add(a));
  other.create();
  provider.end_session(kept.session);
  CHECK(shown(provider, kept.snapshots[0]));
  provider.end_session(released.session);
  provider.end_session(released.session);
  CHECK(!shown(provider, released.snapshots[0]));
  CHECK(shown(provider, other.snapshots[0]));
  SetStory unfinished{provider};
  REQUIRE(unfinished.add(a));
  unfinished.run(0, 2);
  provider.end_session(unfinished.session);
  CHECK(!unfinished.step(2));
}

void orphans_go(ProviderWorld& world) {
  const auto a = world.add_volume("a");
  auto& provider = world.provider();
  std::vector<SetStory> sets;
  for (const auto attributes : {context::kAppRollback, context::kBackup, context::kBackup}) {
    sets.push_back(SetStory{provider});
    sets.back().attributes = attributes;
    REQUIRE(sets.back().add(a));
    sets.back().create();
  }
  provider.retain_sessions({sets[2].session});
  CHECK(shown(provider, sets[0].snapshots[0]));
  CHECK(!shown(provider, sets[1].snapshots[0]));
  CHECK(shown(provider, sets[2].snapshots[0]));
}

// vss: rule.no-partial-commit
void a_restart_leaves_no_half_set(ProviderWorld& world) {
  const auto a = world.add_volume("a");
  for (int at = 0; at < SetStory::kSteps; ++at) {
    INFO("killed after " << at << " calls");
    SetStory set{world.provider()};
    REQUIRE(set.add(a));
    set.run(0, at);
    if (!world.restart()) {
      WARN("skipped: this world cannot restart its provider");
      set.provider.abort_snapshots(set.id);
      return;
    }
    world.provider().retain_sessions({});
    CHECK(!shown(world.provider(), set.snapshots[0], true));
    world.write(a, 0, block_of('x'));  // Nothing is held.
  }
}

// vss: rule.persistent-over-restart VSS_VOLSNAP_ATTR.PERSISTENT
void created_copies_survive_a_restart(ProviderWorld& world) {
  const auto a = world.add_volume("a");
  world.write(a, 0, block_of('1'));
  SetStory set{world.provider()};
  REQUIRE(set.add(a));
  set.create();
  world.write(a, 0, block_of('2'));
  if (!world.restart()) {
    WARN("skipped: this world cannot restart its provider");
    return;
  }
  world.provider().retain_sessions({});
  CHECK(shown(world.provider(), set.snapshots[0]));
  CHECK(world.read_snapshot(set.snapshots[0], 0, kBlock) == block_of('1'));
}

void members_elsewhere_are_waited_for(ProviderWorld& world) {
  // Half of the set belongs to another provider, which may have confirmed its half.
  const auto a = world.add_volume("a");
  SetStory set{world.provider()};
  REQUIRE(set.add(a));
  set.run(0, SetStory::kHold + 3);
  const std::vector<SnapshotId> members{set.snapshots[0], SnapshotId::random()};
  REQUIRE(set.provider.post_commit_snapshots(set.id, members));
  set.run(SetStory::kConfirm - 2, SetStory::kConfirm);
  CHECK(!shown(set.provider, set.snapshots[0]));
  CHECK(shown(set.provider, set.snapshots[0], true));
  if (world.restart()) {
    CHECK(!shown(world.provider(), set.snapshots[0]));
    CHECK(shown(world.provider(), set.snapshots[0], true));
  }
  CHECK(world.provider().delete_snapshots(set.id, ObjectType::snapshot_set, false).status);
  CHECK(!shown(world.provider(), set.snapshots[0], true));
}

SetFate fate_of(ProviderWorld& world, const SnapshotSetId& set) {
  const auto fate = world.provider().query_set(set);
  REQUIRE(fate);
  return *fate;
}

// Of an unknown set: none, or that it may lie on a volume which is not there yet.
bool is_none(SetFate fate) { return fate == SetFate::none || fate == SetFate::undecided; }

void sets_tell_their_fate(ProviderWorld& world) {
  const auto a = world.add_volume("a");
  CHECK(is_none(fate_of(world, SnapshotSetId::random())));
  SetStory set{world.provider()};
  REQUIRE(set.add(a));
  for (int step = 0; step < SetStory::kConfirm; ++step) {
    INFO("before step " << step);
    const auto fate = fate_of(world, set.id);
    CHECK(fate != SetFate::created);
    CHECK(fate != SetFate::none);
    set.run(step, step + 1);
  }
  set.run(SetStory::kConfirm, SetStory::kSteps);
  CHECK(fate_of(world, set.id) == SetFate::created);
  CHECK(set.provider.delete_snapshots(set.id, ObjectType::snapshot_set, false).status);
  CHECK(is_none(fate_of(world, set.id)));
}

void prepared_sets_are_completed(ProviderWorld& world) {
  const auto a = world.add_volume("a");
  const auto unknown = world.provider().complete_set(SnapshotSetId::random());
  REQUIRE(!unknown);
  CHECK(
      (unknown.error().code == Errc::object_not_found || unknown.error().code == Errc::bad_state));
  for (const bool restarted : {false, true}) {
    INFO((restarted ? "after a restart" : "at once"));
    SetStory set{world.provider()};
    REQUIRE(set.add(a));
    set.run(0, SetStory::kHold + 3);
    CHECK(!set.provider.complete_set(set.id));  // Not prepared for good.
    const std::vector<SnapshotId> members{set.snapshots[0], SnapshotId::random()};
    REQUIRE(set.provider.post_commit_snapshots(set.id, members));
    set.run(SetStory::kConfirm - 2, SetStory::kConfirm);
    if (restarted && !world.restart()) return;
    CHECK(fate_of(world, set.id) == SetFate::prepared);
    REQUIRE(world.provider().complete_set(set.id));
    REQUIRE(world.provider().complete_set(set.id));  // It may repeat.
    CHECK(fate_of(world, set.id) == SetFate::created);
    CHECK(shown(world.provider(), set.snapshots[0]));
  }
}

// The facts of management are for those who offer it.
DiffAreaManagement* managed(ProviderWorld& world) {
  DiffAreaManagement* management = world.provider().management();
  if (management == nullptr) WARN("skipped: this provider offers no management");
  return management;
}

class Unwatched final : public OperationMonitor {
 public:
  bool progress(std::uint64_t, std::uint64_t) override { return true; }
  void say(std::string) override {}
  void fact(std::string, std::string) override {}
};

// vss: IVssSnapshotMgmt.QueryVolumesSupportedForSnapshots IVssSnapshotMgmt.QuerySnapshotsByVolume
// vss: IVssDifferentialSoftwareSnapshotMgmt.QueryDiffAreasForVolume
// vss: IVssDifferentialSoftwareSnapshotMgmt.QueryDiffAreasForSnapshot
void diff_areas_are_described(ProviderWorld& world) {
  const auto a = world.add_volume("a");
  auto* management = managed(world);
  if (management == nullptr) return;
  SetStory first{world.provider()};
  REQUIRE(first.add(a));
  first.create();
  SetStory second{world.provider()};
  REQUIRE(second.add(a));
  second.create();
  const auto areas = management->query_diff_areas_for_volume(a);
  REQUIRE(areas);
  REQUIRE(areas->size() == 1);
  const DiffAreaProperties& area = areas->front();
  CHECK(area.volume_id == *a.id);
  CHECK(area.used_bytes <= area.allocated_bytes);
  CHECK(area.snapshots == 2);
  const auto of_copy = management->query_diff_areas_for_snapshot(first.snapshots[0]);
  REQUIRE(of_copy);
  CHECK(of_copy->at(0).volume_id == *a.id);
  const auto copies = management->query_snapshots_by_volume(a);
  REQUIRE(copies);
  REQUIRE(copies->size() == 2);
  CHECK(copies->at(0).snapshot_id == first.snapshots[0]);
  const auto supported = management->query_volumes_supported_for_snapshots(context::kAppRollback);
  REQUIRE(supported);
  CHECK(supported->size() == 1);
  VolumeRef nobody;
  nobody.id = VolumeId::random();
  CHECK(management->query_diff_areas_for_volume(nobody).error().code == Errc::object_not_found);
  CHECK(management->query_snapshots_by_volume(nobody).error().code == Errc::object_not_found);
  CHECK(management->query_diff_areas_for_snapshot(SnapshotId::random()).error().code ==
        Errc::object_not_found);
}

// vss: IVssDifferentialSoftwareSnapshotMgmt.AddDiffArea
// vss: IVssDifferentialSoftwareSnapshotMgmt.ChangeDiffAreaMaximumSize
// vss: IVssSnapshotMgmt2.GetMinDiffAreaSize
// vss: IVssDifferentialSoftwareSnapshotMgmt2.SetSnapshotPriority
void associations_have_rules(ProviderWorld& world) {
  const auto a = world.add_volume("a");
  auto* management = managed(world);
  if (management == nullptr) return;
  Unwatched monitor;
  const auto change = [&](std::int64_t bytes, bool is_volatile = false) {
    return management->change_diff_area_maximum_size({a, ""}, bytes, is_volatile, monitor);
  };
  const auto least = management->get_min_diff_area_size();
  REQUIRE(least);
  const auto enough = static_cast<std::int64_t>(*least);
  CHECK(management->add_diff_area({a, ""}, 512).error().code == Errc::invalid_argument);
  CHECK(management->add_diff_area({a, ""}, kAssocRemove).error().code == Errc::invalid_argument);
  REQUIRE(management->add_diff_area({a, ""}, 64 * enough));
  CHECK(management->add_diff_area({a, ""}, 64 * enough).error().code ==
        Errc::object_already_exists);
  CHECK(change(512).error().code == Errc::invalid_argument);
  CHECK(change(kAssocRemove, true).error().code == Errc::invalid_argument);
  REQUIRE(change(32 * enough));
  CHECK(management->query_diff_areas_for_volume(a)->at(0).maximum_bytes == 32 * enough);
  REQUIRE(change(kAssocNoMaxSpace));
  CHECK(management->query_diff_areas_for_volume(a)->at(0).maximum_bytes == kAssocNoMaxSpace);
  SetStory set{world.provider()};
  REQUIRE(set.add(a));
  set.create();
  CHECK(change(kAssocRemove).error().code == Errc::volume_in_use);
  CHECK(set.provider.delete_snapshots(set.id, ObjectType::snapshot_set, false).status);
  REQUIRE(change(kAssocRemove));
  CHECK(!management->query_diff_areas_for_volume(a)->at(0).explicit_association);
  CHECK(management->set_snapshot_priority(SnapshotId::random(), 1).error().code ==
        Errc::not_implemented);
}

SnapshotId copy_of(ProviderWorld& world, const VolumeRef& volume) {
  SetStory set{world.provider()};
  REQUIRE(set.add(volume));
  set.create();
  return set.snapshots[0];
}

// vss: IVssSoftwareSnapshotProvider.RevertToSnapshot
// vss: IVssSoftwareSnapshotProvider.QueryRevertStatus
void volumes_are_reverted(ProviderWorld& world) {
  const auto a = world.add_volume("a");
  auto* management = managed(world);
  if (management == nullptr) return;
  Unwatched monitor;
  const auto revert = [&](const SnapshotId& copy) {
    return management->revert_to_snapshot(copy, false, monitor);
  };
  const auto unknown = revert(SnapshotId::random());
  REQUIRE(!unknown);
  if (unknown.error().code == Errc::not_implemented) {
    WARN("skipped: this provider offers no revert");
    return;
  }
  CHECK(unknown.error().code == Errc::object_not_found);
  world.write(a, 0, block_of('0'));
  const auto oldest = copy_of(world, a);
  world.write(a, 0, block_of('1'));
  const auto target = copy_of(world, a);
  world.write(a, 0, block_of('2'));
  const auto younger = copy_of(world, a);
  world.write(a, 0, block_of('3'));
  world.write(a, 3 * kBlock, block_of('3'));
  REQUIRE(revert(target));
  const auto status = management->query_revert_status(a);
  REQUIRE(!status);
  CHECK(status.error().code == Errc::object_not_found);
  CHECK(!shown(world.provider(), younger));
  CHECK(world.read_snapshot(oldest, 0, kBlock) == block_of('0'));
  CHECK(world.read_snapshot(target, 0, kBlock) == block_of('1'));
  // The live volume, as a new copy shows it.
  const auto after = copy_of(world, a);
  CHECK(world.read_snapshot(after, 0, kBlock) == block_of('1'));
  CHECK(world.read_snapshot(after, 3 * kBlock, kBlock) == block_of('\0'));
  SetStory released{world.provider()};
  released.attributes = context::kBackup;
  REQUIRE(released.add(a));
  released.create();
  CHECK(revert(released.snapshots[0]).error().code == Errc::unsupported_context);
}

bool names(const SnapshotDelta& delta, std::uint64_t offset_bytes) {
  const std::uint64_t block = offset_bytes / delta.block_bytes;
  return std::any_of(delta.runs.begin(), delta.runs.end(), [&](const auto& run) {
    return run.first_block <= block && block < run.first_block + run.blocks;
  });
}

void checkpoints_outlive_their_copy(ProviderWorld& world) {
  const auto a = world.add_volume("a");
  auto* management = managed(world);
  if (management == nullptr) return;
  constexpr std::size_t kFar = 48 * 1024;
  const auto copy = copy_of(world, a);
  const auto made = management->create_checkpoint(copy, "nightly");
  if (!made && made.error().code == Errc::not_implemented) {
    WARN("skipped: this provider offers no checkpoints");
    return;
  }
  REQUIRE(made);
  CHECK(management->create_checkpoint(copy, "nightly").error().code == Errc::object_already_exists);
  CHECK(management->query_changes(made->checkpoint_id, {}, 0)->runs.empty());
  world.write(a, 0, block_of('1'));
  const auto younger = copy_of(world, a);
  world.write(a, kFar, block_of('1'));
  const auto part = management->query_changes(made->checkpoint_id, younger, 0);
  REQUIRE(part);
  CHECK(names(*part, 0));
  CHECK(!names(*part, kFar));
  CHECK(world.provider().delete_snapshots(copy, ObjectType::snapshot, false).status);
  const bool restarted = world.restart();
  management = world.provider().management();
  const auto all = management->query_changes(made->checkpoint_id, {}, 0);
  INFO((restarted ? "after a restart" : "without a restart"));
  REQUIRE(all);
  CHECK(names(*all, 0));
  CHECK(names(*all, kFar));
  REQUIRE(management->query_checkpoints(a)->size() == 1);
  REQUIRE(management->delete_checkpoint(made->checkpoint_id));
  CHECK(management->delete_checkpoint(made->checkpoint_id).error().code == Errc::object_not_found);
  CHECK(management->query_changes(made->checkpoint_id, {}, 0).error().code ==
        Errc::object_not_found);
}

// vss: limit.volumes-per-set-64 VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED
void too_many_volumes_are_refused(ProviderWorld& world) {
  constexpr std::size_t kMax = 64;
  SetStory set{world.provider()};
  for (std::size_t i = 0; i < kMax; ++i)
    REQUIRE(set.add(world.add_volume("v" + std::to_string(i))));
  const auto more = set.add(world.add_volume("one too many"));
  REQUIRE(!more);
  CHECK(more.error().code == Errc::maximum_number_of_volumes_reached);
  set.create();
  CHECK(set.provider.query_snapshots(false)->size() == kMax);
}

constexpr std::array kFacts{
    ProviderFact{"volumes are found by id and name, and all that is given must agree",
                 volumes_are_found},
    ProviderFact{"a set of two volumes is created and keeps its instant", a_set_is_created},
    ProviderFact{"flush_commit_release is the three calls in one", the_fused_call_is_the_three},
    ProviderFact{"a copy is shown only when it is created", shown_only_when_created},
    ProviderFact{"every call out of order is refused", order_is_kept},
    ProviderFact{"calls for an unknown set are refused", unknown_sets_are_refused},
    ProviderFact{"abort at every step leaves nothing, and may repeat", abort_at_every_step},
    ProviderFact{"abort leaves a created set alone", created_sets_survive_abort},
    ProviderFact{"abort ends a set whose EndPrepareSnapshots blocks",
                 abort_ends_a_blocked_end_prepare},
    ProviderFact{"a new set id discards an unfinished set", a_new_set_discards_the_old},
    ProviderFact{"what comes late for a set that has ended begins none", late_calls_begin_nothing},
    ProviderFact{"a refused volume leaves the set as it was", a_refused_volume_leaves_the_set},
    ProviderFact{"attributes that are not offered are refused", foreign_attributes_are_refused},
    ProviderFact{"a write issued during the hold is not in the snapshot",
                 held_writes_miss_the_snapshot},
    ProviderFact{"abort opens the gate", abort_opens_the_gate},
    ProviderFact{"the end of the lease opens the gate and fails the set", a_lease_ends_the_hold},
    ProviderFact{"release may repeat", release_is_idempotent},
    ProviderFact{"no commit once the freeze window has ended", an_ended_window_refuses},
    ProviderFact{"snapshots and sets are deleted, once", snapshots_are_deleted},
    ProviderFact{"copies are deleted in any order", deletion_in_any_order},
    ProviderFact{"a copy in use is deleted only by force", snapshots_in_use_stay},
    ProviderFact{"the end of a session takes its auto-release copies and unfinished set",
                 sessions_end},
    ProviderFact{"copies of sessions that are not alive go", orphans_go},
    ProviderFact{"a restart leaves no half set", a_restart_leaves_no_half_set},
    ProviderFact{"created persistent copies survive a restart", created_copies_survive_a_restart},
    ProviderFact{"a prepared copy waits for members elsewhere", members_elsewhere_are_waited_for},
    ProviderFact{"a set's fate is told at every step", sets_tell_their_fate},
    ProviderFact{"a set that was prepared for good is completed, also after a restart",
                 prepared_sets_are_completed},
    ProviderFact{"diff areas are described, by volume and by copy", diff_areas_are_described},
    ProviderFact{"associations follow VSS's rules", associations_have_rules},
    ProviderFact{"a volume becomes what a persistent copy shows, and younger copies go",
                 volumes_are_reverted},
    ProviderFact{"changes since a checkpoint are known when its copy is gone",
                 checkpoints_outlive_their_copy},
    ProviderFact{"the 65th volume is refused", too_many_volumes_are_refused},
};

}  // namespace

std::span<const ProviderFact> provider_facts() { return kFacts; }

}  // namespace umbra::test
