// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "engine/platform/unique_fd.h"

namespace umbra::bench {

/// A file that is read with pread(), as a program without Umbra would.
class FileReader {
 public:
  /// Throws Failed.
  explicit FileReader(const std::string& path);
  void read(std::uint64_t offset_bytes, std::span<std::byte> out) const;

 private:
  UniqueFd fd_;
};

}  // namespace umbra::bench
