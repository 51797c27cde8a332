// SPDX-License-Identifier: Apache-2.0
//
// Restores through umbrad as a process: who is told what and when, and that every writer that took
// PreRestore well hears how it ended, whoever refuses, dies, or says nothing.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/documents/xml.h"
#include "tests/support/catch.h"
#include "tests/support/wire_client.h"

namespace {

using namespace umbra;
using namespace umbra::test;

constexpr const char* kShortLimits = R"(
[limits]
identify = 1500
pre_restore = 1500
post_restore = 1500
)";

BackupComponentsDocument document_of(const std::vector<const FakeWriter*>& writers) {
  BackupComponentsDocument document;
  for (const auto* writer : writers) {
    auto& part = document.writers.emplace_back();
    part.instance_id = WriterInstanceId::random();  // As it was when the backup was made.
    part.class_id = writer->class_id();
    auto& component = part.components.emplace_back();
    component.name = "data";
    component.backup_metadata = "kept";
    component.selected_for_restore = true;  // Of an earlier restore: it does not count.
    component.file_restore_status = FileRestoreStatus::all;
  }
  return document;
}

struct World {
  Umbrad umbrad{kShortLimits};

  void prepare(Requester& requester, const std::vector<const FakeWriter*>& writers) {
    requester.begin_restore(document_of(writers));
    requester.gather();
    for (const auto* writer : writers) requester.select_for_restore(*writer);
  }
  ~World() { CHECK(umbrad.stop() == 0); }
};

// What the writer saw of its component in an event.
BackupComponent seen(const FakeWriter& writer, const std::string& event) {
  const auto part = documents::parse_writer_components(writer.params(event).components);
  REQUIRE(part);
  REQUIRE(part->components.size() == 1);
  return part->components[0];
}

// Waits, with a bound.
bool becomes(const auto& condition) {
  const auto until = system_clock().now() + kSoon;
  while (!condition())
    if (system_clock().now() > until) return false;
  return true;
}

using Names = std::vector<std::string>;

TEST_CASE("a restore tells the writers of selected components, and no others",
          "[e2e][umbrad]"
          "[vss:IVssBackupComponents.InitializeForRestore]"
          "[vss:IVssBackupComponents.SetRestoreState]"
          "[vss:IVssBackupComponents.SetSelectedForRestore]"
          "[vss:IVssBackupComponents.PreRestore][vss:IVssBackupComponents.PostRestore]"
          "[vss:IVssBackupComponents.SetFileRestoreStatus]"
          "[vss:IVssBackupComponents.GetWriterComponents][vss:event.PreRestore]"
          "[vss:event.PostRestore][vss:IVssComponent.IsSelectedForRestore]"
          "[vss:IVssComponent.GetFileRestoreStatus][vss:IVssComponent.GetBackupMetadata]"
          "[vss:IVssComponent.GetRestoreMetadata][vss:IVssComponent.SetRestoreTarget]"
          "[vss:IVssComponent.GetRestoreTarget][vss:IVssWriterComponentsExt.GetComponent]") {
  World world;
  FakeWriter told(world.umbrad.socket(),
                  {.name = "told",
                   .edits = {{"set_restore_target", "", "data", {"alternate"}},
                             {"set_restore_metadata", "", "data", {"mine"}},
                             {"set_backup_stamp", "", "data", {"no"}}}});
  FakeWriter other(world.umbrad.socket(), {.name = "other"});
  Requester requester(world.umbrad);
  requester.begin_restore(document_of({&told, &other}));
  rpc::SetRestoreState by_copy;
  by_copy.restore_type = RestoreType::by_copy;
  CHECK(requester.client.call<rpc::Nothing>("session.set_restore_state", by_copy));
  requester.gather();
  requester.select_for_restore(told);
  CHECK(requester.run("session.pre_restore").status == Errc::async_finished);
  CHECK(seen(told, "pre_restore").selected_for_restore);
  CHECK(seen(told, "pre_restore").backup_metadata == "kept");
  CHECK(seen(told, "pre_restore").file_restore_status == FileRestoreStatus::undefined);
  CHECK(told.params("pre_restore").restore_type == RestoreType::by_copy);
  CHECK(requester.set_status(told, FileRestoreStatus::all));
  CHECK(requester.set_status(other, FileRestoreStatus::all).error().code == Errc::object_not_found);
  const auto xml = requester.client.call<rpc::Document>("session.get_backup_components");
  REQUIRE(xml);
  const auto document = documents::parse_backup_components(xml->xml);
  REQUIRE(document);
  for (const auto& part : document->writers) {
    if (part.class_id != told.class_id()) continue;
    CHECK(part.components[0].restore_target == RestoreTarget::alternate);
    CHECK_FALSE(part.components[0].backup_stamp);  // Not to be changed now.
  }
  CHECK(requester.run("session.post_restore").status == Errc::async_finished);
  CHECK(seen(told, "post_restore").file_restore_status == FileRestoreStatus::all);
  CHECK(seen(told, "post_restore").restore_metadata == "mine");
  CHECK(told.params("post_restore").session_id == told.params("pre_restore").session_id);
  CHECK(requester.status_of(told).state == WriterState::stable);
  CHECK(told.events() == Names{"identify", "pre_restore", "post_restore"});
  CHECK(other.events() == Names{"identify"});
}

