// SPDX-License-Identifier: Apache-2.0

#include "engine/coordinator/context_rules.h"

#include <set>

#include "tests/support/catch.h"

namespace {

using namespace umbra;
using namespace umbra::coord;
namespace at = umbra::attribute;

constexpr std::uint32_t kKnown =
    at::kPersistent | at::kNoAutorecovery | at::kClientAccessible | at::kNoAutoRelease |
    at::kNoWriters | at::kTransportable | at::kNotSurfaced | at::kNotTransacted |
    at::kHardwareAssisted | at::kDifferential | at::kPlex | at::kImported | at::kExposedLocally |
    at::kExposedRemotely | at::kAutorecover | at::kRollbackRecovery | at::kDelayedPostSnapshot |
    at::kTxfRecovery | at::kFileShare;

// The rules as VSS's tables of contexts and attributes word them, attribute by attribute.
bool allowed(std::uint32_t value) {
  const auto has = [value](std::uint32_t bit) { return (value & bit) != 0; };
  const std::uint32_t fixed = (has(0x01) ? 0x01U : 0U) | (has(0x04) ? 0x04U : 0U) |
                              (has(0x08) ? 0x08U : 0U) | (has(0x10) ? 0x10U : 0U);
  static const std::set<std::uint32_t> kContexts{0x00, 0x10, 0x19, 0x09, 0x1D, 0x0D};
  if (kContexts.count(fixed) == 0) return false;
  if (has(at::kHardwareAssisted) || has(at::kImported) || has(at::kExposedLocally) ||
      has(at::kExposedRemotely) || has(at::kFileShare))
    return false;
  if (has(at::kClientAccessible) &&
      (has(at::kTransportable) || has(at::kDifferential) || has(at::kPlex)))
    return false;
  if (has(at::kDifferential) && has(at::kPlex)) return false;
  const bool recovers =
      has(at::kAutorecover) || has(at::kRollbackRecovery) || has(at::kTxfRecovery);
  return !recovers || (!has(at::kTransportable) && !has(at::kNoAutorecovery));
}

TEST_CASE("every combination of context and attributes is taken or refused as VSS's tables say",
          "[coordinator][vss:IVssBackupComponents.SetContext][vss:VSS_E_UNSUPPORTED_CONTEXT]") {
  std::uint32_t wrong = 0;
  std::uint32_t first_wrong = 0;
  std::uint32_t taken = 0;
  // All subsets of the known bits, in ascending order.
  std::uint32_t value = 0;
  do {
    const auto status = check_context(value);
    const bool code = status || status.error().code == Errc::unsupported_context;
    if (status) ++taken;
    if (status.has_value() != allowed(value) || !code) {
      if (wrong++ == 0) first_wrong = value;
    }
    value = (value - kKnown) & kKnown;
  } while (value != 0);
  INFO("first wrong: " << first_wrong);
  CHECK(wrong == 0);
  CHECK(taken > 6);
}

TEST_CASE("copies are recovered where a component wants it and the context lets it",
          "[coordinator]") {
  constexpr std::uint32_t kBackup = 0x1;
  constexpr std::uint32_t kRollback = 0x2;
  const auto rollback = context::kAppRollback | at::kRollbackRecovery;
  CHECK(recovery_attribute(context::kBackup, kBackup) == at::kAutorecover);
  CHECK(recovery_attribute(context::kAppRollback, kBackup | kRollback) == at::kAutorecover);
  CHECK(recovery_attribute(context::kBackup, kRollback) == 0);
  CHECK(recovery_attribute(context::kBackup, 0) == 0);
  CHECK(recovery_attribute(rollback, kRollback) == at::kAutorecover);
  CHECK(recovery_attribute(rollback, kBackup) == 0);
  for (const auto no : {at::kNoAutorecovery, at::kTransportable})
    CHECK(recovery_attribute(context::kBackup | no, kBackup) == 0);
  CHECK(recovery_attribute(context::kNasRollback, kBackup) == 0);
}

TEST_CASE("unknown bits, two contexts at once and VSS_CTX_ALL", "[coordinator]") {
  CHECK(check_context(context::kAll));
  CHECK(!check_context(context::kAll & ~at::kPersistent));
  CHECK(!check_context(0x80000000U));
  CHECK(!check_context(0x00000100U));
  CHECK(!check_context(context::kFileShareBackup | context::kAppRollback | 0x04U | 0x20U));
  const auto both = check_context(at::kPlex | at::kDifferential);
  REQUIRE(!both);
  CHECK(both.error().context.find("give one of them") != std::string::npos);
}

}  // namespace
