// SPDX-License-Identifier: Apache-2.0
//
// What umbrad answers to peers that do not keep to docs/wire.md. Each mistake gets its documented
// error, and after each umbrad still serves everybody else.

#include <memory>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/wire_client.h"

namespace {

using namespace umbra;
using namespace umbra::test;

const rpc::Json kNothing = boost::json::object{};

Errc code_of(const Result<rpc::Json>& result) { return result ? Errc::ok : result.error().code; }

// The code in the error of a raw reply line; ok if it is a result, unexpected if it is neither.
Errc code_of_line(const std::optional<std::string>& line) {
  if (!line) return Errc::unexpected;
  const auto json = rpc::parse(*line, rpc::kLineBytesMax);
  if (!json || !json->is_object()) return Errc::unexpected;
  if (const auto* error = json->as_object().if_contains("error"))
    return rpc::decode_error(*error).code;
  return Errc::ok;
}

struct World {
  Umbrad umbrad;
  ~World() {
    // The daemon lives on, whatever happened.
    WireClient other(umbrad.socket(), "requester");
    CHECK(other.hello());
    CHECK(other.call<rpc::CoordinatorStatus>("coordinator.status"));
    CHECK(umbrad.stop() == 0);
  }
};

TEST_CASE("the first call must be hello, and there is one", "[misuse]") {
  World world;
  WireClient client(world.umbrad.socket(), "");
  CHECK(code_of(client.call("coordinator.status", kNothing)) == Errc::bad_state);
  CHECK(code_of(client.call("session.initialize_for_backup", kNothing)) == Errc::bad_state);
  rpc::HelloRequest hello;
  hello.role = "requester";
  CHECK(client.call<rpc::HelloReply>("hello", hello));
  CHECK(code_of(client.call("hello", rpc::encode(hello))) == Errc::bad_state);
  CHECK(client.call<rpc::CoordinatorStatus>("coordinator.status"));
}

TEST_CASE("another major version is refused and the connection closed", "[misuse]") {
  World world;
  WireClient client(world.umbrad.socket(), "");
  rpc::HelloRequest hello;
  hello.role = "requester";
  hello.major = rpc::kWireMajor + 1;
  CHECK(code_of(client.call("hello", rpc::encode(hello))) == Errc::version_mismatch);
  CHECK(client.is_closed_by_peer());
}

TEST_CASE("an unknown role and one that is not the peer's are refused", "[misuse]") {
  World world;
  WireClient client(world.umbrad.socket(), "");
  rpc::HelloRequest hello;
  for (const char* role : {"", "king", "Requester"}) {
    hello.role = role;
    CHECK(code_of(client.call("hello", rpc::encode(hello))) == Errc::access_denied);
  }
}

TEST_CASE("each role has its calls and no others",
          "[misuse]"
          "[vss:E_ACCESSDENIED]") {
  World world;
  const std::vector<std::pair<std::string, std::vector<std::string>>> wrong{
      {"writer",
       {"session.initialize_for_backup", "provider.register", "coordinator.abort", "volume.attach",
        "query.snapshots"}},
      {"provider", {"writer.register", "session.initialize_for_backup", "volume.list"}},
      {"requester",
       {"writer.register", "provider.register", "volume.attach", "volume.detach",
        "management.add_diff_area", "management.cancel_operation", "management.revert_to_snapshot",
        "management.scrub_diff_area", "management.abandon_revert", "management.create_checkpoint",
        "management.delete_checkpoint", "management.no_such_call", "coordinator.register_provider",
        "coordinator.unregister_provider"}},
      {"admin", {"writer.register", "provider.register"}},
  };
  for (const auto& [role, methods] : wrong) {
    WireClient client(world.umbrad.socket(), role);
    REQUIRE(client.hello());
    for (const auto& method : methods) {
      INFO(role << " " << method);
      CHECK(code_of(client.call(method, kNothing)) == Errc::access_denied);
    }
    CHECK(code_of(client.call("no.such.method", kNothing)) == Errc::not_implemented);
  }
}

TEST_CASE("calls in the wrong order are bad_state and name call and state",
          "[misuse]"
          "[vss:VSS_E_BAD_STATE][vss:IVssBackupComponents.PrepareForBackup]"
          "[vss:IVssBackupComponents.DoSnapshotSet][vss:IVssBackupComponents.BackupComplete]"
          "[vss:IVssBackupComponents.SetContext]") {
  World world;
  Requester requester(world.umbrad);
  const auto refused = [&](const std::string& method, const rpc::Json& params = kNothing) {
    INFO(method);
    const auto result = requester.client.call(method, params);
    CHECK(code_of(result) == Errc::bad_state);
    if (!result) CHECK(result.error().context.find(method.substr(8)) != std::string::npos);
  };
  for (const char* method :
       {"session.set_context", "session.gather_writer_metadata", "session.start_snapshot_set",
        "session.add_to_snapshot_set", "session.prepare_for_backup", "session.do_snapshot_set",
        "session.get_writer_status", "session.set_backup_succeeded", "session.backup_complete",
        "session.get_writer_metadata", "session.get_backup_components", "session.abort_backup"})
    refused(method);
  requester.begin();
  refused("session.initialize_for_backup");
  refused("session.set_context");         // Once only.
  refused("session.start_snapshot_set");  // With writers, metadata comes first.
  refused("session.backup_complete");
  requester.gather();
  refused("session.gather_writer_metadata");
  requester.start_set();
  refused("session.start_snapshot_set");
  refused("session.do_snapshot_set");  // PrepareForBackup comes first.
  CHECK(requester.client.call<rpc::Nothing>("session.abort_backup"));
  refused("session.add_to_snapshot_set");
  CHECK(requester.client.call<rpc::Nothing>("session.abort_backup"));
}

// Every call of a restore in every state: what is not in the table is bad_state, names call and
// state, and changes nothing.
TEST_CASE("each state of a restore has its calls and no others",
          "[misuse]"
          "[vss:VSS_E_BAD_STATE][vss:VSS_E_INVALID_XML_DOCUMENT]"
          "[vss:IVssBackupComponents.InitializeForRestore]"
          "[vss:IVssBackupComponents.SetRestoreState]"
          "[vss:IVssBackupComponents.SetRestoreOptions][vss:IVssBackupComponents.AddNewTarget]"
          "[vss:IVssBackupComponents.SetAdditionalRestores]"
          "[vss:IVssBackupComponents.SetRangesFilePath]"
          "[vss:IVssBackupComponents.AddAlternativeLocationMapping]"
          "[vss:IVssBackupComponents.SetFileRestoreStatus]"
          "[vss:IVssBackupComponents.AddRestoreSubcomponent]"
          "[vss:IVssBackupComponentsEx2.SetAuthoritativeRestore]"
          "[vss:IVssBackupComponentsEx2.SetRollForward]"
          "[vss:IVssBackupComponentsEx2.SetRestoreName]") {
  World world;
  FakeWriter writer(world.umbrad.socket(),
                    {.name = "w", .schema = 0xFFFF, .writer_restore = WriterRestore::always});
  BackupComponentsDocument document;
  document.writers.push_back({WriterInstanceId::random(), writer.class_id(), "", 0, {}});
  document.writers[0].components.push_back(BackupComponent{.name = "data"});
  document.writers[0].components[0].partial_files.push_back({"/a", "f", "0:1", ""});
  const std::string ref = R"("component":{"type":2,"name":"data","class_id":")" +
                          writer.class_id().to_string() + R"("})";
  const auto with = [&](const std::string& more) { return "{" + ref + more + "}"; };
  const std::string place = R"(,"path":"/srv/w","pattern":"*","recursive":true,"destination":"/x")";
  struct Row {
    std::string method;
    std::string params;
    std::string allowed;  // Letters of the states: U, I(nitialised), M(etadata), P(re), X.
  };
  const std::vector<Row> rows{
      {"initialize_for_backup", "{}", "U"},
      {"initialize_for_restore", "{}", ""},  // Its good call is the way to I.
      {"set_context", "{}", ""},
      {"set_backup_state", "{}", ""},
      {"add_component", "{}", ""},
      {"start_snapshot_set", "{}", ""},
      {"add_to_snapshot_set", "{}", ""},
      {"prepare_for_backup", "{}", ""},
      {"do_snapshot_set", "{}", ""},
      {"set_backup_succeeded", "{}", ""},
      {"backup_complete", "{}", ""},
      {"abort_backup", "{}", ""},
      {"enable_writer_classes", R"({"ids":[]})", "IMPX"},
      {"set_restore_state", R"({"restore_type":1})", "IM"},
      {"get_writer_metadata", "{}", "MPX"},
      {"gather_writer_status", "{}", "MPX"},
      {"get_writer_status", "{}", "MPX"},
      {"get_backup_components", "{}", "IMPX"},
      {"set_selected_for_restore", with(""), "M"},
      {"add_restore_subcomponent", with(R"(,"logical_path":"data","name":"s")"), "M"},
      {"set_restore_options", with(R"(,"text":"x")"), "M"},
      {"set_authoritative_restore", with(R"(,"value":true)"), "M"},
      {"set_roll_forward", with(R"(,"type":2)"), "M"},
      {"set_restore_name", with(R"(,"text":"x")"), "M"},
      {"add_new_target", with(place), "MP"},
      {"set_additional_restores", with(R"(,"value":true)"), "MP"},
      {"set_ranges_file_path", with(R"(,"path":"/r")"), "MP"},
      {"add_alternative_location_mapping", with(place), "P"},
      {"set_file_restore_status", with(R"(,"status":2)"), "P"},
  };
  for (const char state : std::string("UIMPX")) {
    for (const auto& row : rows) {
      INFO(state << " " << row.method);
      Requester requester(world.umbrad);
      if (state != 'U') requester.begin_restore(document);
      if (state == 'M' || state == 'P' || state == 'X') requester.gather();
      if (state == 'M' || state == 'P' || state == 'X') requester.select_for_restore(writer);
      if (state == 'P' || state == 'X') requester.run("session.pre_restore");
      if (state == 'X') requester.run("session.post_restore");
      const auto params = rpc::parse(row.params, 10'000);
      REQUIRE(params);
      const auto result = requester.client.call("session." + row.method, *params);
      const bool good = row.allowed.find(state) != std::string::npos;
      const bool xml = row.method == "initialize_for_restore" && state == 'U';
      INFO((result ? std::string() : result.error().to_string()));
      CHECK(code_of(result) == (good  ? Errc::ok
                                : xml ? Errc::invalid_xml_document
                                      : Errc::bad_state));
      if (!good && !xml && !result && row.method != "enable_writer_classes")
        CHECK(result.error().context.find(row.method) != std::string::npos);
    }
  }
  for (const char* method :
       {"session.gather_writer_metadata", "session.pre_restore", "session.post_restore"}) {
    Requester fresh(world.umbrad);
    CHECK(code_of(fresh.client.call(method, kNothing)) == Errc::bad_state);
  }
}

