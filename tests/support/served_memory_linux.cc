// SPDX-License-Identifier: Apache-2.0
#include "tests/support/served_memory_linux.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "engine/platform/prng.h"
#include "engine/platform/unique_fd.h"
#include "tests/support/catch.h"
#include "tests/support/seed.h"

namespace umbra::test {
namespace {

std::vector<std::byte> block_of(std::uint64_t index, std::uint64_t generation) {
  std::vector<std::byte> out(ServedMemory::kBlock);
  Prng prng(index * 1'000'003 + generation);
  for (std::size_t i = 0; i < ServedMemory::kBlock; i += 8) {
    const auto value = prng.next();
    std::memcpy(out.data() + i, &value, 8);
  }
  return out;
}

}  // namespace

ServedMemory& ServedMemory::make() {
  void* at = ::mmap(nullptr, sizeof(ServedMemory), PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE(at != MAP_FAILED);
  return *new (at) ServedMemory;
}

block::Geometry ServedMemoryDevice::geometry() const noexcept {
  block::Geometry geometry;
  geometry.size_bytes = ServedMemory::kSize;
  return geometry;
}

void ServedMemoryDevice::submit(block::Request& first) noexcept {
  for (block::Request* request = &first; request != nullptr;) {
    block::Request* next = request->next;
    std::byte* at = memory_.bytes + request->offset_bytes;
    if (request->op == block::Op::read) std::memcpy(request->buffer, at, request->size_bytes);
    if (request->op == block::Op::write) std::memcpy(at, request->buffer, request->size_bytes);
    request->error = 0;
    const auto count = ++memory_.served;
    if (memory_.may_stall && count % ServedMemory::kStallEvery == 0) {
      ++memory_.stalled;
    } else {
      request->complete(*request);
    }
    request = next;
  }
}

pid_t in_child(const std::function<int()>& work) {
  const pid_t pid = ::fork();
  REQUIRE(pid >= 0);
  if (pid == 0) ::_exit(work());
  return pid;
}

int write_and_verify(const std::string& device, ServedMemory& memory, std::size_t writer) {
  const UniqueFd file(::open(device.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC));
  if (!file) return 1 + errno;
  constexpr std::size_t kBlock = ServedMemory::kBlock;
  constexpr std::uint64_t kBlocks = ServedMemory::kSize / kBlock / ServedMemory::kWriters;
  std::vector<std::uint64_t> generations(kBlocks, 0);
  auto* buffer = static_cast<std::byte*>(std::aligned_alloc(kBlock, kBlock));
  Prng prng(test::seed() + writer);
  const auto place = [&](std::uint64_t i) {
    return static_cast<off_t>((writer * kBlocks + i) * kBlock);
  };
  for (std::uint64_t round = 1; !memory.stop; ++round) {
    const auto i = prng.below(kBlocks);
    std::memcpy(buffer, block_of(writer * kBlocks + i, round).data(), kBlock);
    if (::pwrite(file.get(), buffer, kBlock, place(i)) != kBlock) return 1 + errno;
    generations[i] = round;
    ++memory.written;
  }
  if (::fsync(file.get()) != 0) return 1 + errno;
  for (std::uint64_t i = 0; i < kBlocks; ++i) {
    if (generations[i] == 0) continue;
    if (::pread(file.get(), buffer, kBlock, place(i)) != kBlock) return 1 + errno;
    const auto wanted = block_of(writer * kBlocks + i, generations[i]);
    if (std::memcmp(buffer, wanted.data(), kBlock) != 0) return 200;
  }
  return 0;
}

bool wait_for(const std::function<bool()>& condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    (void)::poll(nullptr, 0, 1);
  }
  return true;
}

void kill_and_reap(pid_t pid) {
  (void)::kill(pid, SIGKILL);
  (void)::waitpid(pid, nullptr, 0);
}

}  // namespace umbra::test
