// SPDX-License-Identifier: Apache-2.0
#include "requester-sdk/cli/commands.h"

#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>

#include "tests/support/catch.h"
#include "tests/unit/cli/fake_service.h"

namespace umbra::cli::test {
namespace {

using namespace std::chrono_literals;
using Calls = std::vector<std::string>;

VolumeProperties volume(const Guid& id, const std::string& name) {
  VolumeProperties properties;
  properties.volume_id = VolumeId{id};
  properties.name = name;
  properties.device_path = "/dev/loop3";
  properties.size_bytes = 64ULL << 20;
  properties.state = "ok";
  return properties;
}

SnapshotProperties snapshot(const Guid& id, const Guid& of, const std::string& name) {
  SnapshotProperties properties;
  properties.snapshot_id = SnapshotId{id};
  properties.set_id = SnapshotSetId{kThree};
  properties.volume_id = VolumeId{of};
  properties.original_volume = name;
  properties.state = SnapshotState::created;
  properties.attributes = context::kAppRollback;
  properties.device_object = "/run/umbra/snapshots/x";
  return properties;
}

FakeState two_volumes() {
  auto state = without_error();
  state.volumes.volumes = {volume(kOne, "db"), volume(kTwo, "log")};
  state.snapshots.snapshots = {snapshot(kOne, kOne, "db"), snapshot(kTwo, kTwo, "log"),
                               snapshot(kThree, kOne, "db")};
  return state;
}

FakeState a_set() {
  auto state = without_error();
  state.set.set_id = SnapshotSetId{kThree};
  state.set.snapshots = {snapshot(kOne, kOne, "db")};
  requester::WriterStatus writer;
  writer.name = "ledger";
  writer.state = WriterState::stable;
  state.set.report.writers = {writer};
  state.set.report.timeline = {{"freeze", 0us, 2'000us}, {"hold", 2'000us, 2'150us}};
  state.set.report.hold = {.flush = 1ms, .freeze = 3ms, .gate = 150us};
  return state;
}

TEST_CASE("lists name what they hold and who is missing", "[cli]") {
  auto state = two_volumes();
  state.volumes.absent_providers = {"umbra-cowd"};
  auto ran = umbra(state, {"list", "volumes"});
  CHECK(ran.status == 0);
  CHECK(ran.out.find("db    64 MiB") != std::string::npos);
  CHECK(ran.err == "umbra: provider 'umbra-cowd' is not connected; what it has is missing\n");
  ran = umbra(state, {"list", "volumes", "--json"});
  const auto value = boost::json::parse(ran.out);
  CHECK(value.at("volumes").as_array().size() == 2);
  CHECK(value.at("absent_providers").at(0).as_string() == "umbra-cowd");
  CHECK(ran.err.empty());
}

TEST_CASE("shadows can be listed by volume", "[cli]") {
  auto state = two_volumes();
  const auto ran = umbra(state, {"list", "shadows", "--volume", "db", "--incomplete", "--json"});
  CHECK(ran.status == 0);
  CHECK(boost::json::parse(ran.out).at("snapshots").as_array().size() == 2);
  CHECK(state.calls[0] == "snapshots incomplete");
  CHECK(umbra(state, {"list", "shadows", "--volume", "other"}).status == 13);
}

TEST_CASE("writers and providers are listed with their state", "[cli]") {
  auto state = without_error();
  requester::WriterInfo writer;
  writer.name = "ledger";
  writer.last_failure = Errc::writererror_timeout;
  writer.last_failure_phase = "freeze";
  writer.last_failure_filetime = 134'150'976'000'000'000;
  state.writers = {writer};
  state.providers = {
      {.properties = {.provider_id = {}, .name = "cow", .version = "1"}, .connected = true}};
  writer.instance_id = WriterInstanceId{kOne};
  writer.class_id = WriterClassId{kTwo};
  writer.state = WriterState::waiting_for_backup_complete;
  state.writers = {writer};
  CHECK(umbra(state, {"list", "writers"}).out ==
        "Writer name: 'ledger'\n"
        "   Writer Id: {22222222-2222-2222-2222-222222222222}\n"
        "   Writer Instance Id: {11111111-1111-1111-1111-111111111111}\n"
        "   State: [5] Waiting for completion\n"
        "   Last error: Timed out (VSS_E_WRITERERROR_TIMEOUT) in freeze at "
        "2026-02-09T08:00:00Z\n\n");
  state.writers[0].last_failure = Errc::ok;
  CHECK(umbra(state, {"list", "writers"}).out.find("   Last error: No error\n") !=
        std::string::npos);
  state.writers = {writer};
  CHECK(umbra(state, {"list", "providers"}).out.find("yes") != std::string::npos);
  const auto value = boost::json::parse(umbra(state, {"list", "writers", "--json"}).out);
  CHECK(value.at("writers").at(0).at("last_failure").at("phase").as_string() == "freeze");
  CHECK(boost::json::parse(umbra(state, {"list", "providers", "--json"}).out)
            .at("providers")
            .at(0)
            .at("connected")
            .as_bool());
}

TEST_CASE("a creation shows copies, writers and the timeline, then ends its session", "[cli]") {
  auto state = a_set();
  const auto ran = umbra(state, {"create", "shadow", "db"});
  CHECK(ran.status == 0);
  for (const char* part : {"snapshot set 33333333", "snapshot 11111111", "ledger: Stable", "freeze",
                           "file systems frozen for 3.0 ms, writes held for 150 us"}) {
    CHECK(ran.out.find(part) != std::string::npos);
  }
  CHECK(ran.err.empty());
  CHECK(state.calls == Calls{"create", "finish succeeded"});
  const auto value = boost::json::parse(umbra(state, {"create", "shadow", "db", "--json"}).out);
  CHECK(value.at("snapshots").at(0).at("original_volume").as_string() == "db");
  CHECK(value.at("hold").at("gate_us").as_int64() == 150);
  CHECK(value.at("timeline").at(1).at("phase").as_string() == "hold");
}

TEST_CASE("a creation that failed tells how each writer fared", "[cli]") {
  auto state = a_set();
  state.error = {Errc::writererror_retryable, "writer 'ledger', phase freeze: busy"};
  requester::WriterStatus writer;
  writer.name = "ledger";
  writer.state = WriterState::failed_at_freeze;
  writer.failure = Errc::writererror_retryable;
  writer.message = "database is locked";
  state.failed_report.writers = {writer};
  auto ran = umbra(state, {"create", "shadow", "db"});
  CHECK(ran.status == 15);
  CHECK(ran.out.find("database is locked") != std::string::npos);
  CHECK(ran.err.find("phase freeze") != std::string::npos);
  ran = umbra(state, {"create", "shadow", "db", "--json"});
  CHECK(ran.status == 15);
  CHECK(ran.out.empty());
  const auto value = boost::json::parse(ran.err);
  CHECK(value.at("error").at("exit_status").as_int64() == 15);
  CHECK(value.at("writers").at(0).at("state").as_string() == "VSS_WS_FAILED_AT_FREEZE");
}

TEST_CASE("a volume that does not exist is told before a session is opened", "[cli]") {
  auto state = a_set();
  CHECK(umbra(state, {"create", "shadow", "db", "absent"}).status == 13);
  CHECK(state.calls.empty());
}

TEST_CASE("with --writers none a failed writer makes the creation partial", "[cli]") {
  auto state = a_set();
  state.set.report.writers[0].state = WriterState::failed_at_freeze;
  CHECK(umbra(state, {"create", "shadow", "db", "--writers", "none"}).status == 3);
  CHECK(umbra(state, {"create", "shadow", "db"}).status == 0);
}

TEST_CASE("a writer that failed at BackupComplete makes the creation partial", "[cli]") {
  auto state = a_set();
  state.set.report.writers[0].state = WriterState::failed_at_backup_complete;
  CHECK(umbra(state, {"create", "shadow", "db"}).status == 3);
}

TEST_CASE("a component that is only in part on the volumes makes the creation partial", "[cli]") {
  auto state = a_set();
  state.set.partly_held.push_back({.logical_path = "shops", .name = "eu"});
  const auto ran = umbra(state, {"create", "shadow", "db"});
  CHECK(ran.status == 3);
  CHECK(ran.out.find("add the others\n  shops\\eu\n") != std::string::npos);
  const auto value = boost::json::parse(umbra(state, {"create", "shadow", "db", "--json"}).out);
  CHECK(value.at("partly_held").at(0).at("name") == "eu");
}

TEST_CASE("exec hands the copies to the command and its status on", "[cli]") {
  for (const int command_status : {0, 7, 143}) {
    auto state = a_set();
    FakeService service(state);
    std::ostringstream out;
    std::ostringstream err;
    Output output(out, err, false);
    Environment seen;
    const Exec arguments{.create = {.volumes = {"db"}, .policy_list = {}, .documents = {}},
                         .command = {"tar", "x"}};
    const int status =
        exec(service, output, arguments, [&](const auto& command, const auto& added) {
          CHECK(command == std::vector<std::string>{"tar", "x"});
          CHECK(state.calls == Calls{"create"});
          seen = added;
          return Result<int>(command_status);
        });
    CHECK(status == command_status);
    CHECK(state.calls.back() == (command_status == 0 ? "finish succeeded" : "finish failed"));
    CHECK(seen[0] == std::pair<std::string, std::string>("UMBRA_SNAPSHOT_SET", kThree.to_string()));
    CHECK(seen[4] ==
          std::pair<std::string, std::string>("UMBRA_DEVICE_1", "/run/umbra/snapshots/x"));
  }
}

TEST_CASE("exec's own failures are told apart from the command's", "[cli]") {
  auto state = a_set();
  FakeService service(state);
  std::ostringstream out;
  std::ostringstream err;
  Output output(out, err, false);
  const Exec arguments{.create = {.volumes = {"db"}, .policy_list = {}, .documents = {}},
                       .command = {"x"}};
  const auto failing = [](Errc code) {
    return [code](const auto&, const auto&) { return Result<int>(fail(code, "x")); };
  };
  CHECK(exec(service, output, arguments, failing(Errc::object_not_found)) == 127);
  CHECK(exec(service, output, arguments, failing(Errc::access_denied)) == 126);
  CHECK(state.calls.back() == "finish failed");
  state.finish_error = {Errc::coordinator_lost, ""};
  CHECK(exec(service, output, arguments, [](const auto&, const auto&) { return Result<int>(0); }) ==
        125);
  state.error = {Errc::volume_not_supported, ""};
  CHECK(exec(service, output, arguments, failing(Errc::ok)) == 125);
  state.error = {Errc::async_cancelled, ""};
  CHECK(exec(service, output, arguments, failing(Errc::ok)) == 130);
}

TEST_CASE("a command is not run after an interrupt that came too late for the set", "[cli]") {
  auto state = a_set();
  state.interrupted = true;
  FakeService service(state);
  std::ostringstream out;
  std::ostringstream err;
  Output output(out, err, false);
  const Exec arguments{.create = {.volumes = {"db"}, .policy_list = {}, .documents = {}},
                       .command = {"x"}};
  bool ran = false;
  const auto run = [&](const auto&, const auto&) {
    ran = true;
    return Result<int>(0);
  };
  CHECK(exec(service, output, arguments, run) == 130);
  CHECK(!ran);
  CHECK(state.calls.back() == "finish failed");
}

TEST_CASE("delete: one, a set, a volume's, all", "[cli]") {
  auto state = two_volumes();
  CHECK(umbra(state, {"delete", "shadows", kOne.to_string(), "--force"}).status == 0);
  CHECK(umbra(state, {"delete", "shadows", "--set", kThree.to_string()}).status == 0);
  CHECK(state.calls ==
        Calls{"remove " + kOne.to_string() + " force", "remove " + kThree.to_string() + " set"});
  state.calls.clear();
  CHECK(umbra(state, {"delete", "shadows", "--volume", "db"}).out == "deleted 2 snapshots\n");
  CHECK(state.calls == Calls{"volumes", "snapshots incomplete", "remove " + kOne.to_string(),
                             "remove " + kThree.to_string()});
  const auto ran = umbra(state, {"delete", "shadows", "--all", "--json"});
  CHECK(boost::json::parse(ran.out).at("deleted").as_int64() == 3);
}

TEST_CASE("delete goes on after a copy that stays, and says so", "[cli]") {
  auto state = two_volumes();
  state.undeletable = {SnapshotId{kOne}};
  auto ran = umbra(state, {"delete", "shadows", "--all", "--json"});
  CHECK(ran.status == 3);
  auto value = boost::json::parse(ran.out);
  CHECK(value.at("deleted").as_int64() == 2);
  CHECK(value.at("not_deleted").at(0).at("snapshot_id").as_string() == kOne.to_string().c_str());
  CHECK(value.at("not_deleted").at(0).at("error").at("name").as_string() == "VSS_E_VOLUME_IN_USE");
  CHECK(umbra(state, {"delete", "shadows", kOne.to_string()}).status == 11);
  state.snapshots.absent_providers = {"san"};
  state.undeletable.clear();
  ran = umbra(state, {"delete", "shadows", "--all"});
  CHECK(ran.status == 3);
  CHECK(ran.err.find("'san' is not connected") != std::string::npos);
}

TEST_CASE("providers are registered, and unregistered by name or id",
          "[cli]"
          "[vss:IVssAdmin.RegisterProvider][vss:IVssAdmin.UnregisterProvider]") {
  auto state = without_error();
  CHECK(umbra(state, {"register", "provider", kOne.to_string(), "san"}).out == "registered san\n");
  CHECK(state.calls.back() == "register " + kOne.to_string() + " san VSS_PROV_SOFTWARE ");
  const auto registered =
      boost::json::parse(umbra(state, {"register", "provider", kOne.to_string(), "san", "--type",
                                       "hardware", "--provider-version", "7", "--json"})
                             .out);
  CHECK(registered.at("type").as_string() == "VSS_PROV_HARDWARE");
  CHECK(state.calls.back() == "register " + kOne.to_string() + " san VSS_PROV_HARDWARE 7");
  for (const auto& words : std::vector<std::vector<std::string>>{
           {"register", "provider", "nonsense", "san"},
           {"register", "provider", kOne.to_string()},
           {"register", "provider", kOne.to_string(), "san", "--type", "cloud"},
           {"unregister", "provider"}})
    CHECK(umbra(state, words).status == 2);

  const auto provider = [](const Guid& id, const char* name) {
    return requester::ProviderInfo{
        .properties = {.provider_id = ProviderId{id}, .name = name, .version = "1"},
        .connected = true};
  };
  state.providers = {provider(kOne, "cow"), provider(kTwo, "san")};
  CHECK(umbra(state, {"unregister", "provider", "san"}).out == "unregistered san\n");
  CHECK(state.calls.back() == "unregister " + kTwo.to_string());
  CHECK(umbra(state, {"unregister", "provider", kOne.to_string(), "--force"}).status == 0);
  CHECK(state.calls.back() == "unregister " + kOne.to_string() + " force");
  const auto absent = umbra(state, {"unregister", "provider", "nas"});
  CHECK(absent.status == 10);
  CHECK(absent.err.find("'cow', 'san'") != std::string::npos);
  state.providers = {provider(kOne, "cow"), provider(kTwo, "cow")};
  CHECK(umbra(state, {"unregister", "provider", "cow"}).err.find("by its id") != std::string::npos);
}

TEST_CASE("attach, detach, mount, unmount, abort and status say what was done", "[cli]") {
  auto state = two_volumes();
  state.notes = {"served by FUSE and a loop device"};
  CHECK(umbra(state, {"attach", "/db.img", "--diff", "/d"}).out.find("/dev/loop3") !=
        std::string::npos);
  const auto attached =
      boost::json::parse(umbra(state, {"attach", "/db.img", "--diff", "/d", "--json"}).out);
  CHECK(attached.at("device_path").as_string() == "/dev/loop3");
  CHECK(attached.at("notes").at(0).as_string() == "served by FUSE and a loop device");
  CHECK(umbra(state, {"detach", "db"}).out == "detached db\n");
  CHECK(umbra(state, {"mount", kOne.to_string()}).out == "/mnt/a\n");
  CHECK(state.calls.back() == "mount " + kOne.to_string() + " ");
  CHECK(umbra(state, {"mount", kOne.to_string(), "/here"}).status == 0);
  CHECK(state.calls.back() == "mount " + kOne.to_string() + " /here");
  CHECK(umbra(state, {"mount", kOne.to_string(), "--recover"}).status == 0);
  CHECK(state.calls.back() == "mount " + kOne.to_string() + "  recover");
  CHECK(umbra(state, {"mount", kOne.to_string(), "/here", "--write"}).status == 0);
  CHECK(state.calls.back() == "mount " + kOne.to_string() + " /here write");
  CHECK(umbra(state, {"unmount", kOne.to_string()}).status == 0);
  CHECK(umbra(state, {"abort", "--reason", "late"}).out.find("uid 7 pid 8") != std::string::npos);
  CHECK(state.calls.back() == "abort late");
  CHECK(umbra(state, {"status"}).out.find("no snapshot set is being created") != std::string::npos);
  state.status.set_in_progress = SnapshotSetId{kOne};
  state.status.set_phase = "freeze";
  CHECK(umbra(state, {"status"}).out.find("phase freeze") != std::string::npos);
}

TEST_CASE("without umbrad every command ends with 10 and one error", "[cli]") {
  for (const auto& words :
       std::vector<std::vector<std::string>>{{"list", "volumes"},
                                             {"list", "shadows"},
                                             {"list", "writers"},
                                             {"list", "providers"},
                                             {"create", "shadow", "db"},
                                             {"delete", "shadows", "--all"},
                                             {"delete", "shadows", kOne.to_string()},
                                             {"attach", "a", "--diff", "b"},
                                             {"detach", "db"},
                                             {"mount", kOne.to_string()},
                                             {"unmount", kOne.to_string()},
                                             {"abort"},
                                             {"status"}}) {
    auto state = without_error();
    state.error = {Errc::coordinator_lost, "/run/umbra/umbrad.sock"};
    auto ran = umbra(state, words);
    CAPTURE(words);
    CHECK(ran.status == 10);
    CHECK(ran.err.find("umbra: umbrad is not running") == 0);
    auto with_json = words;
    with_json.emplace_back("--json");
    ran = umbra(state, with_json);
    CHECK(ran.status == 10);
    CHECK(ran.out.empty());
    CHECK(boost::json::parse(ran.err).at("error").at("exit_status").as_int64() == 10);
  }
}

}  // namespace
}  // namespace umbra::cli::test
