// SPDX-License-Identifier: Apache-2.0
//
// umbrad as a process, and who may do what to it: what is refused is logged with who asked, a
// session answers only its own connection, a writer sees only its own part, files are nobody
// else's. And the story of a set, which survives the set and umbrad.

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "engine/platform/log.h"
#include "engine/rpc/provider_server.h"
#include "tests/support/catch.h"
#include "tests/support/memory_provider.h"
#include "tests/support/wire_client.h"

namespace {

using namespace umbra;
using namespace umbra::test;
namespace fs = std::filesystem;

struct World {
  explicit World(const std::string& config = {}) : umbrad(config), provider(system_clock()) {
    provider.add_volume("data");
    connect();
  }
  void connect() {
    rpc::ProviderServerOptions options;
    options.socket_path = umbrad.socket();
    options.program = "test-provider";
    server = std::make_unique<rpc::ProviderServer>(
        provider, std::map<std::string, rpc::ProviderMethod>{}, options, null_log());
    REQUIRE(server->wait_until_registered(kSoon));
  }
  [[nodiscard]] bool log_has(const std::string& text) const {
    return umbrad.log_text().find(text) != std::string::npos;
  }
  Umbrad umbrad;
  MemoryProvider provider;
  std::unique_ptr<rpc::ProviderServer> server;
};

Errc code_of(const Result<rpc::Json>& result) { return result ? Errc::ok : result.error().code; }

TEST_CASE("what is refused is logged with who asked for it", "[e2e][umbrad][security]") {
  World world;
  WireClient writer(world.umbrad.socket(), "writer");
  CHECK(code_of(writer.call("session.initialize_for_backup", rpc::encode(rpc::Nothing{}))) ==
        Errc::access_denied);
  CHECK(code_of(writer.call("query.traces", rpc::encode(rpc::Nothing{}))) == Errc::access_denied);
  WireClient requester(world.umbrad.socket(), "requester");
  CHECK(code_of(requester.call("volume.detach", rpc::encode(rpc::DetachVolume{}))) ==
        Errc::access_denied);
  CHECK(code_of(requester.call("provider.register", rpc::encode(rpc::Nothing{}))) ==
        Errc::access_denied);
  // Everybody here is of this process; who that is, umbrad says of the holder of the slot.
  Requester holder(world.umbrad);
  holder.begin(context::kNasRollback);
  holder.start_set();
  const auto named = holder.coordinator().set_holder;
  const auto who = named.substr(0, named.find(" ("));
  REQUIRE(who.find(" pid ") != std::string::npos);
  CHECK(world.umbrad.stop() == 0);
  const auto log = world.umbrad.log_text();
  std::size_t refused = 0;
  for (std::size_t at = log.find("refused"); at != std::string::npos;
       at = log.find("refused", at + 1)) {
    const auto line = log.substr(at, log.find('\n', at) - at);
    CHECK(line.find(who) != std::string::npos);
    ++refused;
  }
  CHECK(refused >= 4);
  for (const char* call :
       {"session.initialize_for_backup", "query.traces", "volume.detach", "provider.register"})
    CHECK(log.find(call) != std::string::npos);
}

TEST_CASE("a writer class that belongs to a user is nobody else's", "[e2e][umbrad][security]") {
  const auto pinned = WriterClassId::random();
  World world("[writer_classes]\n\"" + pinned.to_string() + "\" = 4294967294\n");
  WireClient writer(world.umbrad.socket(), "writer");
  rpc::RegisterWriter message;
  message.class_id = pinned;
  message.name = "pretender";
  CHECK(code_of(writer.call("writer.register", rpc::encode(message))) == Errc::access_denied);
  message.class_id = WriterClassId::random();
  CHECK(code_of(writer.call("writer.register", rpc::encode(message))) == Errc::ok);
  CHECK(world.umbrad.stop() == 0);
  CHECK(world.log_has("writer class " + pinned.to_string()));
}

TEST_CASE("a session answers only the connection that it is", "[e2e][umbrad][security]") {
  World world;
  FakeWriter ledger(world.umbrad.socket(), {"ledger"});
  Requester owner(world.umbrad);
  owner.prepare({&ledger}, "data");
  const auto started = owner.client.call<rpc::StartedOperation>("session.do_snapshot_set");
  REQUIRE(started);
  // The same user, even: it has neither the operation, nor the set, nor the documents.
  Requester other(world.umbrad);
  other.begin();
  rpc::WaitOperation wait;
  wait.operation = started->operation;
  for (const char* call : {"operation.wait", "operation.status", "operation.cancel"}) {
    const auto answer = other.client.call(call, rpc::encode(wait));
    CHECK(code_of(answer) == Errc::object_not_found);
  }
  CHECK(other.client.call<rpc::WriterStatusList>("session.get_writer_status")
            .value_or(rpc::WriterStatusList{})
            .writers.empty());
  const auto document = other.client.call<rpc::Document>("session.get_backup_components");
  if (document) CHECK(document->xml.find(ledger.instance().to_string()) == std::string::npos);
  CHECK(owner.wait(started->operation).status == Errc::async_finished);
  CHECK(world.umbrad.stop() == 0);
}

TEST_CASE("a writer is told its own part only, and can end only its own window",
          "[e2e][umbrad][security]") {
  World world;
  FakeWriter one(world.umbrad.socket(), {"one"});
  FakeWriter two(world.umbrad.socket(), {"two"});
  Requester requester(world.umbrad);
  requester.prepare({&one, &two}, "data");
  CHECK(one.params("prepare_for_backup").components.find(two.instance().to_string()) ==
        std::string::npos);
  CHECK(two.params("prepare_for_backup").components.find(two.instance().to_string()) !=
        std::string::npos);
  // A third, which has no part in it, claims that the window of this session is over.
  FakeWriter stranger(world.umbrad.socket(), {"stranger"});
  stranger.say_expired(one.params("prepare_for_backup").session_id);
  CHECK(requester.create(WriterPolicy::all).status == Errc::async_finished);
  CHECK(requester.status_of(one).failure == Errc::ok);
  CHECK(world.umbrad.stop() == 0);
}

TEST_CASE("the socket's directory and umbrad's files are safe", "[e2e][umbrad][security]") {
  World world;
  FakeWriter ledger(world.umbrad.socket(), {"ledger"});
  Requester requester(world.umbrad);
  requester.prepare({&ledger}, "data");
  REQUIRE(requester.create().status == Errc::async_finished);
  CHECK(world.umbrad.stop() == 0);
  const auto open_to_others = fs::perms::group_write | fs::perms::others_write;
  CHECK((fs::status(world.umbrad.run_dir()).permissions() & open_to_others) == fs::perms::none);
  for (const auto& entry : fs::recursive_directory_iterator(world.umbrad.run_dir())) {
    INFO(entry.path().string());
    if (!entry.is_socket())
      CHECK((entry.status().permissions() & open_to_others) == fs::perms::none);
  }
}

const rpc::TraceSpan* find_span(const rpc::SetTrace& trace, const std::string& actor,
                                const std::string& what) {
  for (const auto& span : trace.spans)
    if (span.actor == actor && span.what == what) return &span;
  return nullptr;
}

TEST_CASE("a set's story names everybody who was asked, and survives the set and umbrad",
          "[e2e][umbrad][trace]") {
  World world;
  SnapshotSetId set;
  {
    FakeWriter good(world.umbrad.socket(), {"good"});
    FakeWriter bad(world.umbrad.socket(),
                   {"bad", ApplicationLevel::back_end, 60'000, {{"thaw", Act::veto}}});
    Requester requester(world.umbrad);
    requester.prepare({&good, &bad}, "data", context::kBackup);
    set = requester.coordinator().set_in_progress;
    REQUIRE(requester.create(WriterPolicy::none).status == Errc::async_finished);
    requester.client.close();
    CHECK(good.saw("backup_shutdown"));
    CHECK(bad.saw("abort"));
  }
  Requester observer(world.umbrad);
  const auto check = [&](Requester& asking) {
    const auto trace = asking.client.call<rpc::SetTrace>("query.trace", rpc::QueryTrace{set});
    REQUIRE(trace);
    CHECK(trace->set_id == set);
    CHECK(trace->ended);
    CHECK(trace->code == Errc::async_finished);
    CHECK(trace->dropped == 0);
    for (const char* event : {"prepare_for_backup", "prepare_for_snapshot", "freeze", "thaw",
                              "post_snapshot", "backup_shutdown"}) {
      INFO(event);
      const auto* span = find_span(*trace, "writer 'good'", event);
      REQUIRE(span != nullptr);
      CHECK(span->code == Errc::ok);
    }
    const auto* veto = find_span(*trace, "writer 'bad'", "thaw");
    REQUIRE(veto != nullptr);
    CHECK(veto->ended);
    CHECK(veto->code == Errc::writererror_retryable);
    CHECK(find_span(*trace, "writer 'bad'", "abort") != nullptr);
    for (const char* call : {"begin_prepare_snapshot", "end_prepare_snapshots",
                             "flush_commit_release", "confirm_set"}) {
      INFO(call);
      const auto* span = find_span(*trace, "provider 'memory'", call);
      REQUIRE(span != nullptr);
      CHECK(span->ended);
      CHECK(span->begin_us <= span->end_us);
    }
    // Phases follow each other, and what was asked in one lies in it.
    const auto* freeze = find_span(*trace, "umbrad", "freeze");
    const auto* asked = find_span(*trace, "writer 'good'", "freeze");
    REQUIRE(freeze != nullptr);
    CHECK(freeze->begin_us <= asked->begin_us);
    CHECK(asked->end_us <= freeze->end_us);
    CHECK(find_span(*trace, "requester", "do_snapshot_set") != nullptr);
    CHECK(find_span(*trace, "umbrad", "session ends") != nullptr);
  };
  check(observer);
  const auto newest = observer.client.call<rpc::SetTrace>("query.trace", rpc::QueryTrace{});
  REQUIRE(newest);
  CHECK(newest->set_id == set);
  CHECK(world.umbrad.stop() == 0);
  world.umbrad.start();
  world.connect();
  Requester later(world.umbrad);
  check(later);
  const auto list = later.client.call<rpc::TraceList>("query.traces");
  REQUIRE(list);
  REQUIRE(list->traces.size() == 1);
  CHECK(list->traces[0].spans.empty());
  const auto unknown =
      later.client.call<rpc::SetTrace>("query.trace", rpc::QueryTrace{SnapshotSetId::random()});
  REQUIRE(!unknown);
  CHECK(unknown.error().code == Errc::object_not_found);
  CHECK(world.umbrad.stop() == 0);
}

TEST_CASE("the story of a set that is dropped says why", "[e2e][umbrad][trace]") {
  World world;
  Requester requester(world.umbrad);
  requester.begin(context::kNasRollback);
  requester.start_set();
  REQUIRE(requester.add("data"));
  CHECK(requester.client.call<rpc::Nothing>("session.abort_backup"));
  const auto trace = requester.client.call<rpc::SetTrace>("query.trace", rpc::QueryTrace{});
  REQUIRE(trace);
  CHECK(trace->ended);
  CHECK(trace->code == Errc::async_cancelled);
  CHECK(trace->context == "aborted by the requester");
  CHECK(find_span(*trace, "provider 'memory'", "abort_snapshots") != nullptr);
  CHECK(world.umbrad.stop() == 0);
}

TEST_CASE("requesters are told what the configuration says to them",
          "[e2e][umbrad][vss:config.FilesNotToSnapshot][vss:config.FilesNotToBackup]"
          "[vss:config.WritersBlockingRevert]") {
  const auto blocking = WriterClassId::random();
  World world(
      "[files_not_to_snapshot]\nMail = [\"/var/mail/tmp/*\"]\n"
      "[files_not_to_backup]\nPage = [\"/swapfile\"]\n[revert]\nwriters_blocking = [\"" +
      blocking.to_string() + "\"]\n");
  Requester requester(world.umbrad);
  const auto settings = requester.client.call<rpc::CoordinatorSettings>("query.settings");
  REQUIRE(settings);
  REQUIRE(settings->files_not_to_snapshot.size() == 1);
  CHECK(settings->files_not_to_snapshot[0].files == std::vector<std::string>{"/var/mail/tmp/*"});
  CHECK(settings->files_not_to_backup.at(0).application == "Page");
  CHECK(settings->writers_blocking_revert == std::vector<WriterClassId>{blocking});
  CHECK(world.umbrad.stop() == 0);
}

TEST_CASE("who calls too fast waits, and every call is answered in order", "[e2e][umbrad]") {
  World world("[limits]\ncalls_per_second = 50\n");
  WireClient hasty(world.umbrad.socket(), "requester");
  std::vector<rpc::CallId> calls;
  for (int round = 0; round < 3; ++round) {
    calls.clear();
    for (int i = 0; i < 60; ++i)
      calls.push_back(hasty.post("coordinator.status", rpc::encode(rpc::Nothing{})));
    for (const auto call : calls) CHECK(hasty.answer(call));
  }
  CHECK(world.umbrad.stop() == 0);
}

}  // namespace
