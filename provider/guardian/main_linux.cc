// SPDX-License-Identifier: Apache-2.0
//
// umbra-guardian [options] -- umbra-cowd [its options]: the main process of the provider's unit.
// Exit status: umbra-cowd's own after a clean end or a refusal to start; 1 after giving up or when
// another guardian has the run directory; 2 for a wrong option.

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/signalfd.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <fstream>
#include <iostream>

#include "provider/guardian/guardian_linux.h"

namespace {

using namespace umbra::guardian;

// Of the guardian itself: it must answer when memory is short and its volume is not served.
void protect_process() {
  std::ofstream("/proc/self/oom_score_adj") << "-1000";  // Needs root; inherited by umbra-cowd.
  (void)mlockall(MCL_CURRENT | MCL_FUTURE);
}

int block_signals() {
  sigset_t set;
  (void)sigemptyset(&set);
  for (const int signal : {SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGUSR1}) {
    (void)sigaddset(&set, signal);
  }
  (void)sigprocmask(SIG_BLOCK, &set, nullptr);
  (void)signal(SIGPIPE, SIG_IGN);
  return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

// One that was killed this moment still has the lock until it is gone.
bool lock_patiently(int fd) {
  constexpr int kTries = 100;
  constexpr int kPauseMs = 20;
  for (int i = 0; i < kTries; ++i) {
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) return true;
    (void)poll(nullptr, 0, kPauseMs);
  }
  return false;
}

int run(const GuardianOptions& options, const std::string& log_file) {
  const int log_fd = log_file.empty()
                         ? STDERR_FILENO
                         : open(log_file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
  if (log_fd < 0) {
    std::cerr << "umbra-guardian: cannot open log file " << log_file << "\n";
    return 2;
  }
  const auto lock_path = options.run_dir / "guardian.lock";
  const umbra::UniqueFd lock(open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!lock) {
    std::cerr << "umbra-guardian: cannot open " << lock_path.string()
              << "; create the run directory first\n";
    return 2;
  }
  if (!lock_patiently(lock.get())) {
    std::cerr << "umbra-guardian: another one has " << options.run_dir.string() << "\n";
    return 1;
  }
  GuardianLog log(log_fd);
  const int signals = block_signals();
  protect_process();
  Guardian guardian(options, signals, log);
  return guardian.run();
}

}  // namespace

int main(int argc, char** argv) {
  GuardianOptions options;
  options.spared = argc > 0 && argv[0][0] == '@';
  std::string log_file;
  int patience_ms = 5'000;
  int window_ms = 60'000;
  int serve_ms = 120'000;
  CLI::App app{
      "Starts umbra-cowd, restarts it, keeps its descriptors, and freezes and thaws for it."};
  app.add_option("--run-dir", options.run_dir, "The provider's run directory")->required();
  app.add_option("--log-file", log_file, "Append the log to this file instead of standard error");
  app.add_option("--restart-failures", options.restart.failures_max,
                 "Give up after this many failures of umbra-cowd within the window")
      ->check(CLI::Range(1, 1000));
  app.add_option("--restart-window-ms", window_ms, "The window")->check(CLI::Range(1, 86'400'000));
  app.add_option("--patience-ms", patience_ms,
                 "After a lease: how long umbra-cowd may make no progress before it is killed")
      ->check(CLI::Range(10, 600'000));
  app.add_option("--serve-limit-ms", serve_ms,
                 "How long a restarted umbra-cowd may take until it serves again")
      ->check(CLI::Range(10, 3'600'000));
  app.add_option("command", options.command, "umbra-cowd and its options, after --")->required();
  CLI11_PARSE(app, argc, argv);
  options.restart.window = std::chrono::milliseconds(window_ms);
  options.patience = std::chrono::milliseconds(patience_ms);
  options.serve_limit = std::chrono::milliseconds(serve_ms);
  return run(options, log_file);
}
