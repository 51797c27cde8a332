// SPDX-License-Identifier: Apache-2.0
#include "engine/shm/layout.h"

#include <cstring>

#include "engine/shm/wire.h"
#include "tests/support/catch.h"
#include "tests/unit/shm/view_in_memory.h"

using namespace umbra;
using namespace umbra::shm;
using test::ViewInMemory;

namespace {

Layout small() {
  Layout layout;
  layout.snapshot.bytes[3] = 9;
  layout.volume_bytes = 5 * 16384 + 512;  // The last chunk is a part.
  layout.chunk_bytes = 16384;
  return layout;
}

}  // namespace

TEST_CASE("a view is parsed as it was written", "[shm]") {
  const ViewInMemory view(small());
  const auto parsed = parse_view(view.memory);
  REQUIRE(parsed);
  CHECK(parsed->snapshot == small().snapshot);
  CHECK(parsed->volume_bytes == small().volume_bytes);
  CHECK(parsed->chunk_count() == 6);
  CHECK(parsed->checksums_per_chunk() == 4);
  CHECK(parsed->checksums_offset() == 8192);
  CHECK(parsed->total_bytes() == 12288);
  CHECK_FALSE(view.writer->has_ended());
}

TEST_CASE("a view that does not agree with itself is refused, whatever field it is", "[shm]") {
  for (const std::size_t at : {0U, 8U, 12U, 20U, 24U, 28U, 32U, 40U, 48U, 56U, 64U, 72U}) {
    const ViewInMemory view(small());
    view.memory[at] = static_cast<std::byte>(~std::to_integer<unsigned>(view.memory[at]));
    view.memory[at + 2] ^= std::byte{0x10};
    INFO("field at " << at);
    CHECK_FALSE(parse_view(view.memory));
  }
  const ViewInMemory view(small());
  CHECK_FALSE(parse_view(view.memory.first(view.memory.size() - 4096)));
  CHECK_FALSE(parse_view(view.memory.first(100)));
  view.memory[8] = std::byte{2};
  CHECK(parse_view(view.memory).error().code == Errc::version_mismatch);
}

TEST_CASE("a home survives its word", "[shm]") {
  for (const Home home : {Home{}, Home{Home::Kind::zeroes, false, 0},
                          Home{Home::Kind::data, false, std::uint64_t{1} << 59U},
                          Home{Home::Kind::data, true, 4096}}) {
    CHECK(Home::of(home.word()) == home);
  }
  CHECK(Home{}.word() == 0);  // Memory that was never written says "origin".
}

TEST_CASE("what readers and umbra-cowd say to each other", "[shm]") {
  SnapshotId id;
  id.bytes[15] = 7;
  auto request = encode_request(id);
  CHECK(decode_request(request).value() == id);
  request[4] = std::byte{2};
  CHECK(decode_request(request).error().code == Errc::version_mismatch);
  request[0] = std::byte{0};
  CHECK(decode_request(request).error().code == Errc::protocol_violation);

  const auto head_of = [](const std::vector<std::byte>& answer) {
    return decode_answer_head(
        std::span<const std::byte, kAnswerHeadBytes>(answer.data(), kAnswerHeadBytes));
  };
  auto answer = encode_answer(Errc::snapshot_lost, std::string(2 * kAnswerTextBytesMax, 'x'));
  CHECK(head_of(answer)->code == Errc::snapshot_lost);
  CHECK(head_of(answer)->text_bytes == kAnswerTextBytesMax);
  CHECK(encode_answer(Errc::ok, "not looked at").size() == kAnswerHeadBytes);
  answer[14] = std::byte{1};
  CHECK(head_of(answer).error().code == Errc::protocol_violation);
}
