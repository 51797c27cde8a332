// SPDX-License-Identifier: Apache-2.0
//
// A holder: the process that freezes the file systems of one set and thaws them again, or flushes
// them. It is forked from the single-threaded guardian and has nothing of the guardian's but its
// own sockets and mounts, so a holder that cannot be killed (a process inside FIFREEZE cannot while
// its volume is not served) keeps nothing else alive.
//
// Guarantees: it freezes side by side and stops at the first failure; whatever it froze it thaws,
// in reverse order, as soon as one of these happens: it is told to by the guardian or by
// umbra-cowd, umbra-cowd's end is closed, the lease ends, a freeze fails or exceeds the limit. It
// needs neither of the two for the lease. A file system that somebody else has frozen is reported
// and left alone. A FIFREEZE that is still syncing when the lease ends is thawed when it returns:
// FITHAW would only wait for it.
//
// Each ioctl runs on a thread of its own; the main thread only waits for results, messages and the
// clock. Thaws start in reverse order without waiting for each other: one whose host is still
// frozen waits for it in the kernel, and independent volumes are not kept back.

#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

#include "engine/platform/unique_fd.h"
#include "provider/guardian/mounts_linux.h"
#include "umbra/ids.h"

namespace umbra::guardian {

enum class HolderMode : std::uint8_t {
  flush,   // syncfs everything mounted from the devices.
  freeze,  // Says `opened`, waits for `go`, freezes, waits, thaws.
  thaw,    // What a dead holder left: `mounts`, else what is mounted from the devices.
};

struct HolderTask {
  HolderMode mode = HolderMode::freeze;
  SnapshotSetId set{};
  std::vector<std::uint64_t> devices{};
  std::vector<Mount> mounts{};
  std::chrono::milliseconds limit{0};
  std::chrono::milliseconds lease{0};
  UniqueFd guardian{};        // The holder's end of its socket to the guardian.
  UniqueFd client{};          // The holder's end of its socket to umbra-cowd; freeze only.
  std::string record_path{};  // Deleted once everything is thawed.
};

/// Forks; the child runs the task and exits. Call from a single-threaded process. Returns -1 with
/// errno set if there is no process to be had.
[[nodiscard]] pid_t start_holder(HolderTask task);

}  // namespace umbra::guardian
