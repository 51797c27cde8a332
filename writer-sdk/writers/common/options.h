// SPDX-License-Identifier: Apache-2.0
//
// What every umbra-writer-NAME is told, and what is checked of it. A writer adds its own options.

#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "umbra/log_sink.h"
#include "umbra/result.h"

namespace umbra::writers {

inline constexpr std::chrono::milliseconds kFreezeWindowMax{60'000};

struct ProgramOptions {
  std::string socket_path;    ///< Empty: the platform's.
  std::string instance_name;  ///< Tells several instances apart; may be empty.
  std::string log_level = "info";
  /// Between Freeze and Thaw; then everything is released, whatever happens.
  std::chrono::milliseconds freeze_window{60'000};
};

/// "debug", "info", "warning", "error"; none for another name.
[[nodiscard]] std::optional<LogLevel> level_of(std::string_view name);
[[nodiscard]] const char* level_name(LogLevel level);

/// ASCII letters only, as names of components are compared.
[[nodiscard]] std::string lower(std::string text);

/// `least` and `most` are included. Errors: invalid_argument.
[[nodiscard]] Status check_range(const char* what, std::chrono::milliseconds value,
                                 std::int64_t least, std::int64_t most);
/// The log level and the freeze window. Errors: invalid_argument, which says what to write instead.
[[nodiscard]] Status check_program_options(const ProgramOptions& options);

}  // namespace umbra::writers
