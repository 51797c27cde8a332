// SPDX-License-Identifier: Apache-2.0
//
// A machine in which umbrad's production code runs on simulated time: an event queue instead of a
// clock, and lines with delays instead of sockets. Everything random comes from one seed, ids too,
// so that a seed replays a run exactly.
//
// Of umbrad, all runs but the socket and the timer: Server, sessions, links, settler, the phase
// machine, documents, and rpc::Peer at both ends of every line. It can be killed between any two
// events, which loses all that it held, and started again.

#pragma once

#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/daemon/server.h"
#include "engine/platform/ids_source.h"
#include "engine/platform/prng.h"
#include "engine/rpc/peer.h"

namespace umbra::sim {

using std::chrono::milliseconds;
using Callback = std::function<void()>;

/// Longest way of a line, one way. Shorter than coord::Limits::hand_over, which promises so.
inline constexpr milliseconds kDelayMax{80};

class Time final : public Clock {
 public:
  [[nodiscard]] TimePoint now() const noexcept override { return now_; }
  [[nodiscard]] std::int64_t wall_filetime() const noexcept override {
    return 133'000'000'000'000'000 + now_.time_since_epoch().count() / 100;
  }
  void set(TimePoint now) noexcept { now_ = now; }

 private:
  TimePoint now_{std::chrono::seconds{1}};
};

/// What umbrad logs, as far as it is part of a promise.
class Story final : public Log {
 public:
  void write(LogLevel level, std::string_view component, std::string_view message,
             std::span<const LogField> fields) noexcept override;
  /// How often the end of a set was told, by its id.
  std::map<std::string, int> outcomes;
  std::map<std::string, int> begun;  // The life of umbrad in which it began.
  std::vector<std::string> refused;  // "call: peer".
  int life = 0;
};

/// Limits as umbrad has them, all in seconds, so that a run has few polls.
[[nodiscard]] coord::Limits short_limits();
[[nodiscard]] daemon::Config short_config();

class World;
class SimChannel;

/// The peer's end of a line to umbrad.
struct LineHandlers {
  std::function<void(const rpc::IncomingRequest&)> on_request;
  std::function<void(rpc::CallId, const Result<rpc::Json>&)> on_reply;
  std::function<void()> on_closed;  // By umbrad, or with it.
};

/// Both ends of a connection. Kept by the world until it is closed.
class Line : public std::enable_shared_from_this<Line> {
 public:
  Line(World& world, LineHandlers handlers) : world_(world), handlers_(std::move(handlers)) {}

  // The peer's side.
  rpc::CallId call(std::string_view method, rpc::Json params);
  void notify(std::string_view method, rpc::Json params);
  void reply(const rpc::RequestId& id, const Result<rpc::Json>& result);
  /// Bytes as they are.
  void send_raw(std::string bytes);
  /// The peer ends it, or dies: no handler is called any more.
  void close();
  [[nodiscard]] bool is_open() const noexcept { return open_; }

 private:
  friend class World;
  friend class SimChannel;
  void flush();
  void to_umbrad(std::string bytes);
  void to_peer(std::string bytes);
  void take(std::string_view bytes);
  void closed_by_umbrad();

  World& world_;
  LineHandlers handlers_;
  rpc::Peer peer_;
  std::weak_ptr<SimChannel> channel_;
  bool open_ = true;
  TimePoint last_up_{};  // So that bytes never overtake each other.
  TimePoint last_down_{};
};

class World {
 public:
  /// `config`: its limits are short_limits() unless given.
  explicit World(std::uint64_t seed, daemon::Config config = short_config(),
                 daemon::RolePolicy roles = {});
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  // Time.
  [[nodiscard]] TimePoint now() const noexcept { return time.now(); }
  void at(TimePoint when, Callback what);
  void after(Duration delay, Callback what) { at(now() + delay, std::move(what)); }
  /// Runs what is due until `until`, or nothing is left, or stop() says so.
  void run(TimePoint until, const std::function<bool()>& stop = {});
  [[nodiscard]] milliseconds random_delay() {
    return milliseconds{
        static_cast<std::int64_t>(prng.below(static_cast<std::uint64_t>(kDelayMax.count())))};
  }
  [[nodiscard]] milliseconds random_upto(milliseconds most) {
    return milliseconds{
        static_cast<std::int64_t>(prng.below(static_cast<std::uint64_t>(most.count()) + 1))};
  }

  // umbrad.
  void start_umbrad();
  /// As kill -9.
  void kill_umbrad();
  [[nodiscard]] bool umbrad_runs() const noexcept { return life_ != nullptr; }
  [[nodiscard]] daemon::Server& umbrad();
  /// Nothing if umbrad is not there.
  [[nodiscard]] std::shared_ptr<Line> connect(LineHandlers handlers,
                                              PeerCredentials credentials = {1, 0, 0, {}});

  /// What happened, as numbers: equal runs have equal sums.
  void mix(std::string_view text);
  /// The newest things that happened, a line each, for whoever looks for a broken promise.
  [[nodiscard]] std::string last_events() const;
  [[nodiscard]] std::uint64_t sum() const noexcept { return sum_; }

  /// Sees all bytes as they are sent; `up`: to umbrad.
  std::function<void(const Line& line, bool up, std::string_view bytes)> tap;
  Time time;
  Prng prng;
  Story story;

 private:
  friend class Line;
  friend class SimChannel;
  struct Life;
  void poll();
  void forget(const std::shared_ptr<SimChannel>& channel);

  SeededIds ids_;
  std::unique_ptr<Life> life_;
  daemon::Config config_;
  daemon::RolePolicy roles_;
  std::uint64_t next_event_ = 0;
  std::uint64_t alarm_ = 0;  // The newest; older ones are not heard.
  std::map<std::pair<TimePoint, std::uint64_t>, Callback> events_;
  std::vector<std::shared_ptr<SimChannel>> channels_;
  std::uint64_t sum_ = 1469598103934665603U;
  std::deque<std::string> last_events_;
};

}  // namespace umbra::sim
