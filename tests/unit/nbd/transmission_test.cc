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
  agreed.contexts = {{1, "base:allocation", nullptr}};
  return agreed;
}

// With three contexts, of which clients may choose.
Agreement extended() {
  auto agreed = agreement();
  agreed.extended_headers = true;
  agreed.contexts = {{1, "base:allocation", nullptr}, {2, "x:a", nullptr}, {3, "x:b", nullptr}};
  agreed.transmission_flags |= kBlockStatusPayload;
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

Decision ask_extended(Command command, std::uint64_t offset, std::uint64_t size,
                      std::uint16_t flags = 0, const Agreement& agreed = extended()) {
  std::array<std::byte, kExtendedRequestBytes> bytes{};
  store_be(bytes.data(), kMagicExtendedRequest);
  store_be(bytes.data() + 4, flags);
  store_be(bytes.data() + 6, static_cast<std::uint16_t>(command));
  store_be(bytes.data() + 8, kCookie);
  store_be(bytes.data() + 16, offset);
  store_be(bytes.data() + 24, size);
  return decide(bytes, agreed);
}

// A BLOCK_STATUS with a payload, to its end.
Decision ask_status(std::uint64_t offset, std::uint64_t size,
                    std::initializer_list<std::uint32_t> ids, std::uint16_t flags = 0) {
  std::vector<std::byte> payload(8 + 4 * ids.size());
  store_be(payload.data(), size);
  std::size_t at = 8;
  for (const auto id : ids) {
    store_be(payload.data() + at, id);
    at += 4;
  }
  const auto first = ask_extended(Command::block_status, offset, payload.size(),
                                  static_cast<std::uint16_t>(flags | kCommandPayloadLength));
  CHECK(first.payload_bytes == payload.size());
  if (first.verdict != Verdict::perform) return first;
  return decide_status(first, payload, extended());
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
  CHECK(refused(ask(Command::read, 0, (64U << 10U) + 512)) == WireError::overflow);
  CHECK(refused(ask(Command::read, 0, (64U << 10U) + 512, kCommandDf)) == WireError::overflow);
  auto simple = agreement();
  simple.structured_replies = false;
  CHECK(refused(ask(Command::read, 0, (64U << 10U) + 512, 0, simple)) == WireError::invalid);
  CHECK(refused(ask(Command::flush, 512, 0)) == WireError::invalid);
  CHECK(refused(ask(Command::flush, 0, 512)) == WireError::invalid);
}

TEST_CASE("flags and commands that were not offered are invalid", "[nbd]") {
  CHECK(refused(ask(Command::read, 0, 512, kCommandNoHole)) == WireError::invalid);
  CHECK(refused(ask(Command::write_zeroes, 0, 512, 1U << 6U)) == WireError::invalid);
  CHECK(refused(ask(Command::cache, 0, 512, kCommandNoHole)) == WireError::invalid);
  CHECK(refused(ask(Command::write, 0, 512, kCommandPayloadLength)) == WireError::invalid);
  CHECK(refused(ask(static_cast<Command>(42), 0, 512)) == WireError::invalid);
  auto plain = agreement();
  plain.transmission_flags = kHasFlags | kSendFlush | kSendFua;
  plain.structured_replies = false;
  plain.contexts.clear();
  CHECK(refused(ask(Command::read, 0, 512, kCommandDf, plain)) == WireError::invalid);
  CHECK(refused(ask(Command::block_status, 0, 512, 0, plain)) == WireError::invalid);
  CHECK(refused(ask(Command::trim, 0, 512, 0, plain)) == WireError::invalid);
  CHECK(refused(ask(Command::cache, 0, 512, 0, plain)) == WireError::invalid);
}

TEST_CASE("CACHE is performed like a read that sends nothing, of any length", "[nbd]") {
  CHECK(ask(Command::cache, 0, kSize).verdict == Verdict::perform);
  CHECK(ask(Command::cache, 0, kSize, 0, agreement(true)).verdict == Verdict::perform);
  CHECK(refused(ask(Command::cache, 0, kSize + 512)) == WireError::invalid);
}

TEST_CASE("fast zeroes get a quick no, but only when nothing else is wrong", "[nbd]") {
  CHECK(refused(ask(Command::write_zeroes, 0, 512, kCommandFastZero)) == WireError::not_supported);
  CHECK(refused(ask(Command::write_zeroes, 1, 512, kCommandFastZero)) == WireError::invalid);
  CHECK(refused(ask(Command::write_zeroes, kSize, 512, kCommandFastZero)) == WireError::no_space);
  CHECK(refused(ask(Command::write_zeroes, 0, 512, kCommandFastZero, agreement(true))) ==
        WireError::perm);
  CHECK(refused(ask(Command::trim, 0, 512, kCommandFastZero)) == WireError::invalid);
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
  const Request read{Command::read, 0, kCookie, 8192, 512, ~0U};
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

  const Request write{Command::write, 0, kCookie, 0, 512, ~0U};
  REQUIRE(encode_reply(out, agreed, write, WireError::no_space) == kSimpleReplyBytes);
  CHECK(load_be<std::uint32_t>(out.data()) == kMagicSimpleReply);
  CHECK(load_be<std::uint32_t>(out.data() + 4) == 28);
  agreed.structured_replies = false;
  CHECK(encode_reply(out, agreed, read, WireError::none) == kSimpleReplyBytes);
}

TEST_CASE("extents are joined, cut to the request, and one if only one was asked for", "[nbd]") {
  std::vector<std::byte> out(kBlockStatusBytesMax);
  Request request{Command::block_status, 0, kCookie, 0, 8192, ~0U};
  const std::array<StatusExtent, 4> extents{
      {{512, 0}, {512, 0}, {1024, kStateHole | kStateZero}, {1U << 20U, kStateZero}}};
  const auto agreed = agreement();
  REQUIRE(encode_block_status(out, agreed, request, 7, extents, true) ==
          kChunkHeaderBytes + 4 + 3 * kExtentBytes);
  CHECK(load_be<std::uint16_t>(out.data() + 4) == kReplyDone);
  CHECK(load_be<std::uint32_t>(out.data() + 16) == 4 + 3 * kExtentBytes);
  const std::byte* at = out.data() + kChunkHeaderBytes;
  CHECK(load_be<std::uint32_t>(at) == 7);
  CHECK(load_be<std::uint32_t>(at + 4) == 1024);
  CHECK(load_be<std::uint32_t>(at + 8) == 0);
  CHECK(load_be<std::uint32_t>(at + 12) == 1024);
  CHECK(load_be<std::uint32_t>(at + 16) == (kStateHole | kStateZero));
  CHECK(load_be<std::uint32_t>(at + 20) == 8192 - 2048);
  CHECK(load_be<std::uint32_t>(at + 24) == kStateZero);
  request.flags = kCommandReqOne;
  CHECK(encode_block_status(out, agreed, request, 7, extents, false) ==
        kChunkHeaderBytes + 4 + kExtentBytes);
  CHECK(load_be<std::uint16_t>(out.data() + 4) == 0);  // Another chunk follows.
}

TEST_CASE("extents of data, of holes and of zeroes have the flags of base:allocation", "[nbd]") {
  CHECK(allocation_status({512, false, false}).flags == 0);
  CHECK(allocation_status({512, true, false}).flags == kStateHole);
  CHECK(allocation_status({512, true, true}).flags == (kStateHole | kStateZero));
  CHECK(allocation_status({512, false, true}).size_bytes == 512);
}

// --- extended headers -------------------------------------------------------------------------

TEST_CASE("an extended request has 64 bits of length, and a payload if it says so", "[nbd]") {
  auto agreed = extended();
  agreed.size_bytes = std::uint64_t{1} << 40U;
  const auto zeroes =
      ask_extended(Command::write_zeroes, 512, (std::uint64_t{1} << 40U) - 512, 0, agreed);
  REQUIRE(zeroes.verdict == Verdict::perform);
  CHECK(zeroes.payload_bytes == 0);
  CHECK(zeroes.request.size_bytes == (std::uint64_t{1} << 40U) - 512);
  const auto write = ask_extended(Command::write, 512, 4096, kCommandPayloadLength | kCommandFua);
  REQUIRE(write.verdict == Verdict::perform);
  CHECK(write.payload_bytes == 4096);
  CHECK(write.request.cookie == kCookie);
  CHECK(ask_extended(Command::block_status, 0, kSize).verdict == Verdict::perform);
  CHECK(refused(ask_extended(Command::read, 0, std::uint64_t{1} << 33U, 0, agreed)) ==
        WireError::overflow);
}

TEST_CASE("a WRITE that does not announce its payload has none, and is invalid", "[nbd]") {
  const auto decision = ask_extended(Command::write, 0, 512);
  CHECK(refused(decision) == WireError::invalid);
  CHECK(decision.payload_bytes == 0);
}

TEST_CASE("a payload that no command wants is read and refused", "[nbd]") {
  const auto command = GENERATE(Command::read, Command::trim, Command::write_zeroes, Command::flush,
                                Command::cache, static_cast<Command>(42));
  const auto decision = ask_extended(command, 0, 512, kCommandPayloadLength);
  CHECK(refused(decision) == WireError::invalid);
  CHECK(decision.payload_bytes == 512);
}

TEST_CASE("a payload longer than was agreed disconnects, whatever the command", "[nbd]") {
  const auto command =
      GENERATE(Command::write, Command::read, Command::block_status, static_cast<Command>(42));
  CHECK(ask_extended(command, 0, (64U << 10U) + 512, kCommandPayloadLength).verdict ==
        Verdict::disconnect);
}

TEST_CASE("each kind of header is taken only where it was agreed", "[nbd]") {
  std::array<std::byte, kExtendedRequestBytes> bytes{};
  store_be(bytes.data(), kMagicRequest);
  CHECK(decide(bytes, extended()).verdict == Verdict::disconnect);
  store_be(bytes.data(), kMagicExtendedRequest);
  CHECK(decide(std::span(bytes).first(kRequestBytes), agreement()).verdict == Verdict::disconnect);
  CHECK(ask_extended(Command::disconnect, 7, 7, 0xFFFF).verdict == Verdict::finish);
}

TEST_CASE("a client may ask for some of its contexts only", "[nbd]") {
  const auto decision = ask_status(512, 4096, {3, 1}, kCommandReqOne);
  REQUIRE(decision.verdict == Verdict::perform);
  CHECK(decision.request.contexts == 0b101U);
  CHECK(decision.request.size_bytes == 4096);
  CHECK(decision.request.offset_bytes == 512);
  CHECK(ask_extended(Command::block_status, 0, 512).request.contexts == ~0U);
}

TEST_CASE("a list of contexts that is wrong costs the request and no more", "[nbd]") {
  CHECK(refused(ask_status(0, 512, {1, 1})) == WireError::invalid);
  CHECK(refused(ask_status(0, 512, {4})) == WireError::invalid);
  CHECK(refused(ask_status(0, 512, {0})) == WireError::invalid);
  CHECK(refused(ask_status(0, 512, {})) == WireError::invalid);
  CHECK(refused(ask_status(0, kSize + 512, {1})) == WireError::invalid);
  CHECK(refused(ask_status(0, 0, {1})) == WireError::invalid);
  CHECK(refused(ask_status(1, 512, {1})) == WireError::invalid);
  CHECK(refused(ask_status(0, 512, {1}, kCommandDf)) == WireError::invalid);
  const auto size = GENERATE(4U, 13U, 4096U);
  const auto odd = ask_extended(Command::block_status, 0, size, kCommandPayloadLength);
  CHECK(refused(odd) == WireError::invalid);
  CHECK(odd.payload_bytes == size);
  auto without = extended();
  without.transmission_flags &= static_cast<std::uint16_t>(~kBlockStatusPayload);
  CHECK(refused(ask_extended(Command::block_status, 0, 12, kCommandPayloadLength, without)) ==
        WireError::invalid);
}

TEST_CASE("extended replies have one header, with the request's cookie and offset", "[nbd]") {
  std::array<std::byte, kReplyHeaderBytesMax> out{};
  const auto agreed = extended();
  const auto check_header = [&](std::uint16_t type, std::uint64_t offset, std::uint64_t size) {
    CHECK(load_be<std::uint32_t>(out.data()) == kMagicExtendedReply);
    CHECK(load_be<std::uint16_t>(out.data() + 4) == kReplyDone);
    CHECK(load_be<std::uint16_t>(out.data() + 6) == type);
    CHECK(load_be<std::uint64_t>(out.data() + 8) == kCookie);
    CHECK(load_be<std::uint64_t>(out.data() + 16) == offset);
    CHECK(load_be<std::uint64_t>(out.data() + 24) == size);
  };
  const Request read{Command::read, 0, kCookie, 8192, 512, ~0U};
  REQUIRE(encode_reply(out, agreed, read, WireError::none) == 40);
  check_header(kChunkOffsetData, 8192, 8 + 512);
  CHECK(load_be<std::uint64_t>(out.data() + 32) == 8192);
  const Request write{Command::write, 0, kCookie, 4096, 512, ~0U};
  REQUIRE(encode_reply(out, agreed, write, WireError::none) == 32);
  check_header(kChunkNone, 4096, 0);
  REQUIRE(encode_reply(out, agreed, write, WireError::no_space) == 38);
  check_header(kChunkError, 4096, 6);
  CHECK(load_be<std::uint32_t>(out.data() + 32) == 28);
}

TEST_CASE("extended block status tells 64 bits of length and how many extents", "[nbd]") {
  std::vector<std::byte> out(kBlockStatusBytesMax);
  const Request request{Command::block_status, 0, kCookie, 512, std::uint64_t{1} << 40U, ~0U};
  const std::array<StatusExtent, 2> extents{{{std::uint64_t{1} << 39U, 0}, {4096, kStateDirty}}};
  REQUIRE(encode_block_status(out, extended(), request, 2, extents, true) ==
          kExtendedChunkHeaderBytes + 8 + 2 * kExtendedExtentBytes);
  CHECK(load_be<std::uint16_t>(out.data() + 6) == kChunkBlockStatusExtended);
  CHECK(load_be<std::uint64_t>(out.data() + 16) == 512);
  CHECK(load_be<std::uint64_t>(out.data() + 24) == 8 + 2 * kExtendedExtentBytes);
  const std::byte* at = out.data() + kExtendedChunkHeaderBytes;
  CHECK(load_be<std::uint32_t>(at) == 2);
  CHECK(load_be<std::uint32_t>(at + 4) == 2);
  CHECK(load_be<std::uint64_t>(at + 8) == std::uint64_t{1} << 39U);
  CHECK(load_be<std::uint64_t>(at + 16) == 0);
  CHECK(load_be<std::uint64_t>(at + 24) == 4096);
  CHECK(load_be<std::uint64_t>(at + 32) == kStateDirty);
}
