// SPDX-License-Identifier: Apache-2.0
//
// Runs the command of `umbra exec`. While it runs, the terminal's interrupt is its business: both
// get it, and ours must outlive it to release the copies.
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

// Ignores a signal for the life of the object.
class Ignored {
 public:
  explicit Ignored(int number) : number_(number) {
    struct sigaction ignore {};
    ignore.sa_handler = SIG_IGN;
    (void)sigaction(number_, &ignore, &before_);
  }
  ~Ignored() { restore(); }
  Ignored(const Ignored&) = delete;
  Ignored& operator=(const Ignored&) = delete;
  void restore() const { (void)sigaction(number_, &before_, nullptr); }

 private:
  int number_;
  struct sigaction before_ {};
};

}  // namespace

Result<int> run_command(const std::vector<std::string>& command, const Environment& added) {
  // exec's errno comes back through a pipe that a successful exec closes.
  std::array<int, 2> failure{-1, -1};
  if (pipe2(failure.data(), O_CLOEXEC) != 0) return fail(Errc::limit_reached, "pipe");
  const Ignored interrupt(SIGINT);
  const Ignored quit(SIGQUIT);
  const pid_t pid = fork();
  if (pid == 0) {
    interrupt.restore();
    quit.restore();
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
