// SPDX-License-Identifier: Apache-2.0
//
// A process that opens, mounts and unmounts what umbra-cowd serves. umbra-cowd must not do that
// itself: a thread of it that waits for its own device cannot be killed before a successor serves
// the device, and no successor starts before it is dead. So each such step is a short-lived process
// of its own, umbra-cowd's program under another name, which reads nothing but its arguments and
// answers on its standard output: a code, a newline, text.

#pragma once

#include <sys/types.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "engine/platform/unique_fd.h"
#include "umbra/result.h"

namespace umbra::cowd {

/// argv[0] of such a process.
inline constexpr const char* kHelperName = "umbra-cowd-helper";
/// How long a step may take, before it is given up and its process killed.
inline constexpr std::chrono::seconds kHelperLimit{60};

/// Runs one step. Blocks at most kHelperLimit. Errors: io_error (the process could not be started,
/// or did not answer in time); what the step says. Threads: any.
[[nodiscard]] Result<std::string> run_helper(const std::vector<std::string>& words);

/// A step that goes on until it is let go, or this process is gone.
class HelperClaim {
 public:
  /// As run_helper(), but the step has answered and goes on.
  [[nodiscard]] static Result<std::unique_ptr<HelperClaim>> take(
      const std::vector<std::string>& words);
  /// Blocks at most kHelperLimit.
  ~HelperClaim();
  HelperClaim(const HelperClaim&) = delete;
  HelperClaim& operator=(const HelperClaim&) = delete;

 private:
  HelperClaim(pid_t process, UniqueFd hold, UniqueFd answer);
  pid_t process_;
  UniqueFd hold_;    // The step ends when this is closed.
  UniqueFd answer_;  // At its end when the step has ended.
};

/// main() of the helper; `words` without the program's name. Steps and their answers:
///   attach-loop FILE BLOCK_BYTES SESSION   the device: "/dev/loop3"; LoopOptions::session
///   detach-loop FILE SESSION       errors: volume_in_use
///   clear-loop FILE SESSION        also in use: then it goes with its last user
///   clear-device DEVICE            the same
///   load-module NAME               asks the kernel for it: ublk_drv, nbd
///   stop-ublk ID                   ublk::stop_unused(); errors: volume_in_use
///   remove-ublk ID                 ublk::remove_device()
///   nbd-ask-again ID MS            nbd_device::ask_again_after()
///   stop-nbd ID IDENTIFIER         nbd_device::disconnect_unused(); errors: volume_in_use
///   remove-nbd ID IDENTIFIER       nbd_device::disconnect()
///   mount FILE DIRECTORY MANNER    the device. MANNER: as-it-is (read-only, no journal is
///                                  replayed), recover (read-only, after replaying it into the
///                                  file), write. Errors: object_not_found, invalid_argument (no
///                                  directory), volume_in_use (a mount point), not_supported (no
///                                  file system)
///   unmount DIRECTORY FILE         errors: volume_in_use
///   detach-mount DIRECTORY         also in use: it is gone for new users at once
///   dismount DIRECTORY             the topmost mount there; errors: volume_in_use
///   claim DEVICE                   goes on: nobody can mount it, and the kernel has none of it in
///                                  its cache at begin and end; errors: volume_in_use
int helper_main(const std::vector<std::string>& words);

}  // namespace umbra::cowd
