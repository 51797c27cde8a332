// SPDX-License-Identifier: Apache-2.0
//
// What the helper process does (helper_linux.h). One step per process, then it is gone.
//
// Copies are mounted without devices and set-user-id programs. As they are, nothing is replayed: a
// copy of a frozen file system is clean, and its device cannot be written. ext4: noload, else it
// refuses a read-only device with a journal to replay. XFS: norecovery, and always nouuid since the
// live volume has the same UUID. btrfs: its log tree is left alone; that its UUID is not that of
// the live volume was seen to before (copy_mounts_linux.cc).

#include <blkid.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <system_error>

#include "engine/platform/log.h"
#include "engine/platform/unique_fd.h"
#include "provider/daemon/helper_linux.h"
#include "provider/daemon/system_view_linux.h"
#include "provider/frontend/fuse/loop.h"
#include "provider/frontend/nbd_device/control.h"
#include "provider/frontend/ublk/control.h"

namespace umbra::cowd {
namespace {

using Words = std::vector<std::string>;

constexpr int kClaimAttempts = 400;
constexpr int kClaimPollMs = 5;
constexpr const char* kAsItIs = "as-it-is";  // Manners of mounting.
constexpr const char* kWrite = "write";

std::string reason(int error) { return std::generic_category().message(error); }

std::uint32_t number(const std::string& word) {
  std::uint32_t value = 0;
  (void)std::from_chars(word.data(), word.data() + word.size(), value);
  return value;
}

Result<std::string> attach_step(const Words& words) {
  fuse::LoopOptions options;
  options.block_bytes = number(words[2]);
  options.session = number(words[3]);
  return fuse::attach_loop(words[1], options);
}

Result<std::string> detach_step(const Words& words) {
  if (const Status done = fuse::detach_loop(words[1], number(words[2])); !done) {
    return fail(done.error());
  }
  return std::string();
}

Result<std::string> clear_device(const std::string& device) {
  const UniqueFd loop(::open(device.c_str(), O_RDONLY | O_CLOEXEC));
  if (!loop) return fail(Errc::io_error, device + ": " + reason(errno));
  if (::ioctl(loop.get(), LOOP_CLR_FD, 0) != 0 && errno != ENXIO) {
    return fail(Errc::io_error, "cannot detach " + device + ": " + reason(errno));
  }
  return std::string();
}

Result<std::string> clear_step(const Words& words) {
  const auto device = fuse::find_loop(words[1], number(words[2]));
  return device ? clear_device(*device) : std::string();
}

Result<std::string> clear_device_step(const Words& words) { return clear_device(words[1]); }

// Whether it is there shows afterwards.
Result<std::string> load_module_step(const Words& words) {
  if (words[1] != "ublk_drv" && words[1] != "nbd") return fail(Errc::invalid_argument, words[1]);
  const pid_t child = ::fork();
  if (child == 0) {
    (void)::execlp("modprobe", "modprobe", "-q", words[1].c_str(), nullptr);
    ::_exit(1);
  }
  while (child > 0 && ::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
  return std::string();
}

Result<std::string> with_ublk(const Words& words,
                              Status (*step)(const ublk::Control& control, std::uint32_t id)) {
  const auto control = ublk::Control::open();
  if (!control) return fail(control.error());
  if (const Status done = step(*control, number(words[1])); !done) return fail(done.error());
  return std::string();
}

Result<std::string> stop_ublk_step(const Words& words) {
  return with_ublk(words, ublk::stop_unused);
}

Result<std::string> remove_ublk_step(const Words& words) {
  return with_ublk(words, ublk::remove_device);
}

Result<std::string> answer_of(const Status& done) {
  return done ? Result<std::string>(std::string()) : fail(done.error());
}

Result<std::string> nbd_ask_again_step(const Words& words) {
  return answer_of(
      nbd_device::ask_again_after(number(words[1]), std::chrono::milliseconds(number(words[2]))));
}

Result<std::string> stop_nbd_step(const Words& words) {
  return answer_of(nbd_device::disconnect_unused(number(words[1]), words[2]));
}

Result<std::string> remove_nbd_step(const Words& words) {
  return answer_of(nbd_device::disconnect(number(words[1]), words[2]));
}

Status check_directory(const std::string& directory) {
  struct stat status {};
  if (::stat(directory.c_str(), &status) != 0) {
    return fail(Errc::object_not_found,
                "the directory " + printable(directory) + ": " + reason(errno) + "; make it first");
  }
  if (!S_ISDIR(status.st_mode)) {
    return fail(Errc::invalid_argument, printable(directory) + " is not a directory");
  }
  const std::unique_ptr<char, void (*)(void*)> real(::realpath(directory.c_str(), nullptr),
                                                    std::free);
  const auto mounts = read_mounts();
  if (!mounts) return fail(mounts.error());
  for (const MountEntry& mount : *mounts) {
    if (real && mount.target == real.get()) {
      return fail(Errc::volume_in_use,
                  "something is mounted at " + printable(directory) + "; name another directory");
    }
  }
  return {};
}

// Empty: none that blkid knows, or a contradiction.
std::string file_system_type(const std::string& device) {
  const std::unique_ptr<std::remove_pointer_t<blkid_probe>, void (*)(blkid_probe)> probe(
      blkid_new_probe_from_filename(device.c_str()), blkid_free_probe);
  if (!probe) return {};
  (void)blkid_probe_enable_superblocks(probe.get(), 1);
  (void)blkid_probe_set_superblocks_flags(probe.get(), BLKID_SUBLKS_TYPE | BLKID_SUBLKS_USAGE);
  if (blkid_do_safeprobe(probe.get()) != 0) return {};
  const char* usage = nullptr;
  const char* type = nullptr;
  (void)blkid_probe_lookup_value(probe.get(), "USAGE", &usage, nullptr);
  (void)blkid_probe_lookup_value(probe.get(), "TYPE", &type, nullptr);
  if (usage == nullptr || type == nullptr || std::string(usage) != "filesystem") return {};
  return type;
}

Result<std::string> options_for(const std::string& type, bool as_it_is) {
  if (type.empty()) {
    return fail(Errc::not_supported,
                "the copy holds no file system that could be mounted; read it as a device");
  }
  if (type == "xfs") return std::string(as_it_is ? "norecovery,nouuid" : "nouuid");
  if (!as_it_is) return std::string();
  if (type == "ext4" || type == "ext3") return std::string("noload");
  if (type == "btrfs") return std::string("rescue=nologreplay");
  return std::string();
}

// The device goes with the mount, whoever unmounts it.
void set_autoclear(const std::string& device) {
  const UniqueFd loop(::open(device.c_str(), O_RDONLY | O_CLOEXEC));
  loop_info64 info{};
  if (!loop || ::ioctl(loop.get(), LOOP_GET_STATUS64, &info) != 0) return;
  info.lo_flags |= LO_FLAGS_AUTOCLEAR;
  (void)::ioctl(loop.get(), LOOP_SET_STATUS64, &info);  // Else unmounting detaches it.
}

Status mount_device(const std::string& device, const std::string& directory,
                    const std::string& manner) {
  const std::string type = file_system_type(device);
  const auto options = options_for(type, manner == kAsItIs);
  if (!options) return fail(options.error());
  const unsigned long flags = MS_NODEV | MS_NOSUID | (manner == kWrite ? 0 : MS_RDONLY);
  if (::mount(device.c_str(), directory.c_str(), type.c_str(), flags, options->c_str()) != 0) {
    const int error = errno;
    return fail(error == EBUSY ? Errc::volume_in_use : Errc::io_error,
                "cannot mount the copy (" + type + ") at " + printable(directory) + ": " +
                    reason(error) + "; the kernel's log may say more");
  }
  return {};
}

Result<std::string> mount_step(const Words& words) {
  const std::string& file = words[1];
  const std::string& directory = words[2];
  if (const Status good = check_directory(directory); !good) return fail(good.error());
  fuse::LoopOptions options;
  options.read_only = words[3] == kAsItIs;
  auto device = fuse::attach_loop(file, options);
  if (!device) return fail(device.error());
  if (const Status mounted = mount_device(*device, directory, words[3]); !mounted) {
    (void)fuse::detach_loop(file);
    return fail(mounted.error());
  }
  set_autoclear(*device);
  return device;
}

Result<std::string> unmount_step(const Words& words) {
  const std::string& directory = words[1];
  if (::umount2(directory.c_str(), UMOUNT_NOFOLLOW) != 0 && errno != EINVAL) {
    const int error = errno;
    if (error == EBUSY) {
      return fail(Errc::volume_in_use, "files in " + printable(directory) +
                                           " are open; close them (fuser -vm names who has them)");
    }
    return fail(Errc::io_error, "cannot unmount " + printable(directory) + ": " + reason(error));
  }
  if (const Status done = fuse::detach_loop(words[2]); !done) return fail(done.error());
  return std::string();
}

Result<std::string> detach_mount_step(const Words& words) {
  if (::umount2(words[1].c_str(), UMOUNT_NOFOLLOW | MNT_DETACH) != 0 && errno != EINVAL) {
    return fail(Errc::io_error, "cannot unmount " + printable(words[1]) + ": " + reason(errno));
  }
  return std::string();
}

Result<std::string> dismount_step(const Words& words) {
  const std::string& directory = words[1];
  if (::umount2(directory.c_str(), UMOUNT_NOFOLLOW) == 0) return std::string();
  const int error = errno;
  if (error == EBUSY) {
    return fail(Errc::volume_in_use, "it is mounted at " + printable(directory) +
                                         ", and files there are open; close them (fuser -vm "
                                         "names who has them)");
  }
  return fail(Errc::io_error, "cannot unmount " + printable(directory) + ": " + reason(error));
}

// A mount that is just gone may keep the device for a moment.
Result<UniqueFd> open_exclusively(const std::string& device) {
  for (int attempt = 0;; ++attempt) {
    UniqueFd file(::open(device.c_str(), O_RDONLY | O_EXCL | O_CLOEXEC));
    if (file) return file;
    if (errno != EBUSY) return fail(Errc::io_error, device + ": " + reason(errno));
    if (attempt == kClaimAttempts) {
      return fail(Errc::volume_in_use,
                  device +
                      " is in use: mounted (in another mount namespace, if no mount is seen "
                      "here), or under LUKS, LVM, RAID or swap; let go of it first");
    }
    (void)::poll(nullptr, 0, kClaimPollMs);
  }
}

// Not through fwrite(): nothing else may be said.
Result<std::string> claim_step(const Words& words) {
  const auto device = open_exclusively(words[1]);
  if (!device) return fail(device.error());
  if (::ioctl(device->get(), BLKFLSBUF, 0) != 0) {
    return fail(Errc::io_error, "cannot empty the cache of " + words[1] + ": " + reason(errno));
  }
  if (::write(STDOUT_FILENO, "0\n", 2) != 2) return fail(Errc::io_error, "nobody listens");
  char byte = 0;
  while (::read(STDIN_FILENO, &byte, 1) < 0 && errno == EINTR) {
  }
  (void)::ioctl(device->get(), BLKFLSBUF, 0);
  return std::string();
}

struct Step {
  const char* name;
  std::size_t words;
  Result<std::string> (*run)(const Words& words);
};

constexpr Step kSteps[] = {
    {"attach-loop", 4, attach_step},
    {"detach-loop", 3, detach_step},
    {"clear-loop", 3, clear_step},
    {"clear-device", 2, clear_device_step},
    {"load-module", 2, load_module_step},
    {"stop-ublk", 2, stop_ublk_step},
    {"remove-ublk", 2, remove_ublk_step},
    {"nbd-ask-again", 3, nbd_ask_again_step},
    {"stop-nbd", 3, stop_nbd_step},
    {"remove-nbd", 3, remove_nbd_step},
    {"mount", 4, mount_step},
    {"unmount", 3, unmount_step},
    {"detach-mount", 2, detach_mount_step},
    {"dismount", 2, dismount_step},
    {"claim", 2, claim_step},
};

Result<std::string> run_step(const Words& words) {
  for (const Step& step : kSteps) {
    if (!words.empty() && words[0] == step.name && words.size() == step.words) {
      return step.run(words);
    }
  }
  return fail(Errc::invalid_argument, "this program is run by umbra-cowd only");
}

}  // namespace

int helper_main(const std::vector<std::string>& words) {
  const auto done = run_step(words);
  const auto code = done ? Errc::ok : done.error().code;
  const std::string answer = std::to_string(static_cast<std::uint32_t>(code)) + "\n" +
                             (done ? *done : done.error().context);
  (void)std::fwrite(answer.data(), 1, answer.size(), stdout);
  return std::fflush(stdout) == 0 && done ? 0 : 1;
}

}  // namespace umbra::cowd
