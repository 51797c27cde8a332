// SPDX-License-Identifier: Apache-2.0
//
// The server over its socket, against a device in memory whose completions the test decides.
#include "provider/frontend/nbd/server.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <set>
#include <thread>

#include "engine/platform/prng.h"
#include "tests/support/catch.h"
#include "tests/support/nbd_client.h"
#include "tests/support/ram_device.h"
#include "tests/support/seed.h"
#include "tests/support/temp_dir.h"

using namespace umbra;
using namespace umbra::nbd;
using test::NbdClient;
using test::RamDevice;

namespace {

constexpr std::uint64_t kSize = 4U << 20U;

struct World {
  explicit World(std::uint32_t block_bytes = 512)
      : device(std::make_shared<RamDevice>(kSize, block_bytes)) {}

  void start() {
    server = Server::start({socket, 0600}, null_log()).value();
    REQUIRE(server->add("vol", "a volume", device, true));
  }
  std::unique_ptr<NbdClient> client(const test::NbdOptions& options = {}) {
    auto made = NbdClient::connect(socket, "vol", options);
    REQUIRE(made);
    return std::move(*made);
  }

  test::TempDir dir;
  std::string socket = dir / "s";
  std::shared_ptr<RamDevice> device;
  std::unique_ptr<Server> server;
};

std::vector<std::byte> pattern(std::size_t size, std::uint64_t seed) {
  std::vector<std::byte> out(size);
  Prng prng(seed);
  for (auto& byte : out) byte = static_cast<std::byte>(prng.next());
  return out;
}

std::uint32_t error_of(const Result<test::NbdReply>& reply) {
  REQUIRE(reply);
  return reply->error;
}

}  // namespace

TEST_CASE("what was written is read back, by every way of negotiating", "[nbd]") {
  World world;
  world.start();
  test::NbdOptions options;
  SECTION("structured") {}
  SECTION("simple") { options.structured_replies = false; }
  SECTION("by export name") { options.by_export_name = true; }
  auto client = world.client(options);
  CHECK(client->size_bytes() == kSize);
  auto data = pattern(256 * 1024, 1);
  CHECK(error_of(client->run(Command::write, 8192, 256 * 1024, data.data())) == 0);
  std::vector<std::byte> back(data.size());
  CHECK(error_of(client->run(Command::read, 8192, 256 * 1024, back.data())) == 0);
  CHECK((back == data));
  CHECK((world.device->bytes(8192, data.size()) == data));
}

TEST_CASE("the device's errors reach the client, and the connection goes on", "[nbd]") {
  World world;
  world.start();
  auto client = world.client();
  auto data = pattern(4096, 2);
  world.device->fail_next(block::Op::read, EIO);
  CHECK(error_of(client->run(Command::read, 0, 4096, data.data())) == 5);
  world.device->fail_next(block::Op::write, ENOSPC);
  CHECK(error_of(client->run(Command::write, 0, 4096, data.data())) == 28);
  world.device->fail_next(block::Op::flush, EIO);
  CHECK(error_of(client->run(Command::flush, 0, 0)) == 5);
  CHECK(error_of(client->run(Command::write, 0, 4096, data.data())) == 0);
}

TEST_CASE("refused requests cost no more than themselves", "[nbd]") {
  World world;
  world.start();
  auto client = world.client();
  auto data = pattern(300 * 1024, 3);
  CHECK(error_of(client->run(Command::write, 1, 300 * 1024, data.data())) == 22);
  CHECK(error_of(client->run(Command::write, kSize, 4096, data.data())) == 28);
  CHECK(error_of(client->run(Command::read, 7, 512, data.data())) == 22);
  CHECK(error_of(client->run(static_cast<Command>(77), 0, 512)) == 22);
  CHECK(world.device->count(block::Op::write) == 0);
  CHECK(error_of(client->run(Command::write, 512, 512, data.data())) == 0);
}

