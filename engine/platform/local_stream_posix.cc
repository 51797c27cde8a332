// SPDX-License-Identifier: Apache-2.0 OR MIT
#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "engine/platform/local_stream.h"

namespace umbra {
namespace {

constexpr int kBacklog = 128;
constexpr std::size_t kGroupsMax = 65'536;  // NGROUPS_MAX of Linux.
constexpr std::chrono::milliseconds kConnectRetry{20};

std::string error_text(int error) { return std::generic_category().message(error); }

Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return fail(Errc::invalid_argument, "'" + path + "' does not fit into a socket address (1 to " +
                                            std::to_string(sizeof(address.sun_path) - 1) +
                                            " bytes)");
  }
  std::memcpy(static_cast<void*>(address.sun_path), path.data(), path.size());
  return address;
}

const sockaddr* as_sockaddr(const sockaddr_un& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

UniqueFd new_socket() {
  return UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

int poll_limit_ms(std::optional<TimePoint> deadline) {
  if (!deadline) return -1;
  const Duration left = *deadline - system_clock().now();
  if (left <= Duration::zero()) return 0;
  // Rounded up, so that a wait never ends just before its deadline and spins.
  const auto milliseconds = std::chrono::ceil<std::chrono::milliseconds>(left).count();
  return static_cast<int>(std::min<std::int64_t>(milliseconds, 3'600'000));
}

}  // namespace

// --- Waker --------------------------------------------------------------------------------------

Result<Waker> Waker::create() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) != 0) {
    return fail(Errc::io_error, "pipe: " + error_text(errno));
  }
  return Waker(UniqueFd(ends[0]), UniqueFd(ends[1]));
}

void Waker::wake() const noexcept {
  const char byte = 0;
  // A full pipe means that a wake-up is pending already.
  const ssize_t ignored = ::write(write_end_.get(), &byte, 1);
  static_cast<void>(ignored);
}

void Waker::drain() const noexcept {
  std::array<char, 64> bytes{};
  while (::read(read_end_.get(), bytes.data(), bytes.size()) > 0) {
  }
}

// --- LocalStream --------------------------------------------------------------------------------

Result<LocalStream> LocalStream::connect(const std::string& path, TimePoint deadline) {
  const Result<sockaddr_un> address = address_of(path);
  if (!address) return fail(address.error());
  UniqueFd fd = new_socket();
  if (!fd) return fail(Errc::io_error, "socket: " + error_text(errno));
  while (true) {
    if (::connect(fd.get(), as_sockaddr(*address), sizeof(*address)) == 0) {
      return LocalStream(std::move(fd));
    }
    const int error = errno;
    if (error == EINTR) continue;
    if (error == EACCES || error == EPERM) {
      return fail(Errc::access_denied, "connecting to " + path + ": " + error_text(error));
    }
    // EAGAIN: the listener's backlog is full; AF_UNIX offers nothing to poll for.
    if (error != EAGAIN || system_clock().now() + kConnectRetry >= deadline) {
      return fail(Errc::coordinator_lost, "connecting to " + path + ": " + error_text(error));
    }
    ::poll(nullptr, 0, static_cast<int>(kConnectRetry.count()));
  }
}

Result<std::pair<LocalStream, LocalStream>> LocalStream::pair() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends.data()) != 0) {
    return fail(Errc::io_error, "socketpair: " + error_text(errno));
  }
  return std::pair{LocalStream(UniqueFd(ends[0])), LocalStream(UniqueFd(ends[1]))};
}

