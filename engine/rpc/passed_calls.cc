// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "engine/rpc/passed_calls.h"

#include <algorithm>
#include <array>
#include <boost/json/value.hpp>
#include <iterator>
#include <string_view>
#include <utility>

namespace umbra::rpc {
namespace {

constexpr std::string_view kAbort = "provider.abort_snapshots";
constexpr std::string_view kEndSession = "provider.end_session";
constexpr std::string_view kSession = "session_id";
constexpr std::string_view kSet = "set_id";

std::string key(std::string_view member, std::string_view id) {
  return std::string(member) + ' ' + std::string(id);
}

// Empty: the call does not say.
std::string key_in(const Json& params, std::string_view member) {
  const auto* object = params.if_object();
  const auto* id = object != nullptr ? object->if_contains(member) : nullptr;
  return id != nullptr && id->is_string() ? key(member, id->get_string()) : std::string();
}

}  // namespace

void PassedCalls::begun(const std::string& method, const Json& params) {
  const bool ends = method == kAbort || method == kEndSession;
  for (const std::string_view member : {kSession, kSet}) {
    const std::string found = key_in(params, member);
    if (found.empty()) continue;
    if (!ends) {
      ++under_way_[found].calls;
    } else if (const auto passed = under_way_.find(found); passed != under_way_.end()) {
      passed->second.again.push_back({method, params});
    }
  }
}

std::vector<PassedCalls::Call> PassedCalls::ended(const std::string& method, const Json& params) {
  std::vector<Call> again;
  if (method == kAbort || method == kEndSession) return again;
  for (const std::string_view member : {kSession, kSet}) {
    const auto one = under_way_.find(key_in(params, member));
    if (one == under_way_.end() || --one->second.calls > 0) continue;
    std::move(one->second.again.begin(), one->second.again.end(), std::back_inserter(again));
    under_way_.erase(one);
  }
  return again;
}

void PassedCalls::retain_sessions(const std::vector<SessionId>& alive) {
  for (auto& [name, one] : under_way_) {
    const std::string prefix = key(kSession, {});
    if (!name.starts_with(prefix)) continue;
    const auto id = SessionId::parse(name.substr(prefix.size()));
    if (!id || std::find(alive.begin(), alive.end(), *id) != alive.end()) continue;
    one.again.push_back({std::string(kEndSession), encode(SessionRequest{*id})});
  }
}

}  // namespace umbra::rpc
