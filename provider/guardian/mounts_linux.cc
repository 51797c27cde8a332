// SPDX-License-Identifier: Apache-2.0
#include "provider/guardian/mounts_linux.h"

#include <fcntl.h>
#include <libmount/libmount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <set>
#include <string_view>
#include <system_error>

#include "provider/contract/ports.h"
#include "provider/guardian/protocol.h"

namespace umbra::guardian {
namespace {

namespace fs = std::filesystem;

using Table = std::unique_ptr<libmnt_table, decltype(&mnt_unref_table)>;
using Iterator = std::unique_ptr<libmnt_iter, decltype(&mnt_free_iter)>;

struct Place {
  std::uint64_t device = 0;
  std::string path;  // As this process reaches it.
};

std::string reason(int error) { return std::generic_category().message(error); }

std::optional<std::uint64_t> device_of_node(const fs::path& sys_entry) {
  std::ifstream file(sys_entry / "dev");
  unsigned major_number = 0;
  unsigned minor_number = 0;
  char colon = 0;
  if (!(file >> major_number >> colon >> minor_number) || colon != ':') return std::nullopt;
  return makedev(major_number, minor_number);
}

void collect_stacked(const fs::path& sys_entry, std::vector<std::uint64_t>& found) {
  const auto device = device_of_node(sys_entry);
  if (!device || std::find(found.begin(), found.end(), *device) != found.end()) return;
  found.push_back(*device);
  std::error_code ignored;  // An entry that goes away while we walk has nothing mounted.
  for (const auto& entry : fs::directory_iterator(sys_entry, ignored)) {
    if (fs::exists(entry.path() / "partition", ignored)) collect_stacked(entry.path(), found);
  }
  for (const auto& entry : fs::directory_iterator(sys_entry / "holders", ignored)) {
    collect_stacked(entry.path(), found);
  }
}

// The block device a mount stands on. btrfs shows an anonymous device; its source names a real one.
bool stands_on(libmnt_fs* mount, std::uint64_t device) {
  if (mnt_fs_get_devno(mount) == device) return true;
  const char* type = mnt_fs_get_fstype(mount);
  const char* source = mnt_fs_get_source(mount);
  if (type == nullptr || std::string_view(type) != "btrfs" || source == nullptr) return false;
  struct stat status {};
  return stat(source, &status) == 0 && S_ISBLK(status.st_mode) && status.st_rdev == device;
}

// The mounts of `device` in a mount table; `prefix` reaches that table's root from here.
std::vector<Place> find_in(const Table& table, const std::string& prefix, std::uint64_t device) {
  std::vector<Place> places;
  const Iterator iterator(mnt_new_iter(MNT_ITER_BACKWARD), &mnt_free_iter);
  libmnt_fs* mount = nullptr;
  while (mnt_table_next_fs(table.get(), iterator.get(), &mount) == 0) {
    const char* target = mnt_fs_get_target(mount);
    if (target == nullptr || !stands_on(mount, device)) continue;
    places.push_back(Place{.device = mnt_fs_get_devno(mount), .path = prefix + target});
  }
  return places;
}

Table read_table(const std::string& file) {
  return {mnt_new_table_from_file(file.c_str()), &mnt_unref_table};
}

// Process directories, one per mount namespace other than ours.
std::vector<std::string> other_namespaces() {
  std::vector<std::string> processes;
  std::error_code ignored;
  std::set<std::string> seen{fs::read_symlink("/proc/self/ns/mnt", ignored).string()};
  for (const auto& entry : fs::directory_iterator("/proc", ignored)) {
    const auto name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    const auto space = fs::read_symlink(entry.path() / "ns/mnt", ignored).string();
    if (!ignored && seen.insert(space).second) processes.push_back(entry.path().string());
  }
  return processes;
}

std::vector<Place> find_places(std::uint64_t device) {
  if (const Table own = read_table("/proc/self/mountinfo")) {
    if (auto places = find_in(own, "", device); !places.empty()) return places;
  }
  for (const auto& process : other_namespaces()) {
    const Table table = read_table(process + "/mountinfo");
    if (!table) continue;  // The process has ended.
    if (auto places = find_in(table, process + "/root", device); !places.empty()) return places;
  }
  return {};
}

// Nothing if the path does not lead to the file system: unmounted meanwhile, or mounted over.
Result<std::optional<Mount>> open_place(const Place& place) {
  UniqueFd fd(open(place.path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  if (!fd && (errno == ENOENT || errno == ENOTDIR)) return std::optional<Mount>{};
  struct stat status {};
  if (!fd || fstat(fd.get(), &status) != 0) {
    return fail(Errc::freeze_failed, "cannot open mount " + place.path + ": " + reason(errno));
  }
  if (status.st_dev != place.device) return std::optional<Mount>{};
  return Mount{.device = place.device, .path = place.path, .fd = std::move(fd)};
}

// Nothing if it is not mounted.
Result<std::optional<Mount>> open_mount(std::uint64_t device) {
  const auto places = find_places(device);
  for (const auto& place : places) {
    auto mount = open_place(place);
    if (!mount || *mount) return mount;
  }
  if (places.empty() || find_places(device).empty()) return std::optional<Mount>{};
  return fail(Errc::freeze_failed,
              "the file system on " + places.front().path + " is hidden by another mount");
}

}  // namespace

std::vector<std::uint64_t> stacked_on(std::uint64_t device) {
  std::vector<std::uint64_t> found;
  collect_stacked(
      "/sys/dev/block/" + std::to_string(major(device)) + ":" + std::to_string(minor(device)),
      found);
  // Not a block device that the kernel lists (btrfs's anonymous ones): itself.
  if (found.empty()) found.push_back(device);
  return found;
}

Result<std::vector<Mount>> open_mounts(const std::vector<std::uint64_t>& devices, Depth depth) {
  std::vector<Mount> mounts;
  std::uint32_t group = 0;
  for (const auto device : devices) {
    if (device == contract::kFreezeBarrier) {
      ++group;
      continue;
    }
    const auto layers =
        depth == Depth::exact ? std::vector<std::uint64_t>{device} : stacked_on(device);
    for (const auto stacked : layers) {
      auto mount = open_mount(stacked);
      if (!mount) return fail(mount.error());
      if (!*mount) continue;
      const auto same = [&](const Mount& other) { return other.device == (*mount)->device; };
      if (std::any_of(mounts.begin(), mounts.end(), same)) continue;
      (*mount)->group = group;
      mounts.push_back(std::move(**mount));
    }
  }
  if (mounts.size() > kMountsMax) {
    return fail(Errc::limit_reached,
                "more than " + std::to_string(kMountsMax) + " file systems to freeze");
  }
  return mounts;
}

}  // namespace umbra::guardian
