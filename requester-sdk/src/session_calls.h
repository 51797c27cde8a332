// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Which call of a session is allowed in which of its states (requester-and-coordinator 2.9), as
// data. Pure.

#pragma once

#include <span>
#include <string>
#include <string_view>

#include "umbra/requester/backup_session.h"
#include "umbra/requester/restore_session.h"
#include "umbra/result.h"

namespace umbra::requester {

struct CallRow {
  std::string_view call;
  std::string_view states;  // A letter for each state that allows it.
};

/// U created, I initialized, G gathering, M metadata_ready, S set_started, Q preparing, P prepared,
/// C creating, D snapshot_created, E completing, F completed, X failed, L lost.
[[nodiscard]] char letter_of(SessionState state) noexcept;
[[nodiscard]] std::span<const CallRow> backup_calls() noexcept;

/// U created, I initialized, G gathering, M metadata_ready, Q pre_restoring, P prepared,
/// C post_restoring, F restored, L lost.
[[nodiscard]] char letter_of(RestoreState state) noexcept;
[[nodiscard]] std::span<const CallRow> restore_calls() noexcept;

/// Errors: coordinator_lost (in state lost); bad_state (names call, state, the states that would
/// do, and `running`, the operation that has not ended, if there is one).
[[nodiscard]] Status check_call(std::string_view call, SessionState state,
                                std::string_view running = {});
[[nodiscard]] Status check_call(std::string_view call, RestoreState state,
                                std::string_view running = {});

}  // namespace umbra::requester
