// SPDX-License-Identifier: Apache-2.0
#include "requester-sdk/src/derive.h"

#include "tests/unit/requester_sdk/fake_link.h"

namespace {

using namespace umbra;
using namespace umbra::requester;
using namespace umbra::requester::test;

FileSet files(const std::string& path, bool recursive = false) {
  FileSet set;
  set.path = path;
  set.recursive = recursive;
  return set;
}

const std::vector<Mount> kMounts{{1, {"/", "/"}, "ext4", true},
                                 {10, {"/srv", "/"}, "ext4", true},
                                 {11, {"/srv/db", "/"}, "xfs", true},
                                 {12, {"/srv/db/logs", "/"}, "ext4", true},
                                 {13, {"/srv/dbx", "/"}, "ext4", true},
                                 {0x30, {"/srv/db/tmp", "/"}, "tmpfs", false},
                                 {14, {"/srv/covered", "/"}, "ext4", true}};

std::uint64_t device_at(const std::string& directory) {
  if (directory.starts_with("/lost")) return 0;
  if (directory.starts_with("/srv/covered")) return 10;  // Another mount lies above it.
  const Mount* mount = mount_above(kMounts, directory);
  return mount == nullptr ? 0 : mount->device;
}

std::vector<std::uint64_t> devices(const std::vector<FileSet>& sets) {
  std::vector<std::uint64_t> found;
  for (const auto& one : needed_devices(sets, kMounts, device_at)) found.push_back(one.device);
  return found;
}

TEST_CASE("the mount above a path is the nearest, and whole names count") {
  CHECK(mount_above(kMounts, "/srv/db/logs/x")->device == 12);
  CHECK(mount_above(kMounts, "/srv/db/logs")->device == 12);
  CHECK(mount_above(kMounts, "/srv/dbx/y")->device == 13);
  CHECK(mount_above(kMounts, "/srv/dbxy")->device == 10);
  CHECK(mount_above(kMounts, "/home")->device == 1);
  CHECK(mount_above({}, "/home") == nullptr);
}

TEST_CASE("a file set needs its device, and with subdirectories what is mounted below") {
  using Devices = std::vector<std::uint64_t>;
  CHECK(devices({files("/srv/db")}) == Devices{11});
  CHECK(devices({files("/srv/db", true)}) == Devices{11, 12});
  CHECK(devices({files("/srv", true)}) == Devices{10, 11, 12, 13});
  CHECK(devices({files("/srv/db/logs"), files("/srv/db", true)}) == Devices{12, 11});
  auto moved = files("/srv/db");
  moved.alternate_path = "/srv/dbx/dump";
  CHECK(devices({moved}) == Devices{13});
  CHECK(devices({files("/lost/a"), files("/lost/b"), files("/lost/a")}) == Devices{0, 0});
  CHECK(
      needed_devices(std::vector{files("/srv/db", true)}, kMounts, device_at).at(1).mounted_below);
}

WriterMetadataDocument tree() {
  WriterMetadataDocument document;
  const auto add = [&](const char* path, const char* name, const char* directory) {
    ComponentInfo component;
    component.logical_path = path;
    component.name = name;
    component.files = {files(directory)};
    document.components.push_back(component);
  };
  add("", "all", "/data/all");
  add("all", "part", "/data/part");
  add("all\\part", "leaf", "/data/leaf");
  add("", "other", "/elsewhere");
  return document;
}

TEST_CASE("a component's files are those of all that comes with it") {
  CHECK(files_of(tree(), "", "all").size() == 3);
  CHECK(files_of(tree(), "all", "part").size() == 2);
  CHECK(files_of(tree(), "", "other").size() == 1);
  CHECK(files_of(tree(), "", "nothing").empty());
}

TEST_CASE("the volumes of components are found, or the directory that no volume holds is named") {
  Session session;
  session.link.writers = {tree()};
  session.reach(SessionState::metadata_ready);
  const auto volumes = session.logic.volumes_of({{.name = "all"}});
  REQUIRE(volumes);
  REQUIRE(volumes->size() == 1);
  CHECK(volumes->at(0).id == kVolume);
  const auto missing = session.logic.volumes_of({{.name = "all"}, {.name = "other"}});
  REQUIRE(!missing);
  CHECK(missing.error().code == Errc::volume_not_supported);
  CHECK_THAT(missing.error().context, Catch::Contains("/elsewhere"));
  CHECK(session.logic.volumes_of({{.name = "nothing"}}).error().code == Errc::object_not_found);
}

TEST_CASE("a creation of components alone finds their volumes by itself") {
  Session session;
  session.link.writers = {tree()};
  CreateOptions options;
  options.components = {{.name = "all"}};
  const auto info = session.logic.create_snapshot_set(options);
  INFO((info ? "" : info.error().to_string()));
  REQUIRE(info);
  CHECK(info->components.size() == 1);
  CHECK(session.sent("session.add_component") == 1);
  CHECK(session.sent("session.add_to_snapshot_set") == 1);

  Session elsewhere;
  elsewhere.link.writers = {tree()};
  options.components = {{.name = "other"}};
  CHECK(elsewhere.logic.create_snapshot_set(options).error().code == Errc::volume_not_supported);
  CHECK(elsewhere.logic.state() == SessionState::failed);

  Session no_writers;
  options.context = context::kNasRollback;
  CHECK(no_writers.logic.create_snapshot_set(options).error().code == Errc::invalid_argument);
}

TEST_CASE("components that lie elsewhere than on the volumes that were named are told") {
  Session session;
  session.link.writers = {tree()};
  CreateOptions options;
  options.volumes.resize(1);
  options.volumes[0].name = "data";
  options.components = {{.name = "all"}, {.name = "other"}};
  const auto info = session.logic.create_snapshot_set(options);
  REQUIRE(info);
  CHECK(info->components.size() == 2);
  REQUIRE(info->partly_held.size() == 1);
  CHECK(info->partly_held[0].name == "other");
}

}  // namespace
