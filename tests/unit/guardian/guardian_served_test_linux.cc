// SPDX-License-Identifier: Apache-2.0
//
// Purpose: a thaw writes to the volume, which the process in umbra-cowd's place serves itself. What
// happens when that process is dead, stopped or hanging at that moment?
// Method: the probe serves an image by FUSE, a loop device and ext4 lie on it, and its session is
// left with the guardian.
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <optional>

#include "provider/frontend/fuse/loop.h"
#include "tests/support/catch.h"
#include "tests/support/skip.h"
#include "tests/unit/guardian/guardian_unit_linux.h"
#include "umbra/ids.h"

namespace umbra::test {
namespace {

using namespace std::chrono_literals;

constexpr int kShortLeaseMs = 2'000;

class ServedWorld {
 public:
  explicit ServedWorld(const std::vector<std::string>& options = {})
      : image_((scratch_.path() / "image").string()),
        point_((scratch_.path() / "volume").string()) {
    std::ofstream(image_).put(' ');
    std::filesystem::resize_file(image_, 16U << 20U);
    std::ofstream(point_).put(' ');
    unit.emplace(scratch_.path(), options, std::vector<std::string>{image_, point_});
    REQUIRE(unit->await_probe());
    const auto loop = fuse::attach_loop(point_, {});
    REQUIRE(loop);
    volume.emplace(scratch_.path(), "mounted", *loop);
  }
  ~ServedWorld() {
    // With the last holder of the session gone, everything above it ends with an error.
    unit->end();
    volume.reset();
    for (const auto& loop : fuse::list_loops_below(scratch_.path().string())) {
      (void)fuse::detach_loop_device(loop);
    }
    (void)umount2(point_.c_str(), MNT_DETACH);
  }
  ServedWorld(const ServedWorld&) = delete;
  ServedWorld& operator=(const ServedWorld&) = delete;

