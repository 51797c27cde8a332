// SPDX-License-Identifier: Apache-2.0

#include "engine/daemon/provider_link.h"

#include <utility>

#include "engine/coordinator/snapshot_set.h"
#include "engine/daemon/server.h"
#include "umbra/caller.h"

namespace umbra::daemon {
namespace {

// "end_prepare_snapshots" of "provider.end_prepare_snapshots".
std::string without_group(const std::string& method) { return method.substr(method.find('.') + 1); }

}  // namespace

ProviderLink::ProviderLink(Server& server, std::shared_ptr<Channel> channel, PeerInfo peer)
    : server_(server), channel_(std::move(channel)), peer_(std::move(peer)) {}

void ProviderLink::request(const std::string& method, const Json& params, const Reply& reply) {
  if (method == "provider.register") return register_provider(params, reply);
  refuse_method(method, peer_.role, reply);
}

void ProviderLink::notification(const std::string& method, const Json& params) {
  if (method == "provider.event" && registered_) take_event(params);
}

void ProviderLink::take_event(const Json& params) {
  auto event = rpc::decode<ProviderEvent>(params);
  if (!event) return;
  event->provider_id = properties_.provider_id;
  for (auto* text : {&event->name, &event->volume, &event->cause, &event->who})
    *text = printable(*text, coord::kPeerNameBytesMax);
  event->text = printable(event->text, coord::kPeerMessageBytesMax);
  server_.take_event(properties_.provider_id, std::move(*event));
}

void ProviderLink::register_provider(const Json& params, const Reply& reply) {
  const auto message = take<rpc::RegisterProvider>(params, reply);
  if (!message) return;
  if (registered_)
    return reply.error({Errc::provider_already_registered, "one provider per connection"});
  const auto& properties = message->properties;
  if (properties.provider_id.is_nil() || properties.name.empty() ||
      properties.name.size() > coord::kPeerNameBytesMax)
    return reply.error({Errc::invalid_argument, "properties: a provider needs an id and a name"});
  properties_ = properties;
  if (const auto status = server_.add_provider(shared_from_this()); !status)
    return reply.error(status.error());
  registered_ = true;
  server_.log().info("provider registered", {{"provider", printable(properties_.name)},
                                             {"id", properties_.provider_id.to_string()},
                                             {"peer", peer_.describe()}});
  reply.good(
      rpc::RegisteredProvider{server_.alive_sessions(),
                              server_.events_told(properties_.provider_id, message->event_stream)});
  // What went wrong while it was away: its half of those sets must go.
  for (auto& known : server_.known_providers())
    if (known.properties.provider_id == properties_.provider_id)
      for (const auto& set : std::exchange(known.aborted_sets, {})) discard_set(set);
  server_.provider_arrived(properties_.provider_id);
}

void ProviderLink::closed() {
  if (!registered_) return;
  if (!server_.is_shutting_down())
    server_.log().warning("provider gone", {{"provider", printable(properties_.name)},
                                            {"id", properties_.provider_id.to_string()}});
  server_.remove_provider(*this);
}

void ProviderLink::call_raw(const std::string& method, Json params, coord::milliseconds limit,
                            std::function<void(Result<Json>)> done, const std::string& caller) {
  if (params.is_object()) params.get_object()["caller"] = printable(caller, kCallerBytesMax);
  std::optional<TraceBook::Key> span;
  if (const auto set = set_in(params))
    span = server_.traces.asked(*set, "provider '" + printable(properties_.name) + "'",
                                without_group(method));
  channel_->call(method, std::move(params), limit,
                 [self = shared_from_this(), span, done = std::move(done)](Result<Json> result) {
                   const auto error = result ? Error{Errc::ok, {}} : result.error();
                   self->server_.traces.answered(span, error.code, error.context);
                   if (!result && result.error().code == kLost) self->lost_ = true;
                   done(std::move(result));
                 });
}

Error ProviderLink::mapped(const std::string& member, const Error& error) const {
  if (error.code == kLate && member == "begin_prepare_snapshot" &&
      properties_.type == ProviderType::file_share)
    return {Errc::fss_timeout,
            "provider '" + printable(properties_.name) + "', " + member + ": no answer in time"};
  if (error.code == kLost || error.code == kLate) {
    const char* what = error.code == kLost ? ": the connection was lost" : ": no answer in time";
    return {Errc::unexpected_provider_error,
            "provider '" + printable(properties_.name) + "', " + member + what};
  }
  return coord::map_provider_error(properties_.name, member, error);
}

void ProviderLink::abort_set(const SnapshotSetId& set) {
  rpc::SetRequest request;
  request.set_id = set;
  call<rpc::Nothing>("abort_snapshots", request, server_.limits().provider_delete,
                     [](const Result<rpc::Nothing>&) {});
}

void ProviderLink::discard_set(const SnapshotSetId& set) {
  abort_set(set);
  rpc::DeleteSnapshots removal;
  removal.id = set;
  removal.type = ObjectType::snapshot_set;
  removal.force = true;
  call<rpc::DeletedSnapshots>("delete_snapshots", removal, server_.limits().provider_delete,
                              [](const Result<rpc::DeletedSnapshots>&) {});
}

void ProviderLink::end_session(const SessionId& session) {
  call<rpc::Nothing>("end_session", rpc::SessionRequest{session}, server_.limits().provider_delete,
                     [](const Result<rpc::Nothing>&) {});
}

}  // namespace umbra::daemon
