// SPDX-License-Identifier: Apache-2.0
//
// umbrad's middle: it knows everybody. Connections become peers here, say hello, and take a role;
// sessions, writers and providers find each other through it. Its owner wakes it at the earliest
// deadline of all parts (set_alarm); deadlines are theirs. So it has neither sockets nor timers of
// its own, and a simulation runs it as it is (tests/sim).
//
// Limits at this edge: connections, those of one user, and its calls per second (config;
// engine/coordinator/peer_accounts.h), kHelloLimit for the first word, requests in flight and the
// length of lines (engine/rpc/peer.h). Whatever is refused for want of a right is logged with who
// asked. What was asked of whom while a set was made is kept (trace_book.h).
//
// Threads: the coordinator's, but adopt().

#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/coordinator/creation_slot.h"
#include "engine/coordinator/peer_accounts.h"
#include "engine/coordinator/writer_registry.h"
#include "engine/daemon/channel.h"
#include "engine/daemon/config.h"
#include "engine/daemon/peer.h"
#include "engine/daemon/roles_posix.h"
#include "engine/daemon/settler.h"
#include "engine/daemon/trace_book.h"
#include "engine/platform/clock.h"
#include "engine/platform/log.h"
#include "engine/rpc/event_log.h"
#include "umbra/lun.h"
#include "umbra/provider.h"

namespace umbra::daemon {

class ProviderLink;
class RequesterSession;
class WriterLink;

/// A connection must say hello within this.
inline constexpr std::chrono::seconds kHelloLimit{10};
/// Beyond the configured number: told limit_reached, then closed. Beyond these too: closed at once.
inline constexpr std::size_t kRefusedConnectionsMax = 64;
/// Providers remembered after they have gone, so that listings can name them.
inline constexpr std::size_t kProvidersKnownMax = 64;
/// How long a shutdown waits for aborts to be answered.
inline constexpr std::chrono::seconds kShutdownLimit{8};

using SessionKey = std::uint64_t;

struct KnownProvider {
  ProviderProperties properties;
  std::weak_ptr<ProviderLink> link;         // Empty while it is away.
  std::vector<SnapshotSetId> aborted_sets;  // That it could not be told of.
  Guid event_stream;                        // Of this stream, events up to `events_told` are here.
  std::uint64_t events_told = 0;
};

struct ServerParts {
  Loops loops;
  const Config& config;
  RolePolicy roles;
  Log& log;
  const Clock& clock;
  /// Nothing may be written to the log file while writes are held: it may lie on a held volume.
  std::function<void(bool held)> hold_log;
  std::string registrations_path;  // Empty: nothing is kept.
  std::string traces_directory{};  // Empty: they are kept in memory only.
  /// To call wake() at that time; nothing: not at all. The last one counts.
  std::function<void(std::optional<TimePoint>)> set_alarm{};
};

class Server {
 public:
  explicit Server(ServerParts parts);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  /// A new connection. Threads: the wire's.
  void adopt(LocalStream stream, PeerCredentials credentials);
  using OpenChannel = std::function<std::shared_ptr<Channel>(ChannelHandlers)>;
  void adopt(const OpenChannel& open, PeerCredentials credentials);
  /// Some deadline has come; harmless before.
  void wake();

  /// Aborts every set, thaws every writer, closes every connection; `done` within kShutdownLimit.
  /// New connections are refused from now on.
  void shut_down(std::function<void()> done);

  // --- for the roles --------------------------------------------------------------------------
  [[nodiscard]] TimePoint now() const noexcept { return parts_.clock.now(); }
  [[nodiscard]] const Clock& clock() const noexcept { return parts_.clock; }
  [[nodiscard]] const coord::Limits& limits() const noexcept { return parts_.config.limits; }
  [[nodiscard]] const rpc::CoordinatorSettings& settings() const noexcept {
    return parts_.config.settings;
  }
  /// Whether a user's writer may be of this class. Errors: access_denied (it is another user's).
  [[nodiscard]] Status may_register(const WriterClassId& id, std::uint32_t uid) const;
  [[nodiscard]] const Logger& log() const noexcept { return logger_; }
  /// Of express writers; empty: there are none.
  [[nodiscard]] const std::string& writers_dir() const noexcept {
    return parts_.config.writers_dir;
  }
  void hold_log(bool held) const { parts_.hold_log(held); }
  /// Runs `work` on the wire's thread, for what is slow to take apart, and then what it returns on
  /// this one.
  void aside(std::function<std::function<void()>()> work);
  /// Some deadline may have changed.
  void touch();

  coord::WriterRegistry writers;
  coord::CreationSlot slot;
  TraceBook traces;
  /// Whose import is under way: one at a time on a machine.
  std::optional<SessionKey> importing;
  /// LUNs that are being written over: one recovery for each.
  std::vector<LunInformation> resyncing;
  [[nodiscard]] bool is_resyncing(const LunInformation& lun) const;

