// SPDX-License-Identifier: Apache-2.0

#include "engine/daemon/registrations.h"

#include <fstream>

#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace {

using namespace umbra;
using namespace umbra::daemon;

TEST_CASE("known providers come back from their file",
          "[daemon]"
          "[vss:IVssAdmin.RegisterProvider]") {
  const test::TempDir directory;
  const auto path = directory / "providers.json";
  CHECK(load_registrations(path)->empty());
  const std::vector<ProviderProperties> list{
      {ProviderId::random(), "cow", ProviderType::system, "1"},
      {ProviderId::random(), "san \"x\"\n", ProviderType::hardware, "7"}};
  REQUIRE(save_registrations(path, list));
  const auto back = load_registrations(path);
  REQUIRE(back);
  REQUIRE(back->size() == 2);
  CHECK((*back)[0].provider_id == list[0].provider_id);
  CHECK((*back)[1].name == list[1].name);
  CHECK((*back)[1].type == ProviderType::hardware);
  REQUIRE(save_registrations(path, {}));
  CHECK(load_registrations(path)->empty());
}

TEST_CASE("a file of something else is refused", "[daemon]") {
  const test::TempDir directory;
  const auto path = directory / "providers.json";
  for (const auto& text : {std::string("nonsense"), std::string("{\"providers\":7}"),
                           std::string(kRegistrationsBytesMax + 1, ' ')}) {
    std::ofstream(path, std::ios::trunc) << text;
    const auto back = load_registrations(path);
    REQUIRE(!back);
    CHECK(back.error().code == Errc::invalid_argument);
  }
}

TEST_CASE("a directory that is not there cannot keep it", "[daemon]") {
  const test::TempDir directory;
  const auto status = save_registrations(directory / "none" + std::string("/providers.json"), {});
  REQUIRE(!status);
  CHECK(status.error().code == Errc::io_error);
}

}  // namespace
