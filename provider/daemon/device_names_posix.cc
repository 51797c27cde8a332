// SPDX-License-Identifier: Apache-2.0
#include "provider/daemon/device_names_posix.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>

namespace umbra::cowd {
namespace {

constexpr const char* kNew = "/.new";  // No volume's name: those begin with a letter or digit.

}  // namespace

Status DeviceNames::set(const std::string& name, const std::string& device_path) const {
  const std::string beside = directory_ + kNew;
  const std::string path = directory_ + "/" + name;
  (void)::mkdir(directory_.c_str(), 0755);
  (void)::unlink(beside.c_str());
  const bool made = ::symlink(device_path.c_str(), beside.c_str()) == 0 &&
                    ::rename(beside.c_str(), path.c_str()) == 0;
  if (made) return {};
  return fail(Errc::io_error, path + ": " + std::generic_category().message(errno));
}

void DeviceNames::remove(const std::string& name) const {
  (void)::unlink((directory_ + "/" + name).c_str());
}

void DeviceNames::keep_only(const std::set<std::string>& names) const {
  std::error_code error;
  std::set<std::string> others;
  for (std::filesystem::directory_iterator entry(directory_, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (names.count(name) == 0) others.insert(name);
  }
  for (const std::string& name : others) remove(name);
}

}  // namespace umbra::cowd
