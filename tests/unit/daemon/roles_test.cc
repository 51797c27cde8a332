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

TEST_CASE("the access table adds roles, and its 0 beats everything",
          "[daemon][vss:config.VssAccessControl]") {
  RolePolicy policy{0, 100, 200};
  policy.access = {{false, 7, 1},  {false, 8, 2},  {false, 9, 3},
                   {true, 300, 2}, {true, 666, 0}, {false, 10, 0}};
  using Names = std::vector<std::string>;
  CHECK(roles_of(peer(7, 1), policy).names() == Names{"writer"});
  CHECK(roles_of(peer(8, 1), policy).names() == Names{"requester"});
  CHECK(roles_of(peer(9, 1), policy).names() == Names{"writer", "requester"});
  CHECK(roles_of(peer(11, 1, {300}), policy).names() == Names{"requester"});
  CHECK(roles_of(peer(11, 300), policy).names() == Names{"requester"});
  CHECK(roles_of(peer(7, 200), policy).names() == Names{"writer", "requester"});
  // Denied by user or by any group, whatever else would admit it.
  CHECK(!roles_of(peer(10, 100, {200, 300}), policy).any());
  CHECK(!roles_of(peer(9, 1, {666}), policy).any());
  CHECK(!roles_of(peer(11, 666, {100}), policy).any());
  // root could change the table: nothing is taken from it.
  policy.access.push_back({false, 0, 0});
  CHECK(roles_of(peer(0, 666), policy).admin);
  CHECK(!roles_of(peer(12, 1), policy).any());
}

TEST_CASE("users are found by name or number", "[daemon]") {
  CHECK(user_id("root")->value() == 0);
  CHECK(user_id("4711")->value() == 4711);
  CHECK(!user_id("no-such-user-here")->has_value());
  CHECK(!user_id(""));
}

TEST_CASE("roles are asked for by their exact name", "[daemon]") {
  const auto roles = roles_of(peer(0, 0), {});
  CHECK(roles.may("writer"));
  CHECK(!roles.may("Writer"));
  CHECK(!roles.may(""));
}

}  // namespace
