// SPDX-License-Identifier: Apache-2.0
//
// The log that the device mapper's log-writes target keeps of one device: every write, flush and
// mark, in an order in which a flush stands behind all writes that had completed when it was asked
// for. (The kernel's documentation: admin-guide/device-mapper/log-writes.)
//
// A crash leaves a prefix of the log that ends with a flush, and of what follows up to the next
// flush anything: each write kept, dropped or torn. Writes that say FUA are durable at their place.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "umbra/result.h"

namespace umbra::test {

struct LogEntry {
  bool flush = false;
  bool fua = false;
  bool discard = false;
  std::string mark;                     // Not empty: it is one, and nothing else.
  std::uint64_t offset_bytes = 0;       // On the logged device.
  std::uint64_t size_bytes = 0;         // Of the range; 0 for a bare flush.
  std::uint64_t data_offset_bytes = 0;  // Where the data is in the log; writes only.
};

class WriteLog {
 public:
  /// Reads the entries, not the data. Errors: object_not_found, io_error, invalid_argument (it is
  /// no such log, or one that breaks off).
  [[nodiscard]] static Result<WriteLog> open(const std::string& path);
  WriteLog(WriteLog&&) noexcept;
  WriteLog& operator=(WriteLog&&) noexcept;
  ~WriteLog();

  [[nodiscard]] const std::vector<LogEntry>& entries() const noexcept { return entries_; }
  /// What was written. Zeroes for a discard.
  [[nodiscard]] Result<std::vector<std::byte>> data_of(const LogEntry& entry) const;

 private:
  struct File;
  explicit WriteLog(std::unique_ptr<File> file) noexcept;
  [[nodiscard]] Status read_entries();

  std::unique_ptr<File> file_;
  std::vector<LogEntry> entries_;
};

}  // namespace umbra::test
