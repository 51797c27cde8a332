// SPDX-License-Identifier: Apache-2.0
#include "tests/kernel/log_writes.h"

#include <cstring>
#include <filesystem>
#include <fstream>

#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

using namespace umbra;
using test::LogEntry;
using test::WriteLog;

namespace {

// A log as the kernel writes it, entry by entry.
struct Written {
  explicit Written(std::uint64_t entries) {
    const std::uint64_t head[3] = {0x6a736677736872U, 1, entries};
    const std::uint32_t sector_bytes = 512;
    std::memcpy(bytes.data(), head, sizeof head);
    std::memcpy(bytes.data() + sizeof head, &sector_bytes, sizeof sector_bytes);
  }
  void add(std::uint64_t sector, std::uint64_t sectors, std::uint64_t flags,
           const std::string& mark = {}) {
    const std::uint64_t words[4] = {sector, sectors, flags, mark.size()};
    const std::size_t at = bytes.size();
    bytes.resize(at + 512);
    std::memcpy(bytes.data() + at, words, sizeof words);
    std::memcpy(bytes.data() + at + sizeof words, mark.data(), mark.size());
  }
  void add_data(std::size_t sectors, char value) { bytes.append(sectors * 512, value); }
  [[nodiscard]] Result<WriteLog> open() const {
    const std::string path = directory / "log";
    std::ofstream(path, std::ios::binary) << bytes;
    return WriteLog::open(path);
  }
  test::TempDir directory;
  std::string bytes = std::string(512, '\0');
};

}  // namespace

TEST_CASE("a log of writes is read back in its order", "[kernel]") {
  Written written(5);
  written.add(8, 2, 0);
  written.add_data(2, 'a');
  written.add(0, 0, 1);
  written.add(0, 0, 8, "flush 17");
  written.add(4, 100, 4);  // A discard brings no data.
  written.add(9, 1, 2);
  written.add_data(1, 'b');
  const auto log = written.open();
  REQUIRE(log);
  const std::vector<LogEntry>& entries = log->entries();
  REQUIRE(entries.size() == 5);
  CHECK(entries[0].offset_bytes == 4096);
  CHECK(log->data_of(entries[0]) == std::vector<std::byte>(1024, std::byte{'a'}));
  CHECK(entries[1].flush);
  CHECK(entries[1].size_bytes == 0);
  CHECK(entries[2].mark == "flush 17");
  CHECK(entries[3].discard);
  CHECK(log->data_of(entries[3]) == std::vector<std::byte>(51200));
  CHECK(entries[4].fua);
  CHECK(log->data_of(entries[4]) == std::vector<std::byte>(512, std::byte{'b'}));
}

TEST_CASE("what is no log of writes, or breaks off, is refused", "[kernel]") {
  Written more(2);
  more.add(8, 2, 0);
  more.add_data(2, 'a');
  CHECK(more.open().error().code == Errc::invalid_argument);
  Written other(0);
  other.bytes[0] = 'x';
  CHECK(other.open().error().code == Errc::invalid_argument);
  CHECK(WriteLog::open("/nowhere").error().code == Errc::object_not_found);
}
