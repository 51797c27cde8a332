// SPDX-License-Identifier: Apache-2.0
//
// How exports are offered over TCP: where, to whom, and how clients prove who they are. There is no
// TCP without TLS.

#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "umbra/result.h"

namespace umbra::nbd {

inline constexpr std::uint16_t kPortDefault = 10809;  // The protocol's own.

/// At least one has to be given.
struct TlsOptions {
  std::string certificates;  // A directory; empty: no certificates.
  std::string shared_keys;   // A file; empty: no shared keys.
};

struct TcpOptions {
  std::string address = "127.0.0.1";  // IPv4 or IPv6, in numbers; need not be there yet.
  std::uint16_t port = kPortDefault;  // 0: any that is free.
  TlsOptions tls;
  bool writable = false;  // What is writable is so over TCP, too.
};

/// "PORT", "ADDRESS:PORT" or "[ADDRESS]:PORT"; whether the address is one shows when it is used.
/// Errors: invalid_argument.
[[nodiscard]] Result<TcpOptions> parse_tcp_options(std::string_view text);

}  // namespace umbra::nbd
