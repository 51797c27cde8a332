// SPDX-License-Identifier: Apache-2.0
#include "engine/rpc/passed_calls.h"

#include <boost/json/value.hpp>

#include "tests/support/catch.h"

namespace {

using namespace umbra;
using namespace umbra::rpc;

const std::string kBegin = "provider.begin_prepare_snapshot";
const std::string kAbort = "provider.abort_snapshots";
const std::string kEnd = "provider.end_session";

Json of(const char* session, const char* set) {
  boost::json::object params;
  if (session != nullptr) params["session_id"] = session;
  if (set != nullptr) params["set_id"] = set;
  return params;
}

TEST_CASE("an end that passes calls is repeated after the last of them") {
  PassedCalls calls;
  calls.begun(kBegin, of("s", "a"));
  calls.begun(kBegin, of("s", "a"));
  calls.begun(kAbort, of(nullptr, "a"));
  CHECK(calls.ended(kAbort, of(nullptr, "a")).empty());
  calls.begun(kEnd, of("s", nullptr));
  CHECK(calls.ended(kBegin, of("s", "a")).empty());
  const auto again = calls.ended(kBegin, of("s", "a"));
  REQUIRE(again.size() == 2);
  CHECK(again[0].method == kEnd);
  CHECK(again[0].params == of("s", nullptr));
  CHECK(again[1].method == kAbort);
  CHECK(calls.ended(kEnd, of("s", nullptr)).empty());
}

TEST_CASE("what there is of a set that is being deleted cannot be said") {
  const std::string query = "provider.query_set";
  const std::string remove = "provider.delete_snapshots";
  const Json deletion = boost::json::object{{"id", "a"}, {"type", 2}};
  PassedCalls calls;
  CHECK(!calls.answer_for(query, of(nullptr, "a")));
  calls.begun(remove, deletion);
  calls.begun(remove, deletion);
  CHECK(calls.ended(remove, deletion).empty());
  const auto answer = calls.answer_for(query, of(nullptr, "a"));
  REQUIRE(answer);
  CHECK(decode<SetFateReply>(*answer)->fate == SetFate::undecided);
  CHECK(!calls.answer_for(query, of(nullptr, "b")));
  CHECK(!calls.answer_for("provider.complete_set", of(nullptr, "a")));
  CHECK(calls.ended(remove, deletion).empty());
  CHECK(calls.ended(remove, deletion).empty());  // One that nobody told of.
  CHECK(!calls.answer_for(query, of(nullptr, "a")));
}

TEST_CASE("an end that passes nothing is not repeated") {
  PassedCalls calls;
  calls.begun(kEnd, of("s", nullptr));
  calls.begun(kBegin, of("s", "a"));
  calls.begun(kEnd, of("other", nullptr));
  calls.begun(kAbort, of(nullptr, "other"));
  calls.begun("provider.list_volumes", {});
  CHECK(calls.ended("provider.list_volumes", {}).empty());
  CHECK(calls.ended(kBegin, of("s", "a")).empty());
  CHECK(calls.ended(kBegin, of("s", "a")).empty());  // One that nobody told of.
}

TEST_CASE("what was under way for a session that umbrad does not know any more is ended after it") {
  PassedCalls calls;
  const auto gone = SessionId::random();
  const auto alive = SessionId::random();
  for (const auto& session : {gone, alive})
    calls.begun(kBegin, of(session.to_string().c_str(), "a"));
  calls.retain_sessions({alive});
  CHECK(calls.ended(kBegin, of(alive.to_string().c_str(), "a")).empty());
  const auto again = calls.ended(kBegin, of(gone.to_string().c_str(), "a"));
  REQUIRE(again.size() == 1);
  CHECK(again[0].method == kEnd);
  CHECK(again[0].params == of(gone.to_string().c_str(), nullptr));
}

}  // namespace
