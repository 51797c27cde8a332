// SPDX-License-Identifier: Apache-2.0
//
// Method: the probe plays umbra-cowd; the test kills or stops each of the three processes while two
// file systems are frozen and asks the kernel whether they still are.
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstring>
#include <fstream>
#include <sstream>

#include "tests/support/catch.h"
#include "tests/support/skip.h"
#include "tests/unit/guardian/guardian_unit_linux.h"
#include "umbra/ids.h"

namespace umbra::test {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

// Long enough to freeze two file systems on a busy machine.
constexpr int kShortLeaseMs = 2'000;

struct World {
  World() : World(std::vector<std::string>{}) {}
  explicit World(const std::vector<std::string>& options)
      : a(scratch.path(), "a"), b(scratch.path(), "b"), unit(scratch.path(), options) {
    REQUIRE(unit.await_probe());
  }
  std::string freeze_line(int lease_ms, int limit_ms = 5'000) const {
    return "freeze " + set + " " + std::to_string(limit_ms) + " " + std::to_string(lease_ms) + " " +
           a.text() + " " + b.text();
  }
  [[nodiscard]] bool any_frozen() const { return a.frozen() || b.frozen(); }
  [[nodiscard]] bool thaws_within(std::chrono::milliseconds limit) const {
    return eventually([&] { return !any_frozen(); }, limit);
  }

