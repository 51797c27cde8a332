// SPDX-License-Identifier: Apache-2.0

#include "engine/coordinator/context_rules.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <string>
#include <string_view>

namespace umbra::coord {
namespace {

constexpr std::array kContexts{context::kBackup,           context::kFileShareBackup,
                               context::kNasRollback,      context::kAppRollback,
                               context::kClientAccessible, context::kClientAccessibleWriters};

constexpr std::uint32_t kRecoveries =
    attribute::kAutorecover | attribute::kRollbackRecovery | attribute::kTxfRecovery;

// Whoever has a bit of the one may have none of the other.
struct Exclusion {
  std::uint32_t one;
  std::uint32_t other;
  std::string_view why;
};
constexpr std::array kExclusions{
    Exclusion{attribute::kPlex, attribute::kDifferential,
              "a copy is a full mirror (plex) or differential, not both; give one of them"},
    Exclusion{
        attribute::kClientAccessible,
        attribute::kTransportable | attribute::kPlex | attribute::kDifferential,
        "client-accessible copies are the system provider's own kind: leave out transportable, "
        "plex and differential"},
    Exclusion{attribute::kTransportable, kRecoveries,
              "a transportable copy is recovered where it is imported: leave out the recovery"},
    Exclusion{attribute::kNoAutorecovery, kRecoveries,
              "no auto-recovery and a recovery exclude each other; give one of them"},
};

std::string hex(std::uint32_t value) {
  std::array<char, 16> text{};
  // The buffer holds any 32-bit number in this form, so truncation cannot happen.
  (void)std::snprintf(text.data(), text.size(), "0x%08X", static_cast<unsigned>(value));
  return text.data();
}

}  // namespace

Status check_context(std::uint32_t context) {
  if (context == context::kAll) return {};
  const auto base = context & context::kMask;
  if (std::find(kContexts.begin(), kContexts.end(), base) == kContexts.end())
    return fail(Errc::unsupported_context,
                "context " + hex(context) +
                    " is none of VSS's; give one of them and no second one with it");
  const auto foreign = context & ~(context::kMask | kAddableAttributes);
  if (foreign != 0)
    return fail(Errc::unsupported_context,
                "attributes " + hex(foreign) + " are not a requester's to give; leave them out");
  for (const auto& rule : kExclusions)
    if ((context & rule.one) != 0 && (context & rule.other) != 0)
      return fail(Errc::unsupported_context,
                  "context " + hex(context) + ": " + std::string(rule.why));
  return {};
}

std::uint32_t recovery_attribute(std::uint32_t context, std::uint32_t component_flags) noexcept {
  // VSS_CF_BACKUP_RECOVERY and VSS_CF_APP_ROLLBACK_RECOVERY; this library knows no documents.
  constexpr std::uint32_t kBackupRecovery = 0x1;
  constexpr std::uint32_t kAppRollbackRecovery = 0x2;
  const bool refused = (context & (attribute::kNoAutorecovery | attribute::kTransportable)) != 0;
  if (refused || !has_writers(context)) return 0;
  const bool rollback = (context & attribute::kRollbackRecovery) != 0;
  const auto wanted = rollback ? kAppRollbackRecovery : kBackupRecovery;
  return (component_flags & wanted) != 0 ? attribute::kAutorecover : 0;
}

}  // namespace umbra::coord
