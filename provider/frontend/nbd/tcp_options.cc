// SPDX-License-Identifier: Apache-2.0
#include "provider/frontend/nbd/tcp_options.h"

#include <charconv>

namespace umbra::nbd {

Result<TcpOptions> parse_tcp_options(std::string_view text) {
  const auto refuse = [text] {
    return fail(Errc::invalid_argument,
                "'" + std::string(text) +
                    "' is no address to listen on: PORT, ADDRESS:PORT or [IPv6-ADDRESS]:PORT");
  };
  TcpOptions options;
  const auto colon = text.rfind(':');
  const auto port = colon == std::string_view::npos ? text : text.substr(colon + 1);
  if (colon != std::string_view::npos) {
    auto address = text.substr(0, colon);
    if (address.starts_with('[') && address.ends_with(']')) {
      address = address.substr(1, address.size() - 2);
    } else if (address.find(':') != std::string_view::npos) {
      return refuse();  // Where an IPv6 address ends and its port begins cannot be told.
    }
    if (address.empty()) return refuse();
    options.address = address;
  }
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), options.port);
  if (port.empty() || error != std::errc{} || end != port.data() + port.size()) return refuse();
  return options;
}

}  // namespace umbra::nbd
