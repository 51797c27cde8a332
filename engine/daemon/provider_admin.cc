// SPDX-License-Identifier: Apache-2.0
//
// IVssAdmin: which providers there are to be. A provider registers itself when it first connects,
// so RegisterProvider is for one that has not come yet, or was unregistered. Unregistering never
// takes members from a set that is being made, and leaves copies without a provider only by force.

#include <utility>

#include "engine/coordinator/limits.h"
#include "engine/daemon/provider_link.h"
#include "engine/daemon/requester_session.h"

namespace umbra::daemon {
namespace {

constexpr const char* kAdminOnly = "which providers there are to be is for the role admin";

}  // namespace

void RequesterSession::register_provider(const Json& params, const Reply& reply) {
  if (peer_.role != "admin") return reply.error({Errc::access_denied, kAdminOnly});
  const auto properties = take<ProviderProperties>(params, reply);
  if (!properties) return;
  if (properties->provider_id.is_nil() || properties->name.empty() ||
      properties->name.size() > coord::kPeerNameBytesMax ||
      properties->version.size() > coord::kPeerNameBytesMax)
    return reply.error({Errc::invalid_argument, "a provider needs an id and a name"});
  if (properties->type == ProviderType::unknown)
    return reply.error({Errc::invalid_argument, "type: software, hardware, file share or system"});
  if (const auto status = server_.register_provider(*properties); !status)
    return reply.error(status.error());
  server_.log().info("provider registered by request", {{"provider", printable(properties->name)},
                                                        {"id", properties->provider_id.to_string()},
                                                        {"peer", peer_.describe()}});
  reply.good();
}

void RequesterSession::unregister_provider(const Json& params, const Reply& reply) {
  if (peer_.role != "admin") return reply.error({Errc::access_denied, kAdminOnly});
  const auto message = take<rpc::UnregisterProvider>(params, reply);
  if (!message) return;
  std::optional<ProviderProperties> found;
  for (const auto& known : server_.known_providers())
    if (known.properties.provider_id == message->provider_id) found = known.properties;
  if (!found)
    return reply.error({Errc::provider_not_registered,
                        "no provider " + message->provider_id.to_string() + " is registered"});
  if (message->force) return unregister_unless_used(*found, reply);
  const auto cannot_say = [name = printable(found->name), reply](const std::string& why) {
    reply.error({Errc::provider_in_use, "provider '" + name + "' " + why +
                                            ", so that nobody can say whether it has copies; use "
                                            "force if it is gone for good"});
  };
  const auto link = server_.provider(found->provider_id);
  if (!link) return cannot_say("is away");
  rpc::QuerySnapshots query;
  query.incomplete = true;
  link->call<rpc::SnapshotList>(
      "query_snapshots", query, server_.limits().provider_query,
      [self = shared_from_this(), properties = *found, cannot_say,
       reply](const Result<rpc::SnapshotList>& list) {
        if (!list) return cannot_say("does not answer (" + list.error().context + ")");
        if (!list->snapshots.empty())
          return reply.error(
              {Errc::provider_in_use, "provider '" + printable(properties.name) + "' has " +
                                          std::to_string(list->snapshots.size()) +
                                          " copies; delete them first, or use force"});
        self->unregister_unless_used(properties, reply);
      });
}

void RequesterSession::unregister_unless_used(const ProviderProperties& properties,
                                              const Reply& reply) {
  if (const auto set = server_.set_made_on(properties.provider_id))
    return reply.error(
        {Errc::provider_in_use, "set " + set->to_string() + " is being made on provider '" +
                                    printable(properties.name) + "'; see umbra abort"});
  server_.log().warning("provider unregistered", {{"provider", printable(properties.name)},
                                                  {"id", properties.provider_id.to_string()},
                                                  {"peer", peer_.describe()}});
  server_.unregister_provider(properties.provider_id);
  reply.good(properties);
}

}  // namespace umbra::daemon
