// SPDX-License-Identifier: Apache-2.0
//
// The bytes of one connection, both ways: the socket as it is, or with TLS over it
// (tls_posix.h). What lies above sees no difference.
//
// Threads: one that receives and one that sends, at the same time.

#pragma once

#include <sys/uio.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace umbra::nbd {

class Stream {
 public:
  virtual ~Stream() = default;
  /// Waits for at least one byte, takes what is there into the vectors, in their order. How many
  /// bytes; 0: no more will come.
  [[nodiscard]] virtual std::size_t receive(std::span<const iovec> to) noexcept = 0;
  enum class Sent : std::uint8_t { some, would_block, failed };
  struct Outcome {
    Sent sent = Sent::failed;
    std::size_t bytes = 0;  // With `some`: so many from the beginning of the vectors, at least 1.
  };
  /// Without `may_block` it never waits. After would_block the next call's vectors must begin with
  /// the same bytes.
  [[nodiscard]] virtual Outcome send(std::span<const iovec> from, bool may_block) noexcept = 0;
  /// Tells the other side that nothing more comes. Never waits.
  virtual void say_goodbye() noexcept {}
};

/// The descriptor outlives the object.
class SocketStream final : public Stream {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  explicit SocketStream(int socket) noexcept : socket_(socket) {}
  /// Until then both directions end, whatever the other side does; nothing: no bound. Only while
  /// one thread alone uses the stream.
  void set_deadline(std::optional<TimePoint> deadline) noexcept { deadline_ = deadline; }

  [[nodiscard]] std::size_t receive(std::span<const iovec> to) noexcept override;
  [[nodiscard]] Outcome send(std::span<const iovec> from, bool may_block) noexcept override;

 private:
  [[nodiscard]] bool wait_until_ready(short events) const noexcept;

  int socket_;
  std::optional<TimePoint> deadline_;
};

}  // namespace umbra::nbd
