// SPDX-License-Identifier: Apache-2.0
#include "requester-sdk/cli/exit_code.h"

namespace umbra::cli {

ExitCode exit_code_for(const Error& error) noexcept {
  switch (error.code) {
    case Errc::ok: return ExitCode::done;
    case Errc::async_pending: return ExitCode::busy;  // It was not waited for any longer.
    case Errc::async_cancelled: return ExitCode::interrupted;
    case Errc::object_not_found: return ExitCode::not_found;
    case Errc::access_denied:
    case Errc::missing_privilege: return ExitCode::denied;
    case Errc::writer_not_responding:
    case Errc::writer_infrastructure:
    case Errc::unexpected_writer_error:
    case Errc::writererror_partial_failure:
    case Errc::writererror_inconsistentsnapshot:
    case Errc::writererror_outofresources:
    case Errc::writererror_timeout:
    case Errc::writererror_retryable:
    case Errc::writererror_nonretryable:
    case Errc::writererror_recovery_failed: return ExitCode::writer_failed;
    default: break;
  }
  switch (remedy(error.code)) {
    case Remedy::none: return ExitCode::done;
    case Remedy::fix_the_call: return ExitCode::refused;
    case Remedy::retry_later: return ExitCode::busy;
    case Remedy::reconnect: return ExitCode::unreachable;
    case Remedy::give_up: return ExitCode::failed;
  }
  return ExitCode::failed;
}

std::string exit_status_help() {
  return R"(EXIT STATUS
  0   done
  1   failed; something is broken or lost and a person has to look
  2   the command line is wrong
  3   done in part; the output says what is missing
  10  umbrad, or the provider that is needed, is not running
  11  something else is in the way, or a time limit passed; try again later
  12  not allowed to this user
  13  no such volume, snapshot or set
  14  the request cannot work like this
  15  a writer failed
  130 interrupted
Errors go to standard error: one line, or one JSON object with --json.)";
}

}  // namespace umbra::cli
