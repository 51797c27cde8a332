// SPDX-License-Identifier: Apache-2.0
#include "tests/kernel/log_writes.h"

#include <array>
#include <cstring>
#include <fstream>

namespace umbra::test {
namespace {

constexpr std::uint64_t kMagic = 0x6a736677736872U;
constexpr std::uint64_t kVersion = 1;
constexpr std::uint64_t kSectorBytesMax = 4096;
constexpr std::uint64_t kEntriesMax = 50'000'000;

enum : std::uint64_t { flag_flush = 1, flag_fua = 2, flag_discard = 4, flag_mark = 8 };

// Both structures are little-endian words without gaps.
std::uint64_t word(const std::byte* bytes, std::size_t index) noexcept {
  std::uint64_t value = 0;
  std::memcpy(&value, bytes + index * sizeof value, sizeof value);
  return value;
}

}  // namespace

struct WriteLog::File {
  std::string path;
  mutable std::ifstream stream;
  std::uint64_t sector_bytes = 512;

  [[nodiscard]] bool read(std::uint64_t offset_bytes, std::byte* to, std::uint64_t size) const {
    stream.clear();
    stream.seekg(static_cast<std::streamoff>(offset_bytes));
    stream.read(reinterpret_cast<char*>(to), static_cast<std::streamsize>(size));
    return stream.good();
  }
};

WriteLog::WriteLog(std::unique_ptr<File> file) noexcept : file_(std::move(file)) {}
WriteLog::WriteLog(WriteLog&&) noexcept = default;
WriteLog& WriteLog::operator=(WriteLog&&) noexcept = default;
WriteLog::~WriteLog() = default;

Result<WriteLog> WriteLog::open(const std::string& path) {
  auto file = std::make_unique<File>();
  file->path = path;
  file->stream.open(path, std::ios::binary);
  if (!file->stream) return fail(Errc::object_not_found, path);
  WriteLog log(std::move(file));
  if (Status read = log.read_entries(); !read) return fail(read.error());
  return log;
}

Status WriteLog::read_entries() {
  std::array<std::byte, kSectorBytesMax> sector{};
  if (!file_->read(0, sector.data(), 512)) return fail(Errc::io_error, file_->path);
  const std::uint64_t count = word(sector.data(), 2);
  std::uint32_t sector_bytes = 0;
  std::memcpy(&sector_bytes, sector.data() + 24, sizeof sector_bytes);
  if (word(sector.data(), 0) != kMagic || word(sector.data(), 1) != kVersion ||
      count > kEntriesMax || sector_bytes < 512 || sector_bytes > kSectorBytesMax) {
    return fail(Errc::invalid_argument, file_->path + " is no log of writes");
  }
  file_->sector_bytes = sector_bytes;
  std::uint64_t at = sector_bytes;
  for (std::uint64_t i = 0; i < count; ++i) {
    if (!file_->read(at, sector.data(), sector_bytes)) {
      return fail(Errc::invalid_argument, file_->path + " breaks off at entry " +
                                              std::to_string(i) + " of " + std::to_string(count));
    }
    at += sector_bytes;
    const std::uint64_t flags = word(sector.data(), 2);
    const std::uint64_t data = word(sector.data(), 3);
    LogEntry entry;
    if ((flags & flag_mark) != 0) {
      const std::uint64_t room = sector_bytes - 4 * sizeof(std::uint64_t);
      entry.mark.assign(reinterpret_cast<const char*>(sector.data()) + 32, std::min(data, room));
      entry.mark.erase(entry.mark.find_last_not_of('\0') + 1);
      entries_.push_back(std::move(entry));
      continue;
    }
    entry.flush = (flags & flag_flush) != 0;
    entry.fua = (flags & flag_fua) != 0;
    entry.discard = (flags & flag_discard) != 0;
    entry.offset_bytes = word(sector.data(), 0) * sector_bytes;
    entry.size_bytes = word(sector.data(), 1) * sector_bytes;
    entry.data_offset_bytes = at;
    if (!entry.discard) at += entry.size_bytes;
    entries_.push_back(std::move(entry));
  }
  return {};
}

Result<std::vector<std::byte>> WriteLog::data_of(const LogEntry& entry) const {
  std::vector<std::byte> bytes(entry.size_bytes);
  if (entry.discard || bytes.empty()) return bytes;
  if (!file_->read(entry.data_offset_bytes, bytes.data(), bytes.size())) {
    return fail(Errc::io_error, file_->path + " at " + std::to_string(entry.data_offset_bytes));
  }
  return bytes;
}

}  // namespace umbra::test
