// SPDX-License-Identifier: Apache-2.0

#include "engine/daemon/launch_posix.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <filesystem>

extern char** environ;

namespace umbra::daemon {

Result<int> launch_system_provider(const std::string& run_dir, const std::string& socket) {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return fail(Errc::io_error, "/proc/self/exe: " + error.message());
  const std::string program = (self.parent_path() / "umbra-cowd").string();
  if (!std::filesystem::exists(program, error))
    return fail(Errc::io_error, program + " is not there; umbra-cowd lies beside umbrad");
  const std::string log = run_dir + "/umbra-cowd.log";

  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, 1, log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  posix_spawn_file_actions_adddup2(&files, 1, 2);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK);

  std::array<std::string, 5> words{program, "--run-dir", run_dir, "--socket", socket};
  std::array<char*, 6> argv{};
  for (std::size_t i = 0; i < words.size(); ++i) argv[i] = words[i].data();
  pid_t pid = 0;
  const int failed =
      ::posix_spawn(&pid, program.c_str(), &files, &attributes, argv.data(), environ);
  posix_spawn_file_actions_destroy(&files);
  posix_spawnattr_destroy(&attributes);
  if (failed != 0) return fail(Errc::io_error, program + ": " + std::strerror(failed));
  return static_cast<int>(pid);
}

}  // namespace umbra::daemon
