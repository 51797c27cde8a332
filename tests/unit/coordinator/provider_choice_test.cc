// SPDX-License-Identifier: Apache-2.0

#include "engine/coordinator/provider_choice.h"

#include "tests/support/catch.h"

namespace {

using namespace umbra;
using namespace umbra::coord;

const Result<bool> kNotMine = fail(Errc::object_not_found, "");
const Result<bool> kBroken = fail(Errc::unexpected_provider_error, "broken");

Errc code(const Result<std::size_t>& result) { return result ? Errc::ok : result.error().code; }

TEST_CASE("hardware comes before software before the system provider",
          "[coordinator]"
          "[vss:rule.provider-order][vss:VSS_PROV.SYSTEM][vss:VSS_PROV.SOFTWARE]"
          "[vss:VSS_PROV.HARDWARE]") {
  std::vector<ProviderCandidate> list{{ProviderType::system, true},
                                      {ProviderType::software, true},
                                      {ProviderType::hardware, true},
                                      {ProviderType::hardware, true}};
  CHECK(choose_provider(list, false) == 2U);
  list[2].supports = list[3].supports = false;
  CHECK(choose_provider(list, false) == 1U);
  list[1].supports = kNotMine;
  CHECK(choose_provider(list, false) == 0U);
}

TEST_CASE("a volume that nobody takes is refused with the reason",
          "[coordinator]"
          "[vss:rule.provider-by-id][vss:VSS_E_VOLUME_NOT_SUPPORTED]"
          "[vss:VSS_E_VOLUME_NOT_SUPPORTED_BY_PROVIDER][vss:VSS_E_PROVIDER_NOT_REGISTERED]"
          "[vss:VSS_E_OBJECT_NOT_FOUND]") {
  CHECK(code(choose_provider({}, false)) == Errc::provider_not_registered);
  CHECK(code(choose_provider({{ProviderType::system, kNotMine}}, false)) ==
        Errc::volume_not_supported);
  CHECK(code(choose_provider({{ProviderType::system, false}}, false)) ==
        Errc::volume_not_supported);
  CHECK(code(choose_provider({{ProviderType::system, false}}, true)) ==
        Errc::volume_not_supported_by_provider);
  CHECK(code(choose_provider({{ProviderType::system, kNotMine}}, true)) == Errc::object_not_found);
  CHECK(code(choose_provider({{ProviderType::system, kNotMine}, {ProviderType::software, kBroken}},
                             false)) == Errc::unexpected_provider_error);
}

}  // namespace
