// SPDX-License-Identifier: Apache-2.0
//
// What the peers of one user take of umbrad together, so that one user's programs cannot shut out
// those of others: connections, calls per second, lines in the log about what was refused. Pure:
// times go in.
//
// root and umbrad's own user may have as many connections as there are: they could end umbrad, and
// providers and administrators must get in when others are greedy. The rate of calls holds for
// everybody, since a mistake in a loop has no intent; who calls faster waits and loses nothing.
//
// What is bounded for each connection instead: line, requests in flight and their bytes
// (engine/rpc/peer.h), notifications that wait (engine/daemon/channel.h), operations and their
// waiters (engine/daemon/requester_session.h).

#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>

#include "engine/platform/clock.h"

namespace umbra::coord {

/// Connections that one user may have, of all that there are (512 by default): half.
inline constexpr std::size_t kConnectionsPerUserDefault = 256;
/// A requester that adds components one by one makes some thousands a second.
inline constexpr std::uint32_t kCallsPerSecondDefault = 5'000;
/// So many seconds' calls may come at once after a pause.
inline constexpr std::uint32_t kCallBurstSeconds = 2;
/// Refusals of one user that are logged, a second.
inline constexpr std::uint32_t kRefusalsLoggedPerSecond = 5;

/// Users remembered; beyond it one is forgotten with its last connection.
inline constexpr std::size_t kAccountsKeptMax = 1024;

/// So many a second, and after a pause `burst` at once. Threads: one.
class TokenBucket {
 public:
  TokenBucket(std::uint32_t per_second, std::uint32_t burst) noexcept;
  [[nodiscard]] bool take(TimePoint now) noexcept;
  /// When take() will succeed again; now or earlier: at once.
  [[nodiscard]] TimePoint next() const noexcept;

 private:
  Duration each_;    // What one costs.
  Duration credit_;  // At most this far behind.
  TimePoint paid_until_{Duration::min()};
};

struct AccountLimits {
  std::size_t connections_per_user = kConnectionsPerUserDefault;
  std::uint32_t calls_per_second = kCallsPerSecondDefault;
  std::uint32_t owner_uid = 0;  // umbrad's own user.
};

/// Threads: one.
class PeerAccounts {
 public:
  explicit PeerAccounts(AccountLimits limits) : limits_(limits) {}

  /// Counts a connection. False: the user has too many; it counts all the same until disconnect().
  [[nodiscard]] bool connect(std::uint32_t uid);
  void disconnect(std::uint32_t uid);
  /// Counts a call. False: too fast; ask again at next_call().
  [[nodiscard]] bool may_call(std::uint32_t uid, TimePoint now);
  [[nodiscard]] TimePoint next_call(std::uint32_t uid, TimePoint now) const;
  /// Something was refused. How many before it were not logged, if this one is to be; else nothing.
  [[nodiscard]] std::optional<std::uint64_t> log_refusal(std::uint32_t uid, TimePoint now);

 private:
  struct Account {
    std::size_t connections = 0;
    TokenBucket calls;
    TokenBucket refusals{kRefusalsLoggedPerSecond, kRefusalsLoggedPerSecond};
    std::uint64_t unlogged = 0;
  };
  Account& account(std::uint32_t uid);

  AccountLimits limits_;
  std::map<std::uint32_t, Account> accounts_;
};

}  // namespace umbra::coord