TEST_CASE("FUA, flush, trim and zeroes reach the device", "[nbd]") {
  World world;
  world.start();
  auto client = world.client();
  auto data = pattern(4096, 4);
  CHECK(error_of(client->run(Command::write, 0, 4096, data.data(), kCommandFua)) == 0);
  CHECK(world.device->fua_count() == 1);
  CHECK(error_of(client->run(Command::flush, 0, 0)) == 0);
  CHECK(world.device->count(block::Op::flush) == 1);
  CHECK(error_of(client->run(Command::trim, 0, 4096, nullptr, kCommandFua)) == 0);
  CHECK(world.device->count(block::Op::discard) == 1);
  CHECK(world.device->count(block::Op::flush) == 2);  // A trim's FUA.
  CHECK(error_of(client->run(Command::write_zeroes, 0, 4096, nullptr, kCommandNoHole)) == 0);
  CHECK(world.device->count(block::Op::write_zeroes) == 1);
}

TEST_CASE("zeroes longer than the device takes are done in parts", "[nbd]") {
  World world;
  world.device->shape().request_bytes_max = 64 * 1024;
  world.device->fill(std::byte{7}, 0, kSize);
  world.start();
  auto client = world.client();
  CHECK(error_of(client->run(Command::write_zeroes, 512, kSize - 1024, nullptr, kCommandFua)) == 0);
  CHECK(world.device->count(block::Op::write_zeroes) == kSize / (64 * 1024));
  CHECK(world.device->byte(511) == std::byte{7});
  CHECK(world.device->byte(512) == std::byte{0});
  CHECK(world.device->byte(kSize - 513) == std::byte{0});
  CHECK(world.device->byte(kSize - 512) == std::byte{7});
  world.device->fail_next(block::Op::write_zeroes, EIO);
  CHECK(error_of(client->run(Command::write_zeroes, 0, kSize)) == 5);
}

TEST_CASE("block status tells holes from data", "[nbd]") {
  World world;
  world.device->fill(std::byte{1}, 4096, 4096);
  world.start();
  auto client = world.client();
  REQUIRE(client->has_allocation_context());
  const auto reply = client->run(Command::block_status, 0, 16384);
  REQUIRE(reply);
  REQUIRE(reply->extents.size() == 3);
  CHECK(reply->extents[0].size_bytes == 4096);
  CHECK(reply->extents[0].zero);
  CHECK(reply->extents[1].size_bytes == 4096);
  CHECK_FALSE(reply->extents[1].zero);
  CHECK(reply->extents[2].size_bytes == 8192);
  const auto one = client->run(Command::block_status, 0, 16384, nullptr, kCommandReqOne);
  REQUIRE(one);
  CHECK(one->extents.size() == 1);
}

// --- extended headers, CACHE ------------------------------------------------------------------

TEST_CASE("with extended headers everything works as without", "[nbd]") {
  World world;
  world.start();
  auto client = world.client({.extended_headers = true});
  auto data = pattern(256 * 1024, 1);
  CHECK(error_of(client->run(Command::write, 8192, 256 * 1024, data.data())) == 0);
  std::vector<std::byte> back(data.size());
  CHECK(error_of(client->run(Command::read, 8192, 256 * 1024, back.data())) == 0);
  CHECK((back == data));
  CHECK(error_of(client->run(Command::flush, 0, 0)) == 0);
  CHECK(error_of(client->run(Command::write_zeroes, 8192, 4096)) == 0);
  CHECK(world.device->byte(8192) == std::byte{0});
  CHECK(error_of(client->run(Command::read, 0, std::uint64_t{1} << 40U, back.data())) == 22);
  CHECK(error_of(client->run(Command::write, 1, 512, data.data())) == 22);
  const auto reply = client->run(Command::block_status, 0, 16384);
  REQUIRE(reply);
  REQUIRE(reply->extents.size() == 2);
  CHECK(reply->extents[0].size_bytes == 8192 + 4096);
  CHECK(reply->extents[0].zero);
  CHECK(reply->extents[1].size_bytes == 4096);
  CHECK_FALSE(reply->extents[1].zero);
}

