// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Provider SDK: lets a program keep the copies of volumes that it knows how to copy. The program
// implements umbra::Provider (umbra/provider.h, whose comment is the contract: order of the calls,
// what survives what, which errors are allowed) and serves it to umbrad:
//
//   class ArrayProvider final : public umbra::Provider { ... };
//   ArrayProvider provider(array);
//   auto session = umbra::provider::Session::connect(provider, {.log = to_stderr});
//   auto ended = session->run();                     // until request_stop()
//
// A provider is a process of its own; umbrad never loads its code. It corresponds to a provider
// that VSS knows by IVssAdmin::RegisterProvider: here it registers itself when it connects, with
// the properties() that it answers. VSS's OnLoad is the connection: the first call after it is
// always retain_sessions(), which says which sessions are still alive; what others left behind goes
// then. OnUnload is the connection's end: nothing is lost by it, and nothing need be done.
//
// What to hold on to:
//   * Calls come on threads of the SDK, several at a time: those of one set one after the other,
//     but abort_snapshots, release_hold, end_session and queries beside them. abort_snapshots and
//     release_hold have a thread of their own and must not wait for a call that blocks.
//   * umbrad may go and come back at any moment, also in the middle of a set. Running calls finish
//     and nobody hears their answer; a hold ends with its lease, which the provider itself keeps.
//   * What created copies and sets in doubt need to survive the process must be durable before the
//     call that promises it returns.
//   * What a call throws is caught: std::bad_alloc is out_of_memory, anything else provider_veto.
//     The calls that are noexcept end the program.
//   * umbra/caller.h says on whose behalf a call comes.
//
// The SDK itself throws nothing but std::bad_alloc, sends no signal and changes no handler.

#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>

#include "umbra/log_sink.h"
#include "umbra/provider.h"
#include "umbra/provider/export.h"
#include "umbra/result.h"

namespace umbra::provider {

struct Options {
  std::string socket_path{};  ///< Empty: $UMBRA_RUN_DIR/umbrad.sock, else the system's, else ours.
  std::string program{};      ///< Name and version for umbrad's log; empty: the provider's name.
  std::size_t threads = 4;    ///< For calls that block, 1 to 64.
  std::chrono::milliseconds connect_limit{5'000};
  /// False: connect() succeeds without umbrad, and the provider registers once umbrad is there.
  bool coordinator_required = true;
  LogSink log{};  ///< Empty: silent. The SDK writes nowhere else.
};

/// A provider's registration with umbrad. It comes back by itself when umbrad restarts.
///
/// Movable; one that was moved from can only be assigned to or end. The SDK's threads: one for I/O,
/// Options::threads for calls, one for those that are urgent, all with every signal blocked. After
/// fork() the child must not use it: calls give bad_state, and its destructor does nothing.
/// Threads: connect(), run() and stop(): any, not from inside a call of the contract.
class UMBRA_PROVIDER_EXPORT Session {
 public:
  /// Serves `provider`, which must outlive the session. Blocks for connect_limit at most. Errors:
  /// invalid_argument (names the option, or the property that is missing: an id, a name of at most
  /// 256 bytes, a type); coordinator_lost (not registered within connect_limit; the context says
  /// why: nobody listens, this user may not be a provider, a provider of this id is connected, it
  /// was unregistered); out_of_memory (no thread can be started).
  [[nodiscard]] static Result<Session> connect(Provider& provider, Options options = {});

  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;
  /// stop().
  ~Session();

  /// Blocks until request_stop(), then stop(). Errors: bad_state (after fork()).
  [[nodiscard]] Status run();
  /// Makes run() return. Threads: any; also a signal handler.
  void request_stop() noexcept;
  /// Disconnects, and waits for the calls that run, and for those who wait_until_registered(). Not
  /// from inside a call. Idempotent. Errors: bad_state (after fork()).
  [[nodiscard]] Status stop();

  /// Whether umbrad knows the provider now and may call it. Threads: any.
  [[nodiscard]] bool is_registered() const noexcept;
  /// Waits for it. Errors: coordinator_lost (not within `limit`, or stopped; the context says why
  /// the last attempt failed); bad_state (after fork()). Threads: any.
  [[nodiscard]] Status wait_until_registered(std::chrono::milliseconds limit);

 private:
  class Impl;
  explicit Session(std::unique_ptr<Impl> impl) noexcept;
  std::unique_ptr<Impl> impl_;
};

}  // namespace umbra::provider
