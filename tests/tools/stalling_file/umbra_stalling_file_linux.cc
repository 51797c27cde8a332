// SPDX-License-Identifier: Apache-2.0
//
// umbra-stalling-file IMAGE POINT [BELOW-BYTES]: serves IMAGE as the FUSE file POINT, a disk that
// stands still on demand. SIGUSR1: requests are taken and not answered, or only writes that begin
// before BELOW-BYTES (a file system's superblock, which a freeze writes and a flush does not).
// SIGUSR2: goes on. Says "ready", and "held" for every request that it holds back. SIGTERM: goes
// on, and ends; who uses the file then gets errors.
#include <signal.h>

#include <cstdio>
#include <cstdlib>
#include <memory>

#include "provider/frontend/fuse/session.h"
#include "tests/support/image_device_posix.h"

namespace {

void say(const char* text) {
  (void)std::puts(text);
  (void)std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3 && argc != 4) return 2;
  const std::uint64_t below_bytes = argc == 4 ? std::strtoull(argv[3], nullptr, 10) : 0;
  sigset_t signals;
  (void)sigemptyset(&signals);
  for (const int number : {SIGUSR1, SIGUSR2, SIGTERM, SIGINT}) (void)sigaddset(&signals, number);
  (void)sigprocmask(SIG_BLOCK, &signals, nullptr);

  const auto device = std::make_shared<umbra::test::ImageDevice>(argv[1]);
  device->on_held = [] { say("held"); };
  auto session = umbra::fuse::Session::create({argv[2], umbra::fuse::Shape::one_file, 0, 0750},
                                              umbra::null_log());
  const bool serves = session && (*session)->add("", device, {.mode = 0600}) && (*session)->start();
  if (!serves) {
    (void)std::fprintf(stderr, "umbra-stalling-file: cannot serve %s\n", argv[2]);
    return 1;
  }
  say("ready");
  for (int number = 0; sigwait(&signals, &number) == 0;) {
    if (number == SIGUSR1) {
      device->hang(below_bytes);
      continue;
    }
    device->resume();
    if (number != SIGUSR2) return 0;
  }
}
