// SPDX-License-Identifier: Apache-2.0
#include "provider/daemon/helper_linux.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <mutex>
#include <system_error>
#include <utility>

#include "engine/platform/clock.h"
#include "engine/platform/unique_fd.h"

extern char** environ;  // NOLINT(readability-redundant-declaration): POSIX has it in no header.

namespace umbra::cowd {
namespace {

constexpr std::size_t kAnswerBytesMax = 64 * 1024;

std::string reason(int error) { return std::generic_category().message(error); }

// Processes that were given up: one that waits for a device may not die at once.
class Abandoned {
 public:
  void add(pid_t pid) {
    const std::lock_guard lock(mutex_);
    pids_.push_back(pid);
  }
  void reap() {
    const std::lock_guard lock(mutex_);
    std::erase_if(pids_, [](pid_t pid) { return ::waitpid(pid, nullptr, WNOHANG) != 0; });
  }

 private:
  std::mutex mutex_;
  std::vector<pid_t> pids_;
};

Abandoned& abandoned() {
  static Abandoned processes;
  return processes;
}

// `hold_fd` is its standard input, or -1: an empty one.
Result<pid_t> spawn(const std::vector<std::string>& words, int answer_fd, int hold_fd = -1) {
  std::vector<std::string> storage = {kHelperName};
  storage.insert(storage.end(), words.begin(), words.end());
  std::vector<char*> argv;
  for (std::string& word : storage) argv.push_back(word.data());
  argv.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  (void)posix_spawn_file_actions_init(&actions);
  (void)posix_spawnattr_init(&attributes);
  if (hold_fd >= 0) {
    (void)posix_spawn_file_actions_adddup2(&actions, hold_fd, STDIN_FILENO);
  } else {
    (void)posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  }
  (void)posix_spawn_file_actions_adddup2(&actions, answer_fd, STDOUT_FILENO);
  sigset_t none;
  (void)sigemptyset(&none);
  (void)posix_spawnattr_setsigmask(&attributes, &none);
  (void)posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  pid_t pid = -1;
  const int error =
      ::posix_spawn(&pid, "/proc/self/exe", &actions, &attributes, argv.data(), environ);
  (void)posix_spawn_file_actions_destroy(&actions);
  (void)posix_spawnattr_destroy(&attributes);
  if (error != 0) return fail(Errc::io_error, "cannot start a helper: " + reason(error));
  return pid;
}

// What a step that goes on says when it has begun.
constexpr const char* kGoesOn = "0\n";

// What came until end of file, or until it is `enough`. False: not within the limit.
bool read_answer(int fd, TimePoint deadline, std::string& answer, const char* enough = nullptr) {
  while (true) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - system_clock().now());
    if (left.count() <= 0) return false;
    pollfd ready{fd, POLLIN, 0};
    const int count = ::poll(&ready, 1, static_cast<int>(left.count()));
    if (count < 0 && errno != EINTR) return false;
    if (count <= 0) continue;
    char buffer[4096];
    const ssize_t got = ::read(fd, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return got == 0;
    if (answer.size() < kAnswerBytesMax) answer.append(buffer, static_cast<std::size_t>(got));
    if (enough != nullptr && answer == enough) return true;
  }
}

Result<std::string> parse_answer(const std::string& answer, const std::string& step) {
  const auto newline = answer.find('\n');
  std::uint32_t code = 0;
  const char* end = answer.data() + (newline == std::string::npos ? 0 : newline);
  const auto parsed = std::from_chars(answer.data(), end, code);
  if (newline == std::string::npos || parsed.ec != std::errc() || parsed.ptr != end) {
    return fail(Errc::io_error, step + ": the helper process died");
  }
  std::string text = answer.substr(newline + 1);
  if (code == 0) return text;
  return fail(static_cast<Errc>(code), std::move(text));
}

}  // namespace

Result<std::unique_ptr<HelperClaim>> HelperClaim::take(const std::vector<std::string>& words) {
  abandoned().reap();
  int answers[2];
  int holds[2];
  if (::pipe2(answers, O_CLOEXEC) != 0) return fail(Errc::io_error, "pipe: " + reason(errno));
  UniqueFd read_end(answers[0]);
  UniqueFd write_end(answers[1]);
  if (::pipe2(holds, O_CLOEXEC) != 0) return fail(Errc::io_error, "pipe: " + reason(errno));
  UniqueFd held(holds[0]);
  UniqueFd hold(holds[1]);
  const auto pid = spawn(words, write_end.get(), held.get());
  write_end.reset();
  held.reset();
  if (!pid) return fail(pid.error());
  std::unique_ptr<HelperClaim> claim(new HelperClaim(*pid, std::move(hold), std::move(read_end)));
  std::string answer;
  const TimePoint deadline = system_clock().now() + kHelperLimit;
  if (!read_answer(claim->answer_.get(), deadline, answer, kGoesOn)) {
    (void)::kill(*pid, SIGKILL);
    return fail(Errc::io_error,
                words.front() + " took longer than " + std::to_string(kHelperLimit.count()) + " s");
  }
  if (answer == kGoesOn) return claim;
  return fail(parse_answer(answer, words.front()).error());
}

HelperClaim::HelperClaim(pid_t process, UniqueFd hold, UniqueFd answer)
    : process_(process), hold_(std::move(hold)), answer_(std::move(answer)) {}

HelperClaim::~HelperClaim() {
  hold_.reset();
  std::string rest;
  if (!read_answer(answer_.get(), system_clock().now() + kHelperLimit, rest)) {
    (void)::kill(process_, SIGKILL);
    abandoned().add(process_);
    return;
  }
  while (::waitpid(process_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

Result<std::string> run_helper(const std::vector<std::string>& words) {
  abandoned().reap();
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return fail(Errc::io_error, "pipe: " + reason(errno));
  const UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  const auto pid = spawn(words, write_end.get());
  write_end.reset();
  if (!pid) return fail(pid.error());

  std::string answer;
  const std::string step = words.empty() ? "helper" : words.front();
  const bool answered = read_answer(read_end.get(), system_clock().now() + kHelperLimit, answer);
  if (!answered) {
    (void)::kill(*pid, SIGKILL);
    abandoned().add(*pid);
    return fail(Errc::io_error,
                step + " took longer than " + std::to_string(kHelperLimit.count()) + " s");
  }
  while (::waitpid(*pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  return parse_answer(answer, step);
}

}  // namespace umbra::cowd