  ScratchDirectory scratch;
  Ext4 a;
  Ext4 b;
  GuardianUnit unit;
  std::string set = SnapshotSetId::random().to_string();
};

#define UMBRA_NEEDS_LOOP() \
  if (const auto missing = missing_loop_devices()) return skip(*missing)

TEST_CASE("freeze and thaw act on every mount, and the record lasts from the one to the other",
          "[guardian]") {
  UMBRA_NEEDS_LOOP();
  World world;
  for (int round = 0; round < 3; ++round) {
    REQUIRE(world.unit.ask(world.freeze_line(10'000)) == "ok");
    CHECK(world.a.frozen());
    CHECK(world.b.frozen());
    CHECK(world.unit.has_records());
    CHECK(world.unit.ask("thaw " + world.set) == "held");
    CHECK_FALSE(world.any_frozen());
    CHECK_FALSE(world.unit.has_records());
    CHECK(world.unit.ask("thaw " + world.set) == "held");
  }
}

// "DEVICE:OFFSET+SIZE " each, as the probe says it: bytes that are free on the device, and whether
// they have this one in them.
struct Free {
  std::uint64_t bytes = 0;
  bool has_wanted = false;
};
Free free_on(const std::string& list, std::uint64_t device, std::uint64_t wanted) {
  Free free;
  if (list == "none") return free;
  std::istringstream words(list);
  for (std::string word; words >> word;) {
    std::uint64_t number = 0;
    std::uint64_t offset = 0;
    std::uint64_t size = 0;
    char colon = 0;
    char plus = 0;
    std::istringstream extent(word);
    REQUIRE((extent >> number >> colon >> offset >> plus >> size));
    if (number != device) continue;
    free.bytes += size;
    free.has_wanted = free.has_wanted || (offset <= wanted && wanted < offset + size);
  }
  return free;
}

// Where the file's first byte lies on the device.
std::uint64_t place_of(const std::string& path) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  alignas(8) std::array<std::byte, sizeof(fiemap) + sizeof(fiemap_extent)> bytes{};
  auto& head = *reinterpret_cast<fiemap*>(bytes.data());
  head.fm_length = ~std::uint64_t{0};
  head.fm_extent_count = 1;
  REQUIRE(ioctl(fd.get(), FS_IOC_FIEMAP, bytes.data()) == 0);
  REQUIRE(head.fm_mapped_extents == 1);
  fiemap_extent extent{};
  std::memcpy(&extent, bytes.data() + sizeof(fiemap), sizeof extent);
  return extent.fe_physical;
}

TEST_CASE("what is free while frozen is told with the thaw, and with no other", "[guardian]") {
  UMBRA_NEEDS_LOOP();
  World world;
  const std::string kept = world.a.mount_path() + "/kept";
  const std::string gone = world.a.mount_path() + "/gone";
  for (const auto& path : {kept, gone}) std::ofstream(path) << std::string(1U << 20U, 'x');
  REQUIRE(world.unit.ask("flush 60000 " + world.a.text()) == "ok");
  const std::uint64_t kept_at = place_of(kept);
  const std::uint64_t gone_at = place_of(gone);
  std::filesystem::remove(gone);
  // The thaw waits for no list: on a busy machine another try may be needed.
  std::string list;
  REQUIRE(eventually([&] {
    REQUIRE(world.unit.ask(world.freeze_line(10'000)) == "ok");
    list = world.unit.ask("free " + world.set);
    REQUIRE(list != "not held");
    return free_on(list, world.a.device(), 0).bytes > 8U << 20U &&
           free_on(list, world.b.device(), 0).bytes > 8U << 20U;
  }));
  struct statvfs space {};
  REQUIRE(statvfs(world.a.mount_path().c_str(), &space) == 0);
  const std::uint64_t free_bytes = std::uint64_t{space.f_bfree} * space.f_frsize;
  CHECK(free_on(list, world.a.device(), 0).bytes <= free_bytes);
  CHECK_FALSE(free_on(list, world.a.device(), kept_at).has_wanted);
  CHECK(free_on(list, world.a.device(), gone_at).has_wanted);
  CHECK_FALSE(free_on(list, world.a.device(), 1024).has_wanted);  // The superblock.
  CHECK(world.unit.ask("free " + world.set) == "none");           // Given once.

  REQUIRE(world.unit.ask(world.freeze_line(10'000)) == "ok");
  REQUIRE(world.a.thaw());
  CHECK(world.unit.ask("free " + world.set) == "not held");  // Frozen for a part of the time.
}

TEST_CASE("flush succeeds with and without mounts", "[guardian]") {
  UMBRA_NEEDS_LOOP();
  World world;
  std::ofstream(world.a.mount_path() + "/file") << "dirty";
  CHECK(world.unit.ask("flush 60000 " + world.a.text() + " " + world.b.text()) == "ok");
  CHECK(world.unit.ask("flush 60000 1") == "ok");
}

TEST_CASE("devices without a mount freeze and thaw as nothing", "[guardian]") {
  UMBRA_NEEDS_LOOP();
  World world;
  CHECK(world.unit.ask("freeze " + world.set + " 1000 1000 1 2") == "ok");
  CHECK(world.unit.ask("thaw " + world.set) == "held");
}

TEST_CASE("a freeze that fails leaves nothing frozen and is not thawed by us", "[guardian]") {
  UMBRA_NEEDS_LOOP();
  World world;
  REQUIRE(world.b.freeze());  // Somebody else's.
  const auto answer = world.unit.ask(world.freeze_line(10'000));
  CHECK(answer.find("UMBRA_E_FREEZE_FAILED") != std::string::npos);
  CHECK(answer.find(world.b.mount_path() + " has been frozen by somebody else") !=
        std::string::npos);
  CHECK(eventually([&] { return !world.a.frozen(); }));
  CHECK(world.b.frozen());
  CHECK(world.b.thaw());
  CHECK(eventually([&] { return !world.unit.has_records(); }));
  CHECK(world.unit.ask(world.freeze_line(10'000)) == "ok");
  CHECK(world.unit.ask("thaw " + world.set) == "held");
}

TEST_CASE("a set that is frozen cannot be frozen again", "[guardian]") {
  UMBRA_NEEDS_LOOP();
  World world;
  REQUIRE(world.unit.ask(world.freeze_line(10'000)) == "ok");
  CHECK(world.unit.ask(world.freeze_line(10'000)).find("UMBRA_E_FREEZE_FAILED") !=
        std::string::npos);
  CHECK(world.unit.ask("thaw " + world.set) == "held");
  CHECK_FALSE(world.any_frozen());
}

TEST_CASE("the end of the lease thaws, and the thaw that follows says so, twice", "[guardian]") {
  UMBRA_NEEDS_LOOP();
  World world;
  const auto begin = Clock::now();
  REQUIRE(world.unit.ask(world.freeze_line(kShortLeaseMs)) == "ok");
  CHECK(world.any_frozen());
  CHECK(world.thaws_within(8s));
  CHECK(Clock::now() - begin >= std::chrono::milliseconds(kShortLeaseMs));
  CHECK(world.unit.ask("thaw " + world.set) == "not held the lease ended");
  CHECK(world.unit.ask("thaw " + world.set) == "not held the lease ended");
}

TEST_CASE("a file system that somebody else thawed was not held", "[guardian]") {
  UMBRA_NEEDS_LOOP();
  World world;
  REQUIRE(world.unit.ask(world.freeze_line(10'000)) == "ok");
  REQUIRE(world.a.thaw());
  CHECK(world.unit.ask("thaw " + world.set) ==
        "not held " + world.a.mount_path() + " was thawed by somebody else");
  CHECK_FALSE(world.any_frozen());
  CHECK(eventually(
      [&] { return world.unit.log().find("was thawed by somebody else") != std::string::npos; }));
}

TEST_CASE("umbra-cowd killed while frozen: thawed at once, and a successor runs", "[guardian]") {
  UMBRA_NEEDS_LOOP();
  World world;
  REQUIRE(world.unit.ask(world.freeze_line(30'000)) == "ok");
  const auto first = world.unit.probe();
  world.unit.signal_probe(SIGKILL);
  CHECK(world.thaws_within(3s));
  REQUIRE(world.unit.await_probe());
  CHECK(world.unit.probe() != first);
  CHECK(world.unit.ask(world.freeze_line(10'000)) == "ok");
  CHECK(world.unit.ask("thaw " + world.set) == "held");
}

TEST_CASE("umbra-cowd stopped while frozen: thawed at the end of the lease", "[guardian]") {
  UMBRA_NEEDS_LOOP();
  World world;
  REQUIRE(world.unit.ask(world.freeze_line(kShortLeaseMs)) == "ok");
  world.unit.signal_probe(SIGSTOP);
  CHECK(world.thaws_within(8s));
  world.unit.signal_probe(SIGCONT);
  CHECK(world.unit.ask("thaw " + world.set) == "not held the lease ended");
}

TEST_CASE("the guardian killed while frozen: umbra-cowd's thaw works, and it can freeze no more",
          "[guardian]") {
  UMBRA_NEEDS_LOOP();
  World world;
  REQUIRE(world.unit.ask(world.freeze_line(30'000)) == "ok");
  world.unit.signal_guardian(SIGKILL);
  REQUIRE(WIFSIGNALED(world.unit.await_end()));
  CHECK(world.unit.ask("thaw " + world.set) == "held");
  CHECK_FALSE(world.any_frozen());
  CHECK_FALSE(world.unit.has_records());
  CHECK(world.unit.ask(world.freeze_line(1'000)).find("the guardian is gone") != std::string::npos);
}

TEST_CASE("the guardian and umbra-cowd killed while frozen: thawed at once", "[guardian]") {
  UMBRA_NEEDS_LOOP();
  World world;
  REQUIRE(world.unit.ask(world.freeze_line(30'000)) == "ok");
  world.unit.signal_guardian(SIGKILL);
  world.unit.signal_probe(SIGKILL);
  CHECK(world.thaws_within(3s));
}

TEST_CASE("the guardian stopped while frozen: thaw works, and so does the lease", "[guardian]") {
  UMBRA_NEEDS_LOOP();
  World world;
  REQUIRE(world.unit.ask(world.freeze_line(30'000)) == "ok");
  world.unit.signal_guardian(SIGSTOP);
  CHECK(world.unit.ask("thaw " + world.set) == "held");
  CHECK_FALSE(world.any_frozen());
  world.unit.signal_guardian(SIGCONT);

  world.set = SnapshotSetId::random().to_string();
  REQUIRE(world.unit.ask(world.freeze_line(kShortLeaseMs)) == "ok");
  world.unit.signal_guardian(SIGSTOP);
  CHECK(world.thaws_within(8s));
  CHECK(world.unit.ask("thaw " + world.set) == "not held the lease ended");
  world.unit.signal_guardian(SIGCONT);
}

TEST_CASE("the holder killed or stopped while frozen: others thaw in its place", "[guardian]") {
  UMBRA_NEEDS_LOOP();
  World world;
  REQUIRE(world.unit.ask(world.freeze_line(30'000)) == "ok");
  for (const pid_t holder : world.unit.holders()) REQUIRE(kill(holder, SIGKILL) == 0);
  CHECK(world.thaws_within(5s));
  CHECK(world.unit.ask("thaw " + world.set) != "no answer");
  CHECK(eventually([&] { return !world.unit.has_records() && world.unit.holders().empty(); }));

  world.set = SnapshotSetId::random().to_string();
  REQUIRE(world.unit.ask(world.freeze_line(30'000)) == "ok");
  const auto holders = world.unit.holders();
  REQUIRE(holders.size() == 1);
  REQUIRE(kill(holders[0], SIGSTOP) == 0);
  CHECK(world.unit.ask("thaw " + world.set) == "held");
  CHECK_FALSE(world.any_frozen());
  REQUIRE(kill(holders[0], SIGCONT) == 0);
}

TEST_CASE("the guardian and the holder killed while frozen: umbra-cowd thaws by itself",
          "[guardian]") {
  UMBRA_NEEDS_LOOP();
  World world;
  REQUIRE(world.unit.ask(world.freeze_line(30'000)) == "ok");
  const auto holders = world.unit.holders();
  REQUIRE(holders.size() == 1);
  world.unit.signal_guardian(SIGKILL);
  REQUIRE(kill(holders[0], SIGKILL) == 0);
  CHECK(world.thaws_within(5s));
}

TEST_CASE("a file system that nothing leads to fails the flush and the freeze", "[guardian]") {
  UMBRA_NEEDS_LOOP();
  World world;
  REQUIRE(umount2(world.b.mount_path().c_str(), MNT_DETACH) == 0);  // The fixture has it open.
  for (const auto& line :
       {"flush 60000 " + world.a.text() + " " + world.b.text(), world.freeze_line(10'000)}) {
    const auto answer = world.unit.ask(line);
    CHECK(answer.find("UMBRA_E_FREEZE_FAILED") != std::string::npos);
    CHECK(answer.find("mounted nowhere that can be reached") != std::string::npos);
    CHECK_FALSE(world.any_frozen());
  }
  world.b.close_root();
  CHECK(world.unit.ask(world.freeze_line(10'000)) == "ok");
  CHECK(world.unit.ask("thaw " + world.set) == "held");
}

TEST_CASE("an unmount while frozen loses nothing and the thaw still works", "[guardian]") {
  UMBRA_NEEDS_LOOP();
  World world;
  REQUIRE(world.unit.ask(world.freeze_line(10'000)) == "ok");
  world.b.unmount(true);
  CHECK(world.unit.ask("thaw " + world.set) == "held");
  CHECK_FALSE(world.any_frozen());
  world.b.close_root();
  CHECK(world.unit.ask(world.freeze_line(10'000)) == "ok");  // b is not in use any more.
  CHECK(world.a.frozen());
  CHECK(world.unit.ask("thaw " + world.set) == "held");
}

TEST_CASE("what an earlier guardian left frozen is thawed at start", "[guardian]") {
  UMBRA_NEEDS_LOOP();
  World world;
  REQUIRE(world.a.freeze());
  {
    std::ifstream boot_file("/proc/sys/kernel/random/boot_id");
    std::string boot;
    boot_file >> boot;
    std::filesystem::create_directory(world.scratch.path() / "frozen");
    std::ofstream(world.scratch.path() / "frozen" / world.set)
        << "boot " << boot << "\nfrozen " << world.a.text() << " " << world.a.mount_path() << "\n";
  }
  world.unit.signal_guardian(SIGTERM);
  REQUIRE(world.unit.await_end() != -1);
  CHECK(world.a.frozen());
  world.unit.start();
  CHECK(world.thaws_within(5s));
  CHECK(eventually([&] { return !world.unit.has_records(); }));
  CHECK(world.unit.await_probe());
}

TEST_CASE("descriptors and payloads outlive umbra-cowd until they are dropped", "[guardian]") {
  const ScratchDirectory scratch;
  GuardianUnit unit(scratch.path());
  REQUIRE(unit.await_probe());
  const auto file = (scratch.path() / "kept").string();
  std::ofstream(file) << "x";
  struct stat status {};
  REQUIRE(stat(file.c_str(), &status) == 0);
  const auto inode = "@" + std::to_string(status.st_ino) + " ";
  CHECK(unit.ask("keep one " + file + " old") == "ok");
  CHECK(unit.ask("keep one " + file + " state1") == "ok");
  CHECK(unit.ask("keep two " + file + " state2") == "ok");
  for (int life = 0; life < 3; ++life) {
    unit.signal_probe(SIGKILL);
    REQUIRE(unit.await_probe());
    CHECK(unit.ask("kept") == "one=state1" + inode + "two=state2" + inode);
  }
  CHECK(unit.ask("drop one") == "ok");
  CHECK(unit.ask("drop one") == "ok");
  CHECK(unit.ask("kept") == "two=state2" + inode);
  CHECK(unit.ask("keep three " + file + "-absent x").find("error") == 0);
}

TEST_CASE("an umbra-cowd that keeps dying is given up", "[guardian]") {
  const ScratchDirectory scratch;
  GuardianUnit unit(scratch.path(), {"--restart-failures", "3"});
  for (int life = 0; life < 3; ++life) {
    REQUIRE(unit.await_probe());
    unit.signal_probe(SIGKILL);
  }
  const int status = unit.await_end();
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 1);
  CHECK(unit.log().find("giving up") != std::string::npos);
}

TEST_CASE("asked for a new umbra-cowd the guardian starts one, which is no failure", "[guardian]") {
  const ScratchDirectory scratch;
  GuardianUnit unit(scratch.path(), {"--restart-failures", "1"});
  REQUIRE(unit.await_probe());
  const std::string file = (scratch.path() / "kept").string();
  std::ofstream(file) << "kept";
  CHECK(unit.ask("keep one " + file + " state") == "ok");
  for (int life = 0; life < 3; ++life) {
    unit.signal_guardian(SIGUSR1);
    REQUIRE(unit.await_probe());
    CHECK(unit.ask("kept").find("one=state") != std::string::npos);
  }
  CHECK(unit.log().find("giving up") == std::string::npos);
  unit.tell("exit 0");
  CHECK(unit.await_end() == 0);
}

TEST_CASE("the unit ends with umbra-cowd's clean exit and on SIGTERM", "[guardian]") {
  const ScratchDirectory scratch;
  {
    GuardianUnit unit(scratch.path());
    REQUIRE(unit.await_probe());
    unit.tell("exit 0");
    CHECK(unit.await_end() == 0);
  }
  std::filesystem::remove(scratch.path() / "control");
  GuardianUnit unit(scratch.path());
  REQUIRE(unit.await_probe());
  unit.signal_guardian(SIGTERM);
  const int status = unit.await_end();  // The probe does not catch it.
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 128 + SIGTERM);
}

TEST_CASE("two guardians cannot have one run directory", "[guardian]") {
  const ScratchDirectory scratch;
  GuardianUnit first(scratch.path());
  REQUIRE(first.await_probe());
  std::filesystem::remove(scratch.path() / "control");
  GuardianUnit second(scratch.path());
  const int status = second.await_end();
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 1);
}

}  // namespace
}  // namespace umbra::test
