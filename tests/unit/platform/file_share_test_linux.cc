// SPDX-License-Identifier: Apache-2.0
//
// Files that share blocks, on a real XFS of the test's own (a loop device; skipped where that
// cannot be made), and what is said where nothing can be shared.
#include <spawn.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <vector>

#include "engine/platform/file_device.h"
#include "tests/support/catch.h"
#include "tests/support/skip.h"
#include "tests/support/temp_dir.h"

using namespace umbra;

namespace {

constexpr std::uint64_t kBlock = 4096;
constexpr std::uint64_t kBlocks = 512;  // Of the origin. The diff area is as large.
constexpr std::uint64_t kHostBytes = std::uint64_t{320} << 20U;  // mkfs.xfs wants no less than 300.

// 0: it has succeeded.
int run_program(std::vector<std::string> words) {
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_t pid = 0;
  if (::posix_spawnp(&pid, argv[0], nullptr, nullptr, argv.data(), environ) != 0) return -1;
  int status = -1;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

std::optional<std::string> missing() {
  if (auto reason = test::missing_loop_devices()) return reason;
  for (const char* program : {"mkfs.xfs", "mount", "umount"}) {
    if (auto reason = test::missing_program(program)) return reason;
  }
  return std::nullopt;
}

void make_file(const std::string& path, std::uint64_t size_bytes) {
  std::ofstream(path).close();
  std::filesystem::resize_file(path, size_bytes);
}

// An XFS of its own, and what was in it is gone afterwards.
class Host {
 public:
  // False: this machine cannot mount one.
  [[nodiscard]] bool mount() {
    const std::string image = dir_ / "image";
    make_file(image, kHostBytes);
    std::filesystem::create_directory(path());
    if (run_program({"mkfs.xfs", "-q", "-m", "reflink=1", image}) != 0) return false;
    mounted_ = run_program({"mount", "-o", "loop", image, path()}) == 0;
    return mounted_;
  }
  Host() = default;
  ~Host() {
    // Lazily, if a failed test still has a file open: it goes with the last of them.
    if (mounted_ && run_program({"umount", path()}) != 0)
      (void)::umount2(path().c_str(), MNT_DETACH);
  }
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;

  [[nodiscard]] std::string path() const { return dir_ / "host"; }
  [[nodiscard]] std::string operator/(const std::string& name) const { return path() + "/" + name; }

 private:
  test::TempDir dir_;
  bool mounted_ = false;
};

std::unique_ptr<FileDevice> open_new(const std::string& path) {
  make_file(path, kBlocks * kBlock);
  FileDeviceOptions options;
  options.engine = FileEngine::threads;
  auto opened = open_file_device(path, options);
  REQUIRE(opened);
  return std::move(*opened);
}

int run(block::Device& device, block::Op op, std::uint64_t block, std::span<std::byte> bytes) {
  block::Request request;
  request.op = op;
  request.offset_bytes = block * kBlock;
  request.size_bytes = bytes.size();
  request.buffer = bytes.data();
  return block::run(device, request);
}

int share(block::Device& diff, std::uint64_t at_bytes, block::Device& origin,
          std::uint64_t from_bytes, std::uint64_t size_bytes) {
  block::Request request;
  request.op = block::Op::share;
  request.source = &origin;
  request.source_offset_bytes = from_bytes;
  request.offset_bytes = at_bytes;
  request.size_bytes = size_bytes;
  return block::run(diff, request);
}

std::vector<std::byte> filled(std::uint64_t blocks, int with) {
  return std::vector<std::byte>(blocks * kBlock, static_cast<std::byte>(with));
}

std::vector<std::byte> content(block::Device& device, std::uint64_t block, std::uint64_t blocks) {
  std::vector<std::byte> bytes(blocks * kBlock);
  REQUIRE(run(device, block::Op::read, block, bytes) == 0);
  return bytes;
}

}  // namespace

TEST_CASE("files on one XFS share blocks until either is written", "[platform][share]") {
  if (const auto reason = missing()) return test::skip(*reason);
  Host host;
  if (!host.mount()) return test::skip("this kernel mounts no XFS");
  const auto origin = open_new(host / "origin");
  const auto diff = open_new(host / "diff");
  auto old = filled(kBlocks, 0x11);
  REQUIRE(run(*origin, block::Op::write, 0, old) == 0);

  const auto unit = diff->share_unit(*origin);
  REQUIRE(unit);
  CHECK(*unit == kBlock);
  CHECK(diff->shared_bytes(0, kBlocks * kBlock) == 0);
  // The attempt was made in a file without a name.
  const std::filesystem::directory_iterator names(host.path());
  CHECK(std::distance(begin(names), end(names)) == 2);

  REQUIRE(share(*diff, 64 * kBlock, *origin, 0, 16 * kBlock) == 0);
  CHECK(content(*diff, 64, 16) == filled(16, 0x11));
  CHECK(diff->shared_bytes(0, kBlocks * kBlock) == 16 * kBlock);
  CHECK(origin->shared_bytes(0, kBlocks * kBlock) == 16 * kBlock);
  CHECK(origin->shared_bytes(8 * kBlock, kBlocks * kBlock - 8 * kBlock) == 8 * kBlock);
  CHECK(origin->shared_bytes(16 * kBlock, 100 * kBlock) == 0);

  auto now = filled(4, 0x22);
  REQUIRE(run(*origin, block::Op::write, 2, now) == 0);
  REQUIRE(run(*origin, block::Op::flush, 0, {}) == 0);
  CHECK(content(*diff, 64, 16) == filled(16, 0x11));
  CHECK(diff->shared_bytes(0, kBlocks * kBlock) == 12 * kBlock);
  REQUIRE(run(*diff, block::Op::write, 64, now) == 0);
  CHECK(content(*origin, 0, 2) == filled(2, 0x11));
  CHECK(content(*origin, 6, 10) == filled(10, 0x11));

  // Behind the end of the source, and between its blocks, nothing is shared; nothing has changed.
  CHECK(share(*diff, 0, *origin, kBlocks * kBlock, kBlock) != 0);
  CHECK(share(*diff, 0, *origin, 512, kBlock) == EINVAL);
  CHECK(content(*diff, 0, 1) == filled(1, 0));
}

TEST_CASE("what is shared is counted over any number of extents", "[platform][share]") {
  if (const auto reason = missing()) return test::skip(*reason);
  Host host;
  if (!host.mount()) return test::skip("this kernel mounts no XFS");
  const auto origin = open_new(host / "origin");
  const auto diff = open_new(host / "diff");
  auto old = filled(kBlocks, 0x33);
  REQUIRE(run(*origin, block::Op::write, 0, old) == 0);
  // More than the kernel is asked for at a time, each with a hole behind it.
  constexpr std::uint64_t kPieces = 200;
  for (std::uint64_t i = 0; i < kPieces; ++i) {
    REQUIRE(share(*diff, 2 * i * kBlock, *origin, (kBlocks - 1 - i) * kBlock, kBlock) == 0);
  }
  CHECK(diff->shared_bytes(0, kBlocks * kBlock) == kPieces * kBlock);
  CHECK(diff->shared_bytes(100 * kBlock, 200 * kBlock) == 100 * kBlock);
  CHECK(origin->shared_bytes(0, kBlocks * kBlock) == kPieces * kBlock);
}

TEST_CASE("where blocks cannot be shared it is said why, and what to do", "[platform][share]") {
  const test::TempDir elsewhere(test::TempDir::memory());
  const auto there = open_new(elsewhere / "there");
  const auto beside = open_new(elsewhere / "beside");
  // Memory's file system shares nothing.
  const auto refused = beside->share_unit(*there);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == Errc::not_supported);
  CHECK(refused.error().to_string().find("--preserve copy") != std::string::npos);
  CHECK(share(*beside, 0, *there, 0, kBlock) != 0);

  if (const auto reason = missing()) return test::skip(*reason);
  Host host;
  if (!host.mount()) return test::skip("this kernel mounts no XFS");
  const auto here = open_new(host / "here");
  const auto apart = here->share_unit(*there);
  REQUIRE_FALSE(apart);
  CHECK(apart.error().code == Errc::not_supported);
  CHECK(apart.error().to_string().find("another file system") != std::string::npos);
  CHECK(share(*here, 0, *there, 0, kBlock) == EXDEV);
}
