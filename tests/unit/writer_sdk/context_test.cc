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
  return run_callback(probe, start_of(event), {}, system_clock(), nullptr);
}

rpc::WriterReply identify(std::function<Status(MetadataBuilder&)> describe) {
  Probe probe({});
  probe.identify = std::move(describe);
  WriterIdentity identity;
  identity.class_id = WriterClassId{Guid{{1}}};
  identity.name = "probe";
  return run_callback(probe, start_of(Event::identify), identity, system_clock(), nullptr);
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
  CHECK(run_callback(probe, start, {}, system_clock(), nullptr).ok);
}

TEST_CASE("a part that cannot be read is refused before the callback") {
  bool called = false;
  Probe probe([&](Context&) -> Status {
    called = true;
    return {};
  });
  Start start = start_of(Event::prepare_for_backup);
  start.params.components = "<x/>";
  CHECK_FALSE(run_callback(probe, start, {}, system_clock(), nullptr).ok);
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
    CHECK(metadata.add_exclude(files).error().code == Errc::invalid_argument);
    files.path = "/tmp";
    CHECK(metadata.add_exclude(files));
    CHECK(metadata.add_exclude_from_snapshot(files));
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
  CHECK(run_callback(probe, start, {}, system_clock(), nullptr).ok);
}

}  // namespace
