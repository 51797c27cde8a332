// SPDX-License-Identifier: Apache-2.0
#include "provider/frontend/nbd_device/identity.h"

#include "tests/support/catch.h"

using namespace umbra;
using namespace umbra::nbd_device;

TEST_CASE("an identifier names run directory and volume, and is nobody else's", "[nbd_device]") {
  const VolumeId volume = VolumeId::random();
  const std::string ours = identifier_for("/run/umbra", volume);
  CHECK(ours == "umbra:/run/umbra:" + volume.to_string());
  CHECK(volume_of(ours, "/run/umbra") == volume);
  CHECK_FALSE(volume_of(ours, "/run/umbra2"));
  CHECK_FALSE(volume_of(ours, "/run"));
  CHECK_FALSE(volume_of(ours + "x", "/run/umbra"));
  CHECK_FALSE(volume_of("umbra:/run/umbra:", "/run/umbra"));
  CHECK_FALSE(volume_of("", "/run/umbra"));
  CHECK_FALSE(volume_of("somebody", "/run/umbra"));
}

TEST_CASE("a saved state is read back, and what is none is refused", "[nbd_device]") {
  const SavedState state{7, identifier_for("/run/with space", VolumeId::random())};
  CHECK(parse_state(to_text(state)) == state);
  CHECK(to_text({7, "umbra:x"}) ==
        "umbra-nbd 1 7 umbra:x");  // A successor of another build agrees.
  for (const char* text :
       {"", "7", "umbra-nbd 1 ", "umbra-nbd 1 7", "umbra-nbd 1 7 ", "umbra-nbd 1 -1 x",
        "umbra-nbd 1 4294967296 x", "umbra-nbd 1 7x y", "umbra-ublk 1 7"}) {
    INFO(text);
    const auto got = parse_state(text);
    REQUIRE_FALSE(got);
    CHECK(got.error().code == Errc::invalid_argument);
  }
  CHECK(parse_state("umbra-nbd 2 7 x").error().code == Errc::version_mismatch);
}
