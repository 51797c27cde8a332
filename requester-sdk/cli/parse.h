// SPDX-License-Identifier: Apache-2.0
//
// The command line of `umbra`: words in, a command to carry out. No I/O.

#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "requester-sdk/cli/commands.h"

namespace umbra::cli {

struct Invocation {
  bool json = false;
  std::string run_dir;
  std::string socket;
  /// Carries the command out; returns the exit status.
  std::function<int(Service&, Output&)> command;
};

/// Nothing to carry out: --help, --version, or a mistake.
struct Said {
  std::string text;
  bool mistake = false;
  bool json = false;  // --json was among the words.
};

/// `words` without the program's name.
[[nodiscard]] std::variant<Invocation, Said> parse(std::vector<std::string> words);

/// "90" and "90s", "10m", "2h", "500ms"; nothing if it is none of these or more than a week.
[[nodiscard]] std::optional<std::chrono::milliseconds> parse_duration(const std::string& text);
/// The same up to a hundred years, with d and y (365 days) too: "30d".
[[nodiscard]] std::optional<std::chrono::seconds> parse_term(const std::string& text);
/// "2027-01-31", "2027-01-31T23:59:59Z" (UTC) as FILETIME.
[[nodiscard]] std::optional<std::int64_t> parse_time(const std::string& text);
/// "20G", "10%" (1 to 100), "UNBOUNDED" in any case.
[[nodiscard]] std::optional<MaximumSize> parse_maximum(const std::string& text);
/// "4096", "16K", "10G" (powers of 1024); nothing if it is none or passes 2^63.
[[nodiscard]] std::optional<std::uint64_t> parse_bytes(const std::string& text);

}  // namespace umbra::cli
