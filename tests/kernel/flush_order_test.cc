// SPDX-License-Identifier: Apache-2.0
#include "tests/kernel/flush_order.h"

#include <map>

#include "tests/support/catch.h"

using namespace umbra::test;

namespace {

// A write is named by its place.
LogEntry write_at(std::uint64_t place) {
  LogEntry entry;
  entry.offset_bytes = place;
  entry.size_bytes = 512;
  return entry;
}
LogEntry flush() {
  LogEntry entry;
  entry.flush = true;
  return entry;
}
LogEntry mark(const char* text) {
  LogEntry entry;
  entry.mark = text;
  return entry;
}
LogEntry fua_at(std::uint64_t place) {
  LogEntry entry = write_at(place);
  entry.fua = true;
  return entry;
}

std::string text_of(const std::vector<LogEntry>& entries) {
  std::string text;
  for (const LogEntry& entry : entries) {
    if (!text.empty()) text += ' ';
    if (!entry.mark.empty()) {
      text += entry.mark;
    } else if (entry.flush) {
      text += 'F';
    } else {
      text += std::to_string(entry.offset_bytes);
    }
  }
  return text;
}

// Writes are issued one after the other, each when the one before has completed; 0: not known.
std::optional<WriteTimes> in_turn(const LogEntry& entry) {
  const auto place = static_cast<std::int64_t>(entry.offset_bytes);
  if (entry.flush || place == 0 || place >= 100) return std::nullopt;
  return WriteTimes{10 * place, 10 * place + 5};
}

}  // namespace

TEST_CASE("a log in which no flush was overtaken stays as it is", "[kernel]") {
  std::vector<LogEntry> entries = {write_at(1), flush(),     mark("m"),   write_at(3), write_at(2),
                                   flush(),     fua_at(100), write_at(0), flush(),     write_at(4)};
  const std::string before = text_of(entries);
  CHECK(order_flushes(entries, in_turn) == 0);
  CHECK(text_of(entries) == before);
}

TEST_CASE("an overtaken flush goes back with what it took; marks and FUA stay", "[kernel]") {
  std::vector<LogEntry> entries = {write_at(1), flush(),   mark("a"),   write_at(5),
                                   flush(),     mark("b"), fua_at(100), write_at(2),
                                   write_at(3), flush(),   write_at(6), flush()};
  CHECK(order_flushes(entries, in_turn) == 1);
  CHECK(text_of(entries) == "1 F a 2 3 F 5 F b 100 6 F");
}

TEST_CASE("several flushes that one overtook keep their order", "[kernel]") {
  std::vector<LogEntry> entries = {write_at(7), flush(), write_at(1), flush(),
                                   write_at(2), flush(), write_at(8), flush()};
  CHECK(order_flushes(entries, in_turn) == 2);
  CHECK(text_of(entries) == "1 F 2 F 7 F 8 F");
}

TEST_CASE("writes that were in flight together prove nothing", "[kernel]") {
  std::vector<LogEntry> entries = {write_at(2), flush(), write_at(1), flush(), write_at(3)};
  const auto together = [](const LogEntry& entry) -> std::optional<WriteTimes> {
    if (entry.flush) return std::nullopt;
    return WriteTimes{static_cast<std::int64_t>(entry.offset_bytes), 50};
  };
  CHECK(order_flushes(entries, together) == 0);
  CHECK(text_of(entries) == "2 F 1 F 3");
}