Result<PeerCredentials> LocalStream::peer() const {
  ucred credentials{};
  socklen_t size = sizeof(credentials);
  if (::getsockopt(fd_.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) {
    return fail(Errc::io_error, "SO_PEERCRED: " + error_text(errno));
  }
  PeerCredentials peer{credentials.pid, credentials.uid, credentials.gid, {}};
  std::vector<gid_t> groups(64);
  while (true) {
    size = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
    if (::getsockopt(fd_.get(), SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size) == 0) break;
    if (errno != ERANGE || groups.size() >= kGroupsMax) {
      return fail(Errc::io_error, "SO_PEERGROUPS: " + error_text(errno));
    }
    groups.resize(groups.size() * 2);
  }
  groups.resize(size / sizeof(gid_t));
  peer.groups.assign(groups.begin(), groups.end());
  return peer;
}

Result<std::optional<std::size_t>> LocalStream::read_some(std::span<char> buffer) {
  while (true) {
    const ssize_t count = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
    if (count >= 0) return static_cast<std::size_t>(count);
    if (errno == EINTR) continue;
    if (errno == EAGAIN || errno == EWOULDBLOCK) return std::nullopt;
    if (errno == ECONNRESET) return std::size_t{0};  // Closed with our bytes unread: still closed.
    return fail(Errc::coordinator_lost, "reading: " + error_text(errno));
  }
}

Result<std::size_t> LocalStream::write_some(std::span<const char> bytes) {
  while (true) {
    const ssize_t count = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count >= 0) return static_cast<std::size_t>(count);
    if (errno == EINTR) continue;
    if (errno == EAGAIN || errno == EWOULDBLOCK) return std::size_t{0};
    return fail(Errc::coordinator_lost, "writing: " + error_text(errno));
  }
}

StreamReady LocalStream::wait(bool for_writing, const Waker* waker,
                              std::optional<TimePoint> deadline) const noexcept {
  std::array<pollfd, 2> watched{};
  // poll() skips negative descriptors, so a closed stream waits for the waker alone.
  watched[0] = {fd_.get(), static_cast<short>(POLLIN | (for_writing ? POLLOUT : 0)), 0};
  watched[1] = {waker != nullptr ? waker->native() : -1, POLLIN, 0};
  while (true) {
    const int count = ::poll(watched.data(), watched.size(), poll_limit_ms(deadline));
    if (count < 0 && errno == EINTR) continue;
    if (count == 0 && (!deadline || system_clock().now() < *deadline)) continue;
    break;
  }
  constexpr int kBroken = POLLERR | POLLHUP | POLLNVAL;
  StreamReady ready;
  ready.readable = (watched[0].revents & (POLLIN | kBroken)) != 0;
  ready.writable = (watched[0].revents & (POLLOUT | kBroken)) != 0;
  ready.woken = watched[1].revents != 0;
  return ready;
}

// --- LocalListener ------------------------------------------------------------------------------

Result<LocalListener> LocalListener::listen(const std::string& path, unsigned mode) {
  const Result<sockaddr_un> address = address_of(path);
  if (!address) return fail(address.error());
  const std::string lock_path = path + ".lock";
  UniqueFd lock(::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!lock) {
    const Errc code = errno == EACCES || errno == EPERM ? Errc::access_denied : Errc::io_error;
    return fail(code, lock_path + ": " + error_text(errno));
  }
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    return fail(Errc::object_already_exists, "another process listens at " + path);
  }
  UniqueFd fd = new_socket();
  if (!fd) return fail(Errc::io_error, "socket: " + error_text(errno));
  // The lock is ours, so whatever is at the path was left behind.
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
    return fail(Errc::io_error, "removing " + path + ": " + error_text(errno));
  }
  if (::bind(fd.get(), as_sockaddr(*address), sizeof(*address)) != 0 ||
      ::chmod(path.c_str(), static_cast<mode_t>(mode)) != 0 || ::listen(fd.get(), kBacklog) != 0) {
    return fail(Errc::io_error, "listening at " + path + ": " + error_text(errno));
  }
  return LocalListener(std::move(fd), std::move(lock), path);
}

LocalListener::~LocalListener() {
  // The lock file stays: unlinking a locked file would let two processes hold "the" lock.
  if (fd_) ::unlink(path_.c_str());
}

Result<std::optional<LocalStream>> LocalListener::accept() {
  while (true) {
    UniqueFd fd(::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (fd) return LocalStream(std::move(fd));
    if (errno == EINTR || errno == ECONNABORTED) continue;
    if (errno == EAGAIN || errno == EWOULDBLOCK) return std::nullopt;
    return fail(Errc::io_error, "accept: " + error_text(errno));
  }
}

}  // namespace umbra