TEST_CASE("a payload nobody wants is passed over, and the connection goes on", "[nbd]") {
  World world;
  world.start();
  auto client = world.client({.extended_headers = true});
  std::vector<std::byte> payload(300 * 1024);
  std::vector<std::byte> sink(payload.size());
  REQUIRE(client->send(Command::trim, 1, 0, payload.size(), nullptr, kCommandPayloadLength));
  REQUIRE(client->send_raw(payload));
  CHECK(error_of(client->receive()) == 22);
  CHECK(world.device->count(block::Op::discard) == 0);
  CHECK(error_of(client->run(Command::read, 0, sink.size(), sink.data())) == 0);
}

TEST_CASE("CACHE reads what it is asked for, in parts, and sends nothing", "[nbd]") {
  World world;
  world.device->shape().request_bytes_max = 64 * 1024;
  world.start();
  auto client = world.client();
  CHECK((client->flags() & kSendCache) != 0);
  CHECK(error_of(client->run(Command::cache, 512, kSize - 512)) == 0);
  CHECK(world.device->count(block::Op::read) == kSize / (64 * 1024));
  world.device->fail_next(block::Op::read, EIO);
  CHECK(error_of(client->run(Command::cache, 0, kSize)) == 5);
}

TEST_CASE("what takes long is given up when its client has left without a word", "[nbd]") {
  World world;
  world.device->shape().request_bytes_max = 512;
  world.start();
  auto client = world.client();
  world.device->hold();
  REQUIRE(client->send(Command::write_zeroes, 1, 0, kSize));
  REQUIRE(world.device->wait_for_held(1));
  client.reset();
  std::atomic<bool> is_removed{false};
  std::thread remover([&] {
    (void)world.server->remove("vol", true);
    is_removed = true;
  });
  while (!is_removed) world.device->release();
  remover.join();
  CHECK(world.device->count(block::Op::write_zeroes) < kSize / 512);
}

// --- contexts ---------------------------------------------------------------------------------

namespace {

// Every second part of 8 KiB is dirty, of the second context the others.
class Stripes final : public Context {
 public:
  explicit Stripes(std::uint64_t dirty) : dirty_(dirty) {}
  std::size_t extents(std::uint64_t offset, std::uint64_t size,
                      std::span<StatusExtent> out) noexcept override {
    std::size_t count = 0;
    for (const auto end = offset + size; offset < end && count < out.size(); ++count) {
      const auto stripe = offset / 8192;
      const auto next = std::min(end, (stripe + 1) * 8192);
      out[count] = {next - offset, stripe % 2 == dirty_ ? kStateDirty : 0U};
      offset = next;
    }
    return count;
  }

 private:
  std::uint64_t dirty_;
};

class StripedDetails final : public Details, public Contexts {
 public:
  std::string describe(const std::string& name) const override { return "striped " + name; }
  std::shared_ptr<Contexts> contexts(const std::string& name) const override {
    if (name != "vol") return nullptr;
    return {std::shared_ptr<void>(), const_cast<StripedDetails*>(this)};
  }
  std::vector<std::string> list() const override { return {"x:odd", "x:even"}; }
  std::shared_ptr<Context> open(std::string_view name) const override {
    if (name == "x:odd") return std::make_shared<Stripes>(1);
    if (name == "x:even") return std::make_shared<Stripes>(0);
    return nullptr;
  }
};

using Told = std::vector<std::pair<std::uint64_t, std::uint32_t>>;
Told told(const Result<test::NbdReply>& reply, const std::string& context) {
  REQUIRE(reply);
  REQUIRE(reply->contexts.contains(context));
  Told all;
  for (const auto& extent : reply->contexts.at(context)) {
    all.emplace_back(extent.size_bytes, extent.flags);
  }
  return all;
}

}  // namespace