  void add_writer(const WriterInstanceId& id, std::weak_ptr<WriterLink> link);
  void remove_writer(const WriterInstanceId& id);
  [[nodiscard]] std::shared_ptr<WriterLink> writer(const WriterInstanceId& id) const;
  void writer_window_expired(const WriterInstanceId& id, const SessionId& session);

  /// Errors: provider_already_registered; provider_not_registered (it was unregistered);
  /// limit_reached.
  [[nodiscard]] Status add_provider(const std::shared_ptr<ProviderLink>& link);
  void remove_provider(const ProviderLink& link);
  /// It is known from now on, and may connect. Errors: provider_already_registered; limit_reached.
  [[nodiscard]] Status register_provider(const ProviderProperties& properties);
  /// It is known no more: its connection ends, and it is not let in again until it is registered.
  void unregister_provider(const ProviderId& id);
  /// The set of which the provider has members, or may get some, while it is being made.
  [[nodiscard]] std::optional<SnapshotSetId> set_made_on(const ProviderId& id) const;
  [[nodiscard]] std::shared_ptr<ProviderLink> provider(const ProviderId& id) const;
  /// The connected one of type system, if any.
  [[nodiscard]] std::shared_ptr<ProviderLink> system_provider() const;
  [[nodiscard]] std::vector<std::shared_ptr<ProviderLink>> connected_providers() const;
  [[nodiscard]] std::vector<KnownProvider>& known_providers() noexcept { return providers_; }
  [[nodiscard]] std::vector<std::string> absent_providers() const;
  /// Whoever is not among them will not come: there is a list of earlier days, or umbrad has run
  /// for Limits::settle_wait.
  [[nodiscard]] bool knows_all_providers() const;
  /// A provider has registered and may be called.
  void provider_arrived(const ProviderId& id);
  /// The last events of all providers.
  [[nodiscard]] const rpc::EventLog& events() const noexcept { return events_; }
  /// Up to which event of its stream a provider need not tell any more.
  [[nodiscard]] std::uint64_t events_told(const ProviderId& provider, const Guid& stream);
  void take_event(const ProviderId& provider, ProviderEvent event);
  /// A set ended without anybody knowing what became of it.
  void settle() { settler_.look(); }
  [[nodiscard]] bool is_being_made(const SnapshotSetId& set) const;

  /// Gives up slot or place in the queue; the next in the queue is told.
  void leave_slot(SessionKey key);
  [[nodiscard]] RequesterSession* holder();
  /// A session that is over for good; its last events have been sent.
  void remove_session(SessionKey key);
  [[nodiscard]] std::vector<SessionId> alive_sessions() const;
  [[nodiscard]] rpc::CoordinatorStatus status();
  [[nodiscard]] bool is_shutting_down() const noexcept { return ended_ != nullptr; }

 private:
  struct Peer;
  void attach(std::uint64_t id, std::shared_ptr<Channel> channel, PeerCredentials credentials);
  void on_request(std::uint64_t id, const std::string& method, const Json& params,
                  const Reply& reply);
  void on_closed(std::uint64_t id, const Error& reason);
  void take_request(Peer& peer, const std::string& method, const Json& params, const Reply& reply);
  void take_waiting(TimePoint now);
  void hello(Peer& peer, const Json& params, const Reply& reply);
  void log_refusal(const PeerInfo& peer, const std::string& method, const Error& error);
  void end_if_idle();
  void keep_files();
  void keep_registrations();
  void keep_traces();
  [[nodiscard]] std::optional<TimePoint> next_deadline() const;

  ServerParts parts_;
  Logger logger_;
  TimePoint started_;
  std::optional<TimePoint> alarm_;
  std::optional<TimePoint> shutdown_until_;
  coord::PeerAccounts accounts_;
  std::uint64_t next_id_ = 1;  // Wire's thread.
  std::map<std::uint64_t, std::unique_ptr<Peer>> peers_;
  std::deque<std::pair<TimePoint, std::uint64_t>> hello_until_;  // Peers, in the order they came.
  std::deque<std::uint64_t> waiting_;  // Peers with requests beyond their user's calls per second.
  std::map<WriterInstanceId, std::weak_ptr<WriterLink>> writer_links_;
  std::vector<KnownProvider> providers_;
  std::vector<ProviderProperties> unregistered_;  // At most kProvidersKnownMax; the oldest go.
  rpc::EventLog events_;
  bool registrations_changed_ = false;
  bool registrations_found_ = false;
  SessionKey next_session_ = 1;
  std::map<SessionKey, std::shared_ptr<RequesterSession>> sessions_;
  std::function<void()> ended_;  // Set while shutting down.
  Settler settler_{*this};
};

}  // namespace umbra::daemon
