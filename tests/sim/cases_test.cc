// SPDX-License-Identifier: Apache-2.0
//
// What the simulation meets by chance only, told step by step: peers whose every line a test
// writes, on the machine of tests/sim.

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/documents/xml.h"
#include "tests/sim/provider.h"
#include "tests/sim/world.h"
#include "tests/support/catch.h"
#include "umbra/documents.h"

namespace {

using namespace umbra;
using namespace umbra::sim;
using namespace std::chrono_literals;

/// A connection of any role; it answers what it is asked only when it is told to.
class Caller {
 public:
  Caller(World& world, const std::string& role, PeerCredentials who = {1, 0, 0, {}})
      : world_(world) {
    LineHandlers handlers;
    handlers.on_reply = [this](rpc::CallId id, const Result<rpc::Json>& result) {
      order_.push_back(id);
      replies_.emplace(id, result);
    };
    handlers.on_request = [this](const rpc::IncomingRequest& one) {
      asked.push_back(one);
      if (on_request) on_request(one);
    };
    line_ = world_.connect(std::move(handlers), std::move(who));
    rpc::HelloRequest message;
    message.role = role;
    message.program = "case";
    hello = call<rpc::HelloReply>("hello", message);
  }
  ~Caller() { line_->close(); }
  Caller(const Caller&) = delete;
  Caller& operator=(const Caller&) = delete;

  template <class Message = rpc::Nothing>
  rpc::CallId post(std::string_view method, const Message& message = {}) {
    return line_->call(method, rpc::encode(message));
  }
  template <class Answer, class Message = rpc::Nothing>
  Result<Answer> call(std::string_view method, const Message& message = {}) {
    return answer<Answer>(post(method, message));
  }
  template <class Answer>
  Result<Answer> answer(rpc::CallId id) {
    world_.run(world_.now() + 5min, [&] { return has(id); });
    if (!has(id)) return fail(Errc::unexpected, "never answered");
    const auto& result = replies_.at(id);
    if (!result) return tl::unexpected<Error>(result.error());
    return rpc::decode<Answer>(*result);
  }
  [[nodiscard]] bool has(rpc::CallId id) const { return replies_.count(id) > 0; }
  /// The ids of replies, in the order they came.
  [[nodiscard]] const std::vector<rpc::CallId>& order() const { return order_; }
  void reply(const rpc::IncomingRequest& request, const rpc::WriterReply& message) {
    line_->reply(request.id, rpc::encode(message));
  }
  void close() { line_->close(); }

  Result<rpc::HelloReply> hello = fail(Errc::unexpected, "");
  std::vector<rpc::IncomingRequest> asked;
  std::function<void(const rpc::IncomingRequest&)> on_request;

 private:
  World& world_;
  std::shared_ptr<Line> line_;
  std::map<rpc::CallId, Result<rpc::Json>> replies_;
  std::vector<rpc::CallId> order_;
};

/// Answers well at once, but to the methods in `held`, which wait for release().
class ScriptedWriter {
 public:
  ScriptedWriter(World& world, std::string name, ApplicationLevel level)
      : name_(std::move(name)), class_id_(WriterClassId::random()), caller(world, "writer") {
    caller.on_request = [this](const rpc::IncomingRequest& one) {
      if (std::find(held.begin(), held.end(), one.method) != held.end())
        waiting_.push_back(one);
      else
        caller.reply(one, good(one.method));
    };
    rpc::RegisterWriter message;
    message.class_id = class_id_;
    message.name = name_;
    message.level = level;
    message.freeze_window_ms = 5'000;
    instance =
        caller.call<rpc::RegisterWriterReply>("writer.register", message).value().instance_id;
  }
  void release() {
    held.clear();
    for (const auto& one : std::exchange(waiting_, {})) caller.reply(one, good(one.method));
  }
  [[nodiscard]] std::size_t times(const std::string& method) const {
    return static_cast<std::size_t>(
        std::count_if(caller.asked.begin(), caller.asked.end(),
                      [&](const auto& one) { return one.method == method; }));
  }

 private:
  [[nodiscard]] rpc::WriterReply good(const std::string& method) const {
    rpc::WriterReply reply;
    if (method != "writer.identify") return reply;
    WriterMetadataDocument document;
    document.identity.class_id = class_id_;
    document.identity.name = name_;
    ComponentInfo component;
    component.name = "data";
    component.files.push_back({"/srv/" + name_, "*", true, "", file_spec::kDefault});
    document.components.push_back(component);
    reply.metadata = documents::to_xml(document);
    return reply;
  }
  std::string name_;
  WriterClassId class_id_;
  std::deque<rpc::IncomingRequest> waiting_;