TEST_CASE("a writer that fails PreRestore hears no more, and the others do",
          "[e2e][umbrad]"
          "[vss:IVssBackupComponents.PreRestore][vss:VSS_WS.FAILED_AT_PRE_RESTORE]") {
  World world;
  for (const Act act : {Act::veto, Act::error, Act::garbage}) {
    FakeWriter bad(world.umbrad.socket(), {.name = "bad", .acts = {{"pre_restore", act}}});
    FakeWriter good(world.umbrad.socket(), {.name = "good"});
    Requester requester(world.umbrad);
    world.prepare(requester, {&bad, &good});
    CHECK(requester.run("session.pre_restore").status == Errc::async_finished);
    CHECK(requester.status_of(bad).state == WriterState::failed_at_pre_restore);
    CHECK(requester.status_of(good).state == WriterState::stable);
    CHECK(requester.run("session.post_restore").status == Errc::async_finished);
    CHECK(bad.events() == Names{"identify", "pre_restore"});
    CHECK(good.events() == Names{"identify", "pre_restore", "post_restore"});
  }
}

TEST_CASE("a failure at PostRestore is in the status",
          "[e2e][umbrad]"
          "[vss:IVssBackupComponents.PostRestore][vss:VSS_WS.FAILED_AT_POST_RESTORE]"
          "[vss:IVssBackupComponentsEx3.GetWriterStatusEx]") {
  World world;
  FakeWriter writer(world.umbrad.socket(), {.name = "w", .acts = {{"post_restore", Act::veto}}});
  Requester requester(world.umbrad);
  world.prepare(requester, {&writer});
  requester.run("session.pre_restore");
  CHECK(requester.run("session.post_restore").status == Errc::async_finished);
  CHECK(requester.status_of(writer).state == WriterState::failed_at_post_restore);
  CHECK(requester.status_of(writer).application_code == 42);
}

TEST_CASE("a writer that answers PreRestore too late is let go, with nothing written",
          "[e2e][umbrad]"
          "[vss:limit.pre-restore][vss:VSS_E_WRITERERROR_TIMEOUT]") {
  World world;
  FakeWriter mute(world.umbrad.socket(), {.name = "mute", .acts = {{"pre_restore", Act::silence}}});
  Requester requester(world.umbrad);
  world.prepare(requester, {&mute});
  CHECK(requester.run("session.pre_restore").status == Errc::async_finished);
  CHECK(requester.status_of(mute).state == WriterState::failed_at_pre_restore);
  CHECK(requester.status_of(mute).failure == Errc::writererror_timeout);
  CHECK(mute.saw("post_restore"));
  CHECK(seen(mute, "post_restore").file_restore_status == FileRestoreStatus::none);
  CHECK(requester.run("session.post_restore").status == Errc::async_finished);
  CHECK(mute.events() == Names{"identify", "pre_restore", "post_restore"});
}

TEST_CASE("a writer that goes away between the two makes PostRestore fail, with its name",
          "[e2e][umbrad]"
          "[vss:IVssBackupComponents.PostRestore][vss:VSS_E_WRITER_NOT_RESPONDING]") {
  World world;
  auto writer =
      std::make_unique<FakeWriter>(world.umbrad.socket(), FakeWriterOptions{.name = "brief"});
  Requester requester(world.umbrad);
  world.prepare(requester, {writer.get()});
  requester.run("session.pre_restore");
  writer.reset();
  CHECK(becomes([&] { return requester.coordinator().writers == 0; }));
  const auto ended = requester.run("session.post_restore");
  CHECK(ended.status == Errc::writer_not_responding);
  CHECK(ended.context.find("brief") != std::string::npos);
}

TEST_CASE("a requester that ends in a restore leaves no writer waiting", "[e2e][umbrad]") {
  World world;
  FakeWriter writer(world.umbrad.socket(), {.name = "w"});
  std::size_t restores = 0;
  for (const auto said : {std::optional<FileRestoreStatus>{}, std::optional{FileRestoreStatus::all},
                          std::optional{FileRestoreStatus::none}}) {
    {
      Requester requester(world.umbrad);
      world.prepare(requester, {&writer});
      requester.run("session.pre_restore");
      if (said) REQUIRE(requester.set_status(writer, *said));
    }
    CHECK(writer.saw("post_restore", ++restores));
    // Where nothing was said nobody knows what was written.
    CHECK(seen(writer, "post_restore").file_restore_status ==
          said.value_or(FileRestoreStatus::failed));
  }
  {
    Requester before(world.umbrad);
    world.prepare(before, {&writer});
  }
  Requester probe(world.umbrad);
  CHECK(becomes([&] { return probe.coordinator().sessions == 0; }));
  CHECK(writer.events().back() == "identify");
}

