// SPDX-License-Identifier: Apache-2.0
//
// What a peer may be, from what the kernel says of it. root may be everything. Members of the
// writers' group may be writers, of the requesters' group requesters (which equals read access to
// every volume). Where umbrad does not run as root, its own user may be everything and nobody else
// anything: the run directory is private then.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/platform/local_stream.h"
#include "umbra/result.h"

namespace umbra::daemon {

struct Roles {
  bool writer = false;
  bool requester = false;
  bool provider = false;
  bool admin = false;
  [[nodiscard]] bool any() const noexcept { return writer || requester || provider || admin; }
  [[nodiscard]] bool may(std::string_view role) const noexcept;
  [[nodiscard]] std::vector<std::string> names() const;
};

struct RolePolicy {
  std::uint32_t owner_uid = 0;  // umbrad's own.
  std::optional<std::uint32_t> writer_gid;
  std::optional<std::uint32_t> requester_gid;
};

[[nodiscard]] Roles roles_of(const PeerCredentials& peer, const RolePolicy& policy);

/// The number of a group given by name or number; nothing if there is no group of that name.
/// Errors: invalid_argument (empty).
[[nodiscard]] Result<std::optional<std::uint32_t>> group_id(const std::string& name_or_number);

/// The user that this process runs as.
[[nodiscard]] std::uint32_t own_uid() noexcept;

}  // namespace umbra::daemon
