// SPDX-License-Identifier: Apache-2.0
#include "provider/frontend/nbd/listener_posix.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace umbra::nbd {
namespace {

constexpr int kListenBacklog = 64;
constexpr int kSocketBufferBytes = 1 << 20;
// A peer that has vanished is noticed after a minute of silence and four questions, or when it has
// not confirmed for two minutes what was sent.
constexpr int kKeepAliveIdleSeconds = 60;
constexpr int kKeepAliveIntervalSeconds = 15;
constexpr int kKeepAliveProbes = 4;
constexpr int kUnconfirmedMs = 120'000;

std::string errno_text(std::string_view what) {
  return std::string(what) + ": " +
         std::strerror(errno);  // NOLINT(concurrency-mt-unsafe): glibc's is.
}

Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return fail(Errc::invalid_argument, "socket path '" + path + "': it must have 1 to " +
                                            std::to_string(sizeof address.sun_path - 1) +
                                            " bytes; use a shorter run directory");
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

const sockaddr* generic(const sockaddr_un& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

}  // namespace

Result<UniqueFd> listen_locally(const ServerOptions& options) {
  const auto address = address_of(options.socket_path);
  if (!address) return fail(address.error());
  {
    const UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::connect(probe.get(), generic(*address), sizeof *address) == 0) {
      return fail(Errc::volume_in_use, "another NBD server listens on " + options.socket_path);
    }
  }
  (void)::unlink(options.socket_path.c_str());
  UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener) return fail(Errc::io_error, errno_text("socket"));
  // The mode is right from the first moment: the file is made with it and only then opened up.
  (void)::fchmod(listener.get(), 0);
  if (::bind(listener.get(), generic(*address), sizeof *address) != 0 ||
      ::chmod(options.socket_path.c_str(), options.socket_mode) != 0 ||
      ::listen(listener.get(), kListenBacklog) != 0) {
    return fail(Errc::io_error, errno_text("cannot listen on " + options.socket_path));
  }
  return listener;
}

void set(int socket, int level, int name, int value) {
  (void)::setsockopt(socket, level, name, &value, sizeof value);
}

union TcpAddress {
  sockaddr generic;
  sockaddr_in v4;
  sockaddr_in6 v6;
};

std::string text_of(const TcpAddress& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (address.generic.sa_family == AF_INET6) {
    (void)::inet_ntop(AF_INET6, &address.v6.sin6_addr, text.data(), text.size());
    return "[" + std::string(text.data()) + "]:" + std::to_string(ntohs(address.v6.sin6_port));
  }
  (void)::inet_ntop(AF_INET, &address.v4.sin_addr, text.data(), text.size());
  return std::string(text.data()) + ":" + std::to_string(ntohs(address.v4.sin_port));
}

Result<UniqueFd> listen_on_tcp(const TcpOptions& options) {
  TcpAddress address{};
  socklen_t size = sizeof address.v4;
  if (::inet_pton(AF_INET, options.address.c_str(), &address.v4.sin_addr) == 1) {
    address.v4.sin_family = AF_INET;
    address.v4.sin_port = htons(options.port);
  } else if (::inet_pton(AF_INET6, options.address.c_str(), &address.v6.sin6_addr) == 1) {
    size = sizeof address.v6;
    address.v6.sin6_family = AF_INET6;
    address.v6.sin6_port = htons(options.port);
  } else {
    return fail(Errc::invalid_argument,
                "'" + options.address + "' is no IPv4 or IPv6 address in numbers");
  }
  UniqueFd listener(
      ::socket(address.generic.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener) return fail(Errc::io_error, errno_text("socket"));
  set(listener.get(), SOL_SOCKET, SO_REUSEADDR, 1);
#ifdef IP_FREEBIND
  set(listener.get(), IPPROTO_IP, IP_FREEBIND, 1);
#endif
  if (::bind(listener.get(), &address.generic, size) != 0 ||
      ::listen(listener.get(), kListenBacklog) != 0) {
    const auto code = errno == EADDRINUSE ? Errc::volume_in_use : Errc::io_error;
    return fail(code, errno_text("cannot listen on " + text_of(address)));
  }
  return listener;
}

std::uint16_t port_of(int listener) noexcept {
  TcpAddress address{};
  socklen_t size = sizeof address;
  if (::getsockname(listener, &address.generic, &size) != 0) return 0;
  if (address.generic.sa_family == AF_INET6) return ntohs(address.v6.sin6_port);
  return address.generic.sa_family == AF_INET ? ntohs(address.v4.sin_port) : std::uint16_t{0};
}

Accepted accept_one(int listener) {
  TcpAddress address{};
  socklen_t size = sizeof address;
  Accepted accepted;
  accepted.socket.reset(::accept4(listener, &address.generic, &size, SOCK_CLOEXEC));
  if (!accepted.socket) return accepted;
  const int socket = accepted.socket.get();
  set(socket, SOL_SOCKET, SO_SNDBUF, kSocketBufferBytes);
  if (address.generic.sa_family != AF_INET && address.generic.sa_family != AF_INET6) {
    return accepted;
  }
  accepted.peer = text_of(address);
  set(socket, IPPROTO_TCP, TCP_NODELAY, 1);
  set(socket, SOL_SOCKET, SO_KEEPALIVE, 1);
  set(socket, IPPROTO_TCP, TCP_KEEPIDLE, kKeepAliveIdleSeconds);
  set(socket, IPPROTO_TCP, TCP_KEEPINTVL, kKeepAliveIntervalSeconds);
  set(socket, IPPROTO_TCP, TCP_KEEPCNT, kKeepAliveProbes);
  set(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, kUnconfirmedMs);
  return accepted;
}

}  // namespace umbra::nbd
