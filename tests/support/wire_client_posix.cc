// SPDX-License-Identifier: Apache-2.0

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>
#include <tuple>

#include "engine/documents/xml.h"
#include "tests/support/catch.h"
#include "tests/support/wire_client.h"

extern char** environ;

namespace umbra::test {
namespace {

TimePoint in(std::chrono::milliseconds limit) { return system_clock().now() + limit; }

template <class Condition>
bool eventually(Condition condition) {
  const auto until = in(kSoon);
  bool holds = condition();
  while (!holds && system_clock().now() < until) {
    std::this_thread::yield();
    holds = condition();
  }
  return holds;
}

int spawn(std::vector<std::string> words, const std::string& output) {
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, 1, output.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  posix_spawn_file_actions_adddup2(&files, 1, 2);
  std::vector<char*> argv;
  for (auto& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_t pid = -1;
  const int failed = ::posix_spawn(&pid, words[0].c_str(), &files, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&files);
  return failed == 0 ? pid : -1;
}

std::string read_file(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The exit code; nothing if it died of a signal. The caller bounds it by signals or ctest.
std::optional<int> reap(int pid) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (!WIFEXITED(status)) return std::nullopt;
  return WEXITSTATUS(status);
}

}  // namespace

// --- umbrad -------------------------------------------------------------------------------------

Umbrad::Umbrad(const std::string& config)
    : run_dir_(directory_ / "run"), socket_(run_dir_ + "/umbrad.sock") {
  std::ofstream(directory_ / "umbrad.toml") << config;
  start();
}

void Umbrad::start() {
  pid_ = spawn({UMBRA_TEST_UMBRAD, "--run-dir", run_dir_, "--log-level", "debug", "--config",
                directory_ / "umbrad.toml"},
               directory_ / "log");
  REQUIRE(pid_ > 0);
  // It is ready when it listens; until then connecting fails at once, so look again in between.
  const bool listens =
      eventually([&] { return LocalStream::connect(socket_, in(kSoon)).has_value(); });
  INFO(log_text());
  REQUIRE(listens);
}

Umbrad::~Umbrad() {
  if (pid_ < 0) return;
  std::cerr << log_text();
  kill();
}

void Umbrad::kill() {
  ::kill(pid_, SIGKILL);
  static_cast<void>(reap(pid_));
  pid_ = -1;
}

std::optional<int> Umbrad::stop() {
  ::kill(pid_, SIGTERM);
  const auto code = reap(pid_);
  pid_ = -1;
  return code;
}

std::string Umbrad::log_text() const { return read_file(directory_ / "log"); }

bool Umbrad::logs(const std::string& text) const {
  return eventually([&] { return log_text().find(text) != std::string::npos; });
}

bool Umbrad::sees_all_providers() const {
  Requester observer(*this);
  return eventually([&] {
    const auto list = observer.client.call<rpc::ProviderList>("query.providers");
    return list && !list->providers.empty() &&
           std::ranges::all_of(list->providers, &rpc::ProviderEntry::connected);
  });
}

std::pair<int, std::string> Umbrad::run(const std::vector<std::string>& arguments) {
  const TempDir directory;
  std::vector<std::string> words{UMBRA_TEST_UMBRAD};
  words.insert(words.end(), arguments.begin(), arguments.end());
  const int pid = spawn(words, directory / "out");
  REQUIRE(pid > 0);
  const auto code = reap(pid);
  return {code.value_or(-1), read_file(directory / "out")};
}

// --- the client ---------------------------------------------------------------------------------

WireClient::WireClient(const std::string& socket, const std::string& role) {
  auto stream = LocalStream::connect(socket, in(kSoon));
  REQUIRE(stream);
  stream_ = std::move(*stream);
  if (role.empty()) return;
  rpc::HelloRequest request;
  request.role = role;
  request.program = "test";
  hello_ = call<rpc::HelloReply>("hello", request);
}

void WireClient::flush() {
  const auto bytes = peer_.take_output();
  send_raw(bytes);
}

void WireClient::send_raw(std::string_view bytes) {
  const auto until = in(kSoon);
  while (!bytes.empty() && system_clock().now() < until) {
    const auto sent = stream_.write_some({bytes.data(), bytes.size()});
    if (!sent) return;  // The peer has gone; reading says so.
    bytes.remove_prefix(*sent);
    if (!bytes.empty()) static_cast<void>(stream_.wait(true, nullptr, until));
  }
}

// Reads once; false when the stream has ended, time is over, or the waker was woken.
bool WireClient::read(TimePoint until, const Waker* waker) {
  if (!stream_.is_open() || ended_) return false;
  const auto ready = stream_.wait(false, waker, until);
  if (!ready.readable) return false;
  std::array<char, 65536> buffer{};
  const auto count = stream_.read_some(buffer);
  if (!count || (*count && **count == 0)) {
    ended_ = true;
    return false;
  }
  if (!*count) return true;
  raw_.append(buffer.data(), **count);
  return true;
}

std::optional<rpc::Incoming> WireClient::next(TimePoint until, const Waker* waker) {
  for (;;) {
    static_cast<void>(peer_.feed(std::exchange(raw_, {})));
    if (auto event = peer_.next()) return event;
    if (!read(until, waker)) return std::nullopt;
  }
}

rpc::CallId WireClient::post(std::string_view method, const rpc::Json& params) {
  const auto id = peer_.call(method, params);
  REQUIRE(id);
  flush();
  return *id;
}

Result<rpc::Json> WireClient::answer(rpc::CallId id, std::chrono::milliseconds limit) {
  const auto until = in(limit);
  while (auto event = next(until, nullptr))
    if (auto* reply = std::get_if<rpc::IncomingReply>(&*event); reply && reply->call == id)
      return std::move(reply->result);
  return fail(Errc::coordinator_lost, ended_ ? "closed" : "no answer");
}

Result<rpc::Json> WireClient::call(std::string_view method, const rpc::Json& params,
                                   std::chrono::milliseconds limit) {
  return answer(post(method, params), limit);
}

std::optional<std::string> WireClient::read_line(std::chrono::milliseconds limit) {
  const auto until = in(limit);
  for (;;) {
    const auto end = raw_.find('\n');
    if (end != std::string::npos) {
      auto line = raw_.substr(0, end);
      raw_.erase(0, end + 1);
      return line;
    }
    if (!read(until, nullptr)) return std::nullopt;
  }
}

bool WireClient::is_closed_by_peer(std::chrono::milliseconds limit) {
  const auto until = in(limit);
  while (read(until, nullptr)) raw_.clear();
  return ended_;
}

void WireClient::reply(const rpc::RequestId& id, const Result<rpc::Json>& result) {
  static_cast<void>(peer_.reply(id, result));
  flush();
}

// --- the writer ---------------------------------------------------------------------------------

FakeWriter::FakeWriter(const std::string& socket, FakeWriterOptions options)
    : options_(std::move(options)),
      class_id_(options_.class_id),
      client_(std::make_unique<WireClient>(socket, "writer")),
      waker_(Waker::create()) {
  REQUIRE(waker_);
  rpc::RegisterWriter message;
  message.class_id = class_id_;
  message.name = options_.name;
  message.instance_name = options_.instance_name;
  message.level = options_.level;
  message.freeze_window_ms = options_.freeze_window_ms;
  message.subscription = options_.subscription;
  const auto reply = client_->call<rpc::RegisterWriterReply>("writer.register", message);
  REQUIRE(reply);
  instance_ = reply->instance_id;
  thread_ = std::thread([this] { serve(); });
}

FakeWriter::~FakeWriter() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  waker_->wake();
  thread_.join();
}

std::vector<std::string> FakeWriter::events() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> names;
  for (const auto& [name, params] : events_) names.push_back(name);
  return names;
}

