// SPDX-License-Identifier: Apache-2.0
#include "provider/frontend/fuse/session.h"

#include <set>

#include "tests/support/catch.h"
#include "umbra/ids.h"

using namespace umbra;
using namespace umbra::fuse;

TEST_CASE("a node's number depends on its name only, and is never the root's", "[fuse]") {
  CHECK(node_of("7b9c2f1e-5d0a-4f4e-9c37-3f3f0a5b1c2d") ==
        node_of("7b9c2f1e-5d0a-4f4e-9c37-3f3f0a5b1c2d"));
  CHECK(node_of("a") == 0xAF63DC4C8601EC8CU);  // FNV-1a: a successor of another build agrees.
  std::set<std::uint64_t> seen;
  for (int i = 0; i < 10'000; ++i) seen.insert(node_of(SnapshotId::random().to_string()));
  CHECK(seen.size() == 10'000);
  CHECK(*seen.begin() > 1);
}

TEST_CASE("a saved state that is not one is refused", "[fuse]") {
  const auto refuse = [](std::string_view state) {
    const auto session = Session::take_over(UniqueFd(), state, null_log());
    REQUIRE_FALSE(session);
    return session.error().code;
  };
  CHECK(refuse("") == Errc::invalid_argument);
  CHECK(refuse("something else") == Errc::invalid_argument);
  CHECK(refuse("umbra-fuse 2 f 0 488 /run/x") == Errc::version_mismatch);
  CHECK(refuse("umbra-fuse 1 x 0 488 /run/x") == Errc::invalid_argument);
  CHECK(refuse("umbra-fuse 1 f 0") == Errc::invalid_argument);
  CHECK(refuse("umbra-fuse 1 f 0 488 relative") == Errc::invalid_argument);
}
