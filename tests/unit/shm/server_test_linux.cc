// SPDX-License-Identifier: Apache-2.0
#include "provider/frontend/shm/server.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/shm/layout.h"
#include "provider/frontend/shm/memory_linux.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

using namespace umbra;

TEST_CASE("sealed memory can be written by its maker only, and keeps its size", "[shm]") {
  const auto memory = shm::SealedMemory::create("test", 8192);
  REQUIRE(memory);
  memory->bytes()[5000] = std::byte{1};
  const int fd = memory->descriptor();
  CHECK(::mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
  CHECK(::pwrite(fd, "x", 1, 0) == -1);
  CHECK(::ftruncate(fd, 4096) == -1);
  CHECK(::ftruncate(fd, 16384) == -1);
  char byte = 0;
  REQUIRE(::pread(fd, &byte, 1, 5000) == 1);
  CHECK(byte == 1);
}

namespace {

std::uint32_t state_of(int fd) {
  std::uint32_t state = 99;
  (void)::pread(fd, &state, sizeof state, 0);
  return state;
}
constexpr auto kEnded = static_cast<std::uint32_t>(shm::State::ended);
constexpr auto kValid = static_cast<std::uint32_t>(shm::State::valid);

}  // namespace

TEST_CASE("a page of life ends with its process, or by its successor", "[shm]") {
  const test::TempDir directory;
  const std::string path = directory / "life";
  auto first = shm::LifePage::begin(path);
  REQUIRE(first);
  // As a process that is killed leaves it: the page says that it lives.
  const UniqueFd reader(::dup(first->descriptor()));
  CHECK(state_of(reader.get()) == kValid);
  CHECK(::pwrite(reader.get(), "x", 1, 0) == -1);
  const auto second = shm::LifePage::begin(path);
  REQUIRE(second);
  CHECK(state_of(reader.get()) == kEnded);
  CHECK(state_of(second->descriptor()) == kValid);
  { const shm::LifePage third = std::move(*first); }
  CHECK(state_of(second->descriptor()) == kValid);
}

TEST_CASE("a page of life that is no file of ours is refused", "[shm]") {
  const test::TempDir directory;
  const std::string path = directory / "life";
  REQUIRE(::symlink("/dev/null", path.c_str()) == 0);
  CHECK(shm::LifePage::begin(path).error().code == Errc::io_error);
}
