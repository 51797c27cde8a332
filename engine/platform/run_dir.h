// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Where the daemons keep their sockets and state of one boot. UMBRA_RUN_DIR decides if it is set;
// else /run/umbra for root, else $XDG_RUNTIME_DIR/umbra, else /tmp/umbra-UID. A directory in a
// place that others can write to (/tmp) is used only if it is ours alone: a directory (no link),
// owned by this user, mode 0700.

#pragma once

#include <string>
#include <string_view>

#include "umbra/result.h"

namespace umbra {

inline constexpr std::string_view kCoordinatorSocketName = "umbrad.sock";

/// The run directory of this process; it need not exist. Errors: invalid_argument (UMBRA_RUN_DIR is
/// not an absolute path). Threads: any, while nobody changes the environment.
[[nodiscard]] Result<std::string> default_run_dir();

/// Makes `directory` and its missing parents (system directories 0755, a private one 0700), or
/// checks what is there. `others_may_enter`: root's shared one, mode 0755, else 0700. Errors:
/// access_denied (somebody else's, a link, or open to others; the context says what to do);
/// io_error.
[[nodiscard]] Status ensure_run_dir(const std::string& directory, bool others_may_enter);

/// The coordinator's socket as a client finds it: in UMBRA_RUN_DIR if set; else the system's
/// (/run/umbra) if there is one; else that of this user's own run directory. Errors: as
/// default_run_dir(); access_denied (the private directory belongs to somebody else: its socket
/// could be anybody's).
[[nodiscard]] Result<std::string> find_coordinator_socket();

}  // namespace umbra
