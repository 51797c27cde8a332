// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <linux/loop.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "engine/platform/unique_fd.h"
#include "provider/frontend/fuse/loop.h"

namespace umbra::fuse {
namespace {

namespace fs = std::filesystem;

constexpr int kAttachAttemptsMax = 32;  // Others may take the free device that we were told of.
constexpr int kDetachPollMs = 5;
constexpr int kInUseSecondsMax = 2;

tl::unexpected<Error> fail_errno(std::string what) {
  const int error = errno;
  const auto code = error == EACCES || error == EPERM ? Errc::missing_privilege
                    : error == ENOENT                 ? Errc::object_not_found
                                                      : Errc::io_error;
  // NOLINTNEXTLINE(concurrency-mt-unsafe): glibc's is safe.
  return fail(code, std::move(what) + ": " + std::strerror(error));
}

std::string first_line(const fs::path& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

// Of the file system that the backing file is on; 0 if it cannot be told.
std::uint64_t backing_device(const std::string& name) {
  const UniqueFd loop(::open(("/dev/" + name).c_str(), O_RDONLY | O_CLOEXEC));
  loop_info64 info{};
  if (!loop || ::ioctl(loop.get(), LOOP_GET_STATUS64, &info) != 0) return 0;
  return info.lo_device;
}

// "loop3" of the device whose backing file this is.
std::optional<std::string> find_name(const std::string& backing_file, std::uint32_t session) {
  std::error_code ignored;
  std::vector<std::string> nameless;
  for (const auto& entry : fs::directory_iterator("/sys/block", ignored)) {
    const auto name = entry.path().filename().string();
    if (name.rfind("loop", 0) != 0) continue;
    const auto backing = first_line(entry.path() / "loop/backing_file");
    if (backing == backing_file) return name;
    if (backing == "/") nameless.push_back(name);  // Its mount is gone: a path from nowhere.
  }
  for (const auto& name : nameless) {
    if (session != 0 && backing_device(name) == makedev(0, session)) return name;
  }
  return std::nullopt;
}

// Where nobody makes device nodes (containers), we do.
Status ensure_node(const std::string& path, int number) {
  constexpr int kLoopMajor = 7;
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0) return {};
  if (::mknod(path.c_str(), S_IFBLK | 0660, makedev(kLoopMajor, static_cast<unsigned>(number))) !=
          0 &&
      errno != EEXIST) {
    return fail_errno("cannot make " + path);
  }
  return {};
}

void forbid_discard(const std::string& name) {
  std::ofstream out("/sys/block/" + name + "/queue/discard_max_bytes");
  out << "0";
}

// Nothing if somebody else was faster.
Result<std::optional<std::string>> try_attach(int control, int backing,
                                              const std::string& backing_file,
                                              const LoopOptions& options) {
  const int number = ::ioctl(control, LOOP_CTL_GET_FREE);
  if (number < 0) return fail_errno("LOOP_CTL_GET_FREE");
  const std::string name = "loop" + std::to_string(number);
  const std::string path = "/dev/" + name;
  if (auto made = ensure_node(path, number); !made) return fail(made.error());
  const UniqueFd loop(::open(path.c_str(), (options.read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC));
  if (!loop) return fail_errno("cannot open " + path);
  loop_config config{};
  config.fd = static_cast<__u32>(backing);
  config.block_size = options.block_bytes;
  config.info.lo_flags = LO_FLAGS_DIRECT_IO;
  if (options.read_only) config.info.lo_flags |= LO_FLAGS_READ_ONLY;
  std::memcpy(config.info.lo_file_name, backing_file.data(),
              std::min<std::size_t>(backing_file.size(), LO_NAME_SIZE - 1));
  if (::ioctl(loop.get(), LOOP_CONFIGURE, &config) != 0) {
    if (errno == EBUSY) return std::optional<std::string>();
    return fail_errno("cannot attach " + backing_file + " to " + path);
  }
  forbid_discard(name);
  return std::optional<std::string>(path);
}

// O_EXCL on a block device: nobody has it mounted. A mount that is just gone may keep it for a
// moment (udev looks at it; another namespace has a clone of the mount that is on its way out), so
// one refusal is not the last word. Other openers are only seen after the detach, which then stays
// pending.
[[nodiscard]] Result<UniqueFd> open_unused(const std::string& device) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(kInUseSecondsMax);
  for (;;) {
    UniqueFd loop(::open(device.c_str(), O_RDONLY | O_EXCL | O_CLOEXEC));
    if (loop) return loop;
    if (errno != EBUSY) return fail_errno("cannot open " + device);
    if (std::chrono::steady_clock::now() > end) {
      return fail(Errc::volume_in_use, device + " is mounted or in use");
    }
    (void)::poll(nullptr, 0, kDetachPollMs);
  }
}

}  // namespace

Result<std::string> attach_loop(const std::string& backing_file, const LoopOptions& options) {
  if (const auto existing = find_name(backing_file, options.session)) {
    const bool read_only = first_line("/sys/block/" + *existing + "/ro") == "1";
    if (read_only == options.read_only) return "/dev/" + *existing;
  }
  const UniqueFd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
  if (!control) {
    if (errno == ENOENT || errno == ENODEV) {
      return fail(Errc::missing_kernel_feature, "no loop devices (/dev/loop-control)");
    }
    return fail_errno("cannot open /dev/loop-control");
  }
  const UniqueFd backing(
      ::open(backing_file.c_str(), (options.read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC));
  if (!backing) return fail_errno("cannot open " + backing_file);
  struct stat status {};
  if (options.session != 0 &&
      (::fstat(backing.get(), &status) != 0 || status.st_dev != makedev(0, options.session))) {
    return fail(Errc::object_not_found, "somebody has unmounted " + backing_file +
                                            ", and no loop device has it; attach the volume again");
  }
  for (int attempt = 0; attempt < kAttachAttemptsMax; ++attempt) {
    const auto path = try_attach(control.get(), backing.get(), backing_file, options);
    if (!path) return fail(path.error());
    if (*path) return **path;
  }
  return fail(Errc::io_error, "no loop device could be had: others took each free one");
}

std::optional<std::string> find_loop(const std::string& backing_file, std::uint32_t session) {
  const auto name = find_name(backing_file, session);
  if (!name) return std::nullopt;
  return "/dev/" + *name;
}

Status detach_loop(const std::string& backing_file, std::uint32_t session) {
  const auto path = find_loop(backing_file, session);
  return path ? detach_loop_device(*path) : Status();
}

Status detach_loop_device(const std::string& device) {
  const auto name = fs::path(device).filename().string();
  {
    const auto loop = open_unused(device);
    if (!loop) return fail(loop.error());
    if (::ioctl(loop->get(), LOOP_CLR_FD, 0) != 0 && errno != ENXIO) {
      return fail_errno("cannot detach " + device);
    }
  }
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(kDetachSecondsMax);
  while (fs::exists("/sys/block/" + name + "/loop")) {
    if (std::chrono::steady_clock::now() > end) {
      return fail(Errc::volume_in_use, device + " is open somewhere; it goes when that is closed");
    }
    (void)::poll(nullptr, 0, kDetachPollMs);  // sysfs tells nobody when it is done.
  }
  return {};
}

std::vector<std::string> list_loops_below(const std::string& directory) {
  std::vector<std::string> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator("/sys/block", ignored)) {
    const auto name = entry.path().filename().string();
    if (name.rfind("loop", 0) != 0 || !fs::exists(entry.path() / "loop")) continue;
    // The name that was given at attach; sysfs shows only what is left of the path.
    const UniqueFd loop(::open(("/dev/" + name).c_str(), O_RDONLY | O_CLOEXEC));
    loop_info64 info{};
    if (!loop || ::ioctl(loop.get(), LOOP_GET_STATUS64, &info) != 0) continue;
    const auto* text = reinterpret_cast<const char*>(info.lo_file_name);
    const std::string file(text, ::strnlen(text, LO_NAME_SIZE));
    // The kernel keeps 63 bytes.
    const std::string prefix = (directory + "/").substr(0, LO_NAME_SIZE - 1);
    if (file.rfind(prefix, 0) == 0) found.push_back("/dev/" + name);
  }
  return found;
}

}  // namespace umbra::fuse
