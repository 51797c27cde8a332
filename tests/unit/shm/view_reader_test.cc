// SPDX-License-Identifier: Apache-2.0
#include "engine/shm/view_reader.h"

#include "tests/support/catch.h"
#include "tests/support/seed.h"
#include "tests/unit/shm/view_in_memory.h"

using namespace umbra;
using namespace umbra::test;

namespace {

constexpr std::uint64_t kChunk = 16384;

shm::Layout layout(std::uint64_t volume_bytes, std::uint32_t origin_alignment = 1,
                   std::uint32_t diff_alignment = 1) {
  shm::Layout made;
  made.volume_bytes = volume_bytes;
  made.chunk_bytes = kChunk;
  made.origin_alignment_bytes = origin_alignment;
  made.diff_alignment_bytes = diff_alignment;
  return made;
}

void check_read(ViewInMemory& view, std::uint64_t at, std::size_t size) {
  Bytes out(size);
  const Status read = view.read(at, out);
  INFO("bytes " << at << " to " << at + size);
  INFO((read ? std::string() : read.error().to_string()));
  REQUIRE(read);
  CHECK((out == view.wanted(at, size)));
}

}  // namespace

TEST_CASE("any range reads as the snapshot was, whatever lies where", "[shm]") {
  Prng random(seed());
  for (const std::uint32_t alignment : {1U, 512U, 4096U}) {
    ViewInMemory view(layout(20 * kChunk + 3 * 512, alignment, alignment), random.next());
    for (int round = 0; round < 60; ++round) {
      const std::uint64_t chunk = random.below(21);
      const auto home = shm::Home::of(view.writer->view().home(chunk).load());
      if (home.kind == shm::Home::Kind::origin) {
        if (random.below(4) == 0) {
          view.zero(chunk);
        } else {
          view.overwrite(chunk, std::byte{0xEE}, random.below(3) != 0);
        }
      }
      const std::uint64_t at = random.below(view.shown.size());
      check_read(view, at, random.below(view.shown.size() - at + 1));
    }
    check_read(view, 0, view.shown.size());
  }
}

TEST_CASE("a chunk that is overwritten while it is read from the origin is read again", "[shm]") {
  ViewInMemory view(layout(4 * kChunk));
  SECTION("just before") {
    view.before_read = [&] { view.overwrite(1, std::byte{0xEE}); };
  }
  SECTION("in the first of several chunks") {
    view.before_read = [&] { view.overwrite(0, std::byte{0xEE}); };
  }
  SECTION("several") {
    view.before_read = [&] {
      view.overwrite(2, std::byte{0xEE});
      view.overwrite(3, std::byte{0xEE});
    };
  }
  SECTION("just after: what was read is right, and is read again all the same") {
    view.after_read = [&] { view.overwrite(1, std::byte{0xEE}); };
  }
  check_read(view, 0, 4 * kChunk);
}

TEST_CASE("neighbours in the diff area are one read", "[shm]") {
  ViewInMemory view(layout(8 * kChunk));
  for (const std::uint64_t chunk : {2U, 3U, 4U}) view.overwrite(chunk, std::byte{0xEE});
  check_read(view, 0, 8 * kChunk);
  CHECK(view.reads == 3);
}

TEST_CASE("what has ended is not believed", "[shm]") {
  ViewInMemory view(layout(4 * kChunk));
  view.overwrite(1, std::byte{0xEE});
  view.zero(2);
  Bytes out(kChunk);
  const auto refused = [&](std::uint64_t chunk) {
    return view.read(chunk * kChunk, out).error().code == Errc::snapshot_lost;
  };
  SECTION("the view") { view.writer->end(); }
  SECTION("its writer") { view.alive = false; }
  for (const std::uint64_t chunk : {0U, 1U, 2U}) CHECK(refused(chunk));
}

TEST_CASE("an end during a read counts, before what it has read is judged", "[shm]") {
  for (const std::uint64_t chunk : {0U, 1U}) {
    ViewInMemory view(layout(4 * kChunk));
    view.overwrite(1, std::byte{0xEE});
    view.before_read = [&] {
      view.writer->end();
      std::memset(view.diff_area.data(), 0xDD, view.diff_area.size());  // Used for something else.
    };
    Bytes out(kChunk);
    const Status read = view.read(chunk * kChunk, out);
    REQUIRE_FALSE(read);
    CHECK(read.error().code == Errc::snapshot_lost);
  }
}

TEST_CASE("a flipped bit of preserved data is found, in whatever part of a granule", "[shm]") {
  Prng random(seed());
  for (int round = 0; round < 50; ++round) {
    ViewInMemory view(layout(4 * kChunk));
    view.overwrite(1, std::byte{0xEE});
    const std::uint64_t at = random.below(kChunk);
    view.diff_area[at] ^= std::byte{1};
    Bytes out(1);
    const Status read = view.read(kChunk + at / 4096 * 4096 + random.below(4096), out);
    REQUIRE_FALSE(read);
    CHECK(read.error().code == Errc::diff_area_corrupt);
    check_read(view, 0, kChunk);
  }
}

TEST_CASE("reading beyond the end, and storage that fails", "[shm]") {
  ViewInMemory view(layout(4 * kChunk));
  Bytes out(2);
  CHECK(view.read(4 * kChunk - 1, out).error().code == Errc::invalid_argument);
  CHECK(view.read(~std::uint64_t{0}, out).error().code == Errc::invalid_argument);
  CHECK(view.read(4 * kChunk, {}));
  view.origin.resize(kChunk);
  CHECK(view.read(2 * kChunk, out).error().code == Errc::io_error);
  // A home of nowhere, as broken memory might say.
  view.writer->view().home(0).store(shm::Home{shm::Home::Kind::data, true, 1U << 30U}.word());
  CHECK(view.read(0, out).error().code == Errc::io_error);
}
