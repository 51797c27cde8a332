// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// A FUSE session seen from outside: by its descriptor of /dev/fuse, whoever serves it. Linux only.

#pragma once

#include <cstdint>

#include "umbra/result.h"

namespace umbra {

/// The number of the session, which is the minor number of its file system's device. 0: the kernel
/// does not tell (/proc/PID/fdinfo of older ones), or it is no session.
[[nodiscard]] std::uint32_t fuse_session_number(int descriptor);

/// Ends the session at once, as if nobody had a descriptor of it any more: what waits for it, and
/// what comes later, gets an error; who reads requests gets ENODEV. Never waits. For a session that
/// no mount leads to (umount2 with MNT_FORCE does the same where one does), and for one whose
/// server cannot die. Errors: missing_kernel_feature (the number is not told, or no fusectl);
/// missing_privilege; io_error.
[[nodiscard]] Status abort_fuse_session(int descriptor);
/// The same by its number: for whoever has no descriptor.
[[nodiscard]] Status abort_fuse_session_number(std::uint32_t number);

}  // namespace umbra
