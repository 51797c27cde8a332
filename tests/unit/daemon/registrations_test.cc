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
          "[vss:IVssAdmin.RegisterProvider][vss:IVssAdmin.UnregisterProvider]") {
  const test::TempDir directory;
  const auto path = directory / "providers.json";
  CHECK(load_registrations(path)->known.empty());
  const std::vector<ProviderProperties> list{
      {ProviderId::random(), "cow", ProviderType::system, "1"},
      {ProviderId::random(), "san \"x\"\n", ProviderType::hardware, "7"}};
  const ProviderProperties gone{ProviderId::random(), "gone", ProviderType::software, "2"};
  REQUIRE(save_registrations(path, {list, {gone}}));
  const auto back = load_registrations(path);
  REQUIRE(back);
  REQUIRE(back->known.size() == 2);
  CHECK(back->known[0].provider_id == list[0].provider_id);
  CHECK(back->known[1].name == list[1].name);
  CHECK(back->known[1].type == ProviderType::hardware);
  REQUIRE(back->unregistered.size() == 1);
  CHECK(back->unregistered[0].provider_id == gone.provider_id);
  REQUIRE(save_registrations(path, {}));
  CHECK(load_registrations(path)->known.empty());
  CHECK(load_registrations(path)->unregistered.empty());
}

TEST_CASE("a file from before providers could be unregistered names known ones", "[daemon]") {
  const test::TempDir directory;
  const auto path = directory / "providers.json";
  std::ofstream(path) << R"({"providers":[{"properties":{"provider_id":)"
                      << R"("a65faa63-5ea8-4ebc-9dbd-a0c4db26912a","name":"old","type":2,)"
                      << R"("version":"1"},"connected":false}]})";
  const auto back = load_registrations(path);
  REQUIRE(back);
  REQUIRE(back->known.size() == 1);
  CHECK(back->known[0].name == "old");
  CHECK(back->unregistered.empty());
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
