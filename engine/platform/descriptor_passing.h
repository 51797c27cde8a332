// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// File descriptors that go to another process beside bytes, over a local socket (SCM_RIGHTS). No
// call blocks. Threads: any; one at a time for each socket.

#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "engine/platform/unique_fd.h"

namespace umbra {

/// Beside one piece of bytes; Linux takes no more than 253.
inline constexpr std::size_t kDescriptorsPassedMax = 253;

/// The bytes that were sent, with all of `fds` beside the first of them; -1: errno says why
/// (EAGAIN: the other side does not read; EINVAL: more than kDescriptorsPassedMax).
[[nodiscard]] std::ptrdiff_t send_with_descriptors(int socket, std::span<const std::byte> bytes,
                                                   std::span<const int> fds) noexcept;

struct Passed {
  std::ptrdiff_t count = -1;  // Bytes; 0: the end; -1: `error`.
  int error = 0;              // EAGAIN: nothing is there.
  bool truncated = false;     // A datagram or its descriptors did not fit, and are lost in part.
};
/// Descriptors that came are added to `fds` whatever else happened, closed on exec.
[[nodiscard]] Passed receive_with_descriptors(int socket, std::span<std::byte> out,
                                              std::vector<UniqueFd>& fds);

}  // namespace umbra
