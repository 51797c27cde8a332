// SPDX-License-Identifier: Apache-2.0
//
// Whose a device of the kernel's NBD client is. The kernel keeps a text with each ("backend
// identifier", Linux 5.14; /sys/block/nbdN/backend shows it), and lets only who knows it connect it
// again: so a successor finds its own, and a stranger's is left alone. Pure.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "umbra/ids.h"
#include "umbra/result.h"

namespace umbra::nbd_device {

/// "umbra:/run/umbra:ID". The run directory is that of the process that serves it.
[[nodiscard]] std::string identifier_for(std::string_view run_dir, const VolumeId& volume);
/// Whose volume, if it is one of this run directory.
[[nodiscard]] std::optional<VolumeId> volume_of(std::string_view identifier,
                                                std::string_view run_dir);

/// For whoever keeps a device over our end.
struct SavedState {
  std::uint32_t id = 0;
  std::string identifier;
  friend bool operator==(const SavedState&, const SavedState&) = default;
};
[[nodiscard]] std::string to_text(const SavedState& state);
/// Errors: version_mismatch (of another version); invalid_argument (not a state).
[[nodiscard]] Result<SavedState> parse_state(std::string_view text);

[[nodiscard]] std::string block_path(std::uint32_t id);  // "/dev/nbd3".

}  // namespace umbra::nbd_device
