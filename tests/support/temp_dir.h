// SPDX-License-Identifier: Apache-2.0
//
// A directory of the test's own that is gone afterwards, also when the test fails. Short enough for
// a socket's path.
#pragma once

#include <filesystem>
#include <string>

namespace umbra::test {

class TempDir {
 public:
  TempDir();
  explicit TempDir(const std::filesystem::path& parent);
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  /// A parent whose files live in memory, if the system has one: for tests that are about threads,
  /// not about a disk that is busy with something else.
  [[nodiscard]] static std::filesystem::path memory();

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] std::string operator/(const std::string& name) const {
    return (path_ / name).string();
  }

 private:
  std::filesystem::path path_;
};

}  // namespace umbra::test
