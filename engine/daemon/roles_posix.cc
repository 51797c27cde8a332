// SPDX-License-Identifier: Apache-2.0

#include "engine/daemon/roles_posix.h"

#include <grp.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>

namespace umbra::daemon {
namespace {

constexpr std::size_t kGroupBytesMax = 1U << 20U;  // A group's entry with all its members.

bool is_member(const PeerCredentials& peer, const std::optional<std::uint32_t>& gid) {
  if (!gid) return false;
  return peer.gid == *gid ||
         std::find(peer.groups.begin(), peer.groups.end(), *gid) != peer.groups.end();
}

std::optional<std::uint32_t> whole_number(const std::string& text) {
  std::uint32_t number = 0;
  const auto* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  if (error == std::errc() && rest == end) return number;
  return std::nullopt;
}

}  // namespace

bool Roles::may(std::string_view role) const noexcept {
  return (role == "writer" && writer) || (role == "requester" && requester) ||
         (role == "provider" && provider) || (role == "admin" && admin);
}

std::vector<std::string> Roles::names() const {
  std::vector<std::string> list;
  for (const char* role : {"writer", "requester", "provider", "admin"})
    if (may(role)) list.emplace_back(role);
  return list;
}

Roles roles_of(const PeerCredentials& peer, const RolePolicy& policy) {
  if (peer.uid == 0 || peer.uid == policy.owner_uid) return {true, true, true, true};
  if (policy.owner_uid != 0) return {};
  Roles roles;
  roles.writer = is_member(peer, policy.writer_gid);
  roles.requester = is_member(peer, policy.requester_gid);
  for (const auto& entry : policy.access) {
    if (entry.is_group ? !is_member(peer, entry.id) : peer.uid != entry.id) continue;
    if (entry.value == 0) return {};
    roles.writer = roles.writer || (entry.value & 1U) != 0;
    roles.requester = roles.requester || (entry.value & 2U) != 0;
  }
  return roles;
}

Result<std::optional<std::uint32_t>> group_id(const std::string& text) {
  if (text.empty()) return fail(Errc::invalid_argument, "a group name or number is needed");
  if (const auto number = whole_number(text)) return number;
  struct group entry {};
  struct group* found = nullptr;
  std::vector<char> buffer(kGroupBytesMax);
  const int failed = ::getgrnam_r(text.c_str(), &entry, buffer.data(), buffer.size(), &found);
  if (failed != 0 || found == nullptr) return std::optional<std::uint32_t>();
  return std::optional<std::uint32_t>(found->gr_gid);
}

Result<std::optional<std::uint32_t>> user_id(const std::string& text) {
  if (text.empty()) return fail(Errc::invalid_argument, "a user name or number is needed");
  if (const auto number = whole_number(text)) return number;
  struct passwd entry {};
  struct passwd* found = nullptr;
  std::vector<char> buffer(kGroupBytesMax);
  const int failed = ::getpwnam_r(text.c_str(), &entry, buffer.data(), buffer.size(), &found);
  if (failed != 0 || found == nullptr) return std::optional<std::uint32_t>();
  return std::optional<std::uint32_t>(found->pw_uid);
}

std::uint32_t own_uid() noexcept { return ::geteuid(); }

}  // namespace umbra::daemon
