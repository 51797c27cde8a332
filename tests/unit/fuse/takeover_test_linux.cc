// SPDX-License-Identifier: Apache-2.0
//
// Purpose: a server that is killed with -9 costs its clients a pause and no error.
// Method: the test is the keeper: it holds the session's descriptor and starts one serving process
// after the other, over memory that all share. Writing processes put self-describing blocks through
// a loop device on the session, each in a part of its own, and read all of it back at the end. The
// server is killed while requests that it took are unanswered, so that only a resend can end them.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <memory>
#include <vector>

#include "provider/frontend/fuse/loop.h"
#include "provider/frontend/fuse/session.h"
#include "tests/support/catch.h"
#include "tests/support/seed.h"
#include "tests/support/served_memory_linux.h"
#include "tests/support/skip.h"
#include "tests/support/temp_dir.h"

using namespace umbra;
using namespace umbra::fuse;
using umbra::test::in_child;
using umbra::test::kill_and_reap;
using umbra::test::ServedMemory;
using umbra::test::ServedMemoryDevice;
using umbra::test::wait_for;
using umbra::test::write_and_verify;

namespace {

int serve(Session& session, ServedMemory& shared) {
  const auto added = session.add("", std::make_shared<ServedMemoryDevice>(shared), {});
  if (!added || !session.start()) return 1;
  while (true) ::pause();
}

}  // namespace

TEST_CASE("kill -9 of the serving process costs its clients no error and no byte", "[fuse]") {
  if (auto reason = test::missing_fuse()) return test::skip(*reason);
  if (auto reason = test::missing_loop_devices()) return test::skip(*reason);
  ServedMemory& shared = ServedMemory::make();
  const test::TempDir dir;
  const std::string point = dir / "volume";
  std::ofstream(point).put(' ');
  auto session = Session::create({point, Shape::one_file, 0, 0750}, null_log()).value();
  pid_t server = in_child([&] { return serve(*session, shared); });

  const auto loop = attach_loop(point, {});
  if (!loop) kill_and_reap(server);
  REQUIRE(loop);
  std::vector<pid_t> writers;
  for (std::size_t i = 0; i < ServedMemory::kWriters; ++i) {
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
  ServedMemory& shared = ServedMemory::make();
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
