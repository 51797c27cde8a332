// SPDX-License-Identifier: Apache-2.0
#include "engine/rpc/peer.h"

#include <boost/json/object.hpp>

#include "engine/platform/prng.h"
#include "tests/support/catch.h"
#include "tests/support/seed.h"

namespace {

using namespace umbra;
using namespace umbra::rpc;

Json params_with(const char* name, std::int64_t value) {
  boost::json::object object;
  object[name] = value;
  return object;
}

template <class Event>
Event expect(Peer& peer) {
  std::optional<Incoming> event = peer.next();
  REQUIRE(event);
  auto* wanted = std::get_if<Event>(&*event);
  REQUIRE(wanted);
  return std::move(*wanted);
}

// A peer that is fed one bad line answers with an error and takes nothing more.
void check_fatal(const std::string& line) {
  INFO(line);
  Peer peer;
  const Status fed = peer.feed(line + "\n");
  REQUIRE_FALSE(fed);
  CHECK(fed.error().code == Errc::protocol_violation);
  CHECK_FALSE(peer.feed("\n"));
  CHECK_FALSE(peer.next());
}

TEST_CASE("a call is answered across two peers") {
  Peer here;
  Peer there;
  const Result<CallId> call = here.call("sum", params_with("a", 1));
  REQUIRE(call);
  REQUIRE(there.feed(here.take_output()));
  const auto request = expect<IncomingRequest>(there);
  CHECK(request.method == "sum");
  CHECK(serialize(request.params) == R"({"a":1})");
  CHECK(there.requests_in_flight() == 1);
  REQUIRE(there.reply(request.id, params_with("sum", 2)));
  REQUIRE(here.feed(there.take_output()));
  const auto reply = expect<IncomingReply>(here);
  CHECK(reply.call == *call);
  CHECK(serialize(*reply.result) == R"({"sum":2})");
  CHECK(here.calls_in_flight() == 0);
  CHECK(there.requests_in_flight() == 0);
}

TEST_CASE("an error reply carries the code and the context") {
  Peer here;
  Peer there;
  REQUIRE(here.call("x", nullptr));
  REQUIRE(there.feed(here.take_output()));
  const Error error{Errc::writer_not_responding, "writer 'ledger'"};
  REQUIRE(there.reply(expect<IncomingRequest>(there).id, tl::unexpected<Error>(error)));
  REQUIRE(here.feed(there.take_output()));
  CHECK(expect<IncomingReply>(here).result.error() == error);
}

TEST_CASE("bytes may arrive in pieces of any size") {
  Peer sender;
  for (int i = 0; i < 20; ++i) REQUIRE(sender.notify("n", params_with("i", i)));
  const std::string bytes = sender.take_output();
  Prng prng(umbra::test::seed());
  for (int round = 0; round < 50; ++round) {
    Peer receiver;
    std::string_view left = bytes;
    while (!left.empty()) {
      const std::size_t count = std::min<std::size_t>(left.size(), 1 + prng.below(60));
      REQUIRE(receiver.feed(left.substr(0, count)));
      left.remove_prefix(count);
    }
    for (int i = 0; i < 20; ++i) {
      CHECK(serialize(expect<IncomingNotification>(receiver).params) ==
            "{\"i\":" + std::to_string(i) + "}");
    }
  }
}

TEST_CASE("an id comes back as the peer wrote it") {
  Peer peer;
  REQUIRE(peer.feed(R"({"jsonrpc":"2.0","id":"a\u00e9","method":"m"})"
                    "\r\n\r\n"
                    R"({"jsonrpc":"2.0","id":-3,"method":"m"})"
                    "\n"));
  REQUIRE(peer.reply(expect<IncomingRequest>(peer).id, Json(nullptr)));
  REQUIRE(peer.reply(expect<IncomingRequest>(peer).id, Json(nullptr)));
  CHECK(peer.take_output() ==
        "{\"jsonrpc\":\"2.0\",\"id\":\"a\xC3\xA9\",\"result\":{}}\n"
        "{\"jsonrpc\":\"2.0\",\"id\":-3,\"result\":{}}\n");
}

TEST_CASE("a second answer to one request is refused here") {
  Peer peer;
  REQUIRE(peer.feed(R"({"jsonrpc":"2.0","id":1,"method":"m"})"
                    "\n"));
  const auto request = expect<IncomingRequest>(peer);
  REQUIRE(peer.reply(request.id, Json(nullptr)));
  CHECK(peer.reply(request.id, Json(nullptr)).error().code == Errc::bad_state);
}

TEST_CASE("a second or late reply of the peer is ignored and counted") {
  Peer peer;
  const CallId first = *peer.call("a", nullptr);
  const CallId second = *peer.call("b", nullptr);
  peer.forget(second);
  const std::string one = R"({"jsonrpc":"2.0","id":1,"result":{}})";
  REQUIRE(peer.feed(one + "\n" + one + "\n"));
  REQUIRE(peer.feed(R"({"jsonrpc":"2.0","id":2,"result":{}})"
                    "\n"));
  CHECK(expect<IncomingReply>(peer).call == first);
  CHECK_FALSE(peer.next());
  CHECK(peer.stale_replies() == 2);
}

TEST_CASE("more requests in flight than the limit are refused one by one") {
  PeerLimits limits;
  limits.requests_in_flight_max = 2;
  Peer peer(limits);
  for (int id = 1; id <= 3; ++id) {
    REQUIRE(peer.feed(R"({"jsonrpc":"2.0","method":"m","id":)" + std::to_string(id) + "}\n"));
  }
  const auto first = expect<IncomingRequest>(peer);
  (void)expect<IncomingRequest>(peer);
  CHECK_FALSE(peer.next());
  CHECK(peer.take_output().find("0xA0040101") != std::string::npos);
  REQUIRE(peer.reply(first.id, Json(nullptr)));
  REQUIRE(peer.feed(R"({"jsonrpc":"2.0","method":"m","id":4})"
                    "\n"));
  CHECK(expect<IncomingRequest>(peer).id.text == "4");
}

TEST_CASE("long requests in flight are bounded together, and a single one always comes") {
  PeerLimits limits;
  limits.requests_bytes_max = 200;
  Peer peer(limits);
  const auto request = [](int id, std::size_t bytes) {
    return R"({"jsonrpc":"2.0","method":"m","params":{"x":")" + std::string(bytes, 'x') +
           R"("},"id":)" + std::to_string(id) + "}\n";
  };
  REQUIRE(peer.feed(request(1, 500)));
  REQUIRE(peer.feed(request(2, 1)));
  const auto first = expect<IncomingRequest>(peer);
  CHECK_FALSE(peer.next());
  CHECK(peer.take_output().find("0xA0040101") != std::string::npos);
  REQUIRE(peer.reply(first.id, Json(nullptr)));
  REQUIRE(peer.feed(request(3, 1)));
  REQUIRE(peer.feed(request(4, 1)));
  CHECK(expect<IncomingRequest>(peer).id.text == "3");
  CHECK(expect<IncomingRequest>(peer).id.text == "4");
}