TEST_CASE("a requester that ends while PreRestore runs leaves no writer waiting", "[e2e][umbrad]") {
  World world;
  FakeWriter slow(world.umbrad.socket(), {.name = "slow", .acts = {{"pre_restore", Act::silence}}});
  {
    Requester requester(world.umbrad);
    world.prepare(requester, {&slow});
    REQUIRE(requester.client.call<rpc::StartedOperation>("session.pre_restore"));
    REQUIRE(slow.saw("pre_restore"));
  }
  CHECK(slow.saw("post_restore"));
  CHECK(seen(slow, "post_restore").file_restore_status == FileRestoreStatus::none);
}

TEST_CASE("the restore rules say who is told",
          "[e2e][umbrad]"
          "[vss:VSS_WRE.NEVER][vss:VSS_WRE.IF_REPLACE_FAILS]"
          "[vss:IVssBackupComponents.AddAlternativeLocationMapping]") {
  World world;
  FakeWriter never(world.umbrad.socket(),
                   {.name = "never", .writer_restore = WriterRestore::never});
  FakeWriter if_moved(world.umbrad.socket(),
                      {.name = "if", .writer_restore = WriterRestore::if_replace_fails});
  const auto restore = [&](bool moved, FileRestoreStatus status) {
    Requester requester(world.umbrad);
    world.prepare(requester, {&never, &if_moved});
    requester.run("session.pre_restore");
    if (moved) {
      rpc::RestoreLocation used;
      used.component = {{}, if_moved.class_id(), ComponentType::file_group, "", "data"};
      used.path = "/srv/if", used.pattern = "*", used.recursive = true, used.destination = "/x";
      CHECK(requester.client.call<rpc::Nothing>("session.add_alternative_location_mapping", used));
    }
    CHECK(requester.set_status(if_moved, status));
    CHECK(requester.run("session.post_restore").status == Errc::async_finished);
  };
  restore(false, FileRestoreStatus::all);
  CHECK(if_moved.saw("restore_end"));
  CHECK(if_moved.events() == Names{"identify", "pre_restore", "restore_end"});
  restore(true, FileRestoreStatus::all);
  CHECK(if_moved.events().back() == "post_restore");
  restore(false, FileRestoreStatus::failed);
  CHECK(if_moved.events().back() == "post_restore");
  CHECK(never.events() == Names{"identify", "identify", "identify"});
}

TEST_CASE("components go to the instance they are of, and to another only by its id",
          "[e2e][umbrad]"
          "[vss:IVssBackupComponentsEx.SetSelectedForRestoreEx]"
          "[vss:VSS_BS.WRITER_SUPPORTS_RESTORE_WITH_MOVE][vss:VSS_E_NOT_SUPPORTED]") {
  World world;
  const auto class_id = WriterClassId::random();
  FakeWriter one(world.umbrad.socket(),
                 {.name = "w", .instance_name = "one", .class_id = class_id});
  FakeWriter two(world.umbrad.socket(), {.name = "w",
                                         .schema = backup_schema::kRestoreWithMove,
                                         .instance_name = "two",
                                         .class_id = class_id});
  for (const bool moved : {false, true}) {
    auto document = document_of({&one});
    document.writers[0].instance_name = "one";
    Requester requester(world.umbrad);
    requester.begin_restore(document);
    requester.gather();
    rpc::SetSelectedForRestore select;
    select.component = {{}, class_id, ComponentType::file_group, "", "data"};
    if (moved) select.component.instance_id = two.instance();
    REQUIRE(requester.client.call<rpc::Nothing>("session.set_selected_for_restore", select));
    requester.run("session.pre_restore");
    requester.run("session.post_restore");
    CHECK((moved ? two : one).events().back() == "post_restore");
  }
  auto document = document_of({&one});
  document.writers[0].instance_name = "three";
  Requester requester(world.umbrad);
  requester.begin_restore(document);
  requester.gather();
  rpc::SetSelectedForRestore select;
  select.component = {{}, class_id, ComponentType::file_group, "", "data"};
  const auto refused =
      requester.client.call<rpc::Nothing>("session.set_selected_for_restore", select);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == Errc::object_not_found);
  select.component.instance_id = one.instance();
  const auto unable =
      requester.client.call<rpc::Nothing>("session.set_selected_for_restore", select);
  REQUIRE_FALSE(unable);
  CHECK(unable.error().code == Errc::not_supported);
}

}  // namespace
