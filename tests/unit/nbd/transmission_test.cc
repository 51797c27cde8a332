// SPDX-License-Identifier: Apache-2.0
#include "provider/frontend/nbd/transmission.h"

#include <array>
#include <cerrno>
#include <vector>

#include "tests/support/catch.h"

using namespace umbra;
using namespace umbra::nbd;

namespace {

constexpr std::uint64_t kSize = 1U << 20U;
constexpr std::uint64_t kCookie = 0x1122334455667788;

Agreement agreement(bool read_only = false) {
  Agreement agreed;
  agreed.size_bytes = kSize;
  agreed.block_bytes = 512;
  agreed.payload_bytes_max = 64U << 10U;
  block::Geometry geometry;
  geometry.read_only = read_only;
  geometry.can_discard = true;
  agreed.transmission_flags = static_cast<std::uint16_t>(transmission_flags(geometry) | kSendDf);
  agreed.structured_replies = true;
  agreed.allocation_context = true;
  return agreed;
}

Decision ask(Command command, std::uint64_t offset, std::uint32_t size, std::uint16_t flags = 0,
             const Agreement& agreed = agreement()) {
  std::array<std::byte, kRequestBytes> bytes{};
  store_be(bytes.data(), kMagicRequest);
  store_be(bytes.data() + 4, flags);
  store_be(bytes.data() + 6, static_cast<std::uint16_t>(command));
  store_be(bytes.data() + 8, kCookie);
  store_be(bytes.data() + 16, offset);
  store_be(bytes.data() + 24, size);
  return decide(bytes, agreed);
}

WireError refused(const Decision& decision) {
  REQUIRE(decision.verdict == Verdict::refuse);
  return decision.error;
}

}  // namespace

TEST_CASE("a sound request is performed as asked", "[nbd]") {
  const auto decision = ask(Command::write, 1024, 4096, kCommandFua);
  REQUIRE(decision.verdict == Verdict::perform);
  CHECK(decision.payload_bytes == 4096);
  CHECK(decision.request.offset_bytes == 1024);
  CHECK(decision.request.size_bytes == 4096);
  CHECK(decision.request.cookie == kCookie);
  CHECK(decision.request.flags == kCommandFua);
  CHECK(ask(Command::read, kSize - 512, 512).verdict == Verdict::perform);
  CHECK(ask(Command::flush, 0, 0).verdict == Verdict::perform);
  CHECK(ask(Command::trim, 0, kSize, kCommandFua).verdict == Verdict::perform);
  CHECK(ask(Command::write_zeroes, 0, kSize, kCommandNoHole).verdict == Verdict::perform);
  CHECK(ask(Command::block_status, 0, kSize, kCommandReqOne).verdict == Verdict::perform);
}

TEST_CASE("what cannot be trusted disconnects", "[nbd]") {
  CHECK(decide(std::array<std::byte, kRequestBytes>{}, agreement()).verdict == Verdict::disconnect);
  CHECK(ask(Command::write, 0, (64U << 10U) + 512).verdict == Verdict::disconnect);
}

TEST_CASE("goodbye finishes, whatever else the request says", "[nbd]") {
  CHECK(ask(Command::disconnect, 7, 7, 0xFFFF).verdict == Verdict::finish);
}

TEST_CASE("requests beyond the end get the error the protocol names", "[nbd]") {
  CHECK(refused(ask(Command::write, kSize, 512)) == WireError::no_space);
  CHECK(refused(ask(Command::write_zeroes, kSize - 512, 1024)) == WireError::no_space);
  CHECK(refused(ask(Command::read, kSize - 512, 1024)) == WireError::invalid);
  CHECK(refused(ask(Command::trim, ~std::uint64_t{0} - 511, 512)) == WireError::invalid);
  CHECK(refused(ask(Command::block_status, kSize, 512)) == WireError::invalid);
}

TEST_CASE("the payload of a refused write is still announced", "[nbd]") {
  const auto decision = ask(Command::write, 1, 512);
  CHECK(refused(decision) == WireError::invalid);
  CHECK(decision.payload_bytes == 512);
}

TEST_CASE("misaligned, empty and oversized requests are invalid", "[nbd]") {
  CHECK(refused(ask(Command::read, 1, 512)) == WireError::invalid);
  CHECK(refused(ask(Command::read, 0, 511)) == WireError::invalid);
  CHECK(refused(ask(Command::read, 0, 0)) == WireError::invalid);
  CHECK(refused(ask(Command::read, 0, (64U << 10U) + 512)) == WireError::invalid);
  CHECK(refused(ask(Command::read, 0, (64U << 10U) + 512, kCommandDf)) == WireError::overflow);
  CHECK(refused(ask(Command::flush, 512, 0)) == WireError::invalid);
  CHECK(refused(ask(Command::flush, 0, 512)) == WireError::invalid);
}