TEST_CASE("too many calls of our own are refused") {
  PeerLimits limits;
  limits.calls_in_flight_max = 1;
  Peer peer(limits);
  REQUIRE(peer.call("m", nullptr));
  CHECK(peer.call("m", nullptr).error().code == Errc::limit_reached);
}

TEST_CASE("a line longer than the limit ends the connection, with or without its end") {
  PeerLimits limits;
  limits.line_bytes_max = 100;
  for (const char* end : {"", "\n"}) {
    Peer peer(limits);
    CHECK(peer.feed(std::string(60, ' ')));
    const Status fed = peer.feed(std::string(41, ' ') + end);
    REQUIRE_FALSE(fed);
    CHECK(fed.error().code == Errc::protocol_violation);
    CHECK(peer.take_output().find("\"id\":null") != std::string::npos);
  }
}

TEST_CASE("a message of ours that is too long is refused and nothing is queued") {
  PeerLimits limits;
  limits.line_bytes_max = 200;
  Peer peer(limits);
  const Json big = boost::json::string(std::string(300, 'x'));
  CHECK(peer.call("m", big).error().code == Errc::invalid_argument);
  CHECK(peer.notify("m", big).error().code == Errc::invalid_argument);
  CHECK(peer.output_bytes() == 0);
  REQUIRE(peer.feed(R"({"jsonrpc":"2.0","method":"m","id":4})"
                    "\n"));
  CHECK(peer.reply(expect<IncomingRequest>(peer).id, big).error().code == Errc::invalid_argument);
  CHECK(peer.take_output().find("\"error\"") != std::string::npos);
}

TEST_CASE("what breaks the protocol ends the connection") {
  check_fatal("x");
  check_fatal("[]");
  check_fatal("5");
  check_fatal("{}");
  check_fatal(R"({"jsonrpc":"1.0","id":1,"method":"m"})");
  check_fatal(R"({"jsonrpc":"2.0","id":1,"method":7})");
  check_fatal(R"({"jsonrpc":"2.0","id":null,"method":"m"})");
  check_fatal(R"({"jsonrpc":"2.0","id":{},"method":"m"})");
  check_fatal(R"({"jsonrpc":"2.0","id":")" + std::string(65, 'i') + R"(","method":"m"})");
  check_fatal(R"({"jsonrpc":"2.0","id":1,"method":")" + std::string(129, 'm') + R"("})");
  check_fatal(R"({"jsonrpc":"2.0","id":1,"result":{}})");
  check_fatal(R"({"jsonrpc":"2.0","id":"1","result":{}})");
  check_fatal(R"({"jsonrpc":"2.0","id":1,"result":{},"error":{}})");
  check_fatal(R"({"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"m"}})");
}

TEST_CASE("an id in use twice ends the connection") {
  Peer peer;
  const std::string line = R"({"jsonrpc":"2.0","id":1,"method":"m"})";
  CHECK_FALSE(peer.feed(line + "\n" + line + "\n"));
}

}  // namespace
