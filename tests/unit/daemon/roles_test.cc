// SPDX-License-Identifier: Apache-2.0

#include "engine/daemon/roles_posix.h"

#include "tests/support/catch.h"

namespace {

using namespace umbra;
using namespace umbra::daemon;

PeerCredentials peer(std::uint32_t uid, std::uint32_t gid, std::vector<std::uint32_t> groups = {}) {
  return {1, uid, gid, std::move(groups)};
}

TEST_CASE("root may be everything", "[daemon]") {
  const auto roles = roles_of(peer(0, 0), {0, std::nullopt, std::nullopt});
  CHECK(roles.names() == std::vector<std::string>{"writer", "requester", "provider", "admin"});
}

TEST_CASE("groups give their role, as first or as supplementary group, and no other", "[daemon]") {
  const RolePolicy policy{0, 100, 200};
  CHECK(roles_of(peer(7, 100), policy).names() == std::vector<std::string>{"writer"});
  CHECK(roles_of(peer(7, 9, {200}), policy).names() == std::vector<std::string>{"requester"});
  CHECK(roles_of(peer(7, 200, {9, 100}), policy).names() ==
        std::vector<std::string>{"writer", "requester"});
  CHECK(!roles_of(peer(7, 9, {10}), policy).any());
}

TEST_CASE("a group that does not exist admits nobody", "[daemon]") {
  CHECK(!roles_of(peer(7, 100), {0, std::nullopt, std::nullopt}).any());
  CHECK(!group_id("no-such-group-here")->has_value());
  CHECK(group_id("4711")->value() == 4711);
  CHECK(group_id("root")->value() == 0);
  CHECK(!group_id(""));
}

TEST_CASE("in a private run directory its owner has every role, others none", "[daemon]") {
  const RolePolicy policy{1000, 100, 200};
  CHECK(roles_of(peer(1000, 1000), policy).admin);
  CHECK(!roles_of(peer(1001, 100, {200}), policy).any());
  CHECK(roles_of(peer(0, 0), policy).admin);
}

TEST_CASE("roles are asked for by their exact name", "[daemon]") {
  const auto roles = roles_of(peer(0, 0), {});
  CHECK(roles.may("writer"));
  CHECK(!roles.may("Writer"));
  CHECK(!roles.may(""));
}

}  // namespace