 public:
  Caller caller;
  WriterInstanceId instance;
  std::vector<std::string> held;
};

struct Machine {
  explicit Machine(daemon::Config config = short_config(), daemon::RolePolicy roles = {})
      : world(7, std::move(config), std::move(roles)),
        provider(world, "p", 0, [](const SnapshotSetId&) {}) {
    world.start_umbrad();
    provider.connect();
    world.run(world.now() + 1s);
  }
  void pass(Duration time) { world.run(world.now() + time); }
  World world;
  SimProvider provider;
};

rpc::OperationStatus wait(Caller& requester, std::uint32_t operation) {
  rpc::WaitOperation message;
  message.operation = operation;
  return requester.call<rpc::OperationStatus>("operation.wait", message).value();
}
std::uint32_t start(Caller& requester, std::string_view method) {
  return requester.call<rpc::StartedOperation>(method).value().operation;
}

SessionId begin(Caller& requester, std::uint32_t context) {
  const auto session = requester.call<rpc::SessionInfo>("session.initialize_for_backup").value();
  REQUIRE(requester.call<rpc::Nothing>("session.set_context", rpc::SetContext{context}));
  if (has_writers(context)) {
    rpc::SetBackupState state;
    state.component_mode = false;
    REQUIRE(requester.call<rpc::Nothing>("session.set_backup_state", state));
  }
  return session.session_id;
}

Result<rpc::AddedSnapshot> add(Caller& requester, const std::string& volume) {
  rpc::AddToSnapshotSet message;
  message.volume.name = volume;
  return requester.call<rpc::AddedSnapshot>("session.add_to_snapshot_set", message);
}

// As far as DoSnapshotSet, in volume mode, with all writers.
void prepare(Caller& requester) {
  begin(requester, context::kBackup);
  REQUIRE(wait(requester, start(requester, "session.gather_writer_metadata")).status ==
          Errc::async_finished);
  REQUIRE(requester.call<rpc::StartedSet>("session.start_snapshot_set"));
  REQUIRE(add(requester, "p0"));
  REQUIRE(wait(requester, start(requester, "session.prepare_for_backup")).status ==
          Errc::async_finished);
}

TEST_CASE("a slow Identify of one session delays no Freeze or Thaw of another", "[sim][case]") {
  Machine machine;
  ScriptedWriter writer(machine.world, "slow", ApplicationLevel::front_end);
  Caller first(machine.world, "requester");
  prepare(first);
  // Another session's Identify is under way, and stays so for the whole set.
  writer.held = {"writer.identify"};
  Caller second(machine.world, "requester");
  begin(second, context::kBackup);
  const auto gathering = start(second, "session.gather_writer_metadata");
  machine.pass(500ms);
  REQUIRE(writer.times("writer.identify") == 2);
  const auto before = machine.world.now();
  CHECK(wait(first, start(first, "session.do_snapshot_set")).status == Errc::async_finished);
  CHECK(machine.world.now() - before < 4s);
  CHECK(writer.times("writer.freeze") == 1);
  CHECK(writer.times("writer.thaw") == 1);
  writer.release();
  CHECK(wait(second, gathering).status == Errc::async_finished);
  const auto list = second.call<rpc::WriterMetadataList>("session.get_writer_metadata");
  CHECK(list.value().writers.size() == 1);
}

TEST_CASE("Identify waits for the end of another session's Freeze",
          "[sim][case][vss:rule.identify-during-freeze]") {
  Machine machine;
  ScriptedWriter frozen(machine.world, "frozen", ApplicationLevel::front_end);
  ScriptedWriter slow(machine.world, "slow", ApplicationLevel::back_end);
  Caller first(machine.world, "requester");
  prepare(first);
  slow.held = {"writer.freeze"};
  const auto making = start(first, "session.do_snapshot_set");
  machine.pass(1500ms);
  REQUIRE(frozen.times("writer.freeze") == 1);
  REQUIRE(slow.times("writer.freeze") == 1);
  Caller second(machine.world, "requester");
  begin(second, context::kBackup);
  const auto gathering = start(second, "session.gather_writer_metadata");
  machine.pass(500ms);
  CHECK(frozen.times("writer.identify") == 1);
  slow.release();
  CHECK(wait(first, making).status == Errc::async_finished);
  CHECK(wait(second, gathering).status == Errc::async_finished);
  CHECK(frozen.times("writer.identify") == 2);
  std::vector<std::string> order;
  for (const auto& one : frozen.caller.asked) order.push_back(one.method);
  const auto thaw = std::find(order.begin(), order.end(), "writer.thaw");
  CHECK(std::find(thaw, order.end(), "writer.identify") != order.end());
}

TEST_CASE("a requester that was silent for an hour goes on where it was", "[sim][case]") {
  Machine machine;
  auto writer = std::make_unique<ScriptedWriter>(machine.world, "w", ApplicationLevel::front_end);
  Caller silent(machine.world, "requester");
  begin(silent, context::kBackup);
  REQUIRE(wait(silent, start(silent, "session.gather_writer_metadata")).status ==
          Errc::async_finished);
  // Meanwhile sets are made, the writer's process ends and another begins, events come.
  machine.pass(20min);
  {
    Caller other(machine.world, "requester");
    prepare(other);
    CHECK(wait(other, start(other, "session.do_snapshot_set")).status == Errc::async_finished);
  }
  writer->caller.close();
  machine.pass(10min);
  const ScriptedWriter next(machine.world, "w", ApplicationLevel::front_end);
  machine.pass(30min);
  REQUIRE(silent.call<rpc::StartedSet>("session.start_snapshot_set"));
  REQUIRE(add(silent, "p0"));
  REQUIRE(wait(silent, start(silent, "session.prepare_for_backup")).status == Errc::async_finished);
  // Who began after its GatherWriterMetadata has no part in it; who is gone is said to be.
  const auto made = wait(silent, start(silent, "session.do_snapshot_set"));
  CHECK(made.status == Errc::async_finished);
  CHECK(next.times("writer.freeze") == 0);
  const auto status = silent.call<rpc::WriterStatusList>("session.get_writer_status").value();
  REQUIRE(status.writers.size() == 1);
  CHECK(status.writers[0].failure == Errc::writer_not_responding);
}

TEST_CASE("a requester that is silent with its set open loses the set, and is told why",
          "[sim][case]") {
  Machine machine;
  Caller silent(machine.world, "requester");
  begin(silent, context::kNasRollback);
  REQUIRE(silent.call<rpc::StartedSet>("session.start_snapshot_set"));
  machine.pass(1h);
  CHECK(!machine.world.umbrad().slot.holder());
  const auto late = add(silent, "p0");
  REQUIRE(!late);
  CHECK(late.error().code == Errc::bad_state);
  CHECK(late.error().context.find("made no call for too long") != std::string::npos);
}

TEST_CASE("a provider that is down is named, and its volumes can be added once it is back",
          "[sim][case]") {
  Machine machine;
  SimProvider second(machine.world, "q", 0, [](const SnapshotSetId&) {});
  second.connect();
  machine.pass(1s);
  second.take_down();
  machine.pass(1s);
  Caller requester(machine.world, "requester");
  begin(requester, context::kNasRollback);
  REQUIRE(requester.call<rpc::StartedSet>("session.start_snapshot_set"));
  const auto refused = add(requester, "q0");
  REQUIRE(!refused);
  CHECK(refused.error().context.find("provider 'q' is away") != std::string::npos);
  CHECK(requester.call<rpc::SnapshotList>("query.snapshots").value().absent_providers ==
        std::vector<std::string>{"q"});
  CHECK(add(requester, "p0"));  // Others are served meanwhile.
  second.connect();
  machine.pass(1s);
  CHECK(add(requester, "q0"));
  CHECK(wait(requester, start(requester, "session.do_snapshot_set")).status ==
        Errc::async_finished);
}

// Otherwise the set would be made of what the provider's next life prepares, and be told as whole.
TEST_CASE("a provider that goes away with a volume prepared fails the set, although it is back",
          "[sim][case][vss:rule.no-partial-commit]") {
  Machine machine;
  Caller requester(machine.world, "requester");
  begin(requester, context::kNasRollback);
  REQUIRE(requester.call<rpc::StartedSet>("session.start_snapshot_set"));
  REQUIRE(add(requester, "p0"));
  const bool adds_both = GENERATE(true, false);
  CAPTURE(adds_both);
  if (adds_both) REQUIRE(add(requester, "p1"));
  machine.provider.take_down();
  machine.pass(1s);
  machine.provider.connect();
  machine.pass(1s);
  if (!adds_both) {
    const auto refused = add(requester, "p1");
    REQUIRE(!refused);
    CHECK(refused.error().code == Errc::unexpected_provider_error);
    CHECK(refused.error().context.find("'p0'") != std::string::npos);
  }
  const auto end = wait(requester, start(requester, "session.do_snapshot_set"));
  CHECK(end.status == Errc::unexpected_provider_error);
  CHECK(end.context.find("provider 'p': the connection was lost") != std::string::npos);
  machine.pass(1min);
  CHECK(machine.provider.memory().unfinished_sets() == 0);
  CHECK(machine.provider.memory().query_snapshots(true).value().empty());
  Caller next(machine.world, "requester");
  begin(next, context::kNasRollback);
  REQUIRE(next.call<rpc::StartedSet>("session.start_snapshot_set"));
  CHECK(add(next, "p0"));
}

const daemon::RolePolicy kGroups{0, 100, 200};

TEST_CASE("one user's connections end at its share, others' do not", "[sim][case][security]") {
  auto config = short_config();
  config.connections_per_user = 3;
  Machine machine(config, kGroups);
  const PeerCredentials greedy{10, 1000, 200, {}};
  std::vector<std::unique_ptr<Caller>> callers;
  for (int i = 0; i < 3; ++i) {
    callers.push_back(std::make_unique<Caller>(machine.world, "requester", greedy));
    CHECK(callers.back()->hello);
  }
  const Caller refused(machine.world, "requester", greedy);
  REQUIRE(!refused.hello);
  CHECK(refused.hello.error().code == Errc::limit_reached);
  CHECK(Caller(machine.world, "requester", {11, 1001, 200, {}}).hello);
  for (int i = 0; i < 5; ++i) CHECK(Caller(machine.world, "admin").hello);
  callers.pop_back();
  machine.pass(1s);
  CHECK(machine.world.story.refused.size() == 1);
}

TEST_CASE("who calls too fast waits, in its order, and nobody else does", "[sim][case][security]") {
  auto config = short_config();
  config.calls_per_second = 10;
  Machine machine(config, kGroups);
  Caller hasty(machine.world, "requester", {10, 1000, 200, {}});
  Caller other(machine.world, "requester", {11, 1001, 200, {}});
  machine.pass(10s);
  std::vector<rpc::CallId> calls;
  for (int i = 0; i < 60; ++i) calls.push_back(hasty.post("coordinator.status"));
  machine.pass(500ms);
  const auto answered = [&] {
    return std::count_if(calls.begin(), calls.end(), [&](auto id) { return hasty.has(id); });
  };
  // The burst, and what has come since.
  CHECK(answered() >= 20);
  CHECK(answered() <= 26);
  const auto before = machine.world.now();
  CHECK(other.call<rpc::CoordinatorStatus>("coordinator.status"));
  CHECK(machine.world.now() - before < 200ms);
  machine.pass(10s);
  CHECK(answered() == 60);
  const auto& order = hasty.order();
  CHECK(std::is_sorted(order.begin(), order.end()));
}

TEST_CASE("another user may neither end nor read of a set, and it is logged who tried",
          "[sim][case][security]") {
  Machine machine(short_config(), kGroups);
  Caller owner(machine.world, "requester", {10, 1000, 200, {}});
  begin(owner, context::kNasRollback);
  const auto set = owner.call<rpc::StartedSet>("session.start_snapshot_set").value().set_id;
  Caller stranger(machine.world, "requester", {11, 1001, 200, {}});
  const auto code = [](const auto& result) { return result ? Errc::ok : result.error().code; };
  CHECK(code(stranger.call<rpc::AbortedSet>("coordinator.abort", rpc::AbortSet{"mine now"})) ==
        Errc::access_denied);
  CHECK(code(stranger.call<rpc::SetTrace>("query.trace", rpc::QueryTrace{set})) ==
        Errc::access_denied);
  CHECK(stranger.call<rpc::TraceList>("query.traces").value().traces.empty());
  CHECK(code(Caller(machine.world, "admin", {12, 1000, 200, {}}).hello) == Errc::access_denied);
  CHECK(code(Caller(machine.world, "writer", {13, 1002, 300, {}}).hello) == Errc::access_denied);
  const auto& refused = machine.world.story.refused;
  const auto logged = [&](const std::string& call, const std::string& peer) {
    return std::any_of(refused.begin(), refused.end(),
                       [&](const std::string& line) { return line.find(call + ": " + peer) == 0; });
  };
  CHECK(logged("coordinator.abort", "uid 1001 pid 11"));
  CHECK(logged("query.trace", "uid 1001 pid 11"));
  CHECK(logged("hello", "uid 1000 pid 12"));
  CHECK(logged("hello", "uid 1002 pid 13"));
  // Its own user, by another connection, and an administrator may.
  Caller own(machine.world, "requester", {14, 1000, 200, {}});
  CHECK(own.call<rpc::SetTrace>("query.trace", rpc::QueryTrace{set}).value().uid == 1000U);
  Caller admin(machine.world, "admin");
  CHECK(admin.call<rpc::TraceList>("query.traces").value().traces.size() == 1);
  CHECK(own.call<rpc::AbortedSet>("coordinator.abort", rpc::AbortSet{"done"}));
}

}  // namespace
