// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Serves an umbra::Provider to umbrad: connects, says hello, registers, answers provider.* calls,
// and does so again whenever umbrad comes back. Used by umbra-cowd and by providers of others.
//
// Blocking calls run on a small pool; abort_snapshots, release_hold and end_session have a thread
// of their own, so that they pass a call that blocks. After each registration the provider first
// hears which sessions are still alive (retain_sessions) and only then gets calls, since a session
// that began after that list was made is not on it.
//
// What a call throws is caught, logged and answered: out_of_memory for std::bad_alloc, else
// provider_veto.
//
// management.* is served from Provider::management(), hardware.* from Provider::hardware(); their
// long calls are operations of a table that may be shared with others in the process.
//
// Losing umbrad changes nothing here: running calls finish, their answers are dropped, calls that
// have not begun are dropped too, holds end with their lease, and what sessions leave behind goes
// at the next registration.

#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "engine/platform/log.h"
#include "engine/rpc/codec.h"
#include "engine/rpc/event_log.h"
#include "engine/rpc/operation_table.h"
#include "umbra/provider.h"

namespace umbra::rpc {

struct ProviderServerOptions {
  std::string socket_path{};                       // Of umbrad.
  std::string program{};                           // For umbrad's log.
  std::size_t threads = 4;                         // For calls that block.
  std::chrono::milliseconds reconnect_first{100};  // Doubles up to reconnect_max.
  std::chrono::milliseconds reconnect_max{5'000};
  /// For what takes long. Null: a table of the server's own. Outlives the server, and ends before
  /// the provider.
  OperationTable* operations = nullptr;
  /// What the provider tells. After each registration umbrad is sent what it does not have yet,
  /// as far as it is kept, and from then on what comes. Null: nothing. Outlives the server.
  EventLog* events = nullptr;
};

/// Serves one method that is not of umbra::Provider (volume.attach, snapshot.mount, ...). Runs on
/// the pool, several at a time.
using ProviderMethod = std::function<Result<Json>(const Json& params)>;

/// A ProviderMethod from a function on messages.
template <class Request, class Reply>
[[nodiscard]] ProviderMethod provider_method(std::function<Result<Reply>(const Request&)> serve) {
  return [serve = std::move(serve)](const Json& params) -> Result<Json> {
    const Result<Request> request = decode<Request>(params);
    if (!request) return fail(request.error());
    const Result<Reply> reply = serve(*request);
    if (!reply) return fail(reply.error());
    return encode(*reply);
  };
}

class ProviderServer {
 public:
  /// Starts. `provider` and `log` must outlive the object. Never fails: without umbrad it tries
  /// again and again, and warns once.
  ProviderServer(Provider& provider, std::map<std::string, ProviderMethod> methods,
                 ProviderServerOptions options, Log& log);
  /// Disconnects and waits for calls that run.
  ~ProviderServer();
  ProviderServer(const ProviderServer&) = delete;
  ProviderServer& operator=(const ProviderServer&) = delete;

  /// Whether umbrad has accepted the registration and calls are served. Threads: any.
  [[nodiscard]] bool is_registered() const noexcept;
  /// Waits for it. Errors: coordinator_lost (not within `limit`; the context says why the last
  /// attempt failed). Threads: any.
  [[nodiscard]] Status wait_until_registered(std::chrono::milliseconds limit);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

/// The provider's side of one provider.* call, without any transport: decodes, calls, encodes.
/// Errors: those of the call; not_implemented (no such method); invalid_argument (bad params).
[[nodiscard]] Result<Json> serve_provider_call(Provider& provider, const std::string& method,
                                               const Json& params);

}  // namespace umbra::rpc
