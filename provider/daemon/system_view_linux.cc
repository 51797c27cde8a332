// SPDX-License-Identifier: Apache-2.0
#include "provider/daemon/system_view_linux.h"

#include <fcntl.h>
#include <libmount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <system_error>

namespace umbra::cowd {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kStackDepthMax = 32;

std::string reason(int error) { return std::generic_category().message(error); }

bool is_inside(const std::string& path, const std::string& directory) {
  return !directory.empty() && path.size() > directory.size() &&
         path.compare(0, directory.size(), directory) == 0 && path[directory.size()] == '/';
}

std::optional<std::string> first_line(const fs::path& file) {
  std::ifstream in(file);
  std::string line;
  if (!std::getline(in, line)) return std::nullopt;
  return line;
}

std::optional<std::uint64_t> parse_device(const std::string& text) {
  const auto colon = text.find(':');
  if (colon == std::string::npos) return std::nullopt;
  const unsigned long major_number = std::strtoul(text.c_str(), nullptr, 10);
  const unsigned long minor_number = std::strtoul(text.c_str() + colon + 1, nullptr, 10);
  return makedev(static_cast<unsigned>(major_number), static_cast<unsigned>(minor_number));
}

fs::path sysfs_of(std::uint64_t device) {
  return "/sys/dev/block/" + std::to_string(major(device)) + ":" + std::to_string(minor(device));
}

std::vector<std::uint64_t> devices_in(const fs::path& folder) {
  std::vector<std::uint64_t> found;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    const auto line = first_line(entry->path() / "dev");
    const auto device = line ? parse_device(*line) : std::nullopt;
    if (device) found.push_back(*device);
  }
  return found;
}

// What `device` stands on directly.
std::vector<std::uint64_t> below(std::uint64_t device) {
  const fs::path folder = sysfs_of(device);
  std::vector<std::uint64_t> found = devices_in(folder / "slaves");
  std::error_code ignored;
  if (fs::exists(folder / "partition", ignored)) {
    const auto disk = first_line(fs::canonical(folder, ignored).parent_path() / "dev");
    const auto parent = disk ? parse_device(*disk) : std::nullopt;
    if (parent) found.push_back(*parent);
  }
  return found;
}

// The number of the block device that a node in /dev stands for. Such a node is never served by
// FUSE, so asking does not wait.
}  // namespace

std::optional<std::uint64_t> block_device_at(const std::string& path) {
  struct stat status {};
  if (!is_inside(path, "/dev") || ::stat(path.c_str(), &status) != 0) return std::nullopt;
  if (!S_ISBLK(status.st_mode)) return std::nullopt;
  return status.st_rdev;
}

// The block device below a mount; file systems like btrfs show a number of their own making.
std::uint64_t disk_of(const MountEntry& mount) {
  return major(mount.device) != 0 ? mount.device
                                  : block_device_at(mount.source).value_or(mount.device);
}

// The mount that a path is on, by the mount table alone: stat() would wait for whoever
// serves it, and that may be another umbra-cowd that is waiting for us.
const MountEntry* mount_of(const std::string& path, const std::vector<MountEntry>& mounts) {
  const MountEntry* best = nullptr;
  for (const MountEntry& mount : mounts) {
    const bool covers =
        mount.target == "/" || path == mount.target || is_inside(path, mount.target);
    // The later one hides the earlier.
    if (covers && (best == nullptr || mount.target.size() >= best->target.size())) best = &mount;
  }
  return best;
}

