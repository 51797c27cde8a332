// SPDX-License-Identifier: Apache-2.0

#include "engine/daemon/writer_link.h"

#include <utility>

#include "engine/daemon/server.h"
#include "engine/documents/rules.h"
#include "engine/documents/xml.h"

namespace umbra::daemon {
namespace {

// How much longer the connection waits than the machine, which is the one that decides.
constexpr std::chrono::seconds kWireGrace{2};

WriterOutcome vetoed(std::string message) {
  WriterOutcome outcome;
  outcome.answer = {false, Errc::writererror_nonretryable, 0, std::move(message)};
  return outcome;
}

// Wire's thread: takes a reply apart, the metadata document included.
WriterOutcome take_apart(coord::WriterEvent event, const Result<Json>& result) {
  WriterOutcome outcome;
  if (!result) {
    const auto& error = result.error();
    if (error.code != kLost && error.code != kLate)
      return vetoed("answered with an error: " + error.to_string());
    outcome.kind = error.code == kLost ? WriterOutcome::Kind::lost : WriterOutcome::Kind::late;
    return outcome;
  }
  auto reply = rpc::decode<rpc::WriterReply>(*result);
  if (!reply) return vetoed("the answer is not understood: " + reply.error().context);
  outcome.answer = {reply->ok, reply->failure, reply->application_code, std::move(reply->message)};
  outcome.edits = std::move(reply->edits);
  if (event != coord::WriterEvent::identify || !reply->ok) return outcome;
  auto document = documents::parse_writer_metadata(reply->metadata);
  if (!document) return vetoed("metadata: " + document.error().context);
  if (const auto status = documents::check(*document); !status)
    return vetoed("metadata: " + status.error().context);
  outcome.metadata = std::move(*document);
  outcome.metadata_xml = std::move(reply->metadata);
  return outcome;
}

}  // namespace

WriterLink::WriterLink(Server& server, std::shared_ptr<Channel> channel, PeerInfo peer)
    : server_(server), channel_(std::move(channel)), peer_(std::move(peer)) {}

void WriterLink::request(const std::string& method, const Json& params, const Reply& reply) {
  if (method == "writer.register") return register_writer(params, reply);
  refuse_method(method, peer_.role, reply);
}

void WriterLink::register_writer(const Json& params, const Reply& reply) {
  const auto message = take<rpc::RegisterWriter>(params, reply);
  if (!message) return;
  if (!id_.is_nil())
    return reply.error({Errc::writer_already_subscribed, "one writer per connection"});
  if (const auto status = server_.may_register(message->class_id, peer_.credentials.uid); !status)
    return reply.error(status.error());
  coord::RegisteredWriter writer;
  writer.instance_id = WriterInstanceId::random();
  writer.class_id = message->class_id;
  writer.name = message->name;
  writer.instance_name = message->instance_name;
  writer.level = message->level;
  writer.freeze_window = coord::milliseconds{message->freeze_window_ms};
  writer.subscription = message->subscription;
  const auto id = writer.instance_id;
  if (const auto status = server_.writers.add(std::move(writer)); !status)
    return reply.error(status.error());
  id_ = id;
  name_ = printable(message->name);
  server_.add_writer(id_, weak_from_this());
  server_.log().info("writer registered", {{"writer", printable(message->name)},
                                           {"instance", id_.to_string()},
                                           {"peer", peer_.describe()}});
  reply.good(rpc::RegisterWriterReply{id_});
}

void WriterLink::notification(const std::string& method, const Json& params) {
  if (method != "writer.window_expired" || id_.is_nil()) return;
  const auto message = rpc::decode<rpc::WindowExpired>(params);
  if (message) server_.writer_window_expired(id_, message->session_id);
}

void WriterLink::closed() {
  if (id_.is_nil()) return;
  server_.log().info("writer gone", {{"instance", id_.to_string()}, {"peer", peer_.describe()}});
  server_.remove_writer(id_);
  frozen_for_.reset();
  for (auto& event : std::exchange(deferred_, {})) event();  // They fail as lost.
}

void WriterLink::send(coord::WriterEvent event, rpc::WriterEvent params, coord::milliseconds limit,
                      std::function<void(WriterOutcome)> done) {
  if (!frozen_for_ || *frozen_for_ == params.session_id || !channel_->is_open())
    return send_now(event, params, limit, std::move(done));
  if (deferred_.size() >= kDeferredEventsMax) {
    WriterOutcome outcome;
    outcome.kind = WriterOutcome::Kind::late;
    return done(std::move(outcome));
  }
  deferred_.push_back([self = shared_from_this(), event, params = std::move(params), limit,
                       done = std::move(done)] { self->send(event, params, limit, done); });
}

void WriterLink::send_now(coord::WriterEvent event, const rpc::WriterEvent& params,
                          coord::milliseconds limit, std::function<void(WriterOutcome)> done) {
  if (event == coord::WriterEvent::freeze) frozen_for_ = params.session_id;
  const bool ends_freeze = event == coord::WriterEvent::thaw || event == coord::WriterEvent::abort;
  const auto span =
      server_.traces.asked(params.set_id, "writer '" + name_ + "'", std::string(name(event)));
  channel_->call<WriterOutcome>(
      "writer." + std::string(name(event)), rpc::encode(params), limit + kWireGrace,
      [event](const Result<Json>& result) { return take_apart(event, result); },
      [self = shared_from_this(), ends_freeze, span, session = params.session_id,
       done = std::move(done)](WriterOutcome outcome) {
        self->trace_answer(span, outcome);
        done(std::move(outcome));
        if (ends_freeze) self->thawed(session);
      });
}

void WriterLink::trace_answer(const std::optional<TraceBook::Key>& span,
                              const WriterOutcome& outcome) {
  using Kind = WriterOutcome::Kind;
  const auto& answer = outcome.answer;
  if (outcome.kind == Kind::lost)
    return server_.traces.answered(span, Errc::writer_not_responding, "its connection ended");
  if (outcome.kind == Kind::late)
    return server_.traces.answered(span, Errc::writererror_timeout, "no answer");
  const bool unnamed = !answer.ok && answer.failure == Errc::ok;
  server_.traces.answered(span, unnamed ? Errc::writererror_nonretryable : answer.failure,
                          answer.message);
}

void WriterLink::thawed(const SessionId& session) {
  if (frozen_for_ != session) return;
  frozen_for_.reset();
  auto deferred = std::exchange(deferred_, {});
  for (auto& event : deferred) event();
}

}  // namespace umbra::daemon