bool FakeWriter::saw(const std::string& event, std::size_t times) const {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, kSoon, [&] {
    const auto seen = std::count_if(events_.begin(), events_.end(),
                                    [&](const auto& one) { return one.first == event; });
    return static_cast<std::size_t>(seen) >= times;
  });
}

rpc::WriterEvent FakeWriter::params(const std::string& event) const {
  const std::lock_guard lock(mutex_);
  for (auto it = events_.rbegin(); it != events_.rend(); ++it)
    if (it->first == event) return it->second;
  return {};
}

void FakeWriter::say_expired(const SessionId& session) {
  const std::lock_guard lock(mutex_);
  expired_.push_back(session);
  waker_->wake();
}

void FakeWriter::serve() {
  for (;;) {
    const auto event = client_ ? client_->next(in(kSoon), &*waker_) : std::nullopt;
    std::vector<SessionId> expired;
    {
      std::unique_lock lock(mutex_);
      if (!event && !client_) changed_.wait(lock, [this] { return stopping_; });
      if (stopping_) return;
      waker_->drain();
      expired = std::exchange(expired_, {});
    }
    for (const auto& session : expired)
      client_->send_raw(R"({"jsonrpc":"2.0","method":"writer.window_expired","params":)" +
                        rpc::serialize(rpc::encode(rpc::WindowExpired{session})) + "}\n");
    if (!event) continue;
    const auto* request = std::get_if<rpc::IncomingRequest>(&*event);
    if (request == nullptr) continue;
    const auto name = request->method.substr(std::string("writer.").size());
    const auto params = rpc::decode<rpc::WriterEvent>(request->params);
    {
      const std::lock_guard lock(mutex_);
      events_.emplace_back(name, params.value_or(rpc::WriterEvent{}));
    }
    act(*request, name);
    changed_.notify_all();
  }
}

