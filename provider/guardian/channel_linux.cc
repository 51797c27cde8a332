// SPDX-License-Identifier: Apache-2.0
#include "provider/guardian/channel_linux.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>

namespace umbra::guardian {
namespace {

constexpr std::size_t kDescriptorsMax = kMountsMax + 1;

std::string reason(int error) { return std::generic_category().message(error); }

void take_descriptors(msghdr& header, std::vector<UniqueFd>& fds) {
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
      fds.emplace_back(fd);
    }
  }
}

}  // namespace

Result<std::pair<UniqueFd, UniqueFd>> make_channel() {
  std::array<int, 2> ends{-1, -1};
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    return fail(Errc::limit_reached, "socketpair: " + reason(errno));
  }
  return std::pair{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

Status send(int socket, const Message& message, std::span<const int> fds) {
  if (fds.size() > kDescriptorsMax) {
    return fail(Errc::limit_reached, "too many descriptors for one message");
  }
  auto datagram = encode(message);
  if (!datagram) return fail(datagram.error());
  iovec part{datagram->data(), datagram->size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kDescriptorsMax * sizeof(int))> control{};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (!fds.empty()) {
    header.msg_control = control.data();
    header.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(rights), fds.data(), fds.size_bytes());
  }
  while (sendmsg(socket, &header, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
    if (errno == EINTR) continue;
    if (errno == EAGAIN) return fail(Errc::limit_reached, "the other side does not read");
    return fail(Errc::coordinator_lost, "send: " + reason(errno));
  }
  return {};
}

Result<Arrival> receive(int socket, Received& received) {
  std::vector<std::byte> datagram(kDatagramBytesMax);
  iovec part{datagram.data(), datagram.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kDescriptorsMax * sizeof(int))> control{};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  ssize_t count = 0;
  while ((count = recvmsg(socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC)) < 0) {
    if (errno == EINTR) continue;
    if (errno == EAGAIN) return Arrival::nothing;
    if (errno == ECONNRESET) return Arrival::end;
    return fail(Errc::io_error, "receive: " + reason(errno));
  }
  if (count == 0) return Arrival::end;  // No message of ours is empty.
  received.fds.clear();
  take_descriptors(header, received.fds);
  if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
    return fail(Errc::protocol_violation, "a guardian message is too long");
  }
  auto message = decode(std::span(datagram).first(static_cast<std::size_t>(count)));
  if (!message) return fail(message.error());
  received.message = std::move(*message);
  return Arrival::message;
}

}  // namespace umbra::guardian
