// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// The requester SDK's way to umbrad, as a seam: one blocking call at a time. The session logic
// knows only this interface, so that tests play umbrad's part without a socket.

#pragma once

#include <chrono>
#include <memory>
#include <string_view>

#include "engine/platform/clock.h"
#include "engine/rpc/codec.h"
#include "umbra/requester/types.h"

namespace umbra::requester {

class Link {
 public:
  virtual ~Link() = default;

  /// One request and its reply, within `limit`. Errors: the peer's; coordinator_lost (the link is
  /// closed then: also when the reply did not come in time, since what umbrad did is not known);
  /// bad_state (another thread is in a call, or after fork()).
  [[nodiscard]] virtual Result<rpc::Json> call(std::string_view method, rpc::Json params,
                                               std::chrono::milliseconds limit) = 0;
  [[nodiscard]] virtual bool is_open() const noexcept = 0;
  /// Time for the logic's own limits.
  [[nodiscard]] virtual TimePoint now() const noexcept = 0;

  template <class Reply, class Request>
  [[nodiscard]] Result<Reply> call(std::string_view method, const Request& request,
                                   std::chrono::milliseconds limit = kCallLimit) {
    const Result<rpc::Json> result = call(method, rpc::encode(request), limit);
    if (!result) return fail(result.error());
    Result<Reply> reply = rpc::decode<Reply>(*result);
    if (!reply)
      return fail(Errc::protocol_violation, std::string(method) + ": " + reply.error().context);
    return reply;
  }

  static constexpr std::chrono::milliseconds kCallLimit{120'000};
};

/// Connects and says hello. Errors: coordinator_lost; access_denied; version_mismatch;
/// invalid_argument (connect_limit is not positive).
[[nodiscard]] Result<std::unique_ptr<Link>> connect_link(const ConnectOptions& options);

}  // namespace umbra::requester
