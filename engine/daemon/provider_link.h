// SPDX-License-Identifier: Apache-2.0
//
// One provider's connection: calls of umbra::Provider with time limits, and its errors as the
// requester may see them (engine/coordinator/snapshot_set.h, map_provider_error).

#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/coordinator/limits.h"
#include "engine/daemon/channel.h"
#include "engine/daemon/peer.h"
#include "engine/rpc/messages.h"
#include "umbra/provider.h"

namespace umbra::daemon {

class Server;

class ProviderLink final : public Role, public std::enable_shared_from_this<ProviderLink> {
 public:
  ProviderLink(Server& server, std::shared_ptr<Channel> channel, PeerInfo peer);

  void request(const std::string& method, const Json& params, const Reply& reply) override;
  void notification(const std::string& method, const Json& params) override;
  void closed() override;

  [[nodiscard]] const ProviderProperties& properties() const noexcept { return properties_; }
  [[nodiscard]] bool is_open() const noexcept { return !lost_ && channel_->is_open(); }

  /// Any method, its reply as it is. kLost when the connection ended, kLate after `limit`. The
  /// provider is told for whom: `caller`, whatever the params say.
  void call_raw(const std::string& method, Json params, coord::milliseconds limit,
                std::function<void(Result<Json>)> done, const std::string& caller = kSelf);
  /// "provider." and `member` of umbra::Provider. Errors are those of the contract; else
  /// unexpected_provider_error. The context names provider and call.
  template <class Answer, class Request>
  void call(const std::string& member, const Request& request, coord::milliseconds limit,
            std::function<void(Result<Answer>)> done, const std::string& caller = kSelf) {
    call_in<Answer>("provider", member, request, limit, std::move(done), caller);
  }
  /// The same of another group of methods: "hardware", "management".
  template <class Answer, class Request>
  void call_in(const std::string& group, const std::string& member, const Request& request,
               coord::milliseconds limit, std::function<void(Result<Answer>)> done,
               const std::string& caller = kSelf) {
    call_raw(
        group + "." + member, rpc::encode(request), limit,
        [self = shared_from_this(), member, done = std::move(done)](Result<Json> result) {
          if (!result) return done(tl::unexpected<Error>(self->mapped(member, result.error())));
          auto answer = rpc::decode<Answer>(*result);
          if (!answer)
            return done(tl::unexpected<Error>(
                self->mapped(member, {Errc::protocol_violation, answer.error().context})));
          done(std::move(answer));
        },
        caller);
  }
  /// Aborts a set; nobody waits for it.
  void abort_set(const SnapshotSetId& set);
  /// The same, and deletes what of it was created all the same.
  void discard_set(const SnapshotSetId& set);
  void end_session(const SessionId& session);
  /// It was unregistered: the connection ends.
  void dismiss() { channel_->close({Errc::provider_not_registered, "unregistered"}); }

 private:
  static constexpr const char* kSelf = "umbrad";

  void take_event(const Json& params);
  [[nodiscard]] Error mapped(const std::string& member, const Error& error) const;
  void register_provider(const Json& params, const Reply& reply);

  Server& server_;
  std::shared_ptr<Channel> channel_;
  PeerInfo peer_;
  ProviderProperties properties_;
  bool registered_ = false;
  bool lost_ = false;  // A call said so, before the channel did.
};

}  // namespace umbra::daemon
