// SPDX-License-Identifier: Apache-2.0
#include "tests/support/temp_dir.h"

#include "umbra/ids.h"

namespace umbra::test {

TempDir::TempDir() {
  path_ = std::filesystem::temp_directory_path() /
          ("umbra-test-" + Guid::random().to_string().substr(0, 8));
  std::filesystem::create_directory(path_);
  std::filesystem::permissions(path_, std::filesystem::perms::owner_all);
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace umbra::test