TEST_CASE("a restore's arguments are checked against document and writer",
          "[misuse]"
          "[vss:IVssBackupComponents.SetSelectedForRestore]"
          "[vss:IVssBackupComponents.AddRestoreSubcomponent]"
          "[vss:IVssBackupComponents.SetRestoreOptions]"
          "[vss:IVssBackupComponents.SetRangesFilePath]"
          "[vss:IVssBackupComponents.SetFileRestoreStatus]"
          "[vss:IVssBackupComponents.AddAlternativeLocationMapping]"
          "[vss:IVssBackupComponents.AddNewTarget]"
          "[vss:IVssBackupComponentsEx2.SetAuthoritativeRestore]"
          "[vss:IVssBackupComponentsEx2.SetRollForward]"
          "[vss:IVssBackupComponentsEx2.SetRestoreName][vss:VSS_E_NOT_SUPPORTED]"
          "[vss:VSS_BS.AUTHORITATIVE_RESTORE][vss:VSS_BS.ROLLFORWARD_RESTORE]"
          "[vss:VSS_BS.RESTORE_RENAME][vss:VSS_BS.WRITER_SUPPORTS_NEW_TARGET]") {
  World world;
  FakeWriter plain(world.umbrad.socket(), {.name = "plain"});
  BackupComponentsDocument document;
  document.writers.push_back({WriterInstanceId::random(), plain.class_id(), "", 0, {}});
  document.writers[0].components.push_back(BackupComponent{.name = "data"});
  document.writers.push_back({WriterInstanceId::random(), WriterClassId::random(), "", 0, {}});
  document.writers[1].components.push_back(BackupComponent{.name = "gone"});
  Requester requester(world.umbrad);
  requester.begin_restore(document);
  requester.gather();
  const auto call = [&](const std::string& method, auto message) {
    return code_of(requester.client.call("session." + method, rpc::encode(message)));
  };
  rpc::ComponentRef ref{{}, plain.class_id(), ComponentType::file_group, "", "data"};
  CHECK(call("set_restore_options", rpc::SetRestoreText{ref, "x"}) == Errc::object_not_found);
  rpc::ComponentRef wrong = ref;
  wrong.type = ComponentType::database;
  CHECK(call("set_selected_for_restore", rpc::SetSelectedForRestore{wrong}) ==
        Errc::object_not_found);
  wrong = {{}, document.writers[1].class_id, ComponentType::file_group, "", "gone"};
  CHECK(call("set_selected_for_restore", rpc::SetSelectedForRestore{wrong}) ==
        Errc::object_not_found);  // Nobody of its class runs.
  wrong = ref;
  wrong.instance_id = WriterInstanceId::random();
  CHECK(call("set_selected_for_restore", rpc::SetSelectedForRestore{wrong}) ==
        Errc::object_not_found);
  CHECK(call("set_selected_for_restore", rpc::SetSelectedForRestore{ref}) == Errc::ok);
  CHECK(call("add_restore_subcomponent", rpc::AddRestoreSubcomponent{ref, "other", "s"}) ==
        Errc::invalid_argument);
  CHECK(call("add_restore_subcomponent", rpc::AddRestoreSubcomponent{ref, "data", "s"}) ==
        Errc::ok);
  CHECK(call("add_restore_subcomponent", rpc::AddRestoreSubcomponent{ref, "DATA", "S"}) ==
        Errc::object_already_exists);
  CHECK(call("set_restore_options", rpc::SetRestoreText{ref, "x"}) == Errc::ok);
  CHECK(call("set_restore_options", rpc::SetRestoreText{ref, "x"}) == Errc::object_already_exists);
  CHECK(call("set_authoritative_restore", rpc::SetRestoreFlag{ref, true}) == Errc::not_supported);
  CHECK(call("set_roll_forward", rpc::SetRollForward{ref, RollForwardType::all, ""}) ==
        Errc::not_supported);
  CHECK(call("set_restore_name", rpc::SetRestoreText{ref, "x"}) == Errc::not_supported);
  CHECK(call("add_new_target", rpc::RestoreLocation{ref, "/a", "*", false, "/b"}) ==
        Errc::not_supported);
  CHECK(call("set_ranges_file_path", rpc::SetRangesFilePath{ref, 0, "/x"}) ==
        Errc::object_not_found);
  requester.run("session.pre_restore");
  CHECK(call("set_file_restore_status", rpc::SetFileRestoreStatus{ref}) == Errc::invalid_argument);
  const auto mapping = [&](const char* path, const char* to) {
    return call("add_alternative_location_mapping",
                rpc::RestoreLocation{ref, path, "*", false, to});
  };
  CHECK(mapping("a", "/b") == Errc::invalid_argument);
  CHECK(mapping("/a", "b") == Errc::invalid_argument);
  CHECK(mapping("/a", "/b") == Errc::ok);
  CHECK(mapping("/a", "/c") == Errc::object_already_exists);
}