void FakeWriter::act(const rpc::IncomingRequest& request, const std::string& event) {
  const auto found = options_.acts.find(event);
  const auto what = found == options_.acts.end() ? Act::ok : found->second;
  rpc::WriterReply reply;
  reply.ok = what != Act::veto;
  if (what == Act::veto || what == Act::report) {
    reply.failure = Errc::writererror_retryable;
    reply.application_code = 42;
    reply.message = "as told";
  }
  if (event == "identify") {
    WriterMetadataDocument document;
    document.identity.class_id = class_id_;
    document.identity.instance_id = instance_;
    document.identity.name = options_.name;
    ComponentInfo component;
    component.name = "data";
    component.files.push_back({"/srv/" + options_.name, "*", true, "", file_spec::kDefault});
    document.components.push_back(component);
    document.backup_schema = options_.schema;
    if (options_.writer_restore) {
      document.restore = RestoreRules{.method = RestoreMethod::restore_if_can_replace,
                                      .writer_restore = *options_.writer_restore};
    }
    reply.metadata = documents::to_xml(document);
  }
  if (event == "pre_restore") reply.edits = options_.edits;
  const auto json = rpc::encode(reply);
  switch (what) {
    case Act::silence: return;
    case Act::vanish: client_.reset(); return;
    case Act::error: return client_->reply(request.id, fail(Errc::not_implemented, "not mine"));
    case Act::garbage: {
      rpc::Json wrong = json;
      wrong.as_object()["ok"] = "perhaps";
      return client_->reply(request.id, wrong);
    }
    case Act::twice:
      client_->reply(request.id, json);
      return client_->send_raw(R"({"jsonrpc":"2.0","id":)" + request.id.text + R"(,"result":)" +
                               rpc::serialize(json) + "}\n");
    default: return client_->reply(request.id, json);
  }
}

// --- the requester ------------------------------------------------------------------------------

Requester::Requester(const Umbrad& umbrad, const std::string& role)
    : client(umbrad.socket(), role) {
  REQUIRE(client.hello());
}

SessionId Requester::begin(std::uint32_t context) {
  const auto info = client.call<rpc::SessionInfo>("session.initialize_for_backup");
  REQUIRE(info);
  REQUIRE(client.call<rpc::Nothing>("session.set_context", rpc::SetContext{context}));
  return info->session_id;
}