TEST_CASE("each selected context answers for itself", "[nbd]") {
  const bool extended = GENERATE(false, true);
  World world;
  const StripedDetails details;
  world.start();
  world.server->set_details(&details);
  auto client =
      world.client({.extended_headers = extended, .contexts = {"x:even", "x:none", "x:odd"}});
  REQUIRE(client->contexts().size() == 3);
  const auto reply = client->run(Command::block_status, 4096, 8192);
  CHECK(told(reply, "x:even") == Told{{4096, kStateDirty}, {4096, 0}});
  CHECK(told(reply, "x:odd") == Told{{4096, 0}, {4096, kStateDirty}});
  CHECK(told(reply, "base:allocation") == Told{{8192, kStateHole | kStateZero}});
  const auto one = client->run(Command::block_status, 4096, 8192, nullptr, kCommandReqOne);
  CHECK(told(one, "x:odd") == Told{{4096, 0}});
  if (extended) {
    const std::array ids{client->contexts().at("x:odd")};
    const auto some = client->status_of(0, 8192, ids);
    CHECK(told(some, "x:odd") == Told{{8192, 0}});
    CHECK(some->contexts.size() == 1);
    CHECK(error_of(client->status_of(0, 8192, std::array{77U})) == 22);
  }
  world.server->set_details(nullptr);
  // A connection keeps the contexts it has.
  CHECK(told(client->run(Command::block_status, 0, 512), "x:even") == Told{{512, kStateDirty}});
}

TEST_CASE("a context with more extents than a reply carries tells the first of them", "[nbd]") {
  World world;
  const StripedDetails details;
  world.device = std::make_shared<RamDevice>(32U << 20U, 512);
  world.start();
  world.server->set_details(&details);
  auto client = world.client({.allocation_context = false, .contexts = {"x:odd"}});
  const auto all = told(client->run(Command::block_status, 0, 32U << 20U), "x:odd");
  CHECK(all.size() == 1024);
  world.server->set_details(nullptr);
}

TEST_CASE("replies come in the order of completion", "[nbd]") {
  World world;
  world.start();
  auto client = world.client();
  world.device->hold();
  std::array<std::array<std::byte, 512>, 8> buffers{};
  for (std::uint64_t i = 0; i < buffers.size(); ++i) {
    REQUIRE(client->send(Command::read, i, i * 512, 512, buffers.at(i).data()));
  }
  REQUIRE(world.device->wait_for_held(buffers.size()));
  world.device->release(true);
  for (std::uint64_t i = buffers.size(); i-- > 0;) CHECK(client->receive()->cookie == i);
}

TEST_CASE("a client that stops reading stalls only itself", "[nbd]") {
  World world;
  world.start();
  auto greedy = world.client();
  auto polite = world.client();
  // Far more reply bytes than the socket takes, and none is read.
  std::vector<std::byte> sink(256 * 1024);
  for (std::uint64_t i = 0; i < 64; ++i) {
    REQUIRE(greedy->send(Command::read, i, 0, 256 * 1024, sink.data()));
  }
  auto data = pattern(4096, 5);
  for (int i = 0; i < 100; ++i) {
    REQUIRE(error_of(polite->run(Command::write, 0, 4096, data.data())) == 0);
  }
  // And it may come back to its replies.
  for (std::uint64_t i = 0; i < 64; ++i) REQUIRE(greedy->receive());
}

TEST_CASE("more requests than a connection may have in flight wait their turn", "[nbd]") {
  World world;
  world.start();
  auto client = world.client();
  world.device->hold();
  constexpr std::uint64_t kCount = kInFlightMax * 3;
  std::vector<std::byte> buffer(512);
  std::thread sender([&] {
    for (std::uint64_t i = 0; i < kCount; ++i) {
      if (!client->send(Command::write, i, 0, 512, buffer.data())) return;
    }
  });
  CHECK(world.device->wait_for_held(kInFlightMax));
  world.device->let_go();
  std::set<std::uint64_t> seen;
  for (std::uint64_t i = 0; i < kCount; ++i) seen.insert(client->receive()->cookie);
  sender.join();
  CHECK(seen.size() == kCount);
}

TEST_CASE("payloads beyond the connection's budget wait, and all arrive", "[nbd]") {
  World world;
  world.start();
  auto client = world.client();
  std::vector<std::byte> sink(kSize);
  std::thread sender([&] {
    for (std::uint64_t i = 0; i < 40; ++i) {
      if (!client->send(Command::read, i, 0, kSize, sink.data())) return;
    }
  });
  for (std::uint64_t i = 0; i < 40; ++i) CHECK(error_of(client->receive()) == 0);
  sender.join();
}

