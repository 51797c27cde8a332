// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// The decisions of delete_excluded_files().

#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "umbra/writer/exclusions.h"

namespace umbra::writer {

/// Whether a file's name fits a pattern of `*` and `?`.
[[nodiscard]] bool fits_pattern(std::string_view pattern, std::string_view name) noexcept;

/// The parts of `path` below `root`; nothing if it is not there. Both absolute; `.` and empty parts
/// do not count, and a path with `..` is nowhere.
[[nodiscard]] std::optional<std::vector<std::string>> parts_below(std::string_view root,
                                                                  std::string_view path);

/// Deletes in the open directory `copy`, whatever it is. Without the guard against live files.
[[nodiscard]] ExclusionReport delete_excluded_in(const std::vector<FileSet>& files,
                                                 const std::string& volume, int copy);

}  // namespace umbra::writer
