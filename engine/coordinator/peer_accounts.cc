// SPDX-License-Identifier: Apache-2.0

#include "engine/coordinator/peer_accounts.h"

#include <algorithm>
#include <utility>

namespace umbra::coord {

TokenBucket::TokenBucket(std::uint32_t per_second, std::uint32_t burst) noexcept
    : each_(Duration{std::chrono::seconds{1}} / std::max(per_second, 1U)), credit_(each_ * burst) {}

// Each call moves `paid_until_` on by its cost; it may run ahead of the time by the credit.
bool TokenBucket::take(TimePoint now) noexcept {
  if (next() > now) return false;
  paid_until_ = std::max(paid_until_, now) + each_;
  return true;
}

TimePoint TokenBucket::next() const noexcept {
  if (paid_until_ == TimePoint{Duration::min()}) return paid_until_;
  return paid_until_ + each_ - credit_;
}

PeerAccounts::Account& PeerAccounts::account(std::uint32_t uid) {
  const TokenBucket calls(limits_.calls_per_second, limits_.calls_per_second * kCallBurstSeconds);
  return accounts_.try_emplace(uid, Account{0, calls}).first->second;
}

bool PeerAccounts::connect(std::uint32_t uid) {
  auto& one = account(uid);
  ++one.connections;
  return uid == 0 || uid == limits_.owner_uid || one.connections <= limits_.connections_per_user;
}

// Remembered for a while without a connection, so that connecting again and again is no way around.
void PeerAccounts::disconnect(std::uint32_t uid) {
  const auto found = accounts_.find(uid);
  if (found == accounts_.end()) return;
  if (found->second.connections > 0) --found->second.connections;
  if (found->second.connections == 0 && accounts_.size() > kAccountsKeptMax) accounts_.erase(found);
}

bool PeerAccounts::may_call(std::uint32_t uid, TimePoint now) {
  return account(uid).calls.take(now);
}

TimePoint PeerAccounts::next_call(std::uint32_t uid, TimePoint now) const {
  const auto found = accounts_.find(uid);
  return found == accounts_.end() ? now : std::max(found->second.calls.next(), now);
}

std::optional<std::uint64_t> PeerAccounts::log_refusal(std::uint32_t uid, TimePoint now) {
  auto& one = account(uid);
  if (one.refusals.take(now)) return std::exchange(one.unlogged, 0);
  ++one.unlogged;
  return std::nullopt;
}

}  // namespace umbra::coord
