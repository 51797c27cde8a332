// SPDX-License-Identifier: Apache-2.0
//
// What umbra-cowd is doing, seen from outside through /proc: stopped, at work, waiting for a disk.
// Of a process that is gone nothing is true.

#pragma once

#include <sys/types.h>

#include <string>

namespace umbra::guardian {

[[nodiscard]] bool is_stopped(pid_t pid);

/// Others of its threads may not have.
[[nodiscard]] bool has_main_thread_ended(pid_t pid);

/// A text that changes while the process computes or moves data.
[[nodiscard]] std::string progress_of(pid_t pid);

/// A thread of it is in a read, write or flush of a file, or an io_uring of it has requests that
/// are not completed. Of a process that makes no progress: the storage below it stands still, and
/// SIGKILL would not end it before that answers.
[[nodiscard]] bool waits_for_storage(pid_t pid);

}  // namespace umbra::guardian
