// SPDX-License-Identifier: Apache-2.0
//
// Purpose: the server's part of an NBD device, with the test in the kernel's place: nothing is
// negotiated, the first byte is a request's.
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstring>

#include "engine/platform/log.h"
#include "engine/platform/unique_fd.h"
#include "provider/frontend/nbd/connection_posix.h"
#include "provider/frontend/nbd_device/plan.h"
#include "tests/support/catch.h"
#include "tests/support/ram_device.h"

using namespace umbra;
using umbra::test::RamDevice;

namespace {

// As the kernel sends it.
std::array<unsigned char, 28> request_of(unsigned command, std::uint32_t at, std::uint32_t size,
                                         unsigned char cookie, bool fua = false) {
  std::array<unsigned char, 28> out{0x25, 0x60, 0x95,
                                    0x13, 0,    fua ? std::uint8_t{1} : std::uint8_t{0}};
  out[7] = static_cast<unsigned char>(command);
  out[15] = cookie;
  for (unsigned i = 0; i < 4; ++i) {
    out[20 + i] = static_cast<unsigned char>(at >> (24 - 8 * i));
    out[24 + i] = static_cast<unsigned char>(size >> (24 - 8 * i));
  }
  return out;
}

struct Link {
  std::shared_ptr<RamDevice> device = std::make_shared<RamDevice>(1 << 20);
  UniqueFd client;
  std::atomic<int> ended{0};
  std::unique_ptr<nbd::Connection> server;

  Link() {
    int ends[2] = {-1, -1};
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    client.reset(ends[1]);
    nbd::Connection::Host host;
    host.agreed =
        nbd_device::agreement_for(nbd_device::parameters_for(device->geometry()).value(), "data");
    host.claim = [this](nbd::Connection&, const std::string&) { return device; };
    host.finished = [this](nbd::Connection&) { ++ended; };
    server = std::make_unique<nbd::Connection>(UniqueFd(ends[0]), std::move(host), null_log());
    server->start();
  }
  void send(const void* bytes, std::size_t size) const {
    REQUIRE(::write(client.get(), bytes, size) == static_cast<ssize_t>(size));
  }
  template <std::size_t kSize>
  std::array<unsigned char, kSize> receive() const {
    std::array<unsigned char, kSize> bytes{};
    REQUIRE(::recv(client.get(), bytes.data(), kSize, MSG_WAITALL) == static_cast<ssize_t>(kSize));
    return bytes;
  }
  [[nodiscard]] bool is_at_end() const {
    char byte = 0;
    return ::recv(client.get(), &byte, 1, 0) == 0;
  }
};

constexpr std::array<unsigned char, 8> kDone{0x67, 0x44, 0x66, 0x98, 0, 0, 0, 0};

}  // namespace

TEST_CASE("requests are answered without a word before them", "[nbd_device]") {
  Link link;
  const auto write = request_of(1, 4096, 512, 7, true);
  std::array<unsigned char, 512> data{};
  data.fill(0xA5);
  link.send(write.data(), write.size());
  link.send(data.data(), data.size());
  auto reply = link.receive<16>();
  CHECK(std::memcmp(reply.data(), kDone.data(), kDone.size()) == 0);
  CHECK(reply[15] == 7);
  CHECK(link.device->fua_count() == 1);
  CHECK(link.device->byte(4096) == std::byte{0xA5});

  const auto read = request_of(0, 4096, 512, 8);
  link.send(read.data(), read.size());
  reply = link.receive<16>();
  CHECK(std::memcmp(reply.data(), kDone.data(), kDone.size()) == 0);
  CHECK(link.receive<512>() == data);

  const auto flush = request_of(3, 0, 0, 9);
  link.send(flush.data(), flush.size());
  CHECK(link.receive<16>()[15] == 9);
  CHECK(link.device->count(block::Op::flush) == 1);
}

TEST_CASE("the kernel's goodbye ends it, and so does the end of its socket", "[nbd_device]") {
  Link link;
  SECTION("goodbye") {
    const auto goodbye = request_of(2, 0, 0, 0);
    link.send(goodbye.data(), goodbye.size());
    CHECK(link.is_at_end());
  }
  SECTION("end of the socket") { link.client.reset(); }
  link.server.reset();
  CHECK(link.ended == 1);
}

TEST_CASE("what is in flight is answered before a connection has gone", "[nbd_device]") {
  Link link;
  link.device->hold();
  const auto read = request_of(0, 0, 512, 3);
  link.send(read.data(), read.size());
  REQUIRE(link.device->wait_for_held(1));
  ::shutdown(link.client.get(), SHUT_WR);
  link.device->let_go();
  CHECK(link.receive<16>()[15] == 3);
  (void)link.receive<512>();
  CHECK(link.is_at_end());
}
