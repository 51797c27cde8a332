// SPDX-License-Identifier: Apache-2.0
#include "engine/platform/log_spdlog.h"

#include <filesystem>
#include <fstream>
#include <regex>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "umbra/ids.h"

namespace fs = std::filesystem;
using namespace umbra;

namespace {

// A log file in a scratch directory that goes with the object.
class LogFile {
 public:
  LogFile() : folder_(fs::temp_directory_path() / ("umbra-log." + Guid::random().to_string())) {
    fs::create_directory(folder_);
  }
  ~LogFile() { fs::remove_all(folder_); }
  LogFile(const LogFile&) = delete;
  LogFile& operator=(const LogFile&) = delete;

  [[nodiscard]] fs::path path() const { return folder_ / "daemon.log"; }
  [[nodiscard]] std::unique_ptr<SpdlogLog> open(LogLevel level = LogLevel::info,
                                                std::size_t records_max = kLogRecordsMax) const {
    auto log =
        SpdlogLog::open({.file = path().string(), .level = level, .records_max = records_max});
    REQUIRE(log);
    return std::move(*log);
  }
  [[nodiscard]] static std::vector<std::string> lines(const fs::path& path) {
    std::ifstream in(path);
    std::vector<std::string> result;
    for (std::string line; std::getline(in, line);) result.push_back(line);
    return result;
  }
  [[nodiscard]] std::vector<std::string> lines() const { return lines(path()); }

 private:
  fs::path folder_;
};

// Without the time stamp.
std::string body(const std::string& line) {
  const auto blank = line.find(' ');
  return blank == std::string::npos ? line : line.substr(blank + 1);
}

}  // namespace

TEST_CASE("a record is one line: time, level, component, message, fields", "[log_spdlog]") {
  const LogFile file;
  auto log = file.open();
  const Logger logger(*log, "cowd");
  logger.warning("volume attached", {{"volume", "data"}, {"size_bytes", 4096}});
  REQUIRE(log->flush());
  REQUIRE(file.lines().size() == 1);
  const std::string line = file.lines().front();
  CHECK(std::regex_match(
      line, std::regex(R"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z warning cowd volume attached )"
                       R"(volume=data size_bytes=4096)")));
}

TEST_CASE("a value that could be mistaken is quoted, escaped and cut", "[log_spdlog]") {
  const LogFile file;
  auto log = file.open();
  const Logger logger(*log, "cowd");
  logger.info("m", {{"a", "two words"}, {"b", ""}, {"c", "x=\"y\"\n"}, {"d", "plain/path"}});
  logger.info("m", {{"long", std::string(2 * kLogValueBytesMax, 'x')}});
  REQUIRE(log->flush());
  const auto lines = file.lines();
  REQUIRE(lines.size() == 2);
  CHECK(body(lines[0]) == R"(info cowd m a="two words" b="" c="x=\"y\"\x0a" d=plain/path)");
  CHECK(lines[1].size() < kLogValueBytesMax + 100);
  CHECK(lines[1].substr(lines[1].size() - 4) == "...\"");
}

TEST_CASE("records below the level are dropped, and the level can be switched", "[log_spdlog]") {
  const LogFile file;
  auto log = file.open(LogLevel::warning);
  const Logger logger(*log, "cowd");
  logger.info("not this");
  log->set_level(LogLevel::debug);
  logger.debug("this");
  REQUIRE(log->flush());
  REQUIRE(file.lines().size() == 1);
  CHECK(body(file.lines().front()) == "debug cowd this");
}

TEST_CASE("while held nothing is written, afterwards everything, in order", "[log_spdlog]") {
  const LogFile file;
  auto log = file.open();
  const Logger logger(*log, "cowd");
  logger.info("before");
  log->hold();
  CHECK(file.lines().size() == 1);
  log->hold();
  logger.info("during");
  log->release();
  CHECK_FALSE(file.lines().size() > 1);
  logger.info("still held");
  log->release();
  REQUIRE(log->flush());
  const auto lines = file.lines();
  REQUIRE(lines.size() == 3);
  CHECK(body(lines[1]) == "info cowd during");
  CHECK(body(lines[2]) == "info cowd still held");
}

TEST_CASE("when too many wait the oldest go and a line says how many", "[log_spdlog]") {
  const LogFile file;
  auto log = file.open(LogLevel::info, 3);
  const Logger logger(*log, "cowd");
  log->hold();
  for (int i = 0; i < 5; ++i) logger.info("m", {{"i", i}});
  log->release();
  REQUIRE(log->flush());
  const auto lines = file.lines();
  REQUIRE(lines.size() == 4);
  CHECK(body(lines[0]) == "warning log records were dropped count=2");
  CHECK(body(lines[1]) == "info cowd m i=2");
}

TEST_CASE("after a rotation reopen() goes on in a new file", "[log_spdlog]") {
  const LogFile file;
  auto log = file.open();
  const Logger logger(*log, "cowd");
  logger.info("old");
  REQUIRE(log->flush());
  const fs::path rotated = file.path().string() + ".1";
  fs::rename(file.path(), rotated);
  REQUIRE(log->reopen());
  logger.info("new");
  REQUIRE(log->flush());
  CHECK(LogFile::lines(rotated).size() == 1);
  REQUIRE(file.lines().size() == 1);
  CHECK(body(file.lines().front()) == "info cowd new");
}

TEST_CASE("what is held when the log is destroyed is written", "[log_spdlog]") {
  const LogFile file;
  {
    auto log = file.open();
    log->hold();
    Logger(*log, "cowd").info("last words");
  }
  CHECK(file.lines().size() == 1);
}

TEST_CASE("a file that cannot be opened is an error that names it", "[log_spdlog]") {
  const auto log = SpdlogLog::open({.file = "/proc/no such place/daemon.log"});
  REQUIRE_FALSE(log);
  CHECK(log.error().code == Errc::io_error);
  CHECK(log.error().context.find("no such place") != std::string::npos);
}

TEST_CASE("log levels are parsed by name", "[log_spdlog]") {
  CHECK(parse_log_level("warning") == LogLevel::warning);
  REQUIRE_FALSE(parse_log_level("loud"));
  CHECK(parse_log_level("loud").error().code == Errc::invalid_argument);
}
