// SPDX-License-Identifier: Apache-2.0
//
// Purpose: a server that is killed with -9 costs its clients a pause and no error.
// Method: the test is the keeper: it holds the session's descriptor and starts one serving process
// after the other, over memory that all share. Writing processes put self-describing blocks through
// a loop device on the session, each in a part of its own, and read all of it back at the end. The
// server is killed while requests that it took are unanswered, so that only a resend can end them.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>

#include "engine/platform/prng.h"
#include "provider/frontend/fuse/loop.h"
#include "provider/frontend/fuse/session.h"
#include "tests/support/catch.h"
#include "tests/support/seed.h"
#include "tests/support/skip.h"
#include "tests/support/temp_dir.h"

using namespace umbra;
using namespace umbra::fuse;

namespace {

constexpr std::uint64_t kSize = 16U << 20U;
constexpr std::size_t kBlock = 4096;
constexpr std::size_t kWriters = 4;
constexpr std::uint64_t kStallEvery = 97;  // One request in so many is taken and never answered.

// Seen by every process of the test.
struct Shared {
  std::atomic<std::uint64_t> served{0};
  std::atomic<std::uint64_t> stalled{0};
  std::atomic<bool> may_stall{false};
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> written{0};
  alignas(kBlock) std::byte bytes[kSize];
};

Shared* map_shared() {
  void* at =
      ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE(at != MAP_FAILED);
  return new (at) Shared;
}

class SharedDevice final : public block::Device {
 public:
  explicit SharedDevice(Shared& shared) : shared_(shared) {}
  block::Geometry geometry() const noexcept override {
    block::Geometry geometry;
    geometry.size_bytes = kSize;
    return geometry;
  }
  void submit(block::Request& first) noexcept override {
    for (block::Request* request = &first; request != nullptr;) {
      block::Request* next = request->next;
      std::byte* at = shared_.bytes + request->offset_bytes;
      if (request->op == block::Op::read) std::memcpy(request->buffer, at, request->size_bytes);
      if (request->op == block::Op::write) std::memcpy(at, request->buffer, request->size_bytes);
      request->error = 0;
      const auto count = ++shared_.served;
      if (shared_.may_stall && count % kStallEvery == 0) {
        ++shared_.stalled;
      } else {
        request->complete(*request);
      }
      request = next;
    }
  }

 private:
  Shared& shared_;
};

pid_t in_child(const std::function<int()>& work) {
  const pid_t pid = ::fork();
  REQUIRE(pid >= 0);
  if (pid == 0) ::_exit(work());
  return pid;
}

int serve(Session& session, Shared& shared) {
  const auto added = session.add("", std::make_shared<SharedDevice>(shared), {});
  if (!added || !session.start()) return 1;
  while (true) ::pause();
}

std::vector<std::byte> block_of(std::uint64_t index, std::uint64_t generation) {
  std::vector<std::byte> out(kBlock);
  Prng prng(index * 1'000'003 + generation);
  for (std::size_t i = 0; i < kBlock; i += 8) {
    const auto value = prng.next();
    std::memcpy(out.data() + i, &value, 8);
  }
  return out;
}

// 0: every block is what was last written; else 1 + the errno, or 200 for wrong data.
int write_and_verify(const std::string& device, Shared& shared, std::size_t writer) {
  const UniqueFd file(::open(device.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC));
  if (!file) return 1 + errno;
  constexpr std::uint64_t kBlocks = kSize / kBlock / kWriters;
  std::vector<std::uint64_t> generations(kBlocks, 0);
  auto* buffer = static_cast<std::byte*>(std::aligned_alloc(kBlock, kBlock));
  Prng prng(test::seed() + writer);
  const auto place = [&](std::uint64_t i) {
    return static_cast<off_t>((writer * kBlocks + i) * kBlock);
  };
  for (std::uint64_t round = 1; !shared.stop; ++round) {
    const auto i = prng.below(kBlocks);
    std::memcpy(buffer, block_of(writer * kBlocks + i, round).data(), kBlock);
    if (::pwrite(file.get(), buffer, kBlock, place(i)) != kBlock) return 1 + errno;
    generations[i] = round;
    ++shared.written;
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

template <class Condition>
bool wait_for(Condition condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    (void)::poll(nullptr, 0, 1);  // Memory of other processes: nothing to wait on.
  }
  return true;
}

void kill_and_reap(pid_t pid) {
  (void)::kill(pid, SIGKILL);
  (void)::waitpid(pid, nullptr, 0);
}

}  // namespace

TEST_CASE("kill -9 of the serving process costs its clients no error and no byte", "[fuse]") {
  if (auto reason = test::missing_fuse()) return test::skip(*reason);
  if (auto reason = test::missing_loop_devices()) return test::skip(*reason);
  Shared& shared = *map_shared();
  const test::TempDir dir;
  const std::string point = dir / "volume";
  std::ofstream(point).put(' ');
  auto session = Session::create({point, Shape::one_file, 0, 0750}, null_log()).value();
  pid_t server = in_child([&] { return serve(*session, shared); });

  const auto loop = attach_loop(point, {});
  if (!loop) kill_and_reap(server);
  REQUIRE(loop);
  std::vector<pid_t> writers;
  for (std::size_t i = 0; i < kWriters; ++i) {
    writers.push_back(in_child([&, i] { return write_and_verify(*loop, shared, i); }));
  }
  const int kills = test::long_run() ? 50 : 8;
  bool going_on = true;
  for (int i = 0; i < kills && going_on; ++i) {
    const auto before = shared.written.load();
    going_on = wait_for([&] { return shared.written >= before + 200; });
    CHECK(going_on);
    if (!going_on) break;
    const auto stalled = shared.stalled.load();
    shared.may_stall = true;
    CHECK(wait_for([&] { return shared.stalled > stalled; }));
    kill_and_reap(server);
    shared.may_stall = false;
    server = in_child([&] {
      auto next = Session::take_over(UniqueFd(::dup(session->descriptor())), session->saved_state(),
                                     null_log());
      return next ? serve(**next, shared) : 1;
    });
  }
  shared.stop = true;
  if (!going_on) session.reset();  // Ends what hangs with an error, so that the writers end.
  for (const pid_t writer : writers) {
    int status = -1;
    (void)::waitpid(writer, &status, 0);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
  }
  CHECK(detach_loop_device(*loop));
  kill_and_reap(server);
  session.reset();
  (void)::munmap(&shared, sizeof shared);
}

TEST_CASE("closing a file whose server has died does not wait for a successor", "[fuse]") {
  if (auto reason = test::missing_fuse()) return test::skip(*reason);
  Shared& shared = *map_shared();
  const test::TempDir dir;
  const std::string point = dir / "volume";
  std::ofstream(point).put(' ');
  auto session = Session::create({point, Shape::one_file, 0, 0750}, null_log()).value();
  const pid_t server = in_child([&] { return serve(*session, shared); });
  const pid_t client = in_child([&] {
    const int file = ::open(point.c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) return 1;
    ++shared.written;  // It is open.
    if (!wait_for([&] { return shared.stop.load(); })) return 2;
    (void)::close(file);
    return 0;
  });
  CHECK(wait_for([&] { return shared.written > 0; }));
  kill_and_reap(server);
  shared.stop = true;
  int status = -1;
  CHECK(wait_for([&] { return ::waitpid(client, &status, WNOHANG) == client; }));
  CHECK(status == 0);
  session.reset();
  (void)::munmap(&shared, sizeof shared);
}
