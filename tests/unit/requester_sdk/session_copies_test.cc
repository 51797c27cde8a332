// SPDX-License-Identifier: Apache-2.0
#include <boost/json/object.hpp>

#include "tests/unit/requester_sdk/fake_link.h"

namespace {

using namespace umbra;
using namespace umbra::requester;
using namespace umbra::requester::test;

ObjectEnumeration five() {
  std::vector<ObjectProperties> objects;
  for (std::uint32_t i = 0; i < 5; ++i) {
    SnapshotProperties snapshot;
    snapshot.snapshots_count = i;
    objects.emplace_back(snapshot);
  }
  return {std::move(objects), {"away"}};
}

std::uint32_t number(const ObjectProperties& object) {
  return std::get<SnapshotProperties>(object).snapshots_count;
}

TEST_CASE("an enumeration gives what is next, skips, begins anew and is cloned where it is",
          "[vss:IVssEnumObject.Next][vss:IVssEnumObject.Skip][vss:IVssEnumObject.Reset]"
          "[vss:IVssEnumObject.Clone]") {
  auto all = five();
  CHECK(all.next(0).empty());
  const auto first = all.next(2);
  REQUIRE(first.size() == 2);
  CHECK(number(first[0]) == 0);
  CHECK(number(first[1]) == 1);
  CHECK(object_type(first[0]) == ObjectType::snapshot);
  CHECK(object_type(ProviderProperties{}) == ObjectType::provider);
  auto twin = all.clone();
  CHECK(all.skip(1));
  CHECK(number(all.next(1).at(0)) == 3);
  CHECK(number(twin.next(1).at(0)) == 2);
  CHECK(all.next(10).size() == 1);
  CHECK(all.next(10).empty());
  CHECK(!all.skip(1));
  CHECK(all.skip(0));
  all.reset();
  CHECK(!all.skip(6));
  CHECK(all.next(1).empty());
  all.reset();
  CHECK(all.next(static_cast<std::size_t>(-1)).size() == 5);
  CHECK(all.absent_providers() == std::vector<std::string>{"away"});
}

TEST_CASE("a query is of the session's context, and fixes it", "[vss:IVssBackupComponents.Query]") {
  Session session;
  session.reach(SessionState::initialized);
  auto found = session.logic.query(ObjectType::snapshot);
  REQUIRE(found);
  CHECK(found->next(10).size() == 1);
  CHECK(found->absent_providers() == std::vector<std::string>{"away"});
  CHECK(session.logic.set_context(context::kAll).error().code == Errc::bad_state);
  CHECK(session.logic.query(ObjectType::provider));
  for (const auto type : {ObjectType::unknown, ObjectType::none, ObjectType::snapshot_set})
    CHECK(session.logic.query(type).error().code == Errc::invalid_argument);
}

TEST_CASE("only persistent copies that are not client-accessible are exposed, and locally",
          "[vss:IVssBackupComponents.ExposeSnapshot]") {
  Session session;
  session.reach(SessionState::initialized);
  auto& attributes = session.link.snapshot.attributes;
  for (const auto refused : {context::kBackup, context::kFileShareBackup,
                             context::kClientAccessible, context::kClientAccessibleWriters}) {
    attributes = refused;
    const auto exposed = session.logic.expose_snapshot(kSnapshot, {});
    REQUIRE(!exposed);
    CHECK(exposed.error().code == Errc::unsupported_context);
  }
  for (const auto taken : {context::kAppRollback, context::kNasRollback}) {
    attributes = taken;
    CHECK(session.logic.expose_snapshot(kSnapshot, {}));
    CHECK(session.logic.expose_snapshot(kSnapshot, {.directory = "/mnt/x"}));
  }
  CHECK(session.sent("snapshot.mount") == 4);
  const auto code = [&](const ExposeOptions& options) {
    return session.logic.expose_snapshot(kSnapshot, options).error().code;
  };
  CHECK(code({.directory = "mnt"}) == Errc::invalid_argument);
  CHECK(code({.path_from_root = "dir"}) == Errc::invalid_argument);
  CHECK(code({.remotely = true}) == Errc::not_supported);
  CHECK(session.logic.expose_snapshot(SnapshotId{}, {}).error().code == Errc::object_not_found);
  CHECK(session.sent("snapshot.mount") == 4);
}

TEST_CASE("only what is exposed is unexposed", "[vss:IVssBackupComponentsEx2.UnexposeSnapshot]") {
  Session session;
  session.reach(SessionState::initialized);
  CHECK(session.logic.unexpose_snapshot(kSnapshot).error().code == Errc::object_not_found);
  CHECK(session.logic.unexpose_snapshot(SnapshotId{}).error().code == Errc::object_not_found);
  session.link.snapshot.exposed_path = "/mnt/x";
  CHECK(session.logic.unexpose_snapshot(kSnapshot));
  CHECK(session.sent("snapshot.unmount") == 1);
}

TEST_CASE("a session deletes snapshots and sets, and nothing else",
          "[vss:IVssBackupComponents.DeleteSnapshots]") {
  Session session;
  session.reach(SessionState::initialized);
  CHECK(session.logic.delete_snapshots(kSnapshot, ObjectType::snapshot, false));
  CHECK(session.logic.delete_snapshots(kSet, ObjectType::snapshot_set, true));
  CHECK(session.sent("snapshot.delete") == 2);
  CHECK(session.logic.delete_snapshots(kSet, ObjectType::provider, true).error().code ==
        Errc::invalid_argument);
  CHECK(session.sent("snapshot.delete") == 2);
}

TEST_CASE("a session reverts to persistent copies only",
          "[vss:IVssBackupComponents.RevertToSnapshot]") {
  Session session;
  session.reach(SessionState::initialized);
  CHECK(session.logic.revert_to_snapshot(kSnapshot, false).error().code ==
        Errc::unsupported_context);
  CHECK(session.logic.revert_to_snapshot(SnapshotId{}, false).error().code ==
        Errc::object_not_found);
  CHECK(session.sent("management.revert_to_snapshot") == 0);
  session.link.snapshot.attributes = context::kAppRollback;
  session.link.errors["management.wait_operation"] = {Errc::volume_in_use, "mounted"};
  CHECK(session.logic.revert_to_snapshot(kSnapshot, false).error().code == Errc::volume_in_use);
  CHECK(session.sent("management.revert_to_snapshot") == 1);
}

TEST_CASE("a revert that is not under way is not found, a volume must be named",
          "[vss:IVssBackupComponents.QueryRevertStatus]") {
  Session session;
  session.reach(SessionState::initialized);
  CHECK(session.logic.query_revert_status({}).error().code == Errc::invalid_argument);
  VolumeRef volume;
  volume.name = "data";
  CHECK(session.logic.query_revert_status(volume).error().code == Errc::object_not_found);
}

TEST_CASE("the end of a backup waits for a word on each component",
          "[vss:IVssBackupComponents.SetBackupSucceeded]") {
  Session session;
  session.link.document.writers.resize(1);
  session.link.document.writers[0].components.resize(2);
  auto& components = session.link.document.writers[0].components;
  components[0].name = "one";
  components[1].name = "two";
  components[0].succeeded = true;
  session.reach(SessionState::snapshot_created);
  const auto done = session.logic.backup_complete(10s);
  REQUIRE(!done);
  CHECK(done.error().code == Errc::bad_state);
  CHECK_THAT(done.error().context, Catch::Contains("'two'"));
  CHECK(session.logic.start_backup_complete().error().code == Errc::bad_state);
  CHECK(session.sent("session.backup_complete") == 0);
  components[1].succeeded = false;
  CHECK(session.logic.backup_complete(10s));
}

TEST_CASE("the session's id is known from its beginning",
          "[vss:IVssBackupComponentsEx3.GetSessionId]") {
  Session session;
  CHECK(session.logic.session_id().error().code == Errc::bad_state);
  REQUIRE(session.logic.initialize_for_backup());
  CHECK(session.logic.session_id());
}

}  // namespace
