// SPDX-License-Identifier: Apache-2.0
//
// What a peer may be, from what the kernel says of it. root may be everything. Members of the
// writers' group may be writers, of the requesters' group requesters (which equals read access to
// every volume). The access table, VSS's VssAccessControl, names accounts: 1 adds the writer, 2 the
// requester, 3 both, 0 denies, which beats everything else. root is not in it: it needs no right,
// and none can be taken from it. Where umbrad does not run as root, its own user may be everything
// and nobody else anything: the run directory is private then.

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

/// A user or group of the access table.
struct Access {
  bool is_group = false;
  std::uint32_t id = 0;
  std::uint8_t value = 0;  // 0 to 3.
};

struct RolePolicy {
  std::uint32_t owner_uid = 0;  // umbrad's own.
  std::optional<std::uint32_t> writer_gid;
  std::optional<std::uint32_t> requester_gid;
  std::vector<Access> access{};
};

[[nodiscard]] Roles roles_of(const PeerCredentials& peer, const RolePolicy& policy);

/// The number of a group given by name or number; nothing if there is no group of that name.
/// Errors: invalid_argument (empty).
[[nodiscard]] Result<std::optional<std::uint32_t>> group_id(const std::string& name_or_number);

/// The same of a user.
[[nodiscard]] Result<std::optional<std::uint32_t>> user_id(const std::string& name_or_number);

/// The user that this process runs as.
[[nodiscard]] std::uint32_t own_uid() noexcept;

}  // namespace umbra::daemon
