// SPDX-License-Identifier: Apache-2.0
#include "umbra/lun.h"

#include "tests/support/catch.h"

namespace {

using namespace umbra;

LunInformation lun_of(std::vector<LunIdentifier> identifiers) {
  LunInformation lun;
  lun.vendor = "V";
  lun.serial = "1";
  lun.size_bytes = 4096;
  lun.identifiers = std::move(identifiers);
  return lun;
}

TEST_CASE("a LUN is known by an identifier that no other has") {
  using Type = LunIdentifierType;
  for (const auto type : {Type::t10, Type::eui64, Type::naa, Type::scsi_name, Type::uuid}) {
    CHECK(is_unique(type));
    CHECK(has_unique_identifier(lun_of({{type, "a", {}}})));
    CHECK_FALSE(has_unique_identifier(lun_of({{type, "", {}}})));
    CHECK(is_same_lun(lun_of({{type, "a", {}}}), lun_of({{Type::md5, "x", {}}, {type, "a", {}}})));
    CHECK_FALSE(is_same_lun(lun_of({{type, "a", {}}}), lun_of({{type, "b", {}}})));
  }
  for (const auto type : {Type::vendor_specific, Type::relative_port, Type::port_group,
                          Type::unit_group, Type::md5, Type::protocol_port}) {
    CHECK_FALSE(is_unique(type));
    CHECK_FALSE(is_same_lun(lun_of({{type, "a", {}}}), lun_of({{type, "a", {}}})));
  }
  // One text of two kinds is two identifiers.
  CHECK_FALSE(is_same_lun(lun_of({{Type::naa, "a", {}}}), lun_of({{Type::eui64, "a", {}}})));
  CHECK_FALSE(is_same_lun(LunInformation{}, LunInformation{}));
}

TEST_CASE("a description is the same to the letter, but for the device") {
  const auto lun = lun_of({{LunIdentifierType::naa, "a", {}}, {LunIdentifierType::md5, "m", {}}});
  auto same = lun;
  same.device_path = "/dev/sdc";
  std::swap(same.identifiers[0], same.identifiers[1]);
  CHECK(is_same_description(lun, same));
  const auto differs = [&](auto change) {
    auto other = lun;
    change(other);
    return !is_same_description(lun, other);
  };
  CHECK(differs([](LunInformation& one) { one.vendor = "W"; }));
  CHECK(differs([](LunInformation& one) { one.product = "p"; }));
  CHECK(differs([](LunInformation& one) { one.revision = "2"; }));
  CHECK(differs([](LunInformation& one) { one.serial = "2"; }));
  CHECK(differs([](LunInformation& one) { one.size_bytes = 1; }));
  CHECK(differs([](LunInformation& one) { one.identifiers[0].value = "b"; }));
  CHECK(differs([](LunInformation& one) { one.identifiers[1].value = "n"; }));
  CHECK(differs([](LunInformation& one) { one.identifiers.pop_back(); }));
}

}  // namespace
