// SPDX-License-Identifier: Apache-2.0
//
// A test that cannot run here says why and counts as skipped, never as passed:
//   if (auto reason = test::missing_root()) return test::skip(*reason);
#pragma once

#include <optional>
#include <string>

namespace umbra::test {

/// Ends the case as skipped (under ctest, where every case is a process of its own, with the exit
/// status that ctest counts as skipped) and prints the reason. Call it as the last thing of the
/// case.
void skip(const std::string& reason);

/// Why this cannot run, or nothing.
[[nodiscard]] std::optional<std::string> missing_root();
[[nodiscard]] std::optional<std::string> missing_program(const char* name);
/// Root, and a kernel with loop devices that this process may use.
[[nodiscard]] std::optional<std::string> missing_loop_devices();
[[nodiscard]] std::optional<std::string> missing_fuse();
[[nodiscard]] std::optional<std::string> missing_ublk();

}  // namespace umbra::test