rpc::OperationStatus Requester::wait(std::uint32_t operation) {
  rpc::WaitOperation request;
  request.operation = operation;
  const auto status = client.call<rpc::OperationStatus>("operation.wait", request);
  INFO((status ? std::string() : status.error().to_string()));
  REQUIRE(status);
  return *status;
}

rpc::OperationStatus Requester::run(std::string_view method, const rpc::Json& params) {
  const auto started = client.call(method, params);
  INFO((started ? std::string() : started.error().to_string()));
  REQUIRE(started);
  return wait(rpc::decode<rpc::StartedOperation>(*started)->operation);
}

void Requester::gather() {
  CHECK(run("session.gather_writer_metadata").status == Errc::async_finished);
}

void Requester::select(const FakeWriter& writer) {
  rpc::ComponentRef component;
  component.instance_id = writer.instance();
  component.type = ComponentType::file_group;
  component.name = "data";
  const auto added = client.call<rpc::Nothing>("session.add_component", component);
  INFO((added ? std::string() : added.error().to_string()));
  REQUIRE(added);
}

SessionId Requester::begin_restore(const BackupComponentsDocument& document) {
  rpc::InitializeForRestore request;
  request.components = documents::to_xml(document);
  const auto info = client.call<rpc::SessionInfo>("session.initialize_for_restore", request);
  INFO((info ? std::string() : info.error().to_string()));
  REQUIRE(info);
  return info->session_id;
}

void Requester::select_for_restore(const FakeWriter& writer) {
  rpc::SetSelectedForRestore request;
  request.component = {{}, writer.class_id(), ComponentType::file_group, "", "data"};
  const auto done = client.call<rpc::Nothing>("session.set_selected_for_restore", request);
  INFO((done ? std::string() : done.error().to_string()));
  REQUIRE(done);
}

Status Requester::set_status(const FakeWriter& writer, FileRestoreStatus status) {
  rpc::SetFileRestoreStatus request;
  request.component = {{}, writer.class_id(), ComponentType::file_group, "", "data"};
  request.status = status;
  const auto done = client.call<rpc::Nothing>("session.set_file_restore_status", request);
  if (!done) return fail(done.error());
  return {};
}

SnapshotSetId Requester::start_set() {
  const auto set = client.call<rpc::StartedSet>("session.start_snapshot_set");
  INFO((set ? std::string() : set.error().to_string()));
  REQUIRE(set);
  return set->set_id;
}

Result<rpc::AddedSnapshot> Requester::add(const std::string& volume) {
  rpc::AddToSnapshotSet request;
  request.volume.name = volume;
  return client.call<rpc::AddedSnapshot>("session.add_to_snapshot_set", request);
}

rpc::OperationStatus Requester::create(WriterPolicy policy) {
  rpc::DoSnapshotSet request;
  request.policy = policy;
  return run("session.do_snapshot_set", rpc::encode(request));
}

void Requester::prepare(const std::vector<const FakeWriter*>& writers, const std::string& volume,
                        std::uint32_t context) {
  begin(context);
  gather();
  for (const auto* writer : writers) select(*writer);
  start_set();
  const auto added = add(volume);
  INFO((added ? std::string() : added.error().to_string()));
  REQUIRE(added);
  CHECK(run("session.prepare_for_backup").status == Errc::async_finished);
}

rpc::WriterStatus Requester::status_of(const FakeWriter& writer) {
  const auto list = client.call<rpc::WriterStatusList>("session.get_writer_status");
  REQUIRE(list);
  for (const auto& one : list->writers)
    if (one.instance_id == writer.instance()) return one;
  FAIL("the writer is in no list");
  return {};
}

rpc::CoordinatorStatus Requester::coordinator() {
  const auto status = client.call<rpc::CoordinatorStatus>("coordinator.status");
  REQUIRE(status);
  return *status;
}

}  // namespace umbra::test