namespace {

// What the file of a loop device stands on.
std::optional<std::uint64_t> host_of_loop(std::uint64_t device, const std::string& own_directory) {
  const auto backing = first_line(sysfs_of(device) / "loop/backing_file");
  if (!backing || is_inside(*backing, own_directory)) return std::nullopt;
  if (const auto block = block_device_at(*backing)) return block;
  const auto mounts = read_mounts();
  const MountEntry* mount = mounts ? mount_of(*backing, *mounts) : nullptr;
  return mount != nullptr ? std::optional(disk_of(*mount)) : std::nullopt;
}

void add_once(std::vector<std::uint64_t>& stack, std::uint64_t device) {
  if (std::find(stack.begin(), stack.end(), device) == stack.end()) stack.push_back(device);
}

// File systems like btrfs have device numbers of their own making: the mount names the real one.
std::uint64_t device_of_file_system(const std::string& path, std::uint64_t st_dev) {
  if (major(st_dev) != 0) return st_dev;
  struct statx extended {};
  if (::statx(AT_FDCWD, path.c_str(), 0, STATX_MNT_ID, &extended) != 0) return st_dev;
  const std::unique_ptr<libmnt_table, void (*)(libmnt_table*)> table(
      mnt_new_table_from_file("/proc/self/mountinfo"), mnt_unref_table);
  const std::unique_ptr<libmnt_iter, void (*)(libmnt_iter*)> position(
      mnt_new_iter(MNT_ITER_FORWARD), mnt_free_iter);
  if (!table || !position) return st_dev;
  libmnt_fs* entry = nullptr;
  while (mnt_table_next_fs(table.get(), position.get(), &entry) == 0) {
    const char* source = mnt_fs_get_source(entry);
    if (mnt_fs_get_id(entry) != static_cast<int>(extended.stx_mnt_id) || source == nullptr) {
      continue;
    }
    if (const auto block = block_device_at(source)) return *block;
  }
  return st_dev;
}

std::vector<std::string> uses_of_device(std::uint64_t device) {
  std::vector<std::string> uses;
  for (const std::string& target : mount_points_of(device)) {
    uses.push_back("it is mounted at " + printable(target));
  }
  for (const std::uint64_t holder : devices_in(sysfs_of(device) / "holders")) {
    uses.push_back("it is part of " + device_name(holder));
  }
  std::ifstream swaps("/proc/swaps");
  for (std::string line; std::getline(swaps, line);) {
    if (block_device_at(line.substr(0, line.find_first_of(" \t"))) == device) {
      uses.emplace_back("it is swap space");
    }
  }
  return uses;
}

// Loop devices over the file. Only files of its own file system are looked at, which has just
// answered.
std::vector<std::string> uses_of_file(const std::string& path, const struct stat& file) {
  std::vector<std::string> uses;
  const auto mounts = read_mounts();
  if (!mounts) return uses;
  const auto same_file_system = [&](const std::string& other) {
    const MountEntry* mount = mount_of(other, *mounts);
    return mount != nullptr && mount->device == file.st_dev;
  };
  for (const LoopEntry& loop : read_loops()) {
    struct stat status {};
    if (loop.backing_file != path) {
      if (!same_file_system(loop.backing_file)) continue;
      if (::stat(loop.backing_file.c_str(), &status) != 0) continue;
      if (status.st_dev != file.st_dev || status.st_ino != file.st_ino) continue;
    }
    uses.push_back("it is the backing file of " + loop.path);
    for (const std::string& target : mount_points_of(loop.device)) {
      uses.push_back("that is mounted at " + printable(target));
    }
  }
  return uses;
}

}  // namespace

Result<std::vector<MountEntry>> read_mounts() {
  const std::unique_ptr<libmnt_table, void (*)(libmnt_table*)> table(
      mnt_new_table_from_file("/proc/self/mountinfo"), mnt_unref_table);
  const std::unique_ptr<libmnt_iter, void (*)(libmnt_iter*)> position(
      mnt_new_iter(MNT_ITER_FORWARD), mnt_free_iter);
  if (!table || !position) return fail(Errc::io_error, "cannot read /proc/self/mountinfo");
  std::vector<MountEntry> mounts;
  const auto text = [](const char* value) { return value == nullptr ? "" : value; };
  libmnt_fs* entry = nullptr;
  while (mnt_table_next_fs(table.get(), position.get(), &entry) == 0) {
    mounts.push_back({text(mnt_fs_get_source(entry)), text(mnt_fs_get_target(entry)),
                      text(mnt_fs_get_fstype(entry)), mnt_fs_get_devno(entry)});
  }
  return mounts;
}

std::vector<LoopEntry> read_loops() {
  std::vector<LoopEntry> loops;
  std::error_code error;
  for (fs::directory_iterator entry("/sys/block", error), end; !error && entry != end;
       entry.increment(error)) {
    const auto backing = first_line(entry->path() / "loop/backing_file");
    const auto number = first_line(entry->path() / "dev");
    const auto device = number ? parse_device(*number) : std::nullopt;
    if (!backing || !device) continue;
    loops.push_back({"/dev/" + entry->path().filename().string(), *device, *backing});
  }
  return loops;
}

