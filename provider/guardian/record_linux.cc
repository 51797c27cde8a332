// SPDX-License-Identifier: Apache-2.0
#include "provider/guardian/record_linux.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <sstream>
#include <system_error>

#include "engine/platform/log.h"

namespace umbra::guardian {
namespace {

std::string boot_id() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  file >> id;
  return id;
}

std::vector<std::uint64_t> read_devices(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::string word;
  std::string boot;
  if (!(file >> word >> boot) || word != "boot" || boot != boot_id()) return {};
  std::vector<std::uint64_t> devices;
  std::uint64_t device = 0;
  std::string mount;
  while (file >> word >> device && word == "frozen" && std::getline(file, mount)) {
    devices.push_back(device);
  }
  return devices;
}

}  // namespace

Status write_record(const std::filesystem::path& path, const std::vector<Mount>& mounts) {
  std::ostringstream text;
  text << "boot " << boot_id() << "\n";
  for (const auto& mount : mounts) {
    text << "frozen " << mount.device << " " << printable(mount.path) << "\n";
  }
  const std::string content = text.str();
  const UniqueFd file(
      open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600));
  const bool written = file && write(file.get(), content.data(), content.size()) ==
                                   static_cast<ssize_t>(content.size());
  if (written) return {};
  const auto why = std::generic_category().message(errno);
  (void)unlink(path.c_str());
  return fail(Errc::io_error, "cannot write " + path.string() + ": " + why);
}

std::vector<Leftover> find_leftovers(const std::filesystem::path& directory) {
  std::vector<Leftover> found;
  std::error_code ignored;  // An absent directory holds nothing.
  for (const auto& entry : std::filesystem::directory_iterator(directory, ignored)) {
    found.push_back({.path = entry.path().string(), .devices = read_devices(entry.path())});
  }
  return found;
}

}  // namespace umbra::guardian
