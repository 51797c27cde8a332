// SPDX-License-Identifier: Apache-2.0
//
// What a writer says when some of its clusters fail.

#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "writer-sdk/writers/postgresql/backup_round.h"

using umbra::Errc;
using umbra::Error;
using namespace umbra::postgresql;

namespace {

std::vector<RoundMember> members(const std::vector<Errc>& codes) {
  std::vector<RoundMember> all(codes.size());
  for (std::size_t i = 0; i < codes.size(); ++i) {
    all[i].name = std::string(1, static_cast<char>('a' + i));
    if (codes[i] != Errc::ok) all[i].failure = Error{codes[i], "broken"};
  }
  return all;
}

}  // namespace

TEST_CASE("no failure is nothing to say") {
  const auto verdict = judge(members({Errc::ok, Errc::ok}));
  CHECK_FALSE(verdict.veto);
  CHECK_FALSE(verdict.in_part);
}

TEST_CASE("one of two is a failure in part that names it") {
  const auto verdict = judge(members({Errc::ok, Errc::writererror_retryable}));
  CHECK_FALSE(verdict.veto);
  REQUIRE(verdict.in_part);
  CHECK(verdict.in_part->code == Errc::writererror_partial_failure);
  CHECK(verdict.in_part->context == "cluster b: broken");
}

TEST_CASE("all of them is a veto with the gravest code") {
  const auto verdict =
      judge(members({Errc::writererror_retryable, Errc::writererror_inconsistentsnapshot}));
  CHECK_FALSE(verdict.in_part);
  REQUIRE(verdict.veto);
  CHECK(verdict.veto->code == Errc::writererror_inconsistentsnapshot);
  CHECK(verdict.veto->context == "cluster a: broken; cluster b: broken");
  CHECK(judge(members({Errc::writererror_retryable})).veto->code == Errc::writererror_retryable);
  CHECK(judge(members({Errc::unexpected})).veto->code == Errc::writererror_nonretryable);
}
