// SPDX-License-Identifier: Apache-2.0
#include "provider/guardian/mounts_linux.h"

#include <fcntl.h>
#include <libmount/libmount.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <set>
#include <string_view>
#include <system_error>
#include <thread>

#include "provider/guardian/protocol.h"

namespace umbra::guardian {
namespace {

namespace fs = std::filesystem;

using Table = std::unique_ptr<libmnt_table, decltype(&mnt_unref_table)>;
using Iterator = std::unique_ptr<libmnt_iter, decltype(&mnt_free_iter)>;

// What is being unmounted has left the mount table before it has left the device.
constexpr std::chrono::milliseconds kUnmountPatience{2'000};
constexpr int kUnmountPollMs = 20;

// A device, and what sysfs says of it: where we look for mounts there may be no sysfs.
struct Target {
  std::uint64_t device = 0;
  std::string name{};                     // "loop3"; empty if it is no block device.
  std::set<std::string> btrfs_members{};  // All devices of the btrfs that it is part of.
};

// Of one device, in all mount namespaces.
struct Search {
  std::optional<Mount> mount;
  std::string hidden;  // A mount that cannot be opened, and why.
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

std::string sys_entry(std::uint64_t device) {
  return "/sys/dev/block/" + std::to_string(major(device)) + ":" + std::to_string(minor(device));
}

std::vector<std::string> names_in(const fs::path& directory) {
  std::vector<std::string> names;
  std::error_code ignored;  // Absent: no such file system is known to this kernel.
  for (const auto& entry : fs::directory_iterator(directory, ignored)) {
    names.push_back(entry.path().filename().string());
  }
  return names;
}

Target target_of(std::uint64_t device) {
  Target target{.device = device};
  std::error_code error;
  const auto entry = fs::canonical(sys_entry(device), error);
  if (error) return target;
  target.name = entry.filename().string();
  for (const auto& id : names_in("/sys/fs/btrfs")) {
    const auto members = names_in(fs::path("/sys/fs/btrfs") / id / "devices");
    if (std::find(members.begin(), members.end(), target.name) == members.end()) continue;
    target.btrfs_members.insert(members.begin(), members.end());
  }
  return target;
}

bool is_in_use(const Target& target) {
  if (target.name.empty()) return false;
  if (!target.btrfs_members.empty()) return true;
  std::error_code ignored;
  const std::array types{"ext4", "xfs", "f2fs"};
  return std::any_of(types.begin(), types.end(), [&](const char* type) {
    return fs::exists(fs::path("/sys/fs") / type / target.name, ignored);
  });
}

// btrfs has a device number of its own making, and its source names one of its devices.
bool stands_on(libmnt_fs* mount, const Target& target) {
  if (mnt_fs_get_devno(mount) == target.device) return true;
  const char* type = mnt_fs_get_fstype(mount);
  const char* source = mnt_fs_get_source(mount);
  if (type == nullptr || std::string_view(type) != "btrfs" || source == nullptr) return false;
  std::error_code error;
  const auto device = fs::canonical(source, error);
  return target.btrfs_members.count((error ? fs::path(source) : device).filename().string()) != 0;
}

// Of the calling thread's mount namespace; `proc` is /proc, which need not be mounted there.
Table read_table(const UniqueFd& proc) {
  Table table(nullptr, &mnt_unref_table);
  UniqueFd file(openat(proc.get(), "thread-self/mountinfo", O_RDONLY | O_CLOEXEC));
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> stream(
      file ? fdopen(file.get(), "r") : nullptr, &std::fclose);
  if (!stream) return table;
  (void)file.release();
  table.reset(mnt_new_table());
  if (!table || mnt_table_parse_stream(table.get(), stream.get(), "mountinfo") != 0) table.reset();
  return table;
}

enum class Opening : std::uint8_t { done, gone, useless };

// `gone`: the path does not lead to this mount, which was unmounted meanwhile or is mounted over.
Opening open_mount(const UniqueFd& proc, libmnt_fs* entry, UniqueFd& opened) {
  const UniqueFd path(open(mnt_fs_get_target(entry), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  struct statx status {};
  if (!path) return errno == ENOENT || errno == ENOTDIR ? Opening::gone : Opening::useless;
  if (statx(path.get(), "", AT_EMPTY_PATH, STATX_TYPE | STATX_MNT_ID, &status) != 0) {
    return Opening::useless;
  }
  if (status.stx_mnt_id != static_cast<std::uint64_t>(mnt_fs_get_id(entry))) return Opening::gone;
  // A single file may be bound to a path too. Opening any other kind opens something else.
  if (!S_ISDIR(status.stx_mode) && !S_ISREG(status.stx_mode)) {
    errno = EINVAL;
    return Opening::useless;
  }
  const std::string link = "self/fd/" + std::to_string(path.get());
  opened.reset(openat(proc.get(), link.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  return opened ? Opening::done : Opening::useless;
}

// In the calling thread's mount namespace; `prefix` reaches its root from ours, for people.
void search_here(const UniqueFd& proc, const Target& target, const std::string& prefix,
                 Search& search) {
  const Table table = read_table(proc);
  const Iterator iterator(mnt_new_iter(MNT_ITER_BACKWARD), &mnt_free_iter);
  libmnt_fs* entry = nullptr;
  while (table && mnt_table_next_fs(table.get(), iterator.get(), &entry) == 0) {
    if (mnt_fs_get_target(entry) == nullptr || !stands_on(entry, target)) continue;
    const std::string path = prefix + mnt_fs_get_target(entry);
    UniqueFd opened;
    switch (open_mount(proc, entry, opened)) {
      case Opening::gone: search.hidden = path + " is hidden by another mount"; break;
      case Opening::useless:
        search.hidden = "mount " + path + " cannot be opened: " + reason(errno);
        break;
      case Opening::done:
        search.mount =
            Mount{.device = mnt_fs_get_devno(entry), .path = path, .fd = std::move(opened)};
        return;
    }
  }
}

// Process ids, one per mount namespace other than ours.
std::vector<std::string> processes_elsewhere() {
  std::vector<std::string> processes;
  std::error_code ignored;
  std::set<std::string> seen{fs::read_symlink("/proc/self/ns/mnt", ignored).string()};
  for (const auto& entry : fs::directory_iterator("/proc", ignored)) {
    const auto name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    const auto space = fs::read_symlink(entry.path() / "ns/mnt", ignored).string();
    if (!ignored && seen.insert(space).second) processes.push_back(name);
  }
  return processes;
}

// On a thread of its own: only one that shares its root directory with no other may move. What it
// opens outlives the namespace.
void search_elsewhere(const UniqueFd& proc, const Target& target, Search& search) {
  const auto processes = processes_elsewhere();
  if (processes.empty()) return;
  std::thread([&] {
    if (unshare(CLONE_FS) != 0) return;
    for (const auto& process : processes) {
      const UniqueFd space(openat(proc.get(), (process + "/ns/mnt").c_str(), O_RDONLY | O_CLOEXEC));
      if (!space || setns(space.get(), CLONE_NEWNS) != 0) continue;  // It has ended; not ours.
      search_here(proc, target, "/proc/" + process + "/root", search);
      if (search.mount) return;
    }
  }).join();
}

// Nothing if nothing is mounted from it. Errors: freeze_failed (nothing leads to it).
Result<std::optional<Mount>> find_mount(const UniqueFd& proc, std::uint64_t device) {
  const auto give_up = std::chrono::steady_clock::now() + kUnmountPatience;
  for (;;) {
    Search search;
    const Target target = target_of(device);
    search_here(proc, target, "", search);
    if (!search.mount) search_elsewhere(proc, target, search);
    if (search.mount) return std::move(search.mount);
    const bool in_use = is_in_use(target);
    if (!in_use && search.hidden.empty()) return std::optional<Mount>{};
    if (std::chrono::steady_clock::now() >= give_up) {
      if (!search.hidden.empty()) return fail(Errc::freeze_failed, std::move(search.hidden));
      return fail(Errc::freeze_failed,
                  "the file system on " + target.name +
                      " is in use but mounted nowhere that can be reached (umount -l, or a mount "
                      "namespace without a process)");
    }
    (void)poll(nullptr, 0, kUnmountPollMs);
  }
}

}  // namespace

std::vector<std::uint64_t> stacked_on(std::uint64_t device) {
  std::vector<std::uint64_t> found;
  collect_stacked(sys_entry(device), found);
  // Not a block device that the kernel lists (btrfs's anonymous ones): itself.
  if (found.empty()) found.push_back(device);
  return found;
}

void unmount_by_force(const fs::path& directory, const char* type) {
  const UniqueFd proc(open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC));
  const Table table = read_table(proc);
  const Iterator iterator(mnt_new_iter(MNT_ITER_BACKWARD), &mnt_free_iter);
  std::error_code ignored;
  const std::string top = fs::canonical(directory, ignored).string() + "/";
  libmnt_fs* entry = nullptr;
  while (table && mnt_table_next_fs(table.get(), iterator.get(), &entry) == 0) {
    const char* its_type = mnt_fs_get_fstype(entry);
    const char* target = mnt_fs_get_target(entry);
    if (its_type == nullptr || target == nullptr || std::string_view(its_type) != type) continue;
    if (std::string_view(target).substr(0, top.size()) == top) (void)umount2(target, MNT_FORCE);
  }
}

bool has_file_system_in_use(std::uint64_t device) { return is_in_use(target_of(device)); }

Result<OpenMounts> open_mounts(const std::vector<std::uint64_t>& devices, Depth depth) {
  OpenMounts found;
  const UniqueFd proc(open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC));
  for (const auto device : devices) {
    const auto layers =
        depth == Depth::exact ? std::vector<std::uint64_t>{device} : stacked_on(device);
    for (const auto layer : layers) {
      auto mount = find_mount(proc, layer);
      if (!mount) {
        found.unreachable.push_back(mount.error());
        continue;
      }
      if (!*mount) {
        found.unmounted.push_back(layer);
        continue;
      }
      const auto same = [&](const Mount& other) { return other.device == (*mount)->device; };
      if (std::any_of(found.mounts.begin(), found.mounts.end(), same)) continue;
      found.mounts.push_back(std::move(**mount));
    }
  }
  if (found.mounts.size() > kMountsMax) {
    return fail(Errc::limit_reached,
                "more than " + std::to_string(kMountsMax) + " file systems to freeze");
  }
  return found;
}

}  // namespace umbra::guardian
