// SPDX-License-Identifier: Apache-2.0
#include "provider/guardian/channel_linux.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <system_error>

#include "engine/platform/descriptor_passing.h"

namespace umbra::guardian {
namespace {

constexpr std::size_t kDescriptorsMax = kMountsMax + 1;

std::string reason(int error) { return std::generic_category().message(error); }

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
  if (send_with_descriptors(socket, *datagram, fds) >= 0) return {};
  if (errno == EAGAIN) return fail(Errc::limit_reached, "the other side does not read");
  return fail(Errc::coordinator_lost, "send: " + reason(errno));
}

Result<Arrival> receive(int socket, Received& received) {
  std::vector<std::byte> datagram(kDatagramBytesMax);
  received.fds.clear();
  const Passed passed = receive_with_descriptors(socket, datagram, received.fds);
  if (passed.count == 0 || passed.error == ECONNRESET)
    return Arrival::end;  // None of ours is empty.
  if (passed.error == EAGAIN) return Arrival::nothing;
  if (passed.count < 0) return fail(Errc::io_error, "receive: " + reason(passed.error));
  if (passed.truncated) return fail(Errc::protocol_violation, "a guardian message is too long");
  auto message = decode(std::span(datagram).first(static_cast<std::size_t>(passed.count)));
  if (!message) return fail(message.error());
  received.message = std::move(*message);
  return Arrival::message;
}

}  // namespace umbra::guardian
