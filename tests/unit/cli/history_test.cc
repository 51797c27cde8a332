// SPDX-License-Identifier: Apache-2.0
#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>

#include "tests/support/catch.h"
#include "tests/unit/cli/fake_service.h"

namespace umbra::cli::test {
namespace {

using Calls = std::vector<std::string>;

OperationInfo reverting(Errc status) {
  OperationInfo info;
  info.operation_id = OperationId{kOne};
  info.kind = "revert_to_snapshot";
  info.subject = kTwo.to_string();
  info.status = status;
  info.done = 1;
  info.total = 4096;
  return info;
}

FakeState checkpoints() {
  auto state = without_error();
  CheckpointProperties one;
  one.checkpoint_id = CheckpointId{kThree};
  one.volume_name = "db";
  one.name = "nightly";
  state.checkpoints = {one};
  one.checkpoint_id = CheckpointId{kOne};
  one.name = "weekly";
  one.lost = true;
  state.checkpoints.push_back(one);
  return state;
}

TEST_CASE("a revert waits for its end", "[cli]") {
  auto state = without_error();
  state.operations = {reverting(Errc::async_pending), reverting(Errc::async_finished)};
  const auto ran = umbra(state, {"revert", "shadow", kTwo.to_string(), "--json"});
  CHECK(ran.status == 0);
  const auto value = boost::json::parse(ran.out);
  CHECK(value.at("snapshot_id").as_string() == kTwo.to_string());
  CHECK(value.at("total_bytes").to_number<int>() == 4096);
  const auto asked = "blocks " + kTwo.to_string();
  CHECK(state.calls == Calls{asked, "revert " + kTwo.to_string(), "wait", "wait"});
  state.calls.clear();
  CHECK(umbra(state, {"revert", "shadow", kTwo.to_string(), "--force"}).out.find("mount") !=
        std::string::npos);
  CHECK(state.calls.at(1) == "revert " + kTwo.to_string() + " force");
  CHECK(umbra(state, {"revert", "shadow"}).status == 2);
  CHECK(umbra(state, {"revert"}).status == 2);
}

TEST_CASE("a revert that writers block is not begun, but for a switch", "[cli]") {
  auto state = without_error();
  state.writers_block_revert = true;
  state.operations = {reverting(Errc::async_finished)};
  const std::vector<std::string> words{"revert", "shadow", kTwo.to_string()};
  const auto blocked = umbra(state, words);
  CHECK(blocked.status != 0);
  CHECK(blocked.err.find("--ignore-writers") != std::string::npos);
  CHECK(state.calls == Calls{"blocks " + kTwo.to_string()});
  state.calls.clear();
  CHECK(umbra(state, {"revert", "shadow", kTwo.to_string(), "--ignore-writers"}).status == 0);
  CHECK(state.calls == Calls{"revert " + kTwo.to_string(), "wait"});
}

TEST_CASE("a revert that is refused, stops, or outlives its provider is told apart", "[cli]") {
  auto state = without_error();
  const std::vector<std::string> words{"revert", "shadow", kTwo.to_string()};
  state.error = {Errc::volume_in_use, "volume 'db' is mounted at /srv"};
  const auto refused = umbra(state, words);
  CHECK(refused.status == 11);
  CHECK(refused.err.find("mounted at /srv") != std::string::npos);
  state.error = {Errc::ok, {}};
  auto stopped = reverting(Errc::io_error);
  stopped.context = "it has stopped";
  state.operations = {stopped};
  CHECK(umbra(state, words).status == 1);
  for (const Errc code : {Errc::provider_not_registered, Errc::object_not_found}) {
    state.wait_error = Error{code, "away"};
    const auto left = umbra(state, words);
    CHECK(left.status == 11);
    CHECK(left.err.find("umbra query revert") != std::string::npos);
  }
  state.wait_error.reset();
  state.operations = {reverting(Errc::async_pending)};
  const auto late = umbra(state, {"revert", "shadow", kTwo.to_string(), "--timeout", "1s"});
  CHECK(late.status == 11);
  CHECK(late.err.find("it goes on") != std::string::npos);
}

TEST_CASE("reverts under way are shown, and given up", "[cli]") {
  auto state = without_error();
  RevertInfo revert;
  revert.volume_name = "db";
  revert.snapshot_id = SnapshotId{kTwo};
  revert.total_bytes = 200;
  revert.done_bytes = 100;
  state.reverts = {revert};
  CHECK(umbra(state, {"query", "revert"}).out.find("50 %") != std::string::npos);
  state.reverts[0].stopped = true;
  state.reverts[0].trouble = "the origin fails";
  const auto json = umbra(state, {"query", "revert", "db", "--json"});
  const auto shown = boost::json::parse(json.out).at("reverts").at(0);
  CHECK(shown.at("done_bytes").to_number<int>() == 100);
  CHECK(shown.at("stopped").as_bool());
  CHECK(shown.at("trouble").as_string() == "the origin fails");
  CHECK(umbra(state, {"revert", "abandon", "db"}).status == 0);
  CHECK(state.calls == Calls{"reverts ", "reverts db", "abandon db"});
  state.error = {Errc::object_not_found, "volume 'db' is not being reverted"};
  CHECK(umbra(state, {"query", "revert", "db"}).status == 13);
}

TEST_CASE("a checkpoint is made at the newest copy, or at a named one", "[cli]") {
  auto state = without_error();
  SnapshotProperties copy;
  copy.snapshot_id = SnapshotId{kOne};
  copy.creation_filetime = 5;
  state.snapshots.snapshots = {copy};
  copy.snapshot_id = SnapshotId{kTwo};
  copy.creation_filetime = 7;
  state.snapshots.snapshots.push_back(copy);
  const auto made = umbra(state, {"checkpoint", "create", "db", "nightly", "--json"});
  CHECK(made.status == 0);
  CHECK(boost::json::parse(made.out).at("checkpoint_id").as_string() == kThree.to_string());
  CHECK(umbra(state, {"checkpoint", "create", "db", "n", "--shadow", kOne.to_string()}).status ==
        0);
  CHECK(state.calls == Calls{"copies db", "checkpoint " + kTwo.to_string() + " nightly",
                             "checkpoint " + kOne.to_string() + " n"});
  state.snapshots.snapshots.clear();
  const auto none = umbra(state, {"checkpoint", "create", "db", "nightly"});
  CHECK(none.status == 13);
  CHECK(none.err.find("create one first") != std::string::npos);
}

TEST_CASE("checkpoints are listed, and deleted by name or id", "[cli]") {
  auto state = checkpoints();
  const auto list = umbra(state, {"checkpoint", "list", "db"});
  CHECK(list.out.find("full backup") != std::string::npos);
  const auto json = umbra(state, {"checkpoint", "list", "--json"});
  CHECK(boost::json::parse(json.out).at("checkpoints").at(1).at("lost").as_bool());
  CHECK(umbra(state, {"checkpoint", "delete", "db", "nightly"}).status == 0);
  CHECK(umbra(state, {"checkpoint", "delete", "db", kOne.to_string()}).status == 0);
  const auto unknown = umbra(state, {"checkpoint", "delete", "db", "monthly"});
  CHECK(unknown.status == 13);
  CHECK(unknown.err.find("nightly, weekly") != std::string::npos);
  CHECK(state.calls == Calls{"checkpoints db", "checkpoints ", "checkpoints db",
                             "delete checkpoint " + kThree.to_string(), "checkpoints db",
                             "delete checkpoint " + kOne.to_string(), "checkpoints db"});
}

TEST_CASE("changes since a checkpoint or a copy, up to a copy or to now", "[cli]") {
  auto state = checkpoints();
  const auto ran = umbra(state, {"changed", "--volume", "db", "--since", "nightly", "--raw"});
  CHECK(ran.status == 0);
  CHECK(ran.out == "12288 8192\n245760 4096\n");
  CHECK(umbra(state, {"changed", "--volume", "db", "--since", kTwo.to_string(), "--until",
                      kOne.to_string()})
            .status == 0);
  CHECK(state.calls == Calls{"checkpoints db", "changes " + kThree.to_string() + " now 0",
                             "changes " + kThree.to_string() + " now 50", "checkpoints db",
                             "changes " + kTwo.to_string() + " " + kOne.to_string() + " 0",
                             "changes " + kTwo.to_string() + " " + kOne.to_string() + " 50"});
  CHECK(umbra(state, {"changed", "--volume", "db", "--since", "monthly"}).status == 13);
  // One way of asking or the other.
  const auto one = kOne.to_string();
  const auto two = kTwo.to_string();
  CHECK(umbra(state, {"changed", one}).status == 2);
  CHECK(umbra(state, {"changed", "--since", "nightly"}).status == 2);
  CHECK(umbra(state, {"changed", "--volume", "db"}).status == 2);
  CHECK(umbra(state, {"changed", one, two, "--until", two}).status == 2);
  CHECK(umbra(state, {"changed", one, two, "--volume", "db", "--since", "nightly"}).status == 2);
  state.error = {Errc::changes_unknown, "checkpoint 'weekly'"};
  const auto unknown = umbra(state, {"changed", one, two});
  CHECK(unknown.status == 14);
  CHECK(unknown.err.find("full backup") != std::string::npos);
}

}  // namespace
}  // namespace umbra::cli::test
