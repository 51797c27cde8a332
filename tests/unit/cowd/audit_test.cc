// SPDX-License-Identifier: Apache-2.0
#include "provider/daemon/audit_posix.h"

#include <filesystem>
#include <fstream>
#include <future>

#include "provider/daemon/host_space_posix.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

using namespace umbra;

namespace {

cow::Event deletion(const std::string& who) {
  cow::Event event;
  event.kind = cow::EventKind::snapshot_deleted;
  event.removal = cow::Removal::evicted;
  event.who = who;
  event.time_filetime = 116'444'736'012'340'000;  // 1.234 s after 1970.
  return event;
}

std::vector<std::string> lines_of(const std::filesystem::path& path) {
  std::ifstream in(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

}  // namespace

TEST_CASE("every deletion is a line of the audit, and stays one line", "[audit]") {
  const std::string line = cowd::audit_line(deletion("a\"b\nc"));
  CHECK(line.rfind("1970-01-01T00:00:01.234Z snapshot_deleted volume=", 0) == 0);
  CHECK(line.find(" reason=evicted who=\"a\\\"b?c\"") != std::string::npos);
  cow::Event other;
  other.kind = cow::EventKind::grown;
  CHECK(cowd::audit_line(other).empty());
}

TEST_CASE("the audit is appended to, waits while it is held, and is bounded", "[audit]") {
  test::TempDir dir;
  const auto path = dir.path() / "audit.log";
  std::promise<void> handled;
  {
    cowd::AuditLog audit(path.string(), null_log(), [&](const cow::Event& event) {
      if (event.who == "last") handled.set_value();
    });
    audit.on_event(deletion("first"));
    audit.on_event(deletion("last"));
    handled.get_future().wait();
    CHECK(lines_of(path).size() == 2);
    audit.hold(std::chrono::seconds(10));
    audit.on_event(deletion("held"));
    CHECK(lines_of(path).size() == 2);
    audit.release();
  }
  REQUIRE(lines_of(path).size() == 3);
  CHECK(lines_of(path).back().find("held") != std::string::npos);
  std::filesystem::resize_file(path, cowd::AuditLog::kFileBytesMax);
  { cowd::AuditLog(path.string(), null_log(), nullptr).on_event(deletion("next")); }
  CHECK(lines_of(path).size() == 1);
  CHECK(std::filesystem::file_size(path.string() + ".1") == cowd::AuditLog::kFileBytesMax);
}

TEST_CASE("a sparse origin beside the diff area is promised what it lacks", "[audit]") {
  test::TempDir dir;
  const auto diff = dir.path() / "diff";
  const auto origin = dir.path() / "origin";
  std::ofstream(diff).close();
  std::ofstream(origin).close();
  constexpr std::uint64_t kSize = 64U << 20U;
  std::filesystem::resize_file(origin, kSize);
  auto room = cowd::FileHostSpace(diff.string(), origin.string()).room();
  REQUIRE(room);
  CHECK(room->promised_bytes == kSize);
  CHECK(room->free_bytes > 0);
  CHECK_FALSE(cowd::FileHostSpace((dir.path() / "none").string(), origin.string()).room());
}
