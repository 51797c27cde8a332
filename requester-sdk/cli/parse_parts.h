// SPDX-License-Identifier: Apache-2.0
//
// Private to parse*.cc: what every command's syntax is made of.

#pragma once

#include <CLI/CLI.hpp>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "requester-sdk/cli/parse.h"

namespace umbra::cli {

using Words = std::vector<std::string>;

struct Parser {
  CLI::App app{"Point-in-time copies of volumes, consistent for the applications on them.",
               "umbra"};
  Invocation invocation;
  Words command_after_dashes;  // Of exec.
};

// A subcommand whose options include the global ones, wherever they stand.
inline CLI::App* add(CLI::App& parent, const std::string& name, const std::string& text) {
  CLI::App* app = parent.add_subcommand(name, text);
  app->fallthrough();
  app->footer(exit_status_help());
  return app;
}

template <class Value, class Parse>
void add_parsed(CLI::App* app, const std::string& name, Value& value, Parse parse_text,
                const std::string& help) {
  app->add_option_function<std::string>(
      name,
      [&value, parse_text, name](const std::string& text) {
        auto parsed = parse_text(text);
        if (!parsed) throw CLI::ValidationError(name, "'" + text + "' is not understood");
        value = std::move(*parsed);
      },
      help);
}

// An option that is one of a few words, each for a value.
template <class Value>
void add_words(CLI::App* app, const std::string& name, Value& value,
               const std::map<std::string, Value>& words, const std::string& help) {
  app->add_option_function<std::string>(
         name, [&value, words](const std::string& text) { value = words.at(text); }, help)
      ->check(CLI::IsMember(words));
}

template <class IdType>
std::optional<IdType> parse_id(const std::string& text) {
  auto id = IdType::parse(text);
  if (!id) return std::nullopt;
  return *id;
}

/// In parse_management.cc; after the commands `list` and `delete`, which it adds to.
void add_management_commands(Parser& parser);
/// In parse_providers.cc.
void add_provider_commands(Parser& parser);
/// In parse_programs.cc.
void add_program_commands(Parser& parser);
/// In parse_history.cc.
void add_history_commands(Parser& parser);

}  // namespace umbra::cli
