// SPDX-License-Identifier: Apache-2.0
#include <filesystem>
#include <fstream>

#include "provider/daemon/state_dir_posix.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace fs = std::filesystem;
using namespace umbra;
using namespace umbra::cowd;

namespace {

VolumeConfig config_named(const std::string& name) {
  VolumeConfig config;
  config.volume_id = VolumeId::random();
  config.name = name;
  config.origin_path = "/srv/" + name;
  config.diff_area_path = "/var/" + name;
  return config;
}

std::unique_ptr<StateDir> open_state(const test::TempDir& top) {
  auto state = StateDir::open(top / "state");
  REQUIRE(state);
  return std::move(*state);
}

void write_text(const fs::path& path, const std::string& text) { std::ofstream(path) << text; }

}  // namespace

TEST_CASE("what is saved is loaded by the next process, and removed for good", "[cowd]") {
  const test::TempDir top;
  const VolumeConfig first = config_named("first");
  const VolumeConfig second = config_named("second");
  {
    const auto state = open_state(top);
    REQUIRE(state->save(first));
    REQUIRE(state->save(second));
    REQUIRE(state->save(second));
  }
  const auto state = open_state(top);
  REQUIRE(state->load());
  CHECK(state->load()->volumes.size() == 2);
  REQUIRE(state->forget(first.volume_id));
  CHECK(state->forget(first.volume_id));
  REQUIRE(state->load()->volumes.size() == 1);
  CHECK(state->load()->volumes.front() == second);
}

TEST_CASE("files that are torn, foreign or misplaced are reported and stay", "[cowd]") {
  const test::TempDir top;
  const auto state = open_state(top);
  const VolumeConfig good = config_named("good");
  REQUIRE(state->save(good));
  const fs::path folder = top.path() / "state/volumes";
  const std::string text = to_text(config_named("torn"));
  write_text(folder / (Guid::random().to_string() + ".json"), text.substr(0, text.size() / 2));
  write_text(folder / "README", "not ours");
  write_text(folder / (Guid::random().to_string() + ".json"), to_text(config_named("misplaced")));
  write_text(folder / (Guid::random().to_string() + ".json"), "");
  const auto loaded = state->load();
  REQUIRE(loaded);
  REQUIRE(loaded->volumes.size() == 1);
  CHECK(loaded->volumes.front() == good);
  CHECK(loaded->problems.size() == 4);
  for (const std::string& problem : loaded->problems) {
    CHECK(problem.find(folder.string()) == 0);
  }
  CHECK(std::distance(fs::directory_iterator(folder), {}) == 5);
}

TEST_CASE("what a crash left half-written is removed and never read", "[cowd]") {
  const test::TempDir top;
  const auto state = open_state(top);
  const VolumeConfig config = config_named("a");
  const fs::path folder = top.path() / "state/volumes";
  const fs::path beside = folder / (config.volume_id.to_string() + ".json.new");
  write_text(beside, to_text(config));
  REQUIRE(state->load());
  CHECK(state->load()->volumes.empty());
  CHECK(state->load()->problems.empty());
  CHECK_FALSE(fs::exists(beside));
}

TEST_CASE("a state directory that is not ours alone is refused", "[cowd]") {
  const test::TempDir top;
  fs::create_directory(top / "open");
  fs::permissions(top / "open", fs::perms(0777));
  const auto open = StateDir::open(top / "open");
  REQUIRE_FALSE(open);
  CHECK(open.error().code == Errc::access_denied);
  write_text(top / "file", "");
  CHECK_FALSE(StateDir::open(top / "file"));
}

TEST_CASE("saving where the folder has gone is an error that names the file", "[cowd]") {
  const test::TempDir top;
  const auto state = open_state(top);
  fs::remove_all(top / "state");
  const VolumeConfig config = config_named("a");
  const Status saved = state->save(config);
  REQUIRE_FALSE(saved);
  CHECK(saved.error().code == Errc::io_error);
  CHECK(saved.error().context.find(config.volume_id.to_string()) != std::string::npos);
  CHECK_FALSE(state->load());
}

TEST_CASE("lost snapshots are remembered per volume, each once", "[cowd]") {
  const test::TempDir top;
  const VolumeId volume = VolumeId::random();
  const std::vector<SnapshotId> lost = {SnapshotId::random(), SnapshotId::random()};
  {
    const auto state = open_state(top);
    CHECK(state->list(volume)->empty());
    REQUIRE(state->add(volume, {&lost[0], 1}));
    REQUIRE(state->add(volume, lost));
  }
  const auto state = open_state(top);
  REQUIRE(state->list(volume));
  CHECK(*state->list(volume) == lost);
  CHECK(state->list(VolumeId::random())->empty());
}

TEST_CASE("a damaged list of lost snapshots is an error, never an empty list", "[cowd]") {
  const test::TempDir top;
  const auto state = open_state(top);
  const VolumeId volume = VolumeId::random();
  const fs::path file = top.path() / "state/lost" / (volume.to_string() + ".json");
  for (const char* text : {"", "{}", "{\"lost\": [1]}", "{\"lost\": [\"x\"]}"}) {
    write_text(file, text);
    REQUIRE_FALSE(state->list(volume));
    const SnapshotId snapshot = SnapshotId::random();
    CHECK_FALSE(state->add(volume, {&snapshot, 1}));
  }
}