TEST_CASE("flags and commands that were not offered are invalid", "[nbd]") {
  CHECK(refused(ask(Command::read, 0, 512, kCommandNoHole)) == WireError::invalid);
  CHECK(refused(ask(Command::write_zeroes, 0, 512, 1U << 4U)) == WireError::invalid);
  CHECK(refused(ask(Command::cache, 0, 512)) == WireError::invalid);
  CHECK(refused(ask(static_cast<Command>(42), 0, 512)) == WireError::invalid);
  auto plain = agreement();
  plain.transmission_flags = kHasFlags | kSendFlush | kSendFua;
  plain.structured_replies = plain.allocation_context = false;
  CHECK(refused(ask(Command::read, 0, 512, kCommandDf, plain)) == WireError::invalid);
  CHECK(refused(ask(Command::block_status, 0, 512, 0, plain)) == WireError::invalid);
  CHECK(refused(ask(Command::trim, 0, 512, 0, plain)) == WireError::invalid);
}

TEST_CASE("a read-only export forbids everything that writes", "[nbd]") {
  const auto command = GENERATE(Command::write, Command::trim, Command::write_zeroes);
  CHECK(refused(ask(command, 0, 512, 0, agreement(true))) == WireError::perm);
}

TEST_CASE("errno values become the protocol's", "[nbd]") {
  CHECK(wire_error(0) == WireError::none);
  CHECK(wire_error(EIO) == WireError::io);
  CHECK(wire_error(ENOSPC) == WireError::no_space);
  CHECK(wire_error(EDQUOT) == WireError::no_space);
  CHECK(wire_error(EROFS) == WireError::perm);
  CHECK(wire_error(EINVAL) == WireError::invalid);
  CHECK(wire_error(ENOMEM) == WireError::no_memory);
  CHECK(wire_error(ENODEV) == WireError::io);
}

TEST_CASE("replies are simple or structured as agreed", "[nbd]") {
  std::array<std::byte, kReplyHeaderBytesMax> out{};
  auto agreed = agreement();
  const Request read{Command::read, 0, kCookie, 8192, 512};
  REQUIRE(encode_reply(out, agreed, read, WireError::none) == kChunkHeaderBytes + 8);
  CHECK(load_be<std::uint32_t>(out.data()) == kMagicStructuredReply);
  CHECK(load_be<std::uint16_t>(out.data() + 4) == kReplyDone);
  CHECK(load_be<std::uint16_t>(out.data() + 6) == kChunkOffsetData);
  CHECK(load_be<std::uint64_t>(out.data() + 8) == kCookie);
  CHECK(load_be<std::uint32_t>(out.data() + 16) == 8 + 512);
  CHECK(load_be<std::uint64_t>(out.data() + 20) == 8192);
  REQUIRE(encode_reply(out, agreed, read, WireError::io) == kChunkHeaderBytes + 6);
  CHECK(load_be<std::uint16_t>(out.data() + 6) == kChunkError);
  CHECK(load_be<std::uint32_t>(out.data() + 20) == 5);

  const Request write{Command::write, 0, kCookie, 0, 512};
  REQUIRE(encode_reply(out, agreed, write, WireError::no_space) == kSimpleReplyBytes);
  CHECK(load_be<std::uint32_t>(out.data()) == kMagicSimpleReply);
  CHECK(load_be<std::uint32_t>(out.data() + 4) == 28);
  agreed.structured_replies = false;
  CHECK(encode_reply(out, agreed, read, WireError::none) == kSimpleReplyBytes);
}

TEST_CASE("extents are joined, cut to the request, and one if only one was asked for", "[nbd]") {
  std::vector<std::byte> out(kBlockStatusBytesMax);
  Request request{Command::block_status, 0, kCookie, 0, 8192};
  const std::array<block::Extent, 4> extents{
      {{512, false, false}, {512, false, false}, {1024, true, true}, {1U << 20U, false, true}}};
  REQUIRE(encode_block_status(out, request, extents) == kChunkHeaderBytes + 4 + 3 * kExtentBytes);
  const std::byte* at = out.data() + kChunkHeaderBytes;
  CHECK(load_be<std::uint32_t>(at) == kAllocationContext);
  CHECK(load_be<std::uint32_t>(at + 4) == 1024);
  CHECK(load_be<std::uint32_t>(at + 8) == 0);
  CHECK(load_be<std::uint32_t>(at + 12) == 1024);
  CHECK(load_be<std::uint32_t>(at + 16) == (kStateHole | kStateZero));
  CHECK(load_be<std::uint32_t>(at + 20) == 8192 - 2048);
  CHECK(load_be<std::uint32_t>(at + 24) == kStateZero);
  request.flags = kCommandReqOne;
  CHECK(encode_block_status(out, request, extents) == kChunkHeaderBytes + 4 + kExtentBytes);
}