  std::string freeze(int limit_ms, int lease_ms) {
    return unit->ask("freeze " + set + " " + std::to_string(limit_ms) + " " +
                     std::to_string(lease_ms) + " " + volume->text());
  }
  [[nodiscard]] bool thaws_within(std::chrono::milliseconds limit) {
    return eventually([&] { return unit->holders().empty() && !unit->has_records(); }, limit) &&
           !volume->frozen();
  }
  void hang_from_the_start() const { std::ofstream(image_ + ".hang").put(' '); }
  void write_without_sync() const {
    std::ofstream(volume->mount_path() + "/dirty") << std::string(100'000, 'x');
  }
  /// A durable write through the whole stack.
  [[nodiscard]] bool works() const {
    const std::string path = volume->mount_path() + "/proof";
    const UniqueFd file(open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    return file && write(file.get(), "proof", 5) == 5 && fsync(file.get()) == 0;
  }

  std::string set = SnapshotSetId::random().to_string();
  std::optional<GuardianUnit> unit;
  std::optional<Ext4> volume;

 private:
  ScratchDirectory scratch_;
  std::string image_;
  std::string point_;
};

#define UMBRA_NEEDS_FUSE()                                        \
  if (const auto missing = missing_fuse()) return skip(*missing); \
  if (const auto missing = missing_loop_devices()) return skip(*missing)

TEST_CASE("a server killed while its volume is frozen: the successor serves the thaw",
          "[guardian]") {
  UMBRA_NEEDS_FUSE();
  ServedWorld world;
  for (int round = 0; round < 3; ++round) {
    world.write_without_sync();
    REQUIRE(world.freeze(10'000, 30'000) == "ok");
    world.unit->signal_probe(SIGKILL);
    REQUIRE(world.unit->await_probe());
    CHECK(world.thaws_within(5s));
    CHECK(world.works());
  }
}

TEST_CASE("a server stopped while its volume is frozen is continued and serves the thaw",
          "[guardian]") {
  UMBRA_NEEDS_FUSE();
  ServedWorld world;
  REQUIRE(world.freeze(10'000, kShortLeaseMs) == "ok");
  world.unit->signal_probe(SIGSTOP);
  CHECK(world.thaws_within(8s));
  CHECK(world.works());
  CHECK(world.unit->ask("thaw " + world.set) == "not held the lease ended");
}

TEST_CASE("a server that hangs while its volume is frozen is replaced", "[guardian]") {
  UMBRA_NEEDS_FUSE();
  ServedWorld world({"--patience-ms", "500"});
  REQUIRE(world.freeze(10'000, kShortLeaseMs) == "ok");
  REQUIRE(world.unit->ask("hang") == "ok");
  const bool replaced = world.unit->await_probe();
  INFO(world.unit->log());
  REQUIRE(replaced);
  CHECK(world.thaws_within(8s));
  CHECK(world.works());
  CHECK(world.unit->log().find("makes no progress") != std::string::npos);
}

TEST_CASE("when the successors hang too the device is aborted and nothing waits", "[guardian]") {
  UMBRA_NEEDS_FUSE();
  ServedWorld world({"--patience-ms", "300"});
  REQUIRE(world.freeze(10'000, kShortLeaseMs) == "ok");
  world.hang_from_the_start();
  REQUIRE(world.unit->ask("hang") == "ok");
  const int status = world.unit->await_end();
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 1);
  CHECK(eventually([&] { return world.unit->holders().empty(); }));
  CHECK_FALSE(world.unit->has_records());
  CHECK_FALSE(world.works());  // An error, not a wait.
}

TEST_CASE("successors that never serve are killed and given up, and nothing waits", "[guardian]") {
  UMBRA_NEEDS_FUSE();
  ServedWorld world({"--serve-limit-ms", "300", "--restart-failures", "3"});
  REQUIRE(world.works());
  world.hang_from_the_start();
  world.unit->signal_probe(SIGKILL);
  const int status = world.unit->await_end();
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 1);
  CHECK(world.unit->log().find("does not serve what it took over") != std::string::npos);
  CHECK_FALSE(world.works());  // An error, not a wait.
}

TEST_CASE("a freeze that exceeds its limit is thawed when it returns", "[guardian]") {
  UMBRA_NEEDS_FUSE();
  ServedWorld world;
  world.write_without_sync();
  REQUIRE(world.unit->ask("hang") == "ok");
  const auto answer = world.freeze(1'000, 10'000);
  CHECK(answer.find("VSS_E_FLUSH_WRITES_TIMEOUT") != std::string::npos);
  CHECK(answer.find(world.volume->mount_path()) != std::string::npos);
  CHECK(world.unit->ask("resume") == "ok");
  CHECK(world.thaws_within(5s));
  CHECK(world.works());
}

TEST_CASE("a flush that hangs ends at its limit, or at once when it is stopped", "[guardian]") {
  UMBRA_NEEDS_FUSE();
  ServedWorld world;
  world.write_without_sync();
  REQUIRE(world.unit->ask("hang") == "ok");
  const auto answer = world.unit->ask("flush 300 " + world.volume->text());
  CHECK(answer.find("VSS_E_FLUSH_WRITES_TIMEOUT") != std::string::npos);
  CHECK(answer.find(world.volume->mount_path()) != std::string::npos);
  REQUIRE(world.unit->ask("begin flush 600000 " + world.volume->text()) == "begun");
  CHECK(world.unit->ask("stop", 2s).find("stopped") != std::string::npos);
  CHECK(world.unit->ask("resume") == "ok");
  CHECK(world.unit->ask("flush 60000 " + world.volume->text()) == "ok");
  CHECK(eventually([&] { return world.unit->holders().empty(); }));
}

TEST_CASE("a freeze that hangs is stopped at once, and thawed when it returns", "[guardian]") {
  UMBRA_NEEDS_FUSE();
  ServedWorld world;
  world.write_without_sync();
  REQUIRE(world.unit->ask("hang") == "ok");
  REQUIRE(world.unit->ask("begin freeze " + world.set + " 60000 60000 " + world.volume->text()) ==
          "begun");
  REQUIRE(eventually([&] { return world.unit->has_records(); }));
  CHECK(world.unit->ask("stop", 2s).find("stopped") != std::string::npos);
  CHECK(world.unit->has_records());
  CHECK(world.unit->ask("resume") == "ok");
  CHECK(world.thaws_within(5s));
  world.set = SnapshotSetId::random().to_string();
  CHECK(world.freeze(10'000, 30'000) == "ok");
  CHECK(world.unit->ask("thaw " + world.set) == "held");
  CHECK(world.works());
}

TEST_CASE("a server killed while it is being frozen: thawed once the successor serves",
          "[guardian]") {
  UMBRA_NEEDS_FUSE();
  ServedWorld world;
  world.write_without_sync();
  REQUIRE(world.unit->ask("hang") == "ok");
  world.unit->tell("freeze " + world.set + " 30000 30000 " + world.volume->text());
  REQUIRE(eventually([&] { return world.unit->has_records(); }));
  world.unit->signal_probe(SIGKILL);
  REQUIRE(world.unit->await_probe());
  CHECK(world.thaws_within(8s));
  CHECK(world.works());
}

}  // namespace
}  // namespace umbra::test
