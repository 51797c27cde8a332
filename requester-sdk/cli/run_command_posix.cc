// SPDX-License-Identifier: Apache-2.0
//
// Runs the command of `umbra exec`. While it runs, the terminal's interrupt is its business: both
// get it, and ours must outlive it to release the copies. None is lost on the way there: signals
// wait while the command is started, and what had come before it existed is passed on to it.
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <system_error>

#include "requester-sdk/cli/commands.h"

namespace umbra::cli {
namespace {

constexpr std::array kTerminals{SIGINT, SIGQUIT};

// What the terminal sends waits from its making on, and is ignored from ignore() on, for the life
// of the object.
class TerminalSignals {
 public:
  TerminalSignals() {
    sigset_t wait;
    sigemptyset(&wait);
    for (const int number : kTerminals) sigaddset(&wait, number);
    (void)sigprocmask(SIG_BLOCK, &wait, &mask_);
    for (std::size_t i = 0; i < kTerminals.size(); ++i)
      (void)sigaction(kTerminals[i], nullptr, &before_[i]);
  }
  ~TerminalSignals() { restore(); }
  TerminalSignals(const TerminalSignals&) = delete;
  TerminalSignals& operator=(const TerminalSignals&) = delete;

  // What has come by now may have come before `child` was there to get it. Twice does no harm.
  void pass_to(pid_t child) const {
    sigset_t came;
    sigemptyset(&came);
    (void)sigpending(&came);
    for (const int number : kTerminals)
      if (sigismember(&came, number) == 1) (void)kill(child, number);
  }
  void ignore() const {
    struct sigaction ignored {};
    ignored.sa_handler = SIG_IGN;
    for (const int number : kTerminals) (void)sigaction(number, &ignored, nullptr);
    (void)sigprocmask(SIG_SETMASK, &mask_, nullptr);
  }
  void restore() const {
    for (std::size_t i = 0; i < kTerminals.size(); ++i)
      (void)sigaction(kTerminals[i], &before_[i], nullptr);
    (void)sigprocmask(SIG_SETMASK, &mask_, nullptr);
  }

 private:
  sigset_t mask_{};
  std::array<struct sigaction, kTerminals.size()> before_{};
};

}  // namespace

Result<int> run_command(const std::vector<std::string>& command, const Environment& added) {
  // exec's errno comes back through a pipe that a successful exec closes.
  std::array<int, 2> failure{-1, -1};
  if (pipe2(failure.data(), O_CLOEXEC) != 0) return fail(Errc::limit_reached, "pipe");
  const TerminalSignals signals;
  const pid_t pid = fork();
  if (pid > 0) signals.pass_to(pid);
  if (pid != 0) signals.ignore();
  if (pid == 0) {
    signals.restore();
    for (const auto& [name, value] : added) (void)setenv(name.c_str(), value.c_str(), 1);
    std::vector<char*> words;
    for (const auto& word : command) words.push_back(const_cast<char*>(word.c_str()));
    words.push_back(nullptr);
    (void)execvp(words[0], words.data());
    const int error = errno;
    [[maybe_unused]] const auto told = write(failure[1], &error, sizeof(error));
    _exit(127);
  }
  (void)close(failure[1]);
  int error = pid < 0 ? errno : 0;
  if (pid > 0 && read(failure[0], &error, sizeof(error)) != sizeof(error)) error = 0;
  (void)close(failure[0]);
  int state = 0;
  while (pid > 0 && waitpid(pid, &state, 0) < 0 && errno == EINTR) {
  }
  if (error != 0) {
    return fail(error == ENOENT ? Errc::object_not_found : Errc::access_denied,
                "cannot run " + command[0] + ": " + std::generic_category().message(error));
  }
  return WIFSIGNALED(state) ? 128 + WTERMSIG(state) : WEXITSTATUS(state);
}

}  // namespace umbra::cli
