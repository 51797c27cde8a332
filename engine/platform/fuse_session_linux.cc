// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "engine/platform/fuse_session.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <string>
#include <system_error>

#include "engine/platform/unique_fd.h"

namespace umbra {
namespace {

tl::unexpected<Error> fail_errno(const char* what) {
  const auto code = errno == EPERM || errno == EACCES    ? Errc::missing_privilege
                    : errno == ENODEV || errno == ENOENT ? Errc::missing_kernel_feature
                                                         : Errc::io_error;
  return fail(code, std::string(what) + ": " + std::generic_category().message(errno));
}

// A mount of fusectl that nobody else sees: /sys/fs/fuse/connections may not be mounted.
UniqueFd mount_fusectl() {
  const UniqueFd context(::fsopen("fusectl", FSOPEN_CLOEXEC));
  if (!context || ::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
    return {};
  }
  return UniqueFd(::fsmount(context.get(), FSMOUNT_CLOEXEC, 0));
}

}  // namespace

std::uint32_t fuse_session_number(int descriptor) {
  std::ifstream info("/proc/self/fdinfo/" + std::to_string(descriptor));
  std::uint32_t number = 0;
  for (std::string word; info >> word;) {
    if (word == "fuse_connection:" && info >> number) return number;
  }
  return 0;
}

Status abort_fuse_session(int descriptor) {
  const auto number = fuse_session_number(descriptor);
  if (number == 0) {
    return fail(Errc::missing_kernel_feature, "the kernel does not tell the FUSE session's number");
  }
  return abort_fuse_session_number(number);
}

Status abort_fuse_session_number(std::uint32_t number) {
  const UniqueFd fusectl = mount_fusectl();
  if (!fusectl) return fail_errno("cannot mount fusectl");
  const std::string path = std::to_string(number) + "/abort";
  const UniqueFd control(::openat(fusectl.get(), path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!control && errno == ENOENT) return {};  // It has ended.
  if (!control || ::write(control.get(), "1", 1) != 1) return fail_errno("cannot abort a session");
  return {};
}

}  // namespace umbra
