// SPDX-License-Identifier: Apache-2.0
#include "engine/rpc/connection.h"

#include <boost/asio/io_context.hpp>
#include <boost/json/object.hpp>

#include "tests/support/catch.h"

namespace {

using namespace umbra;
using namespace umbra::rpc;
using namespace std::chrono_literals;

// Two ends in one io_context; "echo" answers with its params, "later" keeps the responder.
struct Ends {
  explicit Ends(ConnectionOptions options = {}) {
    auto streams = LocalStream::pair();
    REQUIRE(streams);
    left =
        Connection::start(io, std::move(streams->first), null_log(),
                          {{}, {}, [this](const Error& reason) { left_closed = reason; }}, options);
    right = Connection::start(
        io, std::move(streams->second), null_log(),
        {[this](const std::string& method, Json params, Responder responder) {
           if (method == "echo") return responder(std::move(params));
           if (method == "drop") return;
           kept.push_back(std::move(responder));
         },
         [this](const std::string& method, const Json&) { notes.push_back(method); },
         [this](const Error& reason) { right_closed = reason; }},
        options);
  }

  template <class Condition>
  void run_until(Condition condition) {
    const auto end = std::chrono::steady_clock::now() + 20s;
    while (!condition() && std::chrono::steady_clock::now() < end) io.run_one_for(1s);
    REQUIRE(condition());
  }
  Result<Json> call(const char* method, Json params = {}, std::chrono::milliseconds limit = 10s) {
    std::optional<Result<Json>> got;
    left->call(method, std::move(params), limit, [&](Result<Json> result) { got = result; });
    CHECK_FALSE(got);
    run_until([&] { return got.has_value(); });
    return *got;
  }

  boost::asio::io_context io;
  std::vector<Responder> kept;
  std::vector<std::string> notes;
  std::optional<Error> left_closed;
  std::optional<Error> right_closed;
  std::shared_ptr<Connection> left;
  std::shared_ptr<Connection> right;
};

TEST_CASE("a call over a connection is answered") {
  Ends ends;
  const Result<Json> result = ends.call("echo", boost::json::object{{"a", 1}});
  REQUIRE(result);
  CHECK(serialize(*result) == R"({"a":1})");
}

TEST_CASE("typed calls decode their reply") {
  Ends ends;
  std::optional<Result<AbortSet>> got;
  ends.left->call<AbortSet>("echo", AbortSet{"why"}, 10s,
                            [&](Result<AbortSet> reply) { got = std::move(reply); });
  ends.run_until([&] { return got.has_value(); });
  CHECK((*got)->reason == "why");
}

TEST_CASE("a request that is dropped without an answer gets an error") {
  Ends ends;
  CHECK(ends.call("drop").error().code == Errc::unexpected);
}

TEST_CASE("calls to a peer that serves none are refused") {
  Ends ends;
  std::optional<Result<Json>> got;
  ends.right->call("x", {}, 10s, [&](Result<Json> result) { got = result; });
  ends.run_until([&] { return got.has_value(); });
  CHECK(got->error().code == Errc::not_implemented);
}

TEST_CASE("a request may be answered later, once") {
  Ends ends;
  std::optional<Result<Json>> got;
  ends.left->call("later", {}, 10s, [&](Result<Json> result) { got = result; });
  ends.run_until([&] { return ends.kept.size() == 1; });
  CHECK_FALSE(got);
  ends.kept[0].send(Status{});
  ends.kept[0](fail(Errc::unexpected, "a second answer is ignored"));
  ends.run_until([&] { return got.has_value(); });
  CHECK(*got);
}

TEST_CASE("a call without an answer fails after its limit and a late reply is ignored") {
  ConnectionOptions options;
  options.late = Errc::writererror_timeout;
  Ends ends(options);
  CHECK(ends.call("later", {}, 20ms).error().code == Errc::writererror_timeout);
  ends.kept[0](Json{});
  CHECK(ends.call("echo"));
}

TEST_CASE("notifications arrive in order with calls") {
  Ends ends;
  ends.left->notify("first", {});
  ends.left->notify("second", {});
  CHECK(ends.call("echo"));
  CHECK(ends.notes == std::vector<std::string>{"first", "second"});
}

TEST_CASE("when one end closes, the other is told and its calls fail") {
  ConnectionOptions options;
  options.lost = Errc::writer_not_responding;
  Ends ends(options);
  std::optional<Result<Json>> got;
  ends.left->call("later", {}, 10s, [&](Result<Json> result) { got = result; });
  ends.run_until([&] { return ends.kept.size() == 1; });
  ends.right->close({Errc::bad_state, "had enough"});
  ends.run_until([&] { return got.has_value() && ends.left_closed && ends.right_closed; });
  CHECK(got->error().code == Errc::writer_not_responding);
  CHECK(ends.right_closed->code == Errc::bad_state);
  CHECK(ends.left_closed->code == Errc::writer_not_responding);
  CHECK_FALSE(ends.left->is_open());
  ends.kept[0](Json{});  // Nobody is there any more.
  CHECK(ends.call("echo").error().code == Errc::writer_not_responding);
}

TEST_CASE("a peer that breaks the protocol gets the reason and is dropped") {
  boost::asio::io_context io;
  auto streams = LocalStream::pair();
  std::optional<Error> closed;
  const auto connection =
      Connection::start(io, std::move(streams->first), null_log(),
                        {{}, {}, [&](const Error& reason) { closed = reason; }});
  REQUIRE(streams->second.write_some(std::string_view("nonsense\n")));
  while (!closed && io.run_one_for(10s) > 0) {
  }
  REQUIRE(closed);
  CHECK(closed->code == Errc::protocol_violation);
  std::array<char, 4096> buffer{};
  const auto count = streams->second.read_some(buffer);
  REQUIRE((count && *count));
  CHECK(std::string_view(buffer.data(), **count).find("0xA0040202") != std::string_view::npos);
}

TEST_CASE("a peer that does not read is dropped when its queue is full") {
  boost::asio::io_context io;
  auto streams = LocalStream::pair();
  std::optional<Error> closed;
  ConnectionOptions options;
  options.send_queue_bytes_max = 1U << 20U;
  const auto connection =
      Connection::start(io, std::move(streams->first), null_log(),
                        {{}, {}, [&](const Error& reason) { closed = reason; }}, options);
  const Json big = boost::json::string(std::string(400'000, 'x'));
  for (int i = 0; i < 10; ++i) connection->notify("n", big);
  while (!closed && io.run_one_for(10s) > 0) {
  }
  REQUIRE(closed);
  CHECK(closed->context.find("does not read") != std::string::npos);
}

TEST_CASE("a peer that stops reading is dropped when its queue does not move") {
  boost::asio::io_context io;
  auto streams = LocalStream::pair();
  std::optional<Error> closed;
  ConnectionOptions options;
  options.send_stall_max = 30ms;
  const auto connection =
      Connection::start(io, std::move(streams->first), null_log(),
                        {{}, {}, [&](const Error& reason) { closed = reason; }}, options);
  connection->notify("n", boost::json::string(std::string(1'000'000, 'x')));
  while (!closed && io.run_one_for(10s) > 0) {
  }
  REQUIRE(closed);
  CHECK(closed->context == "the peer does not read");
}

TEST_CASE("a long message arrives whole through a slow reader") {
  Ends ends;
  const Json big = boost::json::string(std::string(3'000'000, 'x'));
  const Result<Json> result = ends.call("echo", big);
  REQUIRE(result);
  CHECK(result->get_string().size() == 3'000'000);
}

}  // namespace
