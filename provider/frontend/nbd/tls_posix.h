// SPDX-License-Identifier: Apache-2.0
//
// TLS over a connection's socket, the server's side, by GnuTLS: 1.2 and 1.3. The client proves who
// it is, always: with a certificate of the authority that is named, or with a key shared before.
//
// Files, as other NBD programs have them:
//   directory of certificates   ca-cert.pem, server-cert.pem, server-key.pem, and ca-crl.pem if
//                               there are revoked ones
//   file of shared keys         a line "USER:KEY" for each, KEY in hexadecimal
// They are read for each connection, so that renewed ones count at once.

#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <string>

#include "provider/frontend/nbd/stream_posix.h"
#include "provider/frontend/nbd/tcp_options.h"
#include "umbra/result.h"

namespace umbra::nbd {

/// Whether the files are there, readable, nobody else's, and what they should be. Blocks for them.
/// Errors: invalid_argument (neither is given; not what it should be), access_denied (others may
/// read a secret), each naming the file and what to do.
[[nodiscard]] Status check_tls(const TlsOptions& options);

class TlsStream final : public Stream {
 public:
  /// Shakes hands: blocks until that is done, or `below` ends or comes to its deadline. `below`
  /// outlives the object. Errors: those of check_tls(); access_denied (the client did not prove who
  /// it is, or does not trust us; says what is known).
  [[nodiscard]] static Result<std::unique_ptr<TlsStream>> accept(Stream& below,
                                                                 const TlsOptions& options);
  ~TlsStream() override;
  TlsStream(const TlsStream&) = delete;
  TlsStream& operator=(const TlsStream&) = delete;

  /// The client: "certificate CN=..." or "key of USER". Not made printable.
  [[nodiscard]] const std::string& peer() const noexcept { return peer_; }

  [[nodiscard]] std::size_t receive(std::span<const iovec> to) noexcept override;
  [[nodiscard]] Outcome send(std::span<const iovec> from, bool may_block) noexcept override;
  void say_goodbye() noexcept override;

 private:
  struct Session;  // GnuTLS's.
  static constexpr std::size_t kRecordBytes = 16U << 10U;

  explicit TlsStream(Stream& below);
  [[nodiscard]] Status shake_hands();

  Stream& below_;
  std::unique_ptr<Session> session_;
  std::string peer_;
  std::atomic<bool> may_block_{true};  // Of what GnuTLS sends.
  // The sender's.
  std::array<std::byte, kRecordBytes> gathered_{};
  bool is_unsent_ = false;  // GnuTLS has a record that the socket did not take wholly.
};

}  // namespace umbra::nbd
