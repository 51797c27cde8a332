// SPDX-License-Identifier: Apache-2.0

#include "writer-sdk/writers/common/options.h"

#include <algorithm>
#include <array>
#include <cctype>

namespace umbra::writers {

namespace {

constexpr std::array<const char*, 4> kLevels = {"debug", "info", "warning", "error"};

}  // namespace

std::optional<LogLevel> level_of(std::string_view name) {
  const auto* const found = std::find(kLevels.begin(), kLevels.end(), name);
  if (found == kLevels.end()) return std::nullopt;
  return static_cast<LogLevel>(found - kLevels.begin());
}

const char* level_name(LogLevel level) { return kLevels.at(static_cast<std::size_t>(level)); }

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(c < 0x80 ? std::tolower(c) : c); });
  return text;
}

Status check_range(const char* what, std::chrono::milliseconds value, std::int64_t least,
                   std::int64_t most) {
  if (value.count() >= least && value.count() <= most) return {};
  return fail(Errc::invalid_argument, std::string(what) + " must be " + std::to_string(least) +
                                          " to " + std::to_string(most) + " ms");
}

Status check_program_options(const ProgramOptions& options) {
  if (!level_of(options.log_level)) {
    return fail(Errc::invalid_argument,
                "log level '" + options.log_level + "'; there are debug, info, warning, error");
  }
  return check_range("the freeze window", options.freeze_window, 1, kFreezeWindowMax.count());
}

}  // namespace umbra::writers
