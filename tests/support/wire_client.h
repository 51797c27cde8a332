// SPDX-License-Identifier: Apache-2.0
//
// umbrad's peers as tests need them: a blocking client that can also misbehave, a writer that does
// to each event what it was told, and a running umbrad in a directory of its own.
#pragma once

#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "engine/platform/local_stream.h"
#include "engine/rpc/codec.h"
#include "engine/rpc/peer.h"
#include "tests/support/temp_dir.h"
#include "umbra/documents.h"

namespace umbra::test {

/// Bound of waits for what must happen. Generous: a busy machine is no failure.
inline constexpr std::chrono::seconds kSoon{20};

/// umbrad as a process, killed at the end whatever happens. What it logged is printed if it was not
/// ended by stop().
class Umbrad {
 public:
  /// `config`: TOML, may be empty. The path of the program comes from the build.
  explicit Umbrad(const std::string& config = {});
  ~Umbrad();
  [[nodiscard]] const std::string& socket() const { return socket_; }
  [[nodiscard]] const std::string& run_dir() const { return run_dir_; }
  /// SIGTERM, and waits. Its exit code; nothing if it did not end in time or died of a signal.
  std::optional<int> stop();
  /// kill -9, and waits.
  void kill();
  [[nodiscard]] bool is_running() const { return pid_ > 0; }
  /// Starts it again, in the same directory.
  void start();
  [[nodiscard]] std::string log_text() const;
  /// Waits until the log has `text`: it is written beside the work, maybe after the answer.
  [[nodiscard]] bool logs(const std::string& text) const;
  /// Waits until every provider that is known is connected. After a restart a provider may take
  /// itself for registered, with the umbrad that has gone.
  [[nodiscard]] bool sees_all_providers() const;
  /// The program with other arguments, run to its end: exit code and what it printed.
  static std::pair<int, std::string> run(const std::vector<std::string>& arguments);

 private:
  TempDir directory_;
  std::string run_dir_;
  std::string socket_;
  int pid_ = -1;
};

/// One connection. Threads: one.
class WireClient {
 public:
  /// Connects, and says hello with `role` unless it is empty.
  WireClient(const std::string& socket, const std::string& role);

  Result<rpc::Json> call(std::string_view method, const rpc::Json& params,
                         std::chrono::milliseconds limit = kSoon);
  template <class Answer, class Request = rpc::Nothing>
  Result<Answer> call(std::string_view method, const Request& request = {}) {
    const auto result = call(method, rpc::encode(request));
    if (!result) return tl::unexpected<Error>(result.error());
    return rpc::decode<Answer>(*result);
  }
  /// A request without waiting for its answer.
  rpc::CallId post(std::string_view method, const rpc::Json& params);
  /// The answer to a post().
  Result<rpc::Json> answer(rpc::CallId id, std::chrono::milliseconds limit = kSoon);
  /// Bytes as they are.
  void send_raw(std::string_view bytes);
  /// The next line that comes, as it is; nothing if the connection ends or `limit` passes.
  std::optional<std::string> read_line(std::chrono::milliseconds limit = kSoon);
  /// Whether umbrad closes the connection within `limit`. What comes before is dropped.
  bool is_closed_by_peer(std::chrono::milliseconds limit = kSoon);
  void close() { stream_.close(); }
  [[nodiscard]] const Result<rpc::HelloReply>& hello() const { return hello_; }

  // For those that serve: the next event of any kind.
  std::optional<rpc::Incoming> next(TimePoint until, const Waker* waker);
  void reply(const rpc::RequestId& id, const Result<rpc::Json>& result);

 private:
  void flush();
  bool read(TimePoint until, const Waker* waker);

  LocalStream stream_;
  rpc::Peer peer_;
  std::string raw_;
  Result<rpc::HelloReply> hello_;
  bool ended_ = false;
};

enum class Act : std::uint8_t {
  ok,
  veto,
  report,   // ok with a failure code.
  silence,  // Never answers.
  vanish,   // Closes the connection.
  twice,    // Answers twice.
  error,    // A JSON-RPC error.
  garbage,  // An answer of the wrong form.
};

struct FakeWriterOptions {
  std::string name = "fake";
  ApplicationLevel level = ApplicationLevel::front_end;
  std::uint32_t freeze_window_ms = 60'000;
  std::map<std::string, Act> acts{};  // By event: "freeze", ...
  std::uint32_t schema = 0;
  std::optional<WriterRestore> writer_restore{};  // Nothing: it has no restore rules.
  std::string instance_name{};
  WriterClassId class_id = WriterClassId::random();
  std::vector<rpc::ComponentEdit> edits{};  // Of PreRestore.
  std::uint32_t subscription = subscribe::kAll;
};

/// A writer with one selectable component "data", in a thread of its own.
class FakeWriter {
 public:
  FakeWriter(const std::string& socket, FakeWriterOptions options);
  ~FakeWriter();
  [[nodiscard]] const WriterInstanceId& instance() const { return instance_; }
  [[nodiscard]] const WriterClassId& class_id() const { return class_id_; }
  /// The events so far, in order.
  [[nodiscard]] std::vector<std::string> events() const;
  /// Waits until the event has come, `times` times.
  [[nodiscard]] bool saw(const std::string& event, std::size_t times = 1) const;
  /// The last params of an event.
  [[nodiscard]] rpc::WriterEvent params(const std::string& event) const;
  /// Tells umbrad that the freeze window of that session has ended.
  void say_expired(const SessionId& session);

 private:
  void serve();
  void act(const rpc::IncomingRequest& request, const std::string& event);

  FakeWriterOptions options_;
  WriterClassId class_id_;
  WriterInstanceId instance_;
  std::unique_ptr<WireClient> client_;  // The thread's, once it runs.
  Result<Waker> waker_;
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  std::vector<std::pair<std::string, rpc::WriterEvent>> events_;
  std::vector<SessionId> expired_;
  bool stopping_ = false;
  std::thread thread_;
};

/// A requester: the calls of a backup, each checked to be good.
struct Requester {
  explicit Requester(const Umbrad& umbrad, const std::string& role = "requester");

  SessionId begin(std::uint32_t context = context::kAppRollback);
  /// Waits for the end of the operation that `method` starts.
  rpc::OperationStatus run(std::string_view method,
                           const rpc::Json& params = rpc::Json(boost::json::object{}));
  rpc::OperationStatus wait(std::uint32_t operation);
  void gather();
  void select(const FakeWriter& writer);
  SessionId begin_restore(const BackupComponentsDocument& document);
  void select_for_restore(const FakeWriter& writer);
  Status set_status(const FakeWriter& writer, FileRestoreStatus status);
  SnapshotSetId start_set();
  Result<rpc::AddedSnapshot> add(const std::string& volume);
  rpc::OperationStatus create(WriterPolicy policy = WriterPolicy::none);
  /// begin, gather, select all, start, add, prepare.
  void prepare(const std::vector<const FakeWriter*>& writers, const std::string& volume,
               std::uint32_t context = context::kAppRollback);
  [[nodiscard]] rpc::WriterStatus status_of(const FakeWriter& writer);
  [[nodiscard]] rpc::CoordinatorStatus coordinator();

  WireClient client;
};

}  // namespace umbra::test
