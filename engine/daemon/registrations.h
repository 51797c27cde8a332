// SPDX-License-Identifier: Apache-2.0
//
// Which providers are registered here, kept in a small file, so that after a restart of umbrad a
// listing names a provider that has not come back yet instead of being empty, and a set that was
// left in doubt waits for it; and which were unregistered and are not to be let in. It is JSON, one
// ProviderList of the wire. Losing the file loses nothing but that: a set in doubt then waits for
// members that nobody has shown, until Limits::settle_wait, and who was unregistered may come back.

#pragma once

#include <string>
#include <vector>

#include "umbra/provider.h"
#include "umbra/result.h"

namespace umbra::daemon {

inline constexpr const char* kRegistrationsName = "providers.json";
inline constexpr std::size_t kRegistrationsBytesMax = 1U << 20U;

struct Registrations {
  std::vector<ProviderProperties> known;
  std::vector<ProviderProperties> unregistered;
};

/// What the file says; nothing if there is none. Errors: io_error; invalid_argument (not such a
/// file).
[[nodiscard]] Result<Registrations> load_registrations(const std::string& path);

/// Replaces the file whole: a reader, or a crash, sees the old or the new one. Blocks for the disk,
/// so never while a set may hold writes. Errors: io_error; the old file is left.
[[nodiscard]] Status save_registrations(const std::string& path,
                                        const Registrations& registrations);

}  // namespace umbra::daemon
