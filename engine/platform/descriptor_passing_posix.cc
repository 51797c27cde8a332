// SPDX-License-Identifier: Apache-2.0 OR MIT
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "engine/platform/descriptor_passing.h"

namespace umbra {
namespace {

constexpr std::size_t kControlBytes = CMSG_SPACE(kDescriptorsPassedMax * sizeof(int));

}  // namespace

std::ptrdiff_t send_with_descriptors(int socket, std::span<const std::byte> bytes,
                                     std::span<const int> fds) noexcept {
  if (fds.size() > kDescriptorsPassedMax) {
    errno = EINVAL;
    return -1;
  }
  iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};
  alignas(cmsghdr) std::array<char, kControlBytes> control{};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (!fds.empty()) {
    header.msg_control = control.data();
    header.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* const rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(rights), fds.data(), fds.size_bytes());
  }
  std::ptrdiff_t sent = -1;
  do {
    sent = ::sendmsg(socket, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (sent < 0 && errno == EINTR);
  return sent;
}

Passed receive_with_descriptors(int socket, std::span<std::byte> out, std::vector<UniqueFd>& fds) {
  fds.reserve(fds.size() +
              kDescriptorsPassedMax);  // What has come is never lost to a lack of memory.
  iovec part{out.data(), out.size()};
  alignas(cmsghdr) std::array<char, kControlBytes> control{};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  Passed passed;
  do {
    passed.count = ::recvmsg(socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (passed.count < 0 && errno == EINTR);
  if (passed.count < 0) {
    passed.error = errno;
    return passed;
  }
  for (cmsghdr* at = CMSG_FIRSTHDR(&header); at != nullptr; at = CMSG_NXTHDR(&header, at)) {
    if (at->cmsg_level != SOL_SOCKET || at->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (at->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(at) + i * sizeof(int), sizeof fd);
      fds.emplace_back(fd);
    }
  }
  passed.truncated = (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
  return passed;
}

}  // namespace umbra
