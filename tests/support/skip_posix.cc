// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "tests/support/catch.h"
#include "tests/support/skip.h"

namespace umbra::test {
namespace {

constexpr int kSkipStatus = 77;  // As SKIP_RETURN_CODE in cmake/UmbraTarget.cmake.

bool usable(const char* path) { return ::access(path, R_OK | W_OK) == 0; }

}  // namespace

void skip(const std::string& reason) {
  (void)std::fprintf(stderr, "skipped: %s\n", reason.c_str());
  if (std::getenv("UMBRA_CTEST") != nullptr) {
    (void)std::fflush(nullptr);
    std::_Exit(kSkipStatus);
  }
  SUCCEED("skipped: " << reason);
}

std::optional<std::string> missing_root() {
  if (::geteuid() == 0) return std::nullopt;
  return "needs root";
}

std::optional<std::string> missing_program(const char* name) {
  const char* path = std::getenv("PATH");
  std::istringstream folders(path == nullptr ? "/usr/bin:/bin:/usr/sbin:/sbin" : path);
  for (std::string folder; std::getline(folders, folder, ':');) {
    if (::access((std::filesystem::path(folder) / name).c_str(), X_OK) == 0) return std::nullopt;
  }
  return "needs the program " + std::string(name);
}

std::optional<std::string> missing_loop_devices() {
  if (auto reason = missing_root()) return reason;
  if (usable("/dev/loop-control")) return std::nullopt;
  return "needs loop devices (/dev/loop-control)";
}

std::optional<std::string> missing_fuse() {
  if (auto reason = missing_root()) return reason;
  if (usable("/dev/fuse")) return std::nullopt;
  return "needs FUSE (/dev/fuse)";
}

std::optional<std::string> missing_ublk() {
  if (auto reason = missing_root()) return reason;
  if (usable("/dev/ublk-control")) return std::nullopt;
  return "needs ublk (/dev/ublk-control); tests/kernel/devices.py runs this in a machine that has "
         "it";
}

}  // namespace umbra::test
