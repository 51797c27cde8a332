// SPDX-License-Identifier: Apache-2.0
#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>
#include <filesystem>
#include <fstream>

#include "requester-sdk/cli/commands.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/cli/fake_service.h"

namespace umbra::cli::test {
namespace {

using namespace std::chrono_literals;

FakeState a_backup() {
  auto state = without_error();
  for (const auto& id : {kOne, kTwo}) {
    auto& owner = state.bundle.components.writers.emplace_back();
    owner.class_id = WriterClassId{id};
    auto& writer = state.bundle.writers.emplace_back();
    writer.identity.class_id = owner.class_id;
    writer.identity.name = id == kOne ? "Ledger" : "Other Writer";
    owner.components.push_back(BackupComponent{.logical_path = "a\\b", .name = "one=1"});
    owner.components.push_back(BackupComponent{.name = "two"});
  }
  auto& report = state.restore_report;
  auto& component = report.components.emplace_back();
  component.writer = "Ledger";
  component.name = "two";
  component.status = FileRestoreStatus::all;
  component.with_writer = true;
  component.files = {{"/srv/two", "/new/srv/two", 7, true}};
  component.bytes = 7;
  return state;
}

TEST_CASE("a place to restore to has to be named, and one is enough", "[cli]") {
  auto state = a_backup();
  CHECK(umbra(state, {"restore", "b"}).status == 2);
  CHECK(umbra(state, {"restore", "b", "--in-place", "--to", "/x"}).status == 2);
  CHECK(umbra(state, {"restore", "b", "--map", "relative=/x"}).status == 2);
  CHECK(umbra(state, {"restore", "b", "--in-place", "--from-shadow", "x"}).status == 2);
  CHECK(umbra(state, {"restore", "--in-place"}).status == 2);
  CHECK(state.calls.empty());
  CHECK(umbra(state, {"restore", "b", "--in-place"}).status == 0);
  CHECK(state.calls == std::vector<std::string>{"load b", "restore"});
  CHECK(state.restored.relocations.empty());
  CHECK_FALSE(state.restored.only_relocated);
  CHECK(state.restored.components.size() == 4);
  CHECK(state.restored.with_writers);
  CHECK_FALSE(state.restored.replace);
}

TEST_CASE("everything that is asked reaches the restore", "[cli]") {
  auto state = a_backup();
  const auto ran = umbra(state, {"restore",
                                 "b",
                                 "--to",
                                 "/new/",
                                 "--map",
                                 "/a=/b",
                                 "--map",
                                 "/c=/d",
                                 "--component",
                                 "ledger:A\\B\\one=1",
                                 "--restore-option",
                                 "ledger:a\\b\\one=1=x=y",
                                 "--replace",
                                 "--no-writers",
                                 "--more-follow",
                                 "--dry-run",
                                 "--timeout",
                                 "5s",
                                 "--from",
                                 "/media"});
  INFO(ran.err);
  REQUIRE(ran.status == 0);
  const auto& asked = state.restored;
  REQUIRE(asked.relocations.size() == 3);
  CHECK(asked.relocations[2].from == "/");
  CHECK(asked.only_relocated);
  REQUIRE(asked.components.size() == 1);
  CHECK(asked.components[0].logical_path == "a\\b");
  CHECK(asked.components[0].options == "x=y");
  CHECK(asked.replace);
  CHECK_FALSE(asked.with_writers);
  CHECK(asked.additional_restores);
  CHECK(asked.dry_run);
  CHECK(asked.time_limit == 5s);
  CHECK(asked.source_directory == "/media");
}

TEST_CASE("components are named by writer, in any case, or all of one", "[cli]") {
  auto state = a_backup();
  REQUIRE(umbra(state, {"restore", "b", "--in-place", "--component", "OTHER writer"}).status == 0);
  CHECK(state.restored.components.size() == 2);
  const std::string id = WriterClassId{kTwo}.to_string();
  REQUIRE(umbra(state, {"restore", "b", "--in-place", "--component", id + ":two"}).status == 0);
  REQUIRE(state.restored.components.size() == 1);
  CHECK(state.restored.components[0].class_id == WriterClassId{kTwo});
  const auto unknown = umbra(state, {"restore", "b", "--in-place", "--component", "ledger:three"});
  CHECK(unknown.status == 13);
  CHECK(unknown.err.find("'Ledger:two'") != std::string::npos);
  REQUIRE(umbra(state, {"restore", "b", "--in-place", "--restore-option", "for=all"}).status == 0);
  for (const auto& one : state.restored.components) CHECK(one.options == "for=all");
}

TEST_CASE("a directory stands for the one bundle in it", "[cli]") {
  const umbra::test::TempDir top;
  auto state = a_backup();
  CHECK(umbra(state, {"restore", top.path().string(), "--in-place"}).status == 13);
  std::ofstream(top / "a.umbra.xml") << "";
  std::ofstream(top / "other") << "";
  CHECK(umbra(state, {"restore", top.path().string(), "--in-place"}).status == 0);
  CHECK(state.calls.front() == "load " + (top / "a.umbra.xml"));
  std::ofstream(top / "b.umbra.xml") << "";
  const auto several = umbra(state, {"restore", top.path().string(), "--in-place"});
  CHECK(several.status == 14);
  CHECK(several.err.find("b.umbra.xml") != std::string::npos);
  CHECK(bundle_path(top.path().string(), SnapshotSetId{kOne}) ==
        top / (SnapshotSetId{kOne}.to_string() + ".umbra.xml"));
  CHECK(bundle_path(top / "new.xml", SnapshotSetId{kOne}) == top / "new.xml");
}

TEST_CASE("a report says what became of each component, also after a failure", "[cli]") {
  auto state = a_backup();
  auto ran = umbra(state, {"restore", "b", "--in-place"});
  CHECK(ran.out.find("Ledger:two: restored, 1 files") != std::string::npos);
  ran = umbra(state, {"restore", "b", "--in-place", "--json"});
  const auto object = boost::json::parse(ran.out).as_object();
  CHECK(object.at("components").at(0).at("status") == "all");
  CHECK(object.at("components").at(0).at("files").at(0).at("destination") == "/new/srv/two");
  state.restore_error = {Errc::writererror_nonretryable, "writer 'Ledger'"};
  state.restore_report.components[0].status = FileRestoreStatus::failed;
  ran = umbra(state, {"restore", "b", "--in-place", "--json"});
  CHECK(ran.status == 15);
  CHECK(ran.out.empty());
  const auto failed = boost::json::parse(ran.err).as_object();
  CHECK(failed.at("components").at(0).at("status") == "failed");
  CHECK(failed.at("error").at("exit_status") == 15);
  ran = umbra(state, {"restore", "b", "--in-place"});
  CHECK(ran.out.find("DAMAGED") != std::string::npos);
}

TEST_CASE("documents are kept where it is asked, and told", "[cli]") {
  auto state = without_error();
  state.set.set_id = SnapshotSetId{kThree};
  const auto ran = umbra(state, {"create", "shadow", "db", "--documents", "/k/f.xml", "--json"});
  CHECK(ran.status == 0);
  CHECK(state.calls == std::vector<std::string>{"create", "save /k/f.xml", "finish succeeded"});
  CHECK(boost::json::parse(ran.out).as_object().at("documents") == "/k/f.xml");
  CHECK(umbra(state, {"exec", "db", "--documents", "/k/f.xml", "--", "true"}).status == 2);
}

}  // namespace
}  // namespace umbra::cli::test
