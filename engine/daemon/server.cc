// SPDX-License-Identifier: Apache-2.0

#include "engine/daemon/server.h"

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <utility>

#include "engine/daemon/provider_link.h"
#include "engine/daemon/registrations.h"
#include "engine/daemon/requester_session.h"
#include "engine/daemon/writer_link.h"

namespace umbra::daemon {

namespace asio = boost::asio;

namespace {

constexpr std::size_t kProgramBytesMax = 128;
constexpr const char* kProgram = "umbrad " UMBRA_VERSION;

}  // namespace

std::string PeerInfo::describe() const {
  auto text = "uid " + std::to_string(credentials.uid) + " pid " + std::to_string(credentials.pid);
  if (!program.empty()) text += " (" + program + ")";
  return text;
}

void refuse_method(const std::string& method, const std::string& role, const Reply& reply) {
  const auto known = [&](std::string_view prefix) { return method.rfind(prefix, 0) == 0; };
  if (known("session.") || known("operation.") || known("query.") || known("snapshot.") ||
      known("volume.") || known("coordinator.") || known("management.") || known("writer.") ||
      known("provider."))
    return reply.error(
        {Errc::access_denied,
         "role '" + role + "' may not call '" + printable(method) + "', or there is no such call"});
  reply.error({Errc::not_implemented, "there is no method '" + printable(method) + "'"});
}

struct Server::Peer {
  struct Request {
    std::string method;
    Json params;
    Reply reply;
  };
  std::shared_ptr<Channel> channel;
  PeerInfo info;
  bool refused = false;          // Over the limit: gets one answer.
  std::shared_ptr<Role> role{};  // From hello on; a session may outlive its connection.
  // Came faster than its user may call; at most the requests in flight of a connection.
  std::deque<Request> waiting{};
};

Server::Server(ServerParts parts)
    : traces(parts.clock),
      parts_(std::move(parts)),
      logger_(parts_.log, "umbrad"),
      started_(parts_.clock.now()),
      accounts_({parts_.config.connections_per_user, parts_.config.calls_per_second,
                 parts_.roles.owner_uid}) {
  if (!parts_.traces_directory.empty())
    for (auto& trace : load_traces(parts_.traces_directory, logger_))
      traces.restore(std::move(trace));
  if (parts_.registrations_path.empty()) return;
  const auto known = load_registrations(parts_.registrations_path);
  if (!known) {
    logger_.warning("known providers not read", {{"why", known.error().to_string()}});
    return;
  }
  registrations_found_ = !known->known.empty();
  for (const auto& properties : known->known)
    if (providers_.size() < kProvidersKnownMax) providers_.push_back({properties, {}, {}, {}, 0});
  for (const auto& properties : known->unregistered)
    if (unregistered_.size() < kProvidersKnownMax) unregistered_.push_back(properties);
}

Server::~Server() = default;

// --- connections --------------------------------------------------------------------------------

void Server::adopt(LocalStream stream, PeerCredentials credentials) {
  const auto shared = std::make_shared<LocalStream>(std::move(stream));
  adopt(
      [this, shared](ChannelHandlers handlers) {
        return Channel::open(parts_.loops, std::move(*shared), parts_.log, std::move(handlers));
      },
      std::move(credentials));
}

void Server::adopt(const OpenChannel& open, PeerCredentials credentials) {
  const auto id = next_id_++;
  ChannelHandlers handlers;
  handlers.on_request = [this, id](const std::string& method, const Json& params,
                                   const Reply& reply) { on_request(id, method, params, reply); };
  handlers.on_notification = [this, id](const std::string& method, const Json& params) {
    const auto found = peers_.find(id);
    if (found != peers_.end() && found->second->role)
      found->second->role->notification(method, params);
  };
  handlers.on_closed = [this, id](const Error& reason) { on_closed(id, reason); };
  // Before any of its messages: those are posted later by the same thread.
  asio::post(parts_.loops.coordinator,
             [this, id, channel = open(std::move(handlers)), credentials = std::move(credentials)] {
               attach(id, channel, credentials);
             });
}

void Server::attach(std::uint64_t id, std::shared_ptr<Channel> channel,
                    PeerCredentials credentials) {
  auto peer = std::make_unique<Peer>(Peer{std::move(channel), {}});
  peer->info.credentials = std::move(credentials);
  peer->info.roles = roles_of(peer->info.credentials, parts_.roles);
  const bool within = accounts_.connect(peer->info.credentials.uid);
  peer->refused = !within || peers_.size() >= parts_.config.connections || ended_ != nullptr;
  if (peers_.size() >= parts_.config.connections + kRefusedConnectionsMax)
    peer->channel->close({Errc::limit_reached, "too many connections"});
  if (!within)
    log_refusal(peer->info, "connect", {Errc::limit_reached, "the user has as many as it may"});
  if (!peer->info.roles.any())
    log_refusal(peer->info, "connect", {Errc::access_denied, "a peer without any role"});
  hello_until_.emplace_back(now() + kHelloLimit, id);
  peers_.emplace(id, std::move(peer));
  touch();
}

// A user that calls faster than it may waits; its order is kept, and others do not wait for it.
void Server::on_request(std::uint64_t id, const std::string& method, const Json& params,
                        const Reply& reply) {
  const auto found = peers_.find(id);
  if (found == peers_.end()) return;
  auto& peer = *found->second;
  if (peer.waiting.empty() && accounts_.may_call(peer.info.credentials.uid, now()))
    return take_request(peer, method, params, reply);
  if (peer.waiting.empty()) waiting_.push_back(id);
  peer.waiting.push_back({method, params, reply});
  touch();
}

void Server::take_waiting(TimePoint now) {
  for (bool took = true; took;) {
    took = false;
    for (auto left = waiting_.size(); left > 0; --left) {  // One each, in turn.
      const auto id = waiting_.front();
      waiting_.pop_front();
      const auto found = peers_.find(id);
      if (found == peers_.end()) continue;
      auto& peer = *found->second;
      if (!accounts_.may_call(peer.info.credentials.uid, now)) {
        waiting_.push_back(id);
        continue;
      }
      const auto request = std::move(peer.waiting.front());
      peer.waiting.pop_front();
      if (!peer.waiting.empty()) waiting_.push_back(id);
      took = true;
      take_request(peer, request.method, request.params, request.reply);
    }
  }
}

void Server::take_request(Peer& peer, const std::string& method, const Json& params,
                          const Reply& reply) {
  if (peer.refused) {
    reply.error({Errc::limit_reached, ended_ ? "umbrad is shutting down"
                                             : "umbrad has as many connections as it may, or as "
                                               "many of this user"});
    return peer.channel->close({Errc::limit_reached, "refused"});
  }
  // Whoever refuses, here or far below: it is logged, with who asked.
  const auto watched = reply.watched([this, info = peer.info, method](const Result<Json>& result) {
    if (!result && result.error().code == Errc::access_denied)
      log_refusal(info, method, result.error());
  });
  if (method == "hello") return hello(peer, params, watched);
  if (!peer.role) return reply.error({Errc::bad_state, "the first call must be hello"});
  const auto role = peer.role;  // It may end its own connection.
  role->request(method, params, watched);
}

void Server::log_refusal(const PeerInfo& peer, const std::string& method, const Error& error) {
  const auto unlogged = accounts_.log_refusal(peer.credentials.uid, now());
  if (!unlogged) return;
  logger_.warning("refused", {{"peer", peer.describe()},
                              {"call", printable(method)},
                              {"code", std::string(code_name(error.code))},
                              {"why", printable(error.context)},
                              {"not_logged", *unlogged}});
}

void Server::hello(Peer& peer, const Json& params, const Reply& reply) {
  const auto message = take<rpc::HelloRequest>(params, reply);
  if (!message) return;
  if (peer.role) return reply.error({Errc::bad_state, "hello has been said"});
  if (message->major != rpc::kWireMajor) {
    reply.error({Errc::version_mismatch, "umbrad speaks version " +
                                             std::to_string(rpc::kWireMajor) + ", the peer " +
                                             std::to_string(message->major)});
    return peer.channel->close({Errc::version_mismatch, "hello"});
  }
  if (!peer.info.roles.may(message->role))
    return reply.error({Errc::access_denied, "role '" + printable(message->role) +
                                                 "' is not for uid " +
                                                 std::to_string(peer.info.credentials.uid)});
  peer.info.role = message->role;
  peer.info.program = printable(message->program, kProgramBytesMax);
  if (message->role == "writer") {
    peer.role = std::make_shared<WriterLink>(*this, peer.channel, peer.info);
  } else if (message->role == "provider") {
    peer.role = std::make_shared<ProviderLink>(*this, peer.channel, peer.info);
  } else {
    const auto key = next_session_++;
    const auto session = std::make_shared<RequesterSession>(*this, key, peer.info);
    sessions_[key] = session;
    peer.role = session;
  }
  rpc::HelloReply answer;
  answer.program = kProgram;
  answer.roles = peer.info.roles.names();
  reply.good(answer);
}

void Server::on_closed(std::uint64_t id, const Error& reason) {
  auto node = peers_.extract(id);
  if (node.empty()) return;
  accounts_.disconnect(node.mapped()->info.credentials.uid);
  logger_.debug("connection ended",
                {{"peer", node.mapped()->info.describe()}, {"why", printable(reason.context)}});
  if (node.mapped()->role) node.mapped()->role->closed();
  touch();
  end_if_idle();
}

void Server::shut_down(std::function<void()> done) {
  if (ended_) return;
  ended_ = std::move(done);
  logger_.info("shutting down", {{"connections", peers_.size()}});
  auto sessions = sessions_;
  for (auto& [key, session] : sessions) session->end(coord::StopCause::shutdown);
  shutdown_until_ = now() + kShutdownLimit;
  touch();
  end_if_idle();
}

// While shutting down: connections are closed once no session needs writers or providers.
void Server::end_if_idle() {
  if (!ended_ || !shutdown_until_ || !sessions_.empty()) return;
  for (auto& [id, peer] : peers_)
    peer->channel->close({Errc::coordinator_lost, "umbrad is shutting down"});
  if (!peers_.empty()) return;
  shutdown_until_.reset();
  keep_files();
  std::exchange(ended_, [] {})();
}

// --- the alarm ----------------------------------------------------------------------------------

void Server::aside(std::function<std::function<void()>()> work) {
  asio::post(parts_.loops.wire,
             [&coordinator = parts_.loops.coordinator, work = std::move(work)]() mutable {
               asio::post(coordinator, work());
             });
}

std::optional<TimePoint> Server::next_deadline() const {
  std::optional<TimePoint> next = slot.next_deadline();
  const auto take = [&next](const std::optional<TimePoint>& one) {
    if (one) next = next ? std::min(*next, *one) : *one;
  };
  take(settler_.next_deadline());
  take(shutdown_until_);
  if (!hello_until_.empty()) take(hello_until_.front().first);
  for (const auto id : waiting_)
    if (const auto found = peers_.find(id); found != peers_.end())
      take(accounts_.next_call(found->second->info.credentials.uid, now()));
  for (const auto& [key, session] : sessions_) take(session->next_deadline());
  return next;
}

void Server::touch() {
  // Those that have said hello, or are gone, need no alarm any more.
  while (!hello_until_.empty()) {
    const auto found = peers_.find(hello_until_.front().second);
    if (found != peers_.end() && !found->second->role) break;
    hello_until_.pop_front();
  }
  const auto next = next_deadline();
  if (next == alarm_) return;
  alarm_ = next;
  if (parts_.set_alarm) parts_.set_alarm(next);
}

void Server::wake() {
  alarm_.reset();
  const auto time = now();
  while (!hello_until_.empty() && hello_until_.front().first <= time) {
    const auto found = peers_.find(hello_until_.front().second);
    hello_until_.pop_front();
    if (found != peers_.end() && !found->second->role)
      found->second->channel->close({Errc::protocol_violation, "no hello"});
  }
  take_waiting(time);
  for (const auto key : slot.expired(time))
    if (const auto found = sessions_.find(key); found != sessions_.end())
      found->second->slot_refused();
  const auto sessions = sessions_;  // One may end meanwhile.
  for (const auto& [key, session] : sessions) session->tick(time);
  settler_.tick(time);
  if (shutdown_until_ && *shutdown_until_ <= time) {
    logger_.warning("shutdown did not wait for everyone", {{"sessions", sessions_.size()}});
    shutdown_until_.reset();
    keep_traces();
    std::exchange(ended_, [] {})();
  }
  touch();
}

// --- writers ------------------------------------------------------------------------------------

Status Server::may_register(const WriterClassId& id, std::uint32_t uid) const {
  const auto pinned = parts_.config.writer_users.find(id);
  if (pinned == parts_.config.writer_users.end()) return {};
  if (pinned->second == uid) return {};
  return fail(Errc::access_denied,
              "writer class " + id.to_string() + " belongs to another user; see [writer_classes]");
}

void Server::add_writer(const WriterInstanceId& id, std::weak_ptr<WriterLink> link) {
  writer_links_[id] = std::move(link);
}

void Server::remove_writer(const WriterInstanceId& id) {
  writer_links_.erase(id);
  const auto sessions = sessions_;
  for (const auto& [key, session] : sessions) session->writer_lost(id);
  writers.remove(id);
}

std::shared_ptr<WriterLink> Server::writer(const WriterInstanceId& id) const {
  const auto found = writer_links_.find(id);
  return found == writer_links_.end() ? nullptr : found->second.lock();
}

void Server::writer_window_expired(const WriterInstanceId& id, const SessionId& of) {
  const auto sessions = sessions_;
  for (const auto& [key, session] : sessions)
    if (session->id() == of) session->writer_window_expired(id);
  touch();
}

// --- providers ----------------------------------------------------------------------------------

Status Server::add_provider(const std::shared_ptr<ProviderLink>& link) {
  const auto& properties = link->properties();
  for (const auto& gone : unregistered_)
    if (gone.provider_id == properties.provider_id)
      return fail(Errc::provider_not_registered,
                  "provider '" + printable(properties.name) +
                      "' was unregistered; 'umbra register " + "provider " +
                      properties.provider_id.to_string() + " NAME' lets it in again");
  for (auto& known : providers_) {
    if (known.properties.provider_id != properties.provider_id) continue;
    if (const auto other = known.link.lock(); other && other->is_open())
      return fail(Errc::provider_already_registered,
                  "provider '" + printable(properties.name) + "' is connected");
    registrations_changed_ = registrations_changed_ || known.properties.name != properties.name;
    known.properties = properties;
    known.link = link;
    keep_files();
    return {};
  }
  if (providers_.size() >= kProvidersKnownMax)
    return fail(Errc::limit_reached,
                std::to_string(kProvidersKnownMax) + " providers are known already");
  providers_.push_back({properties, link, {}, {}, 0});
  registrations_changed_ = true;
  keep_files();
  return {};
}

Status Server::register_provider(const ProviderProperties& properties) {
  const auto is_it = [&](const ProviderProperties& one) {
    return one.provider_id == properties.provider_id;
  };
  for (const auto& known : providers_)
    if (is_it(known.properties))
      return fail(Errc::provider_already_registered,
                  "provider '" + printable(known.properties.name) + "' has this id");
  if (providers_.size() >= kProvidersKnownMax)
    return fail(Errc::limit_reached,
                std::to_string(kProvidersKnownMax) + " providers are known already");
  std::erase_if(unregistered_, is_it);
  providers_.push_back({properties, {}, {}, {}, 0});
  registrations_changed_ = true;
  keep_files();
  return {};
}

void Server::unregister_provider(const ProviderId& id) {
  const auto found = std::find_if(providers_.begin(), providers_.end(), [&](const auto& known) {
    return known.properties.provider_id == id;
  });
  if (found == providers_.end()) return;
  const auto link = found->link.lock();
  if (unregistered_.size() >= kProvidersKnownMax) unregistered_.erase(unregistered_.begin());
  unregistered_.push_back(found->properties);
  providers_.erase(found);
  registrations_changed_ = true;
  keep_files();
  if (link) link->dismiss();
  settle();  // Sets in doubt wait for it no more.
}

std::optional<SnapshotSetId> Server::set_made_on(const ProviderId& id) const {
  for (const auto& [key, session] : sessions_)
    if (session->makes_set_on(id)) return session->set_id();
  return std::nullopt;
}

// Not while a set is on its way: the files may lie on a volume whose writes it holds.
void Server::keep_files() {
  if (slot.holder()) return;
  keep_registrations();
  keep_traces();
}

void Server::keep_traces() {
  if (parts_.traces_directory.empty()) return;
  for (const auto& trace : traces.take_changed())
    if (const auto status = save_trace(parts_.traces_directory, trace); !status)
      logger_.warning("trace not kept",
                      {{"set", trace.set_id.to_string()}, {"why", status.error().to_string()}});
}

bool Server::knows_all_providers() const {
  return registrations_found_ || parts_.clock.now() - started_ >= limits().settle_wait;
}

void Server::keep_registrations() {
  if (!registrations_changed_ || parts_.registrations_path.empty()) return;
  registrations_changed_ = false;
  Registrations list{{}, unregistered_};
  for (const auto& known : providers_) list.known.push_back(known.properties);
  if (const auto status = save_registrations(parts_.registrations_path, list); !status)
    logger_.warning("known providers not kept", {{"why", status.error().to_string()}});
}

void Server::remove_provider(const ProviderLink& link) {
  const auto id = link.properties().provider_id;
  for (auto& known : providers_)
    if (known.link.lock().get() == &link) known.link.reset();
  const auto sessions = sessions_;
  for (const auto& [key, session] : sessions) session->provider_lost(id);
}

void Server::provider_arrived(const ProviderId& id) {
  const auto sessions = sessions_;
  for (const auto& [key, session] : sessions) session->provider_returned(id);
  settler_.look();
}

std::uint64_t Server::events_told(const ProviderId& provider, const Guid& stream) {
  for (auto& known : providers_) {
    if (known.properties.provider_id != provider) continue;
    if (known.event_stream != stream) known.events_told = 0;
    known.event_stream = stream;
    return known.events_told;
  }
  return 0;
}

void Server::take_event(const ProviderId& provider, ProviderEvent event) {
  for (auto& known : providers_) {
    if (known.properties.provider_id != provider || event.sequence <= known.events_told) continue;
    const auto missing = event.sequence - known.events_told - 1;
    known.events_told = event.sequence;
    if (missing != 0) {
      ProviderEvent gap;
      gap.name = "events_lost";
      gap.severity = EventSeverity::warning;
      gap.time_filetime = event.time_filetime;
      gap.provider_id = provider;
      gap.text = std::to_string(missing) +
                 " events of the provider were lost: too many came while "
                 "umbrad was away";
      events_.add(std::move(gap));
    }
    events_.add(std::move(event));
    break;
  }
  const auto sessions = sessions_;
  for (const auto& [key, session] : sessions) session->events_came();
}

bool Server::is_being_made(const SnapshotSetId& set) const {
  return std::any_of(sessions_.begin(), sessions_.end(), [&](const auto& one) {
    return one.second->set_id() == set && one.second->makes_set();
  });
}

bool Server::is_resyncing(const LunInformation& lun) const {
  return std::any_of(resyncing.begin(), resyncing.end(),
                     [&](const auto& one) { return is_same_lun(one, lun); });
}

std::shared_ptr<ProviderLink> Server::provider(const ProviderId& id) const {
  for (const auto& link : connected_providers())
    if (link->properties().provider_id == id) return link;
  return nullptr;
}

std::shared_ptr<ProviderLink> Server::system_provider() const {
  for (const auto& link : connected_providers())
    if (link->properties().type == ProviderType::system) return link;
  return nullptr;
}

std::vector<std::shared_ptr<ProviderLink>> Server::connected_providers() const {
  std::vector<std::shared_ptr<ProviderLink>> links;
  for (const auto& known : providers_)
    if (auto link = known.link.lock(); link && link->is_open()) links.push_back(std::move(link));
  return links;
}

std::vector<std::string> Server::absent_providers() const {
  std::vector<std::string> names;
  for (const auto& known : providers_) {
    const auto link = known.link.lock();
    if (!link || !link->is_open()) names.push_back(known.properties.name);
  }
  return names;
}

// --- sessions and the slot ----------------------------------------------------------------------

void Server::leave_slot(SessionKey key) {
  const auto next = slot.leave(key);
  if (!next)  // In a turn of its own: the set that ends is not over yet.
    return asio::post(parts_.loops.coordinator, [this] { keep_files(); });
  // In a turn of its own: whoever leaves is still in the middle of it.
  asio::post(parts_.loops.coordinator, [this, next = *next] {
    const auto found = sessions_.find(next);
    if (found == sessions_.end()) return leave_slot(next);
    found->second->slot_granted();
    touch();
  });
}

RequesterSession* Server::holder() {
  const auto key = slot.holder();
  const auto found = key ? sessions_.find(*key) : sessions_.end();
  return found == sessions_.end() ? nullptr : found->second.get();
}

void Server::remove_session(SessionKey key) {
  asio::post(parts_.loops.coordinator, [this, key] {
    sessions_.erase(key);
    keep_files();
    touch();
    end_if_idle();
  });
}

std::vector<SessionId> Server::alive_sessions() const {
  std::vector<SessionId> alive;
  for (const auto& [key, session] : sessions_)
    if (!session->id().is_nil() && !session->is_ending()) alive.push_back(session->id());
  return alive;
}

rpc::CoordinatorStatus Server::status() {
  rpc::CoordinatorStatus status;
  status.program = kProgram;
  status.uptime_s = static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::seconds>(now() - started_).count());
  status.writers = static_cast<std::uint32_t>(writers.all().size());
  for (const auto& [key, session] : sessions_)
    if (!session->id().is_nil() && !session->is_ending()) ++status.sessions;
  status.providers_connected = static_cast<std::uint32_t>(connected_providers().size());
  if (const auto* session = holder()) session->describe_set(status);
  return status;
}

}  // namespace umbra::daemon
