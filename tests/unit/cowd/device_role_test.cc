// SPDX-License-Identifier: Apache-2.0
#include "provider/daemon/device_role.h"

#include "tests/support/catch.h"

using namespace umbra;
using namespace umbra::cowd;

namespace {

constexpr const char* kRun = "/run/umbra";

std::vector<VolumeConfig> configs() {
  std::vector<VolumeConfig> all(2);
  all[0].volume_id = VolumeId::random();
  all[0].name = "db";
  all[0].origin_path = "/dev/disk/by-id/one";
  all[0].diff_area_path = "/dev/sdc";
  all[1].volume_id = VolumeId::random();
  all[1].name = "mail";
  all[1].origin_path = "/srv/mail.img";
  all[1].diff_area_path = "/srv/mail.diff";
  return all;
}

}  // namespace

TEST_CASE("a device's role is told by what it lies on or by any of its names", "[device_role]") {
  const auto volumes = configs();
  const auto role = [&](const BlockDeviceView& device) { return role_of(device, kRun, volumes); };
  const std::string live = "/run/umbra/fuse/volumes/" + volumes[1].volume_id.to_string();
  CHECK(role({"/dev/loop3", {}, live, {}, {}}) == RoleOfDevice{DeviceRole::live, "mail"});
  const std::string nbd = "umbra:/run/umbra:" + volumes[0].volume_id.to_string();
  CHECK(role({"/dev/nbd3", {}, {}, nbd, {}}) == RoleOfDevice{DeviceRole::live, "db"});
  CHECK(role({"/dev/nbd3", {}, {}, "umbra:/run/other:" + volumes[0].volume_id.to_string(), {}}) ==
        RoleOfDevice{});
  CHECK(role({"/dev/nbd3", {}, {}, {}, {"db"}}) == RoleOfDevice{});  // A name of its former life.
  CHECK(role({"/dev/ublkb0", {}, {}, {}, {"mail"}}) == RoleOfDevice{DeviceRole::live, "mail"});
  CHECK(role({"/dev/ublkb0", {}, {}, {}, {"gone"}}) == RoleOfDevice{});
  CHECK(role({"/dev/ublkb0", {}, {}, {}, {}}) == RoleOfDevice{});
  CHECK(role({"/dev/loop4", {}, "/run/umbra/fuse/snapshots/x", {}, {}}) ==
        RoleOfDevice{DeviceRole::copy, {}});
  CHECK(role({"/dev/sdb", {"/dev/disk/by-path/p", "/dev/disk/by-id/one"}, {}, {}, {}}) ==
        RoleOfDevice{DeviceRole::origin, "db"});
  CHECK(role({"/dev/sdc", {}, {}, {}, {}}) == RoleOfDevice{DeviceRole::diff_area, "db"});
  CHECK(role({"/dev/sdd", {"/dev/disk/by-id/two"}, {}, {}, {}}) == RoleOfDevice{});
  CHECK(role({"/dev/loop5", {}, "/srv/other.img", {}, {}}) == RoleOfDevice{});
  // Served by another umbra-cowd, or for a volume that is forgotten.
  CHECK(role({"/dev/loop6", {}, "/run/other/fuse/volumes/x", {}, {}}) == RoleOfDevice{});
}

TEST_CASE("udev gets properties", "[device_role]") {
  CHECK(to_properties({DeviceRole::none, {}}).empty());
  CHECK(to_properties({DeviceRole::copy, {}}) == "UMBRA_ROLE=copy\n");
  CHECK(to_properties({DeviceRole::origin, "db"}) == "UMBRA_ROLE=origin\nUMBRA_VOLUME=db\n");
}
