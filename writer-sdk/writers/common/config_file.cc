// SPDX-License-Identifier: Apache-2.0

#include "writer-sdk/writers/common/config_file.h"

#include <cstdint>
#include <utility>

namespace umbra::writers {

tl::unexpected<Error> wrong(const toml::node& node, const std::string& text) {
  return fail(Errc::invalid_argument,
              "line " + std::to_string(node.source().begin.line) + ": " + text);
}

Status read_text(const toml::node& node, std::string_view key, std::string& value) {
  const auto text = node.value<std::string>();
  if (!node.is_string() || !text) return wrong(node, std::string(key) + " must be a string");
  value = *text;
  return {};
}

Status read_texts(const toml::node& node, std::string_view key, std::string_view what,
                  std::vector<std::string>& values) {
  const auto* list = node.as_array();
  if (list == nullptr) {
    return wrong(node, std::string(key) + " must be a list of " + std::string(what));
  }
  for (const auto& entry : *list) {
    std::string text;
    if (auto read = read_text(entry, "each of " + std::string(key), text); !read) return read;
    values.push_back(std::move(text));
  }
  return {};
}

Status read_milliseconds(const toml::node& node, std::string_view key,
                         std::chrono::milliseconds& value) {
  const auto number = node.value<std::int64_t>();
  if (!node.is_integer() || !number) {
    return wrong(node, std::string(key) + " must be a whole number of milliseconds");
  }
  value = std::chrono::milliseconds(*number);
  return {};
}

std::optional<Status> read_program_entry(std::string_view key, const toml::node& node,
                                         ProgramOptions& options) {
  if (key == "socket") return read_text(node, key, options.socket_path);
  if (key == "instance_name") return read_text(node, key, options.instance_name);
  if (key == "log_level") return read_text(node, key, options.log_level);
  if (key == "freeze_window_ms") return read_milliseconds(node, key, options.freeze_window);
  return std::nullopt;
}

Status read_entries(std::string_view text, const ReadEntry& read_entry) {
  toml::table table;
  try {
    table = toml::parse(text);
  } catch (const toml::parse_error& error) {
    return fail(Errc::invalid_argument, "line " + std::to_string(error.source().begin.line) + ": " +
                                            std::string(error.description()));
  }
  for (const auto& [key, node] : table) {
    if (auto read = read_entry(key.str(), node); !read) return read;
  }
  return {};
}

}  // namespace umbra::writers
