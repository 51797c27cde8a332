// SPDX-License-Identifier: Apache-2.0
#include "provider/frontend/ublk/plan.h"

#include <cerrno>

#include "tests/support/catch.h"

using namespace umbra;
using namespace umbra::ublk;

namespace {

// The kernel's numbers, written out: a change of ours must not pass for a change of theirs.
constexpr std::uint32_t kRead = 0;
constexpr std::uint32_t kWrite = 1;
constexpr std::uint32_t kFlush = 2;
constexpr std::uint32_t kDiscard = 3;
constexpr std::uint32_t kZeroes = 5;
constexpr std::uint32_t kFua = 1U << 13U;
constexpr std::uint32_t kNoUnmap = 1U << 15U;
constexpr std::uint32_t kMeta = 1U << 11U;

block::Geometry geometry_of(std::uint64_t size, std::uint32_t block = 512) {
  block::Geometry geometry;
  geometry.size_bytes = size;
  geometry.block_bytes = block;
  return geometry;
}

}  // namespace

TEST_CASE("a machine's processors decide the queues, within limits", "[ublk]") {
  CHECK(shape_for(0).queues == 1);
  CHECK(shape_for(1).queues == 1);
  CHECK(shape_for(3).queues == 3);
  CHECK(shape_for(128).queues == kQueuesMax);
  CHECK(shape_for(2).depth == kQueueDepth);
}

TEST_CASE("parameters follow the geometry", "[ublk]") {
  SECTION("a plain file") {
    const auto got = parameters_for(geometry_of(1 << 20), Shape{}).value();
    CHECK_FALSE(got.read_only);
    CHECK(got.block_shift == 9);
    CHECK(got.sectors == 2048);
    CHECK(got.sectors_max == kPayloadBytesMax / 512);
    CHECK(got.discard_sectors_max == 0);
    CHECK(got.zeroes_sectors_max == kPartBytesMax / 512);
  }
  SECTION("large blocks, an odd end, small requests, discard") {
    auto geometry = geometry_of((1 << 20) + 512, 4096);
    geometry.request_bytes_max = 10'000;
    geometry.can_discard = true;
    const auto got = parameters_for(geometry, Shape{}).value();
    CHECK(got.block_shift == 12);
    CHECK(got.sectors == 2048);
    CHECK(got.sectors_max == 16);  // 8 KiB: whole blocks.
    CHECK(got.zeroes_sectors_max == 16);
    CHECK(got.discard_sectors_max == 16);
  }
  SECTION("a copy is neither discarded nor zeroed") {
    auto geometry = geometry_of(1 << 20);
    geometry.read_only = true;
    geometry.can_discard = true;
    const auto got = parameters_for(geometry, Shape{}).value();
    CHECK(got.read_only);
    CHECK(got.discard_sectors_max == 0);
    CHECK(got.zeroes_sectors_max == 0);
  }
  SECTION("what no device can be") {
    for (const std::uint32_t block : {0U, 256U, 768U, 8192U}) {
      INFO(block);
      const auto got = parameters_for(geometry_of(1 << 20, block), Shape{});
      REQUIRE_FALSE(got);
      CHECK(got.error().code == Errc::invalid_argument);
    }
    CHECK_FALSE(parameters_for(geometry_of(511), Shape{}));
  }
}

TEST_CASE("each of the kernel's requests becomes one of ours", "[ublk]") {
  block::Request request;
  const auto decoded = [&](std::uint32_t op_flags, std::uint32_t sectors = 8) {
    request.fua = request.no_hole = true;  // Of the request before.
    request.error = EIO;
    return decode({op_flags, sectors, 24}, kPayloadBytesMax, request);
  };
  CHECK(decoded(kRead | kMeta) == 0);
  CHECK(request.op == block::Op::read);
  CHECK(request.offset_bytes == 12'288);
  CHECK(request.size_bytes == 4096);
  CHECK(request.error == 0);
  CHECK_FALSE(request.fua);
  CHECK(decoded(kWrite) == 0);
  CHECK(request.op == block::Op::write);
  CHECK_FALSE(request.fua);
  CHECK(decoded(kWrite | kFua) == 0);
  CHECK(request.fua);
  CHECK_FALSE(request.no_hole);
  CHECK(decoded(kFlush, 0) == 0);
  CHECK(request.op == block::Op::flush);
  CHECK(request.size_bytes == 0);
  CHECK(decoded(kZeroes, 65'536) == 0);
  CHECK(request.op == block::Op::write_zeroes);
  CHECK_FALSE(request.no_hole);
  CHECK(request.size_bytes == 32U << 20U);
  CHECK(decoded(kZeroes | kNoUnmap | kFua) == 0);
  CHECK(request.no_hole);
  CHECK(request.fua);
  CHECK(decoded(kDiscard, 65'536) == 0);
  CHECK(request.op == block::Op::discard);
}

TEST_CASE("what the kernel must not ask is refused", "[ublk]") {
  block::Request request;
  for (const std::uint32_t op : {4U, 6U, 15U, 255U}) {  // Write-same, zones, what is to come.
    CHECK(decode({op, 8, 0}, kPayloadBytesMax, request) == EOPNOTSUPP);
  }
  CHECK(decode({kWrite, kPayloadBytesMax / 512, 0}, kPayloadBytesMax, request) == 0);
  CHECK(decode({kWrite, kPayloadBytesMax / 512 + 1, 0}, kPayloadBytesMax, request) == EINVAL);
  CHECK(decode({kRead, 0xFFFFFFFF, 0}, kPayloadBytesMax, request) == EINVAL);
}

TEST_CASE("answers: bytes for what moves data, an errno for what failed", "[ublk]") {
  block::Request request;
  request.size_bytes = 4096;
  CHECK(result_of(request) == 4096);
  request.op = block::Op::write;
  CHECK(result_of(request) == 4096);
  request.op = block::Op::discard;
  request.size_bytes = 4U << 30U;
  CHECK(result_of(request) == 0);
  request.error = ENOSPC;
  CHECK(result_of(request) == -ENOSPC);
}

TEST_CASE("a device that would not survive its server is told from one that would", "[ublk]") {
  CHECK(why_no_recovery(kRecovery | kRecoveryReissue).empty());
  CHECK_FALSE(why_no_recovery(kRecovery).empty());  // What is in flight would fail.
  CHECK_FALSE(why_no_recovery(kUnprivileged).empty());
}

TEST_CASE("a mark is the run directory's", "[ublk]") {
  CHECK(owner_mark("/run/umbra") == owner_mark("/run/umbra"));
  CHECK(owner_mark("/run/umbra") != owner_mark("/run/umbra2"));
  CHECK(owner_mark("/run/umbra") >> 40U == 0x554D42);
  CHECK(owner_mark("") >> 40U == 0x554D42);
}

TEST_CASE("a saved state is read back, and what is none is refused", "[ublk]") {
  CHECK(parse_state(saved_state(0)) == 0U);
  CHECK(parse_state(saved_state(1'048'575)) == 1'048'575U);
  CHECK(saved_state(7) == "umbra-ublk 1 7");  // A successor of another build agrees.
  for (const char* text : {"", "7", "umbra-ublk 1 ", "umbra-ublk 1 7 ", "umbra-ublk 1 -1",
                           "umbra-ublk 1 4294967296", "umbra-fuse 1 f 0 488 /run"}) {
    INFO(text);
    const auto got = parse_state(text);
    REQUIRE_FALSE(got);
    CHECK(got.error().code == Errc::invalid_argument);
  }
  CHECK(parse_state("umbra-ublk 2 7").error().code == Errc::version_mismatch);
}
