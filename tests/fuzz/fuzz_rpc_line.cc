// SPDX-License-Identifier: Apache-2.0
//
// Bytes from a stranger into one end of a connection. The input's first byte says in what pieces
// they arrive. Whatever they are: no crash, limits kept, every request can be answered and what we
// send is lines of JSON; every message type can be decoded from every params.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "engine/rpc/peer.h"

namespace {

using namespace umbra;
using namespace umbra::rpc;

template <class Message>
void decode_and_back(const Json& value) {
  const Result<Message> message = decode<Message>(value);
  if (message && !decode<Message>(encode(*message))) std::abort();
}

void decode_all(const Json& value) {
#define UMBRA_DECODE(Message) decode_and_back<Message>(value);
  UMBRA_RPC_MESSAGES(UMBRA_DECODE)
#undef UMBRA_DECODE
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::size_t piece = 1 + data[0];
  std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  PeerLimits limits;
  limits.line_bytes_max = 64U << 10U;
  limits.memory_bytes_max = 1U << 20U;
  limits.requests_in_flight_max = 4;
  Peer peer(limits);
  if (!peer.call("hello", {}) || !peer.call("other", {})) std::abort();
  while (!bytes.empty()) {
    const std::string_view now = bytes.substr(0, piece);
    bytes.remove_prefix(now.size());
    const bool alive = peer.feed(now).has_value();
    while (const std::optional<Incoming> event = peer.next()) {
      if (const auto* request = std::get_if<IncomingRequest>(&*event)) {
        decode_all(request->params);
        if (!peer.reply(request->id, fail(Errc::not_implemented, request->method))) std::abort();
      } else if (const auto* reply = std::get_if<IncomingReply>(&*event)) {
        if (reply->result) decode_all(*reply->result);
      }
    }
    if (peer.requests_in_flight() != 0) std::abort();
    if (!alive) break;
  }
  std::string sent = peer.take_output();
  if (sent.empty() || sent.back() != '\n') std::abort();
  return 0;
}
