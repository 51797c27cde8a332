// SPDX-License-Identifier: Apache-2.0
//
// Private to volume_manager.cc and volume_moves.cc: a row of the table, and words for errors.

#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "provider/daemon/volume_manager.h"

namespace umbra::cowd {

/// One row of the table. Rows that others can see are not changed but replaced: written only while
/// operations_ is held and before the row is put into the table, or while nobody can see it.
struct VolumeManager::Volume {
  VolumeConfig config;
  PathFacts origin;
  PathFacts diff;
  std::shared_ptr<Store> store;  // Null: not attached, see `problem`. Shared by a row's successors.
  std::shared_ptr<block::Device> live;
  Exposed exposed;
  std::string problem;
  std::vector<std::string> notes;
  PathFacts target;     // Of a move that is under way.
  bool moving = false;  // It is.
};

[[nodiscard]] inline std::string joined(const std::vector<std::string>& facts) {
  std::string text;
  for (const std::string& fact : facts) text += (text.empty() ? "" : ", ") + fact;
  return text;
}

[[nodiscard]] inline std::string in_quotes(std::string_view name) {
  return "\"" + printable(name) + "\"";
}

[[nodiscard]] inline std::string shown(const std::string& path) {
  return printable(path, kPathBytesMax);
}

[[nodiscard]] inline bool contains(const std::vector<std::uint64_t>& devices,
                                   std::uint64_t device) {
  return device != 0 && std::find(devices.begin(), devices.end(), device) != devices.end();
}

}  // namespace umbra::cowd