TEST_CASE("arguments are checked and the error names the member",
          "[misuse]"
          "[vss:E_INVALIDARG][vss:VSS_E_PROVIDER_NOT_REGISTERED]") {
  World world;
  Requester requester(world.umbrad);
  requester.begin();
  const auto refused = [&](const std::string& method, const char* params, Errc code,
                           const std::string& word) {
    INFO(method << " " << params);
    const auto json = rpc::parse(params, 10'000);
    REQUIRE(json);
    const auto result = requester.client.call(method, *json);
    CHECK(code_of(result) == code);
    if (!result) CHECK(result.error().context.find(word) != std::string::npos);
  };
  refused("session.set_backup_state", R"({"backup_type":99})", Errc::invalid_argument,
          "backup_type");
  refused("session.enable_writer_classes", R"({"ids":["nonsense"]})", Errc::invalid_argument,
          "ids");
  refused("session.enable_writer_classes", R"({"ids":7})", Errc::invalid_argument, "ids");
  refused("operation.wait", R"({"operation":77})", Errc::object_not_found, "77");
  refused("operation.cancel", R"({"operation":"x"})", Errc::invalid_argument, "operation");
  refused("snapshot.delete", R"({"type":4})", Errc::invalid_argument, "type");
  refused("coordinator.abort", R"({})", Errc::object_not_found, "no snapshot set");
  requester.gather();
  refused("session.add_component", R"({"name":"x"})", Errc::object_not_found, "writer");
  requester.start_set();
  refused("session.add_to_snapshot_set", R"({"volume":{"name":"x"}})",
          Errc::provider_not_registered, "no provider");
}

TEST_CASE("a registration is checked and there is one per connection",
          "[misuse]"
          "[vss:VSS_E_WRITER_ALREADY_SUBSCRIBED][vss:VSS_E_PROVIDER_ALREADY_REGISTERED]"
          "[vss:IVssAdmin.RegisterProvider][vss:limit.freeze-to-thaw-60s]") {
  World world;
  WireClient writer(world.umbrad.socket(), "writer");
  rpc::RegisterWriter message;
  CHECK(code_of(writer.call("writer.register", rpc::encode(message))) == Errc::invalid_argument);
  message.class_id = WriterClassId::random();
  message.name = "w";
  message.freeze_window_ms = 60'001;
  CHECK(code_of(writer.call("writer.register", rpc::encode(message))) == Errc::invalid_argument);
  message.freeze_window_ms = 60'000;
  CHECK(writer.call<rpc::RegisterWriterReply>("writer.register", message));
  CHECK(code_of(writer.call("writer.register", rpc::encode(message))) ==
        Errc::writer_already_subscribed);
  // A notification of nonsense, and one for a session that does not exist.
  writer.send_raw(R"({"jsonrpc":"2.0","method":"writer.window_expired","params":{"session_id":3}})"
                  "\n");
  writer.send_raw(R"({"jsonrpc":"2.0","method":"writer.window_expired","params":{}})"
                  "\n");
  WireClient provider(world.umbrad.socket(), "provider");
  rpc::RegisterProvider registration;
  CHECK(code_of(provider.call("provider.register", rpc::encode(registration))) ==
        Errc::invalid_argument);
  registration.properties.provider_id = ProviderId::random();
  registration.properties.name = "p";
  CHECK(provider.call<rpc::RegisteredProvider>("provider.register", registration));
  CHECK(code_of(provider.call("provider.register", rpc::encode(registration))) ==
        Errc::provider_already_registered);
  WireClient second(world.umbrad.socket(), "provider");
  CHECK(code_of(second.call("provider.register", rpc::encode(registration))) ==
        Errc::provider_already_registered);
}

TEST_CASE("what is not JSON-RPC is answered and the connection closed", "[misuse]") {
  World world;
  for (const char* line : {"hello\n", "{]\n", "[]\n", "7\n", "{}\n", "\xff\xfe\n",
                           R"([{"jsonrpc":"2.0","id":1,"method":"hello"}])"
                           "\n",
                           R"({"jsonrpc":"2.0","id":{},"method":"hello"})"
                           "\n"}) {
    INFO(line);
    WireClient client(world.umbrad.socket(), "requester");
    client.send_raw(line);
    const auto code = code_of_line(client.read_line());
    CHECK((code == Errc::protocol_violation || code == Errc::invalid_argument));
    if (code == Errc::protocol_violation) CHECK(client.is_closed_by_peer());
  }
}

TEST_CASE("half a line and then the end is no request", "[misuse]") {
  World world;
  {
    WireClient client(world.umbrad.socket(), "requester");
    client.send_raw(R"({"jsonrpc":"2.0","id":5,"method":"session.initialize_for_)");
    client.close();
  }
  Requester probe(world.umbrad);
  CHECK(probe.coordinator().sessions == 0);
}

TEST_CASE("an endless line is cut off", "[misuse]") {
  World world;
  WireClient client(world.umbrad.socket(), "requester");
  const std::string piece(1U << 20U, 'x');
  for (std::size_t sent = 0; sent <= rpc::kLineBytesMax + piece.size(); sent += piece.size())
    client.send_raw(piece);
  CHECK(code_of_line(client.read_line()) == Errc::protocol_violation);
  CHECK(client.is_closed_by_peer());
}

TEST_CASE("requests beyond the limit are refused, the others wait", "[misuse]") {
  World world;
  FakeWriter mute(world.umbrad.socket(),
                  {"mute", ApplicationLevel::front_end, 60'000, {{"identify", Act::silence}}});
  Requester requester(world.umbrad);
  requester.begin();
  // An operation that does not end, so that waiting for it does not either.
  const auto gathering =
      requester.client.call<rpc::StartedOperation>("session.gather_writer_metadata");
  REQUIRE(gathering);
  rpc::WaitOperation wait;
  wait.operation = gathering->operation;
  const std::size_t limit = rpc::PeerLimits{}.requests_in_flight_max;
  for (std::size_t i = 0; i < limit; ++i)
    static_cast<void>(requester.client.post("operation.wait", rpc::encode(wait)));
  const auto refused = requester.client.call("coordinator.status", kNothing);
  CHECK(code_of(refused) == Errc::limit_reached);
}

TEST_CASE("connections beyond the limit are told so, and room is made when others leave",
          "[misuse]") {
  Umbrad umbrad("[limits]\nconnections = 4\n");
  std::vector<std::unique_ptr<WireClient>> clients;
  for (int i = 0; i < 4; ++i) {
    clients.push_back(std::make_unique<WireClient>(umbrad.socket(), "requester"));
    REQUIRE(clients.back()->hello());
  }
  WireClient extra(umbrad.socket(), "requester");
  REQUIRE(!extra.hello());
  CHECK(extra.hello().error().code == Errc::limit_reached);
  CHECK(extra.is_closed_by_peer());
  clients.pop_back();
  const auto until = system_clock().now() + kSoon;  // The end of a connection is noticed soon.
  bool room = false;
  while (!room && system_clock().now() < until)
    room = WireClient(umbrad.socket(), "requester").hello().has_value();
  CHECK(room);
  CHECK(umbrad.stop() == 0);
}

TEST_CASE("an answer to a call that was never made ends the connection", "[misuse]") {
  World world;
  WireClient client(world.umbrad.socket(), "requester");
  client.send_raw(R"({"jsonrpc":"2.0","id":999,"result":{}})"
                  "\n");
  CHECK(client.is_closed_by_peer());
}

TEST_CASE("unknown notifications are ignored", "[misuse]") {
  World world;
  for (const char* role : {"requester", "writer", "provider"}) {
    WireClient client(world.umbrad.socket(), role);
    client.send_raw(R"({"jsonrpc":"2.0","method":"no.such.notification","params":{}})"
                    "\n");
    CHECK(code_of(client.call("no.such.method", kNothing)) == Errc::not_implemented);
  }
}

TEST_CASE("a second umbrad in the same run directory does not start", "[misuse]") {
  Umbrad umbrad;
  const auto [code, output] = Umbrad::run({"--run-dir", umbrad.run_dir()});
  CHECK(code == 1);
  CHECK(output.find("VSS_E_OBJECT_ALREADY_EXISTS") != std::string::npos);
  CHECK(umbrad.stop() == 0);
}

TEST_CASE("mistakes on the command line are told and end with 2 or the parser's code", "[misuse]") {
  CHECK(Umbrad::run({"--no-such-option"}).first != 0);
  CHECK(Umbrad::run({"--log-level", "loud"}).first != 0);
  CHECK(Umbrad::run({"--version"}).first == 0);
  CHECK(Umbrad::run({"--help"}).second.find("--with-system-provider") != std::string::npos);
  const auto [code, output] = Umbrad::run({"--run-dir", "relative/path"});
  CHECK(code == 1);
  CHECK(!output.empty());
}

}  // namespace
