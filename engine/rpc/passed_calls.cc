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
constexpr std::string_view kDelete = "provider.delete_snapshots";
constexpr std::string_view kQuerySet = "provider.query_set";
constexpr std::string_view kSession = "session_id";
constexpr std::string_view kSet = "set_id";

std::string key(std::string_view member, std::string_view id) {
  return std::string(member) + ' ' + std::string(id);
}

// Empty: the call does not say.
std::string_view id_in(const Json& params, std::string_view member) {
  const auto* object = params.if_object();
  const auto* id = object != nullptr ? object->if_contains(member) : nullptr;
  return id != nullptr && id->is_string() ? std::string_view(id->get_string()) : std::string_view();
}

std::string key_in(const Json& params, std::string_view member) {
  const std::string_view id = id_in(params, member);
  return id.empty() ? std::string() : key(member, id);
}

}  // namespace

void PassedCalls::begun(const std::string& method, const Json& params) {
  if (method == kDelete) deletions_.emplace(id_in(params, "id"));
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
  if (method == kDelete) {
    const auto one = deletions_.find(std::string(id_in(params, "id")));
    if (one != deletions_.end()) deletions_.erase(one);
  }
  if (method == kAbort || method == kEndSession) return again;
  for (const std::string_view member : {kSession, kSet}) {
    const auto one = under_way_.find(key_in(params, member));
    if (one == under_way_.end() || --one->second.calls > 0) continue;
    std::move(one->second.again.begin(), one->second.again.end(), std::back_inserter(again));
    under_way_.erase(one);
  }
  return again;
}

std::optional<Json> PassedCalls::answer_for(const std::string& method, const Json& params) const {
  if (method != kQuerySet || deletions_.count(std::string(id_in(params, kSet))) == 0) return {};
  return encode(SetFateReply{SetFate::undecided});
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
