// SPDX-License-Identifier: Apache-2.0
//
// What umbra-cowd does to itself as a process: locks that stop a second one, protection of the I/O
// path from the memory it serves, and becoming the guardian's child.

#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "engine/platform/unique_fd.h"
#include "umbra/result.h"

namespace umbra::cowd {

/// Holds `path` for this process until the descriptor is closed or the process ends; the file says
/// whose it is. Blocks for at most `patience`. Errors: volume_attached (another process has it:
/// says which); access_denied, io_error (the file).
[[nodiscard]] Result<UniqueFd> lock_file(const std::string& path,
                                         std::chrono::milliseconds patience);

/// In the run directory: held by umbra-cowd and by each of its helpers (helper_linux.h).
inline constexpr const char* kHelpersLock = "/helpers.lock";
/// Holds `path` for this process and whatever it starts, until all of them have ended: the
/// descriptor is inherited. Others may hold it at the same time, but for one that wants it alone.
/// Blocks for at most `patience`. Errors: volume_attached (somebody has it alone); access_denied,
/// io_error.
[[nodiscard]] Result<UniqueFd> share_lock_file(const std::string& path,
                                               std::chrono::milliseconds patience);

/// Before any thread is started: memory stays in RAM as it is touched, memory allocation of this
/// process never waits for I/O that it has to serve itself, the kernel kills others first, and
/// there are as many descriptors as the system grants. Best effort; returns what could not be had.
[[nodiscard]] std::vector<std::string> protect_process();

/// SIGTERM, SIGINT and SIGHUP are blocked in this thread and those it will start; SIGPIPE ignored.
void block_signals();
/// The next of the blocked signals. Blocks.
[[nodiscard]] int wait_for_signal();

/// Tells the service manager, if one has started this process and wants to hear it (NOTIFY_SOCKET,
/// the protocol of systemd's units of Type=notify): lines like "READY=1". Never blocks. Errors:
/// io_error (nobody listens, or not a usable address). Threads: any, while nobody changes the
/// environment.
[[nodiscard]] Status tell_service_manager(const std::string& lines);

struct GuardianCommand {
  std::string run_dir;
  std::string log_file;
  std::vector<std::string> arguments;  // Of umbra-cowd, without its name.
  /// Their names begin with "@", as this process's did: the last kill of a shutdown spares them.
  bool spared = false;
};
/// Replaces this process by umbra-guardian, the program beside this one, which starts this program
/// again as its child. Returns only on failure. Errors: object_not_found (no such program there);
/// io_error.
[[nodiscard]] Error become_guardian(const GuardianCommand& command);

/// The path without links; it exists. Errors: io_error.
[[nodiscard]] Result<std::string> real_path(const std::string& path);
[[nodiscard]] bool is_root() noexcept;
[[nodiscard]] std::string machine_name();

}  // namespace umbra::cowd
