// SPDX-License-Identifier: Apache-2.0 OR MIT
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <system_error>

#include "engine/platform/run_dir.h"

namespace umbra {
namespace {

constexpr const char* kSystemRunDir = "/run/umbra";

std::string environment(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): see the header.
  return value == nullptr ? std::string{} : std::string(value);
}

std::string error_text(int error) { return std::generic_category().message(error); }

std::string private_run_dir() {
  const std::string session = environment("XDG_RUNTIME_DIR");
  if (!session.empty() && session.front() == '/') return session + "/umbra";
  return "/tmp/umbra-" + std::to_string(::geteuid());
}

Result<std::string> chosen_run_dir() {
  std::string chosen = environment("UMBRA_RUN_DIR");
  if (!chosen.empty() && chosen.front() != '/') {
    return fail(Errc::invalid_argument, "UMBRA_RUN_DIR must be an absolute path: " + chosen);
  }
  while (chosen.size() > 1 && chosen.back() == '/') chosen.pop_back();
  return chosen;
}

Status check_ours(const std::string& directory, bool others_may_enter) {
  struct stat status {};
  if (::lstat(directory.c_str(), &status) != 0) {
    return fail(Errc::io_error, directory + ": " + error_text(errno));
  }
  if (!S_ISDIR(status.st_mode)) {
    return fail(Errc::access_denied, directory + " is not a directory; remove it");
  }
  if (status.st_uid != ::geteuid()) {
    return fail(Errc::access_denied, directory + " belongs to uid " +
                                         std::to_string(status.st_uid) +
                                         "; set UMBRA_RUN_DIR to a directory of your own");
  }
  const mode_t too_open = others_may_enter ? S_IWGRP | S_IWOTH : S_IRWXG | S_IRWXO;
  if ((status.st_mode & too_open) != 0) {
    return fail(Errc::access_denied, directory + " is open to other users; run chmod " +
                                         (others_may_enter ? "0755 " : "0700 ") + directory);
  }
  return {};
}

Status make_directory(const std::string& directory, mode_t mode) {
  if (::mkdir(directory.c_str(), mode) == 0) {
    // The umask may have taken bits away.
    if (::chmod(directory.c_str(), mode) == 0) return {};
    return fail(Errc::io_error, directory + ": " + error_text(errno));
  }
  if (errno == EEXIST) return {};
  const Errc code = errno == EACCES || errno == EPERM ? Errc::access_denied : Errc::io_error;
  return fail(code, "cannot create " + directory + ": " + error_text(errno));
}

}  // namespace

Result<std::string> default_run_dir() {
  Result<std::string> chosen = chosen_run_dir();
  if (!chosen || !chosen->empty()) return chosen;
  if (::geteuid() == 0) return kSystemRunDir;
  return private_run_dir();
}

Status ensure_run_dir(const std::string& directory, bool others_may_enter) {
  const mode_t mode = others_may_enter ? 0755 : 0700;
  for (std::size_t slash = directory.find('/', 1); slash != std::string::npos;
       slash = directory.find('/', slash + 1)) {
    if (Status made = make_directory(directory.substr(0, slash), mode); !made) return made;
  }
  if (Status made = make_directory(directory, mode); !made) return made;
  return check_ours(directory, others_may_enter);
}

Result<std::string> find_coordinator_socket() {
  const auto in = [](const std::string& directory) {
    return directory + "/" + std::string(kCoordinatorSocketName);
  };
  const Result<std::string> chosen = chosen_run_dir();
  if (!chosen) return fail(chosen.error());
  if (!chosen->empty()) return in(*chosen);
  if (::geteuid() == 0 || ::access(in(kSystemRunDir).c_str(), F_OK) == 0) {
    return in(kSystemRunDir);
  }
  const std::string directory = private_run_dir();
  if (::access(directory.c_str(), F_OK) == 0) {
    if (const Status ours = check_ours(directory, false); !ours) return fail(ours.error());
  }
  return in(directory);
}

}  // namespace umbra
