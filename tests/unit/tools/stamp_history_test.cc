// SPDX-License-Identifier: Apache-2.0
//
// The judge must be able to say "wrong": each way a snapshot can be wrong is made once.

#include <algorithm>
#include <vector>

#include "tests/support/catch.h"
#include "tests/tools/stamp/history.h"

using namespace umbra::stamp;

namespace {

constexpr std::uint64_t kSectors = 64;
constexpr std::uint64_t kSeed = 7;

struct Image {
  std::vector<std::byte> bytes = std::vector<std::byte>(kSectors * kSectorBytes);

  void write(std::uint64_t first, std::uint64_t count, std::uint64_t sequence) {
    fill(std::span(bytes).subspan(first * kSectorBytes, count * kSectorBytes), first, sequence,
         kSeed);
  }
  History::Read reader() {
    return [this](std::uint64_t first, std::span<std::byte> buffer) {
      std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(first * kSectorBytes), buffer.size(),
                  buffer.begin());
      return true;
    };
  }
};

// Write 1 acknowledged before the hold, 2 in flight over it, 3 issued after it.
void make_one_of_each(History& history) {
  CHECK(history.issue(History::Kind::write, 0, 8, 10) == 1U);
  history.acknowledged(1, 20);
  CHECK(history.issue(History::Kind::write, 4, 8, 30) == 2U);
  history.acknowledged(2, 130);
  CHECK(history.issue(History::Kind::write, 0, 2, 140) == 3U);
  history.acknowledged(3, 150);
}

constexpr std::int64_t kBegin = 100;
constexpr std::int64_t kEnd = 120;

}  // namespace

TEST_CASE("an image with or without the write that was in flight is right", "[tools]") {
  History history(kSectors, kSeed);
  make_one_of_each(history);
  Image image;
  image.write(0, 8, 1);
  CHECK(history.verify(image.reader(), kBegin, kEnd).wrong == 0);
  image.write(4, 8, 2);
  CHECK(history.verify(image.reader(), kBegin, kEnd).wrong == 0);
}

TEST_CASE("a missing acknowledged write is seen", "[tools]") {
  History history(kSectors, kSeed);
  make_one_of_each(history);
  Image image;
  image.write(1, 7, 1);  // Sector 0 is still zero.
  const auto verdict = history.verify(image.reader(), kBegin, kEnd);
  CHECK(verdict.wrong == 1);
  CHECK(verdict.first_wrong == "sector 0 holds zeroes, expected [1, 1]");
}

TEST_CASE("a write that was issued after the release is seen", "[tools]") {
  History history(kSectors, kSeed);
  make_one_of_each(history);
  Image image;
  image.write(0, 8, 1);
  image.write(0, 2, 3);
  CHECK(history.verify(image.reader(), kBegin, kEnd).wrong == 2);
}

TEST_CASE("a torn, misplaced or foreign sector is seen", "[tools]") {
  History history(kSectors, kSeed);
  make_one_of_each(history);
  Image image;
  image.write(0, 8, 1);
  SECTION("torn") { image.bytes[100] ^= std::byte{1}; }
  SECTION("misplaced") {
    std::copy_n(image.bytes.begin(), kSectorBytes,
                image.bytes.begin() + static_cast<std::ptrdiff_t>(3 * kSectorBytes));
  }
  SECTION("of another run") { fill(std::span(image.bytes).first(kSectorBytes), 0, 1, kSeed + 1); }
  CHECK(history.verify(image.reader(), kBegin, kEnd).wrong == 1);
}

TEST_CASE("zeroes are right only where a zeroing may have been the last", "[tools]") {
  History history(kSectors, kSeed);
  CHECK(history.issue(History::Kind::write, 0, 1, 10) == 1U);
  history.acknowledged(1, 20);
  CHECK(history.issue(History::Kind::zero, 0, 1, 110) == 2U);
  Image image;
  CHECK(history.verify(image.reader(), kBegin, kEnd).wrong == 0);
  CHECK(history.verify(image.reader(), kBegin, 105).wrong == 1);
}

TEST_CASE("overlapping requests are never in flight together", "[tools]") {
  History history(kSectors, kSeed);
  CHECK(history.issue(History::Kind::write, 0, 8, 1));
  CHECK_FALSE(history.issue(History::Kind::write, 7, 2, 2));
  CHECK(history.issue(History::Kind::write, 8, 2, 3));
  history.acknowledged(1, 4);
  CHECK(history.issue(History::Kind::write, 7, 1, 5));
}
