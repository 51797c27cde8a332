// SPDX-License-Identifier: Apache-2.0
#include "tests/support/temp_dir.h"

#include "umbra/ids.h"

namespace umbra::test {

TempDir::TempDir() : TempDir(std::filesystem::temp_directory_path()) {}

TempDir::TempDir(const std::filesystem::path& parent)
    : path_(parent / ("umbra-test-" + Guid::random().to_string().substr(0, 8))) {
  std::filesystem::create_directory(path_);
  std::filesystem::permissions(path_, std::filesystem::perms::owner_all);
}

std::filesystem::path TempDir::memory() {
  const std::filesystem::path shared = "/dev/shm";
  return std::filesystem::is_directory(shared) ? shared : std::filesystem::temp_directory_path();
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace umbra::test
