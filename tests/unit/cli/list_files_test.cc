// SPDX-License-Identifier: Apache-2.0
#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>
#include <sstream>

#include "requester-sdk/cli/commands.h"
#include "tests/support/catch.h"
#include "tests/unit/cli/fake_service.h"

namespace umbra::cli::test {
namespace {

FakeState a_backup() {
  auto state = without_error();
  auto& owner = state.bundle.components.writers.emplace_back();
  owner.class_id = WriterClassId{kOne};
  owner.components.push_back(BackupComponent{.name = "two"});
  auto& writer = state.bundle.writers.emplace_back();
  writer.identity.class_id = owner.class_id;
  writer.identity.name = "Ledger 2017:Writer";
  state.files.resize(2);
  state.files[0].original = "/srv";
  state.files[0].kind = requester::FileKind::directory;
  state.files[1].original = "/srv/a\xFF";
  state.files[1].source = "/mnt/a";
  state.files[1].component = "two";
  state.files[1].bytes = 7;
  state.files[1].ranges = {{1, 2}};
  state.files_summary = {1, 1, 2, {"look"}};
  return state;
}

TEST_CASE("files of a backup are listed as they come", "[cli]") {
  auto state = a_backup();
  const auto ran = umbra(state, {"list", "files", "b"});
  CHECK(ran.status == 0);
  CHECK(state.calls == std::vector<std::string>{"load b", "list_files"});
  CHECK(ran.out.starts_with("/srv/\n/srv/a"));
  CHECK(ran.out.find("(1 ranges)") != std::string::npos);
  CHECK(ran.err.find("look") != std::string::npos);
  CHECK(state.listed.components.empty());
  CHECK_FALSE(state.listed.type);
  CHECK(state.listed.not_to_backup.empty());
  const auto json = umbra(state, {"list", "files", "b", "--json"});
  std::istringstream lines(json.out);
  std::vector<boost::json::object> objects;
  for (std::string line; std::getline(lines, line);)
    objects.push_back(boost::json::parse(line).as_object());
  REQUIRE(objects.size() == 3);
  CHECK(objects[0].at("kind") == "directory");
  CHECK(objects[1].at("ranges").at(0).at("length") == 2);
  CHECK(objects[2].at("summary").at("files") == 1);
}

TEST_CASE("what is asked of the list reaches it", "[cli]") {
  auto state = a_backup();
  const auto ran =
      umbra(state, {"list", "files", "b", "--component", "ledger 2017:WRITER:a\\B", "--component",
                    WriterClassId{kOne}.to_string(), "--from", "/media/", "--type", "incremental",
                    "--since", "2026-01-01", "--not-to-backup", "/x"});
  INFO(ran.err);
  REQUIRE(ran.status == 0);
  REQUIRE(state.listed.components.size() == 2);
  CHECK(state.listed.components[0].class_id == WriterClassId{kOne});
  CHECK(state.listed.components[0].path == "a\\B");
  CHECK(state.listed.components[1].path.empty());
  REQUIRE(state.listed.sources.size() == 1);
  CHECK(state.listed.sources[0].from == "/");
  CHECK(state.listed.type == BackupType::incremental);
  CHECK(state.listed.base_filetime);
  CHECK(state.listed.not_to_backup == "/x");
  CHECK(umbra(state, {"list", "files", "b", "--component", "nobody"}).status == 13);
  CHECK(umbra(state, {"list", "files", "b", "--from-shadow", "x"}).status == 2);
  CHECK(umbra(state, {"list", "files"}).status == 2);
}

}  // namespace
}  // namespace umbra::cli::test
