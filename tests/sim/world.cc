// SPDX-License-Identifier: Apache-2.0

#include "tests/sim/world.h"

#include <algorithm>

namespace umbra::sim {

using daemon::kLate;
using daemon::kLost;

// --- the log ------------------------------------------------------------------------------------

void Story::write(LogLevel, std::string_view, std::string_view message,
                  std::span<const LogField> fields) noexcept {
  std::string set;
  std::string call;
  std::string peer;
  for (const auto& field : fields) {
    if (field.key == "set") set = field.value;
    if (field.key == "call") call = field.value;
    if (field.key == "peer") peer = field.value;
  }
  if (message == "refused") refused.push_back(call + ": " + peer);
  if (message == "set begins") begun[set] = life;
  if (message == "set created" || message == "set failed" || message == "set dropped")
    ++outcomes[set];
}

// --- umbrad's end of a line ---------------------------------------------------------------------

class SimChannel final : public daemon::Channel, public std::enable_shared_from_this<SimChannel> {
 public:
  SimChannel(World& world, std::shared_ptr<Line> line, daemon::ChannelHandlers handlers)
      : world_(world), line_(std::move(line)), handlers_(std::move(handlers)) {}

  void receive(std::string_view bytes) {
    if (ended_) return;
    const auto fed = peer_.feed(bytes);
    while (!ended_) {
      auto event = peer_.next();
      if (!event) break;
      take(*event);
    }
    flush();
    if (!fed) close(fed.error());
  }

  void close(Error reason) override {
    world_.after(Duration{0}, [weak = weak_from_this(), reason = std::move(reason)] {
      if (const auto self = weak.lock()) self->end(reason, true);
    });
  }

  /// The peer has gone, or umbrad closes. `tell`: the peer does not know it yet.
  void end(const Error& reason, bool tell) {
    if (std::exchange(ended_, true)) return;
    if (tell) {
      flush();
      world_.after(kDelayMax, [line = line_] { line->closed_by_umbrad(); });
    }
    for (auto& [id, parse] : std::exchange(pending_, {})) parse(fail(kLost, reason.context))();
    mark_closed();
    const auto handlers = std::exchange(handlers_, {});
    if (handlers.on_closed) handlers.on_closed(reason);
    world_.forget(shared_from_this());
  }
  /// umbrad is no more: nobody is told, here.
  void vanish() {
    ended_ = true;
    gone_ = true;
    pending_.clear();
    handlers_ = {};
  }
  [[nodiscard]] const std::shared_ptr<Line>& line() const { return line_; }

 private:
  using Parse = std::function<std::function<void()>(Result<rpc::Json>)>;

  class Sink final : public daemon::Reply::Sink {
   public:
    Sink(std::weak_ptr<SimChannel> channel, rpc::RequestId id)
        : channel_(std::move(channel)), id_(std::move(id)) {}
    ~Sink() override { deliver(fail(Errc::unexpected, "dropped without an answer")); }
    Sink(const Sink&) = delete;
    Sink& operator=(const Sink&) = delete;
    void deliver(Result<rpc::Json> result) override {
      const auto channel = channel_.lock();
      if (std::exchange(answered_, true) || channel == nullptr || channel->ended_) return;
      static_cast<void>(channel->peer_.reply(id_, result));
      channel->flush();
    }

   private:
    std::weak_ptr<SimChannel> channel_;
    rpc::RequestId id_;
    bool answered_ = false;
  };

  void take(rpc::Incoming& event) {
    if (auto* request = std::get_if<rpc::IncomingRequest>(&event)) {
      daemon::Reply reply(std::make_shared<Sink>(weak_from_this(), request->id));
      handlers_.on_request(std::move(request->method), std::move(request->params),
                           std::move(reply));
    } else if (auto* note = std::get_if<rpc::IncomingNotification>(&event)) {
      handlers_.on_notification(std::move(note->method), std::move(note->params));
    } else if (auto* answer = std::get_if<rpc::IncomingReply>(&event)) {
      auto node = pending_.extract(answer->call);
      if (!node.empty()) node.mapped()(std::move(answer->result))();
    }
  }

