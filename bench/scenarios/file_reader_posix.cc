// SPDX-License-Identifier: Apache-2.0
#include "bench/scenarios/file_reader.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "bench/harness/failure.h"

namespace umbra::bench {

FileReader::FileReader(const std::string& path) : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
  if (!fd_) give_up(path + ": " + std::strerror(errno));
}

void FileReader::read(std::uint64_t offset_bytes, std::span<std::byte> out) const {
  const ssize_t got = ::pread(fd_.get(), out.data(), out.size(), static_cast<off_t>(offset_bytes));
  if (got != static_cast<ssize_t>(out.size())) {
    give_up(std::string("pread: ") + (got < 0 ? std::strerror(errno) : "the file is too short"));
  }
}

}  // namespace umbra::bench