std::vector<std::string> mount_points_of(std::uint64_t device) {
  std::vector<std::string> targets;
  const auto mounts = read_mounts();
  if (!mounts) return targets;
  for (const MountEntry& mount : *mounts) {
    const std::uint64_t on = disk_of(mount);
    if (major(on) == 0) continue;
    const auto stack = stack_of(on);
    if (std::find(stack.begin(), stack.end(), device) != stack.end()) {
      targets.push_back(mount.target);
    }
  }
  return targets;
}

std::vector<std::uint64_t> stack_of(std::uint64_t device) {
  std::vector<std::uint64_t> stack = {device};
  for (std::size_t i = 0; i < stack.size() && stack.size() < kStackDepthMax; ++i) {
    for (const std::uint64_t next : below(stack[i])) add_once(stack, next);
  }
  return stack;
}

std::vector<std::uint64_t> full_stack_of(std::uint64_t device, const std::string& own_directory) {
  std::vector<std::uint64_t> stack = {device};
  for (std::size_t i = 0; i < stack.size() && stack.size() < kStackDepthMax; ++i) {
    for (const std::uint64_t next : below(stack[i])) add_once(stack, next);
    if (const auto host = host_of_loop(stack[i], own_directory)) add_once(stack, *host);
  }
  return stack;
}

void announce_device(std::uint64_t device) {
  std::ofstream(sysfs_of(device) / "uevent") << "change" << std::flush;
}

std::string device_name(std::uint64_t device) {
  std::error_code error;
  const fs::path folder = fs::canonical(sysfs_of(device), error);
  if (!error) return "/dev/" + folder.filename().string();
  return std::to_string(major(device)) + ":" + std::to_string(minor(device));
}

std::vector<std::uint64_t> LinuxHost::hosts_of_file(const std::string& path,
                                                    std::uint64_t st_dev) const {
  auto hosts = full_stack_of(device_of_file_system(path, st_dev), own_directory_);
  if (hosts.front() != st_dev) hosts.push_back(st_dev);
  return hosts;
}

Result<PathFacts> LinuxHost::look_at(const std::string& path) const {
  if (is_inside(path, own_directory_)) {
    return fail(Errc::invalid_argument,
                printable(path) + " lies in Umbra's own run directory; name another file");
  }
  PathFacts facts;
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    if (errno == ENOENT || errno == ENOTDIR) {
      // Whoever makes it makes it there.
      const std::string folder = path.substr(0, path.find_last_of('/') + 1);
      if (errno == ENOENT && ::stat(folder.c_str(), &status) == 0) {
        facts.stands_on = hosts_of_file(folder, status.st_dev);
      }
      return facts;
    }
    const Errc code = errno == EACCES || errno == EPERM ? Errc::access_denied : Errc::io_error;
    return fail(code, printable(path) + ": " + reason(errno));
  }
  facts.kind = PathKind::other;
  if (S_ISREG(status.st_mode)) {
    facts.kind = PathKind::file;
    facts.size_bytes = static_cast<std::uint64_t>(status.st_size);
    facts.device = status.st_dev;
    facts.inode = status.st_ino;
    facts.uses = uses_of_file(path, status);
    facts.stands_on = hosts_of_file(path, status.st_dev);
  } else if (S_ISDIR(status.st_mode)) {
    facts.kind = PathKind::directory;
  } else if (S_ISBLK(status.st_mode)) {
    constexpr std::uint64_t kSysfsSectorBytes = 512;
    const auto sectors = first_line(sysfs_of(status.st_rdev) / "size");
    facts.kind = PathKind::block_device;
    facts.size_bytes =
        sectors ? std::strtoull(sectors->c_str(), nullptr, 10) * kSysfsSectorBytes : 0;
    facts.device = status.st_rdev;
    facts.uses = uses_of_device(status.st_rdev);
    facts.stands_on = full_stack_of(status.st_rdev, own_directory_);
  }
  return facts;
}

Result<Guid> read_boot_id() {
  const auto line = first_line("/proc/sys/kernel/random/boot_id");
  if (!line) return fail(Errc::io_error, "cannot read /proc/sys/kernel/random/boot_id");
  return Guid::parse(*line);
}

}  // namespace umbra::cowd