TEST_CASE("broken framing ends the connection and no other", "[nbd]") {
  World world;
  world.start();
  auto broken = world.client();
  auto sound = world.client();
  const std::vector<std::byte> zeroes(kRequestBytes);
  REQUIRE(broken->send_raw(zeroes));
  CHECK(broken->at_end());
  auto data = pattern(512, 6);
  CHECK(error_of(sound->run(Command::write, 0, 512, data.data())) == 0);
}

TEST_CASE("a client may leave in the middle of anything", "[nbd]") {
  World world;
  world.start();
  Prng prng(test::seed());
  for (int round = 0; round < 30; ++round) {
    auto client = world.client();
    auto data = pattern(64 * 1024, 7);
    for (std::uint64_t i = 0; i < prng.below(20); ++i) {
      (void)client->send(Command::write, i, 0, 64 * 1024, data.data());
    }
    std::vector<std::byte> half(kRequestBytes + 100);
    store_be(half.data(), kMagicRequest);
    store_be(half.data() + 6, static_cast<std::uint16_t>(Command::write));
    store_be(half.data() + 24, std::uint32_t{4096});
    (void)client->send_raw({half.data(), prng.below(half.size())});
  }
  auto last = world.client();
  CHECK(error_of(last->run(Command::flush, 0, 0)) == 0);
}

TEST_CASE("an export in use is removed only by force, which waits for its requests", "[nbd]") {
  World world;
  world.start();
  auto client = world.client();
  CHECK(world.server->connection_count("vol") == 1);
  const auto refused = world.server->remove("vol", false);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == Errc::volume_in_use);
  CHECK(refused.error().context == "NBD export vol has 1 connections");

  world.device->hold();
  std::array<std::byte, 512> buffer{};
  REQUIRE(client->send(Command::read, 1, 0, 512, buffer.data()));
  REQUIRE(world.device->wait_for_held(1));
  Status removed;
  std::thread remover([&] { removed = world.server->remove("vol", true); });
  CHECK(client->at_end());
  world.device->let_go();
  remover.join();
  CHECK(removed);
  CHECK(world.device.use_count() == 1);
  CHECK(world.server->remove("vol", true).error().code == Errc::object_not_found);
}

TEST_CASE("exports have one name, aliases and a URI", "[nbd]") {
  World world;
  world.start();
  CHECK(world.server->add("vol", "", world.device).error().code == Errc::object_already_exists);
  CHECK(world.server->add("", "", world.device).error().code == Errc::invalid_argument);
  CHECK(world.server->add_alias("db", "vol"));
  CHECK(world.server->add_alias("db", "vol").error().code == Errc::object_already_exists);
  CHECK(world.server->add_alias("x", "nope").error().code == Errc::object_not_found);
  CHECK(NbdClient::connect(world.socket, "db"));
  CHECK(NbdClient::connect(world.socket, ""));
  CHECK(world.server->uri("a b%") == "nbd+unix:///a%20b%25?socket=" + world.socket);
}

TEST_CASE("a second server on a live socket is refused, a dead socket is taken over", "[nbd]") {
  World world;
  world.start();
  const auto second = Server::start({world.socket, 0600}, null_log());
  REQUIRE_FALSE(second);
  CHECK(second.error().code == Errc::volume_in_use);
  const auto too_long = Server::start({std::string(200, 'x'), 0600}, null_log());
  REQUIRE_FALSE(too_long);
  CHECK(too_long.error().code == Errc::invalid_argument);
}

TEST_CASE("the server ends with clients connected and requests in flight", "[nbd]") {
  World world;
  world.start();
  auto client = world.client();
  auto negotiating = NbdClient::connect(world.socket, "nope");
  CHECK_FALSE(negotiating);
  world.device->hold();
  std::array<std::byte, 512> buffer{};
  REQUIRE(client->send(Command::read, 1, 0, 512, buffer.data()));
  REQUIRE(world.device->wait_for_held(1));
  std::thread stopper([&] { world.server.reset(); });
  CHECK(client->at_end());
  world.device->let_go();
  stopper.join();
  CHECK_FALSE(std::filesystem::exists(world.socket));
}