  void send(std::string_view method, rpc::Json params, milliseconds limit, Parse parse) override {
    const auto later = [&](Error error) {
      world_.after(Duration{0},
                   [weak = weak_from_this(), parse = std::move(parse), error = std::move(error)] {
                     const auto self = weak.lock();
                     if (self != nullptr && !self->gone_) parse(tl::unexpected<Error>(error))();
                   });
    };
    if (ended_) return later({kLost, "closed"});
    const auto id = peer_.call(method, std::move(params));
    if (!id) return later(id.error());
    pending_.emplace(*id, std::move(parse));
    world_.after(limit, [weak = weak_from_this(), id = *id] {
      const auto self = weak.lock();
      if (self == nullptr) return;
      auto node = self->pending_.extract(id);
      if (node.empty()) return;
      self->peer_.forget(id);
      node.mapped()(fail(kLate, "no answer"))();
    });
    flush();
  }

  void flush() {
    auto bytes = peer_.take_output();
    if (!bytes.empty()) line_->to_peer(std::move(bytes));
  }

  World& world_;
  std::shared_ptr<Line> line_;
  daemon::ChannelHandlers handlers_;
  rpc::Peer peer_;
  std::map<rpc::CallId, Parse> pending_;
  bool ended_ = false;
  bool gone_ = false;  // umbrad is: nothing of it may be called.
};

// --- the peer's end -----------------------------------------------------------------------------

rpc::CallId Line::call(std::string_view method, rpc::Json params) {
  const auto id = peer_.call(method, std::move(params));
  flush();
  return id.value_or(0);
}

void Line::notify(std::string_view method, rpc::Json params) {
  static_cast<void>(peer_.notify(method, std::move(params)));
  flush();
}

void Line::reply(const rpc::RequestId& id, const Result<rpc::Json>& result) {
  if (!open_) return;
  static_cast<void>(peer_.reply(id, result));
  flush();
}

void Line::send_raw(std::string bytes) {
  if (open_) to_umbrad(std::move(bytes));
}

void Line::flush() {
  auto bytes = peer_.take_output();
  if (open_ && !bytes.empty()) to_umbrad(std::move(bytes));
}

void Line::to_umbrad(std::string bytes) {
  if (world_.tap) world_.tap(*this, true, bytes);
  last_up_ = std::max(last_up_, world_.now() + world_.random_delay());
  world_.at(last_up_, [self = shared_from_this(), bytes = std::move(bytes)] {
    if (const auto channel = self->channel_.lock()) channel->receive(bytes);
  });
}

void Line::to_peer(std::string bytes) {
  if (world_.tap) world_.tap(*this, false, bytes);
  last_down_ = std::max(last_down_, world_.now() + world_.random_delay());
  world_.at(last_down_, [self = shared_from_this(), bytes = std::move(bytes)] {
    if (self->open_) self->take(bytes);
  });
}

void Line::take(std::string_view bytes) {
  if (!handlers_.on_request && !handlers_.on_reply) return;  // Somebody looks at the tap.
  static_cast<void>(peer_.feed(bytes));
  while (open_) {
    auto event = peer_.next();
    if (!event) break;
    if (const auto* request = std::get_if<rpc::IncomingRequest>(&*event)) {
      world_.mix(request->method);
      // Copies: what is called may close the line, and with it the handlers.
      if (const auto handler = handlers_.on_request) handler(*request);
    } else if (const auto* answer = std::get_if<rpc::IncomingReply>(&*event)) {
      if (const auto handler = handlers_.on_reply) handler(answer->call, answer->result);
    }
  }
  flush();
}

void Line::close() {
  if (!std::exchange(open_, false)) return;
  handlers_ = {};
  const auto when = std::max(last_up_, world_.now() + world_.random_delay());
  world_.at(when, [self = shared_from_this()] {
    if (const auto channel = self->channel_.lock())
      channel->end({kLost, "the peer is gone"}, false);
  });
}

void Line::closed_by_umbrad() {
  if (!std::exchange(open_, false)) return;
  const auto handlers = std::exchange(handlers_, {});
  if (handlers.on_closed) handlers.on_closed();
}

// --- the world ----------------------------------------------------------------------------------

struct World::Life {
  boost::asio::io_context wire{1};
  boost::asio::io_context coordinator{1};
  std::unique_ptr<daemon::Server> server;
};

coord::Limits short_limits() {
  using namespace std::chrono_literals;
  coord::Limits limits;
  limits.identify = 4s;
  limits.prepare_for_backup = 5s;
  limits.prepare_for_snapshot = 5s;
  limits.freeze_window = 6s;
  limits.thaw = 4s;
  limits.post_snapshot = 5s;
  limits.backup_complete = 5s;
  limits.backup_shutdown = 3s;
  limits.abort = 3s;
  limits.thaw_level = 1s;
  limits.abort_wait = 2s;
  limits.end_prepare = 6s;
  limits.pre_commit = 2s;
  limits.hold_flush = 3s;
  limits.hold_lease = 3s;
  limits.post_commit = 3s;
  limits.final_commit = 4s;
  limits.confirm = 6s;
  limits.provider_query = 3s;
  limits.provider_delete = 8s;
  limits.provider_grace = 500ms;
  limits.settle_wait = 60s;
  limits.sequence = 20s;
  limits.sequence_long = 60s;
  return limits;
}

daemon::Config short_config() {
  daemon::Config config;
  config.limits = short_limits();
  return config;
}

World::World(std::uint64_t seed, daemon::Config config, daemon::RolePolicy roles)
    : prng(seed), ids_(prng), config_(std::move(config)), roles_(std::move(roles)) {}

World::~World() {
  if (life_) kill_umbrad();
}

void World::at(TimePoint when, Callback what) {
  events_.emplace(std::pair{std::max(when, now()), next_event_++}, std::move(what));
}

void World::poll() {
  if (!life_) return;
  while (true) {
    life_->wire.restart();
    life_->coordinator.restart();
    if (life_->wire.poll() + life_->coordinator.poll() == 0) return;
  }
}

void World::run(TimePoint until, const std::function<bool()>& stop) {
  while (!events_.empty() && events_.begin()->first.first <= until) {
    if (stop && stop()) return;
    auto node = events_.extract(events_.begin());
    time.set(node.key().first);
    node.mapped()();
    node.mapped() = {};  // Its captures may post: before umbrad's turn.
    poll();
  }
  if (!stop) time.set(std::max(now(), until));
}

void World::start_umbrad() {
  if (life_) return;
  ++story.life;
  life_ = std::make_unique<Life>();
  life_->server =
      std::make_unique<daemon::Server>(daemon::ServerParts{{life_->wire, life_->coordinator},
                                                           config_,
                                                           roles_,
                                                           story,
                                                           time,
                                                           [](bool) {},
                                                           "",
                                                           "",
                                                           [this](std::optional<TimePoint> when) {
                                                             const auto alarm = ++alarm_;
                                                             if (when)
                                                               at(*when, [this, alarm] {
                                                                 if (alarm == alarm_ && life_)
                                                                   life_->server->wake();
                                                               });
                                                           }});
  mix("umbrad starts");
}

void World::kill_umbrad() {
  ++alarm_;
  const auto channels = std::exchange(channels_, {});
  for (const auto& channel : channels) channel->vanish();
  // What was posted to it is dropped with its loops.
  life_->server.reset();
  life_.reset();
  for (const auto& channel : channels)
    after(random_delay(), [line = channel->line()] { line->closed_by_umbrad(); });
  mix("umbrad dies");
}

daemon::Server& World::umbrad() { return *life_->server; }

std::shared_ptr<Line> World::connect(LineHandlers handlers, PeerCredentials credentials) {
  if (!life_) return nullptr;
  auto line = std::make_shared<Line>(*this, std::move(handlers));
  life_->server->adopt(
      [&](daemon::ChannelHandlers of_umbrad) -> std::shared_ptr<daemon::Channel> {
        auto channel = std::make_shared<SimChannel>(*this, line, std::move(of_umbrad));
        line->channel_ = channel;
        channels_.push_back(channel);
        return channel;
      },
      std::move(credentials));
  poll();
  return line;
}

void World::forget(const std::shared_ptr<SimChannel>& channel) { std::erase(channels_, channel); }

void World::mix(std::string_view text) {
  const auto add = [this](std::uint64_t byte) { sum_ = (sum_ ^ byte) * 1099511628211U; };
  for (const char c : text) add(static_cast<unsigned char>(c));
  for (auto t = now().time_since_epoch().count(); t != 0; t >>= 8)
    add(static_cast<std::uint64_t>(t) & 0xFFU);
  constexpr std::size_t kLastEvents = 80;
  if (last_events_.size() == kLastEvents) last_events_.pop_front();
  const auto seconds = std::chrono::duration<double>(now().time_since_epoch()).count();
  last_events_.push_back(std::to_string(seconds) + " " + std::string(text));
}

std::string World::last_events() const {
  std::string text;
  for (const std::string& event : last_events_) text += event + "\n";
  return text;
}

}  // namespace umbra::sim
