// SPDX-License-Identifier: Apache-2.0
//
// What a requester may give to SetContext: one of VSS's contexts, as it is or with attributes that
// go with it and with each other. Pure.
//
//   always                 nothing that only the system sets: it came in by import, it is exposed,
//                          a hardware or file-share provider made it
//   plex, differential     exclude each other: one kind of copy
//   client accessible      excludes transportable, plex and differential
//   transportable          excludes every recovery: it happens where the set is imported
//   no auto-recovery       excludes every recovery
//
// context::kAll goes with nothing; it is for queries and deletions, and no set can be started in
// it.

#pragma once

#include <cstdint>

#include "umbra/result.h"
#include "umbra/vss.h"

namespace umbra::coord {

/// Attributes that a requester may add to a context.
inline constexpr std::uint32_t kAddableAttributes =
    attribute::kNoAutorecovery | attribute::kTransportable | attribute::kNotSurfaced |
    attribute::kNotTransacted | attribute::kDifferential | attribute::kPlex |
    attribute::kAutorecover | attribute::kRollbackRecovery | attribute::kDelayedPostSnapshot |
    attribute::kTxfRecovery;

/// Errors: unsupported_context (names what does not go together, and what would). Threads: any.
[[nodiscard]] Status check_context(std::uint32_t context_and_attributes);

/// attribute::kAutorecover if writers are to recover their data in the copies: one of the
/// components that take part, which have `component_flags` between them, wants it for what the
/// context is for (backup recovery, or with attribute::kRollbackRecovery that of application
/// rollbacks), and the context lets it. Else 0. Threads: any.
[[nodiscard]] std::uint32_t recovery_attribute(std::uint32_t context_and_attributes,
                                               std::uint32_t component_flags) noexcept;

}  // namespace umbra::coord
