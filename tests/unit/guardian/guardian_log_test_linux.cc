// SPDX-License-Identifier: Apache-2.0
#include "provider/guardian/guardian_log_linux.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "engine/platform/unique_fd.h"
#include "tests/support/catch.h"

namespace umbra::guardian {
namespace {

struct Pipe {
  Pipe() {
    std::array<int, 2> ends{-1, -1};
    REQUIRE(pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) == 0);
    out.reset(ends[0]);
    in.reset(ends[1]);
  }
  std::string read_all() const {
    std::string text;
    std::array<char, 65536> part{};
    for (ssize_t count = 0; (count = read(out.get(), part.data(), part.size())) > 0;) {
      text.append(part.data(), static_cast<std::size_t>(count));
    }
    return text;
  }
  UniqueFd out;
  UniqueFd in;
};

TEST_CASE("a log line has time, level, component, message and fields", "[guardian]") {
  const Pipe pipe;
  GuardianLog log(pipe.in.get());
  Logger(log, "guardian")
      .warning("thawed late", {{"set", "a\nb"}, {"ms", 12}, {"why", "too slow"}});
  Logger(log, "guardian").debug("not shown");
  const auto text = pipe.read_all();
  REQUIRE(text.size() > 24);
  CHECK(text.substr(4, 1) == "-");
  CHECK(text.substr(23) == "Z warning guardian thawed late set=a\\x0ab ms=12 why=\"too slow\"\n");
}

TEST_CASE("while something is frozen nothing is written, afterwards everything", "[guardian]") {
  const Pipe pipe;
  GuardianLog log(pipe.in.get());
  const Logger logger(log, "g");
  log.hold(true);
  logger.info("one");
  logger.info("two");
  CHECK(pipe.read_all().empty());
  log.hold(false);
  const auto text = pipe.read_all();
  CHECK(text.find("one") < text.find("two"));
  CHECK(text.find("two") != std::string::npos);
}

TEST_CASE("what is held back is bounded and the loss is counted", "[guardian]") {
  const Pipe pipe;
  GuardianLog log(pipe.in.get());
  const Logger logger(log, "g");
  log.hold(true);
  for (std::size_t i = 0; i < kHeldLinesMax + 7; ++i) logger.info("line");
  log.hold(false);
  const auto text = pipe.read_all();
  CHECK(std::count(text.begin(), text.end(), '\n') == kHeldLinesMax + 1);
  CHECK(text.find("dropped while frozen count=7") != std::string::npos);
}

TEST_CASE("a process of its own writes what a stuck thaw holds back", "[guardian]") {
  const Pipe pipe;
  GuardianLog log(pipe.in.get());
  const Logger logger(log, "g");
  log.hold(true);
  logger.info("stuck");
  log.let_go_aside();
  pollfd source{pipe.out.get(), POLLIN, 0};
  REQUIRE(poll(&source, 1, 10'000) == 1);
  CHECK(pipe.read_all().find("stuck") != std::string::npos);
  REQUIRE(wait(nullptr) > 0);
  log.hold(false);
  CHECK(pipe.read_all().empty());  // Not twice.
}

}  // namespace
}  // namespace umbra::guardian
