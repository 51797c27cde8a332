// SPDX-License-Identifier: Apache-2.0
#include "provider/frontend/nbd/stream_posix.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

namespace umbra::nbd {
namespace {

msghdr message_of(std::span<const iovec> vectors) {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(vectors.data());  // The kernel does not change it.
  message.msg_iovlen = vectors.size();
  return message;
}

}  // namespace

// False: the deadline has passed.
bool SocketStream::wait_until_ready(short events) const noexcept {
  while (true) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(*deadline_ - std::chrono::steady_clock::now());
    if (left.count() <= 0) return false;
    pollfd wait{socket_, events, 0};
    const int ready = ::poll(&wait, 1, static_cast<int>(left.count()));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return false;
  }
}

std::size_t SocketStream::receive(std::span<const iovec> to) noexcept {
  msghdr message = message_of(to);
  while (true) {
    if (deadline_ && !wait_until_ready(POLLIN)) return 0;
    const auto got = ::recvmsg(socket_, &message, 0);
    if (got < 0 && errno == EINTR) continue;
    return got <= 0 ? 0 : static_cast<std::size_t>(got);
  }
}

Stream::Outcome SocketStream::send(std::span<const iovec> from, bool may_block) noexcept {
  msghdr message = message_of(from);
  while (true) {
    const bool waits_here = may_block && !deadline_;
    const auto sent = ::sendmsg(socket_, &message, MSG_NOSIGNAL | (waits_here ? 0 : MSG_DONTWAIT));
    if (sent > 0) return {Sent::some, static_cast<std::size_t>(sent)};
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      if (!may_block) return {Sent::would_block, 0};
      if (deadline_ && wait_until_ready(POLLOUT)) continue;
    }
    return {Sent::failed, 0};
  }
}

}  // namespace umbra::nbd
