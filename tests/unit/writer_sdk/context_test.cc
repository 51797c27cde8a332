// SPDX-License-Identifier: Apache-2.0
#include "writer-sdk/src/context.h"

#include <filesystem>
#include <stdexcept>

#include "engine/documents/xml.h"
#include "engine/platform/path_device.h"
#include "tests/support/catch.h"

namespace {

using namespace umbra;
using namespace umbra::writer;

// Calls a lambda in whatever event comes.
struct Probe final : umbra::writer::Writer {
  using Body = std::function<Status(Context&)>;
  explicit Probe(Body body_) : body(std::move(body_)) {}
  Status on_identify(MetadataBuilder& metadata) override { return identify(metadata); }
  Status on_prepare_for_backup(Context& context) override { return body(context); }
  Status on_prepare_for_snapshot(Context& context) override { return body(context); }
  Status on_freeze(Context& context) override { return body(context); }
  void on_thaw(Context& context) noexcept override { static_cast<void>(body(context)); }
  Status on_post_snapshot(Context& context) override { return body(context); }
  void on_abort(Context& context) noexcept override { static_cast<void>(body(context)); }
  Status on_backup_complete(Context& context) override { return body(context); }
  Status on_pre_restore(Context& context) override { return body(context); }
  Status on_post_restore(Context& context) override { return body(context); }
  Body body;
  std::function<Status(MetadataBuilder&)> identify;
};

Start start_of(Event event) {
  Start start;
  start.event = event;
  start.deadline = TimePoint::max();
  start.params.component_mode = true;
  WriterComponents part;
  part.components.emplace_back().name = "c";
  part.components[0].selected_for_restore = true;
  start.params.components = documents::to_xml(part);
  start.params.volumes.resize(1);
  start.params.volumes[0].name = "data";
  start.params.volumes[0].device = device_of_path("/");
  start.params.volumes[0].snapshot_device = "/run/copy";
  return start;
}

rpc::WriterReply run(Event event, Probe::Body body) {
  Probe probe(std::move(body));
  return run_callback(probe, start_of(event), {});
}

rpc::WriterReply identify(std::function<Status(MetadataBuilder&)> describe) {
  Probe probe({});
  probe.identify = std::move(describe);
  Surroundings around;
  around.identity.class_id = WriterClassId{Guid{{1}}};
  around.identity.name = "probe";
  return run_callback(probe, start_of(Event::identify), around);
}

ComponentInfo component(std::string name) {
  ComponentInfo info;
  info.name = std::move(name);
  return info;
}

TEST_CASE("an error is a veto with its code and words",
          "[vss:rule.veto-by-false][vss:VSS_E_WRITERERROR_RETRYABLE]") {
  const auto reply = run(
      Event::freeze, [](Context&) -> Status { return fail(Errc::writererror_retryable, "busy"); });
  CHECK_FALSE(reply.ok);
  CHECK(reply.failure == Errc::writererror_retryable);
  CHECK(reply.message == "busy");
  const auto other =
      run(Event::freeze, [](Context&) -> Status { return fail(Errc::io_error, "disk"); });
  CHECK(other.failure == Errc::writererror_nonretryable);
}

TEST_CASE("a reported failure is no veto, except from thaw",
          "[vss:rule.veto-by-code][vss:CVssWriterEx2.SetWriterFailureEx]"
          "[vss:CVssWriter.SetWriterFailure][vss:VSS_E_WRITERERROR_PARTIAL_FAILURE]") {
  const auto body = [](Context& context) -> Status {
    context.report_failure({Errc::writererror_partial_failure, 7, "half"});
    return {};
  };
  const auto reply = run(Event::post_snapshot, body);
  CHECK(reply.ok);
  CHECK(reply.failure == Errc::writererror_partial_failure);
  CHECK(reply.application_code == 7);
  CHECK_FALSE(run(Event::thaw, body).ok);
}

TEST_CASE("what a callback throws is a veto") {
  const auto reply =
      run(Event::freeze, [](Context&) -> Status { throw std::runtime_error("oops"); });
  CHECK_FALSE(reply.ok);
  CHECK_THAT(reply.message, Catch::Contains("writer.freeze threw: oops"));
  CHECK_FALSE(run(Event::freeze, [](Context&) -> Status { throw 5; }).ok);
}

TEST_CASE("changes are applied, collected, and refused outside their time",
          "[vss:IVssComponent.SetBackupMetadata][vss:IVssComponent.SetBackupStamp]"
          "[vss:IVssComponent.AddPartialFile]"
          "[vss:IVssComponent.AddDifferencedFilesByLastModifyTime]"
          "[vss:IVssComponentEx2.SetFailure]") {
  const auto reply = run(Event::post_snapshot, [](Context& context) -> Status {
    const ComponentName c{"", "c"};
    CHECK(context.set_backup_metadata(c, "m"));
    CHECK(context.components()->components[0].backup_metadata == "m");
    CHECK(context.set_backup_metadata(c, "m").error().code == Errc::object_already_exists);
    CHECK(context.set_backup_stamp({"", "x"}, "s").error().code == Errc::object_not_found);
    CHECK(context.set_backup_stamp(c, "s"));
    CHECK(context.set_failure_message(c, "f"));
    CHECK(context.set_component_failure(c, {Errc::writererror_retryable, 1, "r"}));
    CHECK(context.add_partial_file(c, {"/d", "f", "0:1", ""}));
    CHECK(context.add_differenced_file(c, {"/d", "*", false, 5}));
    return {};
  });
  CHECK(reply.edits.size() == 6);
  for (const Event event : {Event::freeze, Event::thaw, Event::abort, Event::backup_complete}) {
    const auto refused = run(event, [](Context& context) -> Status {
      CHECK(context.set_backup_stamp({"", "c"}, "s").error().code == Errc::bad_state);
      return {};
    });
    CHECK(refused.edits.empty());
  }
}

TEST_CASE("in volume mode there are no components to change",
          "[vss:CVssWriter.AreComponentsSelected]") {
  Probe probe([](Context& context) -> Status {
    CHECK(context.components() == nullptr);
    CHECK(context.set_backup_stamp({"", "c"}, "s").error().code == Errc::bad_state);
    return {};
  });
  Start start = start_of(Event::prepare_for_backup);
  start.params.component_mode = false;
  CHECK(run_callback(probe, start, {}).ok);
}

TEST_CASE("a part that cannot be read is refused before the callback") {
  bool called = false;
  Probe probe([&](Context&) -> Status {
    called = true;
    return {};
  });
  Start start = start_of(Event::prepare_for_backup);
  start.params.components = "<x/>";
  CHECK_FALSE(run_callback(probe, start, {}).ok);
  CHECK_FALSE(called);
}

TEST_CASE("a context answers for paths, copies, time and stopping",
          "[vss:CVssWriter.IsPathAffected][vss:CVssWriter.GetSnapshotDeviceName]") {
  const auto reply = run(Event::post_snapshot, [](Context& context) -> Status {
    CHECK(context.is_path_affected("/no/such/file"));
    CHECK_FALSE(context.is_path_affected("/proc/self"));
    CHECK_FALSE(context.is_path_affected("relative"));
    CHECK(*context.snapshot_device("data") == "/run/copy");
    CHECK(*context.snapshot_device("/") == "/run/copy");
    CHECK(context.snapshot_device("other").error().code == Errc::object_not_found);
    CHECK(context.time_left() == std::chrono::milliseconds::max());
    CHECK_FALSE(context.stop_requested());
    CHECK(inside_callback());
    return {};
  });
  CHECK(reply.ok);
  CHECK_FALSE(inside_callback());
  run(Event::freeze, [](Context& context) -> Status {
    CHECK(context.snapshot_device("data").error().code == Errc::bad_state);
    return {};
  });
}

TEST_CASE("Identify gives the document that the callback described",
          "[vss:CVssWriter.OnIdentify][vss:IVssCreateWriterMetadata.AddComponent]"
          "[vss:IVssCreateWriterMetadata.SetRestoreMethod]"
          "[vss:IVssCreateWriterMetadata.SetBackupSchema]"
          "[vss:IVssCreateWriterMetadata.AddExcludeFiles]"
          "[vss:IVssCreateWriterMetadata.SaveAsXML]"
          "[vss:IVssCreateWriterMetadataEx.AddExcludeFilesFromSnapshot]") {
  const auto reply = identify([](MetadataBuilder& metadata) -> Status {
    metadata.set_backup_schema(3);
    CHECK(metadata.set_restore_rules({}));
    CHECK(metadata.set_restore_rules({}).error().code == Errc::bad_state);
    CHECK(metadata.add_component(component("a")));
    CHECK(metadata.add_component(component("A")).error().code == Errc::object_already_exists);
    CHECK(metadata.add_component(component("")).error().code == Errc::invalid_argument);
    ComponentInfo selfish = component("b");
    selfish.dependencies.emplace_back().writer = WriterClassId{Guid{{1}}};
    CHECK(metadata.add_component(selfish).error().code == Errc::invalid_argument);
    FileSet files;
    CHECK(metadata.add_exclude_files(files).error().code == Errc::invalid_argument);
    files.path = "/tmp";
    CHECK(metadata.add_exclude_files(files));
    CHECK(metadata.add_exclude_files_from_snapshot(files));
    return {};
  });
  REQUIRE(reply.ok);
  const auto document = documents::parse_writer_metadata(reply.metadata);
  REQUIRE(document);
  CHECK(document->identity.name == "probe");
  CHECK(document->components.size() == 1);
  CHECK(document->excludes.size() == 1);
  CHECK(document->backup_schema == 3);
}

TEST_CASE("Identify may be described call by call, as VSS does",
          "[vss:IVssCreateWriterMetadata.AddFilesToFileGroup]"
          "[vss:IVssCreateWriterMetadata.AddDatabaseFiles]"
          "[vss:IVssCreateWriterMetadata.AddDatabaseLogFiles]"
          "[vss:IVssCreateWriterMetadata.AddComponentDependency]"
          "[vss:IVssCreateWriterMetadata.AddAlternateLocationMapping]"
          "[vss:IVssCreateWriterMetadata.SaveAsXML]") {
  const auto reply = identify([](MetadataBuilder& metadata) -> Status {
    FileSet files;
    files.path = "/srv/a";
    FileSet logs;
    logs.path = "/srv/logs";
    const ComponentName group{"p", "group"};
    const ComponentName database{"", "database"};
    CHECK(metadata.add_files_to_file_group(group, files).error().code == Errc::object_not_found);
    CHECK(metadata.add_component_dependency(group, {}).error().code == Errc::object_not_found);
    ComponentInfo info = component("group");
    info.logical_path = "p";
    CHECK(metadata.add_component(info));
    info = component("database");
    info.type = ComponentType::database;
    CHECK(metadata.add_component(info));

    CHECK(metadata.add_files_to_file_group({"P", "Group"}, files));
    CHECK(metadata.add_files_to_file_group(database, files).error().code == Errc::invalid_argument);
    CHECK(metadata.add_database_files(database, files));
    CHECK(metadata.add_database_files(group, files).error().code == Errc::invalid_argument);
    CHECK(metadata.add_database_log_files(database, logs));
    CHECK(metadata.add_database_log_files(group, logs).error().code == Errc::invalid_argument);
    files.recursive = true;
    CHECK(metadata.add_database_files(database, files).error().code == Errc::invalid_argument);
    files.recursive = false;

    ComponentDependency other;
    other.writer = WriterClassId{Guid{{2}}};
    other.component = "x";
    CHECK(metadata.add_component_dependency(group, other));
    other.writer = WriterClassId{Guid{{1}}};
    CHECK(metadata.add_component_dependency(group, other).error().code == Errc::invalid_argument);

    const AlternateLocation location{"/srv/a", "*", false, "/srv/b"};
    CHECK(metadata.add_alternate_location_mapping(location).error().code == Errc::object_not_found);
    CHECK(metadata.set_restore_rules({}));
    CHECK(metadata.add_alternate_location_mapping({"/srv/a", "*", false, "b"}).error().code ==
          Errc::invalid_argument);
    CHECK(metadata.add_alternate_location_mapping(location));
    CHECK(documents::parse_writer_metadata(metadata.save_as_xml())->components.size() == 2);
    return {};
  });
  REQUIRE(reply.ok);
  const auto document = documents::parse_writer_metadata(reply.metadata);
  REQUIRE(document);
  CHECK(document->components[0].files.size() == 1);
  CHECK(document->components[0].dependencies.size() == 1);
  CHECK(document->components[1].files.size() == 1);
  CHECK(document->components[1].log_files.size() == 1);
  CHECK(document->restore->alternate_locations.size() == 1);
}

TEST_CASE("a writer reads what it described for this backup, not for another",
          "[vss:CVssWriterEx.GetIdentifyInformation]") {
  Descriptions descriptions;
  Surroundings around;
  around.descriptions = &descriptions;
  std::string seen;
  Probe probe([&](Context& context) -> Status {
    seen = context.metadata() == nullptr ? "" : context.metadata()->components.at(0).name;
    return {};
  });
  const auto identify_for = [&](std::uint8_t session, const char* name) {
    probe.identify = [name](MetadataBuilder& metadata) {
      return metadata.add_component(component(name));
    };
    Start start = start_of(Event::identify);
    start.params.session_id = SessionId{Guid{{session}}};
    CHECK(run_callback(probe, start, around).ok);
  };
  const auto seen_in = [&](std::uint8_t session, Event event) {
    Start start = start_of(event);
    start.params.session_id = SessionId{Guid{{session}}};
    seen = "not called";
    CHECK(run_callback(probe, start, around).ok);
    return seen;
  };
  identify_for(1, "old");
  identify_for(1, "first");
  identify_for(2, "second");
  for (const Event event :
       {Event::prepare_for_backup, Event::prepare_for_snapshot, Event::post_snapshot}) {
    CHECK(seen_in(1, event) == "first");
    CHECK(seen_in(2, event) == "second");
    CHECK(seen_in(3, event).empty());
  }
  for (const Event event : {Event::freeze, Event::thaw, Event::abort, Event::backup_complete,
                            Event::pre_restore, Event::post_restore}) {
    CHECK(seen_in(1, event).empty());
  }
  descriptions.forget(SessionId{Guid{{1}}});
  CHECK(seen_in(1, Event::post_snapshot).empty());
  // As many as backups may be open; the oldest goes first.
  for (std::size_t n = 0; n < kBackupsMax; ++n) {
    identify_for(static_cast<std::uint8_t>(10 + n), "more");
  }
  CHECK(seen_in(2, Event::post_snapshot).empty());
  CHECK(seen_in(10, Event::post_snapshot) == "more");
}

TEST_CASE("a context knows the writer's level and whether the writer ends",
          "[vss:CVssWriter.GetCurrentLevel][vss:CVssWriterEx2.IsWriterShuttingDown]") {
  const auto flags = std::make_shared<StopFlags>();
  Surroundings around;
  around.level = ApplicationLevel::system_rm;
  around.stop = flags;
  Probe probe([&](Context& context) -> Status {
    CHECK(context.application_level() == ApplicationLevel::system_rm);
    CHECK_FALSE(context.is_shutting_down());
    flags->stop.store(true);
    CHECK(context.stop_requested());
    CHECK_FALSE(context.is_shutting_down());  // This backup alone has ended.
    flags->shutting_down.store(true);
    CHECK(context.is_shutting_down());
    return {};
  });
  CHECK(run_callback(probe, start_of(Event::post_snapshot), around).ok);
}

TEST_CASE("explicit success takes back what was reported",
          "[vss:CVssWriterEx2.SetWriterFailureEx]") {
  const auto body = [](Context& context) -> Status {
    context.report_failure({Errc::writererror_retryable, 7, "trouble"});
    context.report_failure({Errc::ok, 3, "a note"});
    return {};
  };
  for (const Event event : {Event::post_snapshot, Event::thaw}) {
    const auto reply = run(event, body);
    CHECK(reply.ok);
    CHECK(reply.failure == Errc::ok);
    CHECK(reply.application_code == 3);
    CHECK(reply.message == "a note");
  }
  const auto reply = run(Event::freeze, [](Context& context) -> Status {
    context.report_failure({Errc::ok, 3, "a note"});
    return fail(Errc::writererror_retryable, "busy");
  });
  CHECK_FALSE(reply.ok);
  CHECK(reply.failure == Errc::writererror_retryable);
  CHECK(reply.message == "busy");
}

TEST_CASE("a method that stops a service needs its name",
          "[vss:IVssCreateWriterMetadata.SetRestoreMethod]") {
  identify([](MetadataBuilder& metadata) -> Status {
    RestoreRules rules;
    rules.method = RestoreMethod::stop_restore_start;
    CHECK(metadata.set_restore_rules(rules).error().code == Errc::invalid_argument);
    return {};
  });
}

TEST_CASE("PreRestore directs the restore of a component",
          "[vss:CVssWriter.OnPreRestore][vss:IVssComponent.SetRestoreTarget]"
          "[vss:IVssComponent.AddDirectedTarget][vss:IVssComponent.SetRestoreMetadata]") {
  const auto reply = run(Event::pre_restore, [](Context& context) -> Status {
    CHECK(context.set_restore_target({"", "c"}, RestoreTarget::directed));
    CHECK(context.add_directed_target({"", "c"}, {"/a", "f", "0:5", "/b", "g", "0:5"}));
    CHECK(context.set_restore_metadata({"", "c"}, "m"));
    CHECK(context.set_failure_message({"", "c"}, "text"));
    CHECK(context.set_restore_target({"", "c"}, static_cast<RestoreTarget>(5)).error().code ==
          Errc::invalid_argument);
    CHECK(context.set_restore_target({"", "x"}, RestoreTarget::directed).error().code ==
          Errc::object_not_found);
    CHECK(context.set_backup_stamp({"", "c"}, "1").error().code == Errc::bad_state);
    return {};
  });
  CHECK(reply.ok);
  REQUIRE(reply.edits.size() == 4);
  CHECK(reply.edits[0].op == "set_restore_target");
  CHECK(reply.edits[0].values == std::vector<std::string>{"directed"});
}

TEST_CASE("PostRestore says what failed and changes nothing else",
          "[vss:CVssWriter.OnPostRestore]") {
  const auto reply = run(Event::post_restore, [](Context& context) -> Status {
    CHECK(context.set_failure_message({"", "c"}, "text"));
    CHECK(context.set_component_failure({"", "c"}, {}));
    CHECK(context.set_restore_target({"", "c"}, RestoreTarget::original).error().code ==
          Errc::bad_state);
    CHECK(context.set_restore_metadata({"", "c"}, "m").error().code == Errc::bad_state);
    return {};
  });
  CHECK(reply.edits.size() == 2);
}

TEST_CASE("a PostRestore without umbrad sees what PreRestore noted") {
  Start start = start_of(Event::post_restore);
  start.edits = {{"set_restore_metadata", "", "c", {"m"}}};
  Probe probe([](Context& context) -> Status {
    CHECK(context.components()->components[0].restore_metadata == "m");
    CHECK(context.components()->components[0].file_restore_status == FileRestoreStatus::undefined);
    return {};
  });
  CHECK(run_callback(probe, start, {}).ok);
}

}  // namespace
