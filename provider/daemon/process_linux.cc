// SPDX-License-Identifier: Apache-2.0
#include "provider/daemon/process_linux.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <system_error>

#include "engine/platform/log.h"
#include "provider/daemon/patience.h"

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif
#ifndef MCL_ONFAULT
#define MCL_ONFAULT 4
#endif

namespace umbra::cowd {
namespace {

std::string reason(int error) { return std::generic_category().message(error); }

std::string owner_of(int fd) {
  std::array<char, 64> text{};
  const ssize_t size = ::pread(fd, text.data(), text.size(), 0);
  if (size <= 0) return "another process";
  std::string owner(text.data(), static_cast<std::size_t>(size));
  return "process " + printable(owner.substr(0, owner.find('\n')));
}

Result<UniqueFd> open_locked(const std::string& path, int flags, int lock,
                             std::chrono::milliseconds patience) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | flags, 0600));
  if (!fd) {
    return fail(errno == EACCES ? Errc::access_denied : Errc::io_error,
                path + ": " + reason(errno));
  }
  int error = 0;
  const bool locked = wait_until(patience, [&] {
    error = ::flock(fd.get(), lock | LOCK_NB) == 0 ? 0 : errno;
    return error != EWOULDBLOCK && error != EINTR;
  });
  if (!locked) {
    return fail(Errc::volume_attached, owner_of(fd.get()) + " has " + path +
                                           ": another umbra-cowd runs here; stop it first");
  }
  if (error != 0) return fail(Errc::io_error, path + ": " + reason(error));
  return fd;
}

sigset_t our_signals() {
  sigset_t set;
  (void)sigemptyset(&set);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) (void)sigaddset(&set, signal);
  return set;
}

}  // namespace

Result<UniqueFd> lock_file(const std::string& path, std::chrono::milliseconds patience) {
  auto fd = open_locked(path, O_CLOEXEC, LOCK_EX, patience);
  if (!fd) return fd;
  const std::string text = std::to_string(::getpid()) + "\n";
  const bool written =
      ::ftruncate(fd->get(), 0) == 0 && ::pwrite(fd->get(), text.data(), text.size(), 0) > 0;
  if (!written) return fail(Errc::io_error, path + ": " + reason(errno));
  return fd;
}

Result<UniqueFd> share_lock_file(const std::string& path, std::chrono::milliseconds patience) {
  return open_locked(path, 0, LOCK_SH, patience);
}

std::vector<std::string> protect_process() {
  std::vector<std::string> missing;
  const auto note = [&](const char* what) {
    missing.push_back(std::string(what) + ": " + reason(errno));
  };
  if (::prctl(PR_SET_IO_FLUSHER, 1UL, 0UL, 0UL, 0UL) != 0) note("PR_SET_IO_FLUSHER");
  // Without root a later allocation beyond RLIMIT_MEMLOCK would fail, which is worse than a page
  // that has to be read again.
  if (is_root() && ::mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0) note("mlockall");
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) != 0) files = {};
  files.rlim_cur = files.rlim_max;
  if (::setrlimit(RLIMIT_NOFILE, &files) != 0) note("RLIMIT_NOFILE");
  std::ofstream adjust("/proc/self/oom_score_adj");
  adjust << "-1000" << std::flush;
  if (!adjust) note("oom_score_adj");
  return missing;
}

void block_signals() {
  const sigset_t set = our_signals();
  (void)::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  (void)::signal(SIGPIPE, SIG_IGN);
}

int wait_for_signal() {
  const sigset_t set = our_signals();
  int signal = 0;
  while (::sigwait(&set, &signal) != 0) {
  }
  return signal;
}

Status tell_service_manager(const std::string& lines) {
  const char* name = std::getenv("NOTIFY_SOCKET");
  if (name == nullptr || *name == '\0') return {};
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::size_t size = std::strlen(name);
  // A path, or with "@" for its first byte an abstract name.
  if ((*name != '/' && *name != '@') || size >= sizeof address.sun_path) {
    return fail(Errc::io_error, "NOTIFY_SOCKET is no address: " + printable(name));
  }
  std::memcpy(address.sun_path, name, size);
  if (*name == '@') address.sun_path[0] = '\0';
  const UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const auto address_bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + size);
  const bool told = socket && ::sendto(socket.get(), lines.data(), lines.size(), MSG_NOSIGNAL,
                                       reinterpret_cast<const sockaddr*>(&address),
                                       address_bytes) == static_cast<ssize_t>(lines.size());
  if (told) return {};
  return fail(Errc::io_error, std::string("the service manager: ") + reason(errno));
}

Error become_guardian(const GuardianCommand& command) {
  const auto self = real_path("/proc/self/exe");
  if (!self) return self.error();
  const std::string guardian = self->substr(0, self->rfind('/')) + "/umbra-guardian";
  std::vector<std::string> words = {(command.spared ? "@" : "") + guardian, "--run-dir",
                                    command.run_dir};
  if (!command.log_file.empty()) {
    words.insert(words.end(), {"--log-file", command.log_file});
  }
  words.insert(words.end(), {"--", *self});
  words.insert(words.end(), command.arguments.begin(), command.arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  (void)::execv(guardian.c_str(), argv.data());
  return {errno == ENOENT ? Errc::object_not_found : Errc::io_error,
          "cannot start " + guardian + ": " + reason(errno) +
              "; it belongs beside umbra-cowd, install it again"};
}

Result<std::string> real_path(const std::string& path) {
  const std::unique_ptr<char, void (*)(void*)> real(::realpath(path.c_str(), nullptr), std::free);
  if (!real) return fail(Errc::io_error, path + ": " + reason(errno));
  return std::string(real.get());
}

bool is_root() noexcept { return ::geteuid() == 0; }

std::string machine_name() {
  utsname names{};
  return ::uname(&names) == 0 ? std::string(names.nodename) : std::string();
}

}  // namespace umbra::cowd
