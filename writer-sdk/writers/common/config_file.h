// SPDX-License-Identifier: Apache-2.0
//
// How the configuration of an umbra-writer-NAME is read: a TOML file whose keys are the long
// options with '_' for '-'. Every mistake is an error that names the line, the key and what to
// write instead.
//
// Errors of every function: invalid_argument.

#pragma once

#include <toml++/toml.h>
#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "umbra/result.h"
#include "writer-sdk/writers/common/options.h"

namespace umbra::writers {

[[nodiscard]] tl::unexpected<Error> wrong(const toml::node& node, const std::string& text);
[[nodiscard]] Status read_text(const toml::node& node, std::string_view key, std::string& value);
/// Adds to `values`. `what`: what the list is to hold, for people.
[[nodiscard]] Status read_texts(const toml::node& node, std::string_view key, std::string_view what,
                                std::vector<std::string>& values);
[[nodiscard]] Status read_milliseconds(const toml::node& node, std::string_view key,
                                       std::chrono::milliseconds& value);
/// None: it is no key of ProgramOptions.
[[nodiscard]] std::optional<Status> read_program_entry(std::string_view key, const toml::node& node,
                                                       ProgramOptions& options);

using ReadEntry = std::function<Status(std::string_view key, const toml::node& node)>;
/// Parses `text` and gives each entry of its top level to `read_entry`, up to the first error.
[[nodiscard]] Status read_entries(std::string_view text, const ReadEntry& read_entry);

}  // namespace umbra::writers
