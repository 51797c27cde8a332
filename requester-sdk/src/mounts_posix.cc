// SPDX-License-Identifier: Apache-2.0 OR MIT
#include <sys/sysmacros.h>
#include <sys/types.h>

#include <charconv>
#include <fstream>
#include <sstream>

#include "engine/platform/path_device.h"
#include "requester-sdk/src/mounts.h"

namespace umbra::requester {
namespace {

// Blanks, tabs, line feeds and backslashes are three octal digits.
std::string unescaped(std::string_view text) {
  std::string path;
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned code = 0;
    const bool escape = text[i] == '\\' && i + 3 < text.size();
    const char* digits = text.data() + i + 1;
    if (escape && std::from_chars(digits, digits + 3, code, 8).ptr == digits + 3) {
      path.push_back(static_cast<char>(code));
      i += 3;
    } else {
      path.push_back(text[i]);
    }
  }
  return path;
}

}  // namespace

std::vector<Mount> parse_mountinfo(std::string_view text) {
  std::vector<Mount> mounts;
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string id;
    std::string parent;
    std::string numbers;
    std::string root;
    std::string point;
    if (!(words >> id >> parent >> numbers >> root >> point)) continue;
    const std::size_t colon = numbers.find(':');
    if (colon == std::string::npos) continue;
    unsigned major_number = 0;
    unsigned minor_number = 0;
    const char* const end = numbers.data() + numbers.size();
    const auto first = std::from_chars(numbers.data(), numbers.data() + colon, major_number);
    const auto second = std::from_chars(numbers.data() + colon + 1, end, minor_number);
    if (first.ec != std::errc{} || second.ec != std::errc{} || second.ptr != end) continue;
    std::string word;
    while (words >> word && word != "-") {
    }
    words >> word;
    mounts.push_back({makedev(major_number, minor_number),
                      {unescaped(point), unescaped(root)},
                      word,
                      major_number != 0 || word == "btrfs"});
  }
  return mounts;
}

std::vector<Mount> own_mounts() {
  std::ifstream file("/proc/self/mountinfo");
  std::ostringstream text;
  text << file.rdbuf();
  std::vector<Mount> mounts = parse_mountinfo(text.str());
  // Its numbers are made up; others are not asked, since one that hangs would hang us.
  for (Mount& mount : mounts) {
    if (mount.file_system == "btrfs") mount.device = device_of_path(mount.where.point);
  }
  return mounts;
}

}  // namespace umbra::requester
