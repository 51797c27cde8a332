// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// One end of a JSON-RPC 2.0 connection without the connection: bytes in, bytes and events out. Both
// ends call and answer. It owns no socket, clock or thread, so the daemons, both SDKs, the tests
// and the fuzzer run the same code.
//
// What a peer may do is bounded here, at the edge: the length of a line, the memory its JSON takes,
// the requests it has in flight, the length of ids and method names. What breaks the framing or
// the protocol's own rules is a protocol_violation, after which the connection is of no use; a
// request that is merely wrong gets an error reply and the connection lives on.
//
// What it does not do: batches (JSON-RPC arrays) are refused; deadlines are the owner's, who gives
// up on a call with forget(), after which its reply is ignored; so is a second reply to one call.

#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <variant>

#include "engine/rpc/codec.h"

namespace umbra::rpc {

inline constexpr std::size_t kLineBytesMax = 32U << 20U;
inline constexpr std::size_t kMethodBytesMax = 128;
inline constexpr std::size_t kIdBytesMax = 64;

struct PeerLimits {
  std::size_t line_bytes_max = kLineBytesMax;
  std::size_t memory_bytes_max = 4 * kLineBytesMax;  // Of one parsed line.
  std::size_t requests_in_flight_max = 64;  // Received and not answered; more get limit_reached.
  // Of their lines together; a single one may always come.
  std::size_t requests_bytes_max = 2 * kLineBytesMax;
  std::size_t calls_in_flight_max = 1024;  // Sent and not answered.
};

using CallId = std::uint64_t;

/// The id under which a request is answered, as the peer wrote it: a number or text.
struct RequestId {
  std::string text;  // Its JSON form; unique among the requests in flight.
  friend auto operator<=>(const RequestId&, const RequestId&) = default;
};

struct IncomingRequest {
  RequestId id;
  std::string method;
  Json params;
};
struct IncomingNotification {
  std::string method;
  Json params;
};
struct IncomingReply {
  CallId call = 0;
  Result<Json> result;
};
using Incoming = std::variant<IncomingRequest, IncomingNotification, IncomingReply>;

/// Threads: one at a time.
class Peer {
 public:
  explicit Peer(PeerLimits limits = {}) : limits_(limits) {}

  /// Takes bytes from the stream, in pieces of any size; whole lines become events for next().
  /// Errors: protocol_violation (close the connection once take_output() is sent; it may hold a
  /// last error reply). Later calls repeat the error.
  [[nodiscard]] Status feed(std::string_view bytes);

  /// The next event, in the order of the wire.
  [[nodiscard]] std::optional<Incoming> next();

  /// Queues a request. Errors: limit_reached (calls_in_flight_max); invalid_argument (the line
  /// would be longer than line_bytes_max). Nothing is queued then.
  [[nodiscard]] Result<CallId> call(std::string_view method, Json params);
  /// Gives up on a call: its reply, should it come, is ignored. Unknown ids are no error.
  void forget(CallId call);
  /// Queues a notification. Errors: invalid_argument (too long).
  [[nodiscard]] Status notify(std::string_view method, Json params);
  /// Answers a request. Errors: bad_state (not in flight: answered before); a result that is too
  /// long is replaced by an error reply and reported as invalid_argument.
  [[nodiscard]] Status reply(const RequestId& id, const Result<Json>& result);

  /// Bytes to send, in order. Whoever takes them sends them.
  [[nodiscard]] std::string take_output();
  [[nodiscard]] std::size_t output_bytes() const noexcept { return output_.size(); }

  [[nodiscard]] std::size_t requests_in_flight() const noexcept { return requests_.size(); }
  [[nodiscard]] std::size_t calls_in_flight() const noexcept { return calls_.size(); }
  /// Replies to calls that were forgotten or answered before: late, or sent twice.
  [[nodiscard]] std::uint64_t stale_replies() const noexcept { return stale_replies_; }

 private:
  Status take_line(std::string_view line);
  Status take_request(boost::json::object& object, std::size_t line_bytes);
  Status take_reply(boost::json::object& object);
  Status queue(const boost::json::object& object);
  Status violation(std::string why);
  void refuse(const Json& id, const Error& error);

  PeerLimits limits_;
  std::string partial_;        // Bytes of a line whose end has not come.
  std::optional<Error> dead_;  // Why nothing more is taken.
  std::deque<Incoming> incoming_;
  std::map<RequestId, std::size_t> requests_;  // In flight, with the bytes of their lines.
  std::size_t requests_bytes_ = 0;
  std::unordered_set<CallId> calls_;
  CallId next_call_ = 1;
  std::uint64_t stale_replies_ = 0;
  std::string output_;
};

}  // namespace umbra::rpc
