// SPDX-License-Identifier: Apache-2.0
#include "engine/documents/ranges.h"

#include <map>

#include "engine/platform/prng.h"
#include "tests/support/catch.h"
#include "tests/support/seed.h"

namespace {

using namespace umbra;
using namespace umbra::documents;
using Ranges = std::vector<ByteRange>;

TEST_CASE("Microsoft's example of ranges is read, in both forms", "[vss:rule.ranges]") {
  const Ranges wanted{{64, 448}, {0x1239E8577A, 65536}};
  CHECK(*parse_ranges("64:448,0x1239E8577A:65536") == wanted);
  CHECK(ranges_file("64:448").empty());
  CHECK(ranges_file("File=/srv/r.bin") == "/srv/r.bin");
  CHECK(ranges_file("/srv/r.bin") == "/srv/r.bin");
  const std::string bytes = encode_ranges(wanted);
  CHECK(bytes.substr(0, 16) == std::string("\2\0\0\0\0\0\0\0\x40\0\0\0\0\0\0\0", 16));
  CHECK(*decode_ranges(bytes) == wanted);
}

TEST_CASE("a file of ranges that is not whole is refused", "[vss:rule.ranges]") {
  const std::string good = encode_ranges({{0, 1}, {5, 2}});
  for (std::size_t length = 0; length < good.size(); ++length)
    CHECK(decode_ranges(good.substr(0, length)).error().code == Errc::invalid_argument);
  CHECK_FALSE(decode_ranges(good + "x"));
  CHECK_FALSE(decode_ranges(encode_ranges({{0, 0}})));
  CHECK_FALSE(decode_ranges(encode_ranges({{std::uint64_t{1} << 63U, 1}})));
  CHECK_FALSE(decode_ranges(encode_ranges({{1, std::uint64_t{1} << 63U}})));
  CHECK_FALSE(decode_ranges(std::string(8, '\xFF')));
  CHECK(decode_ranges(encode_ranges({}))->empty());
}

TEST_CASE("bytes that several ranges name are copied once, none behind the end",
          "[vss:rule.ranges]") {
  CHECK(normalized({{10, 5}, {0, 3}, {12, 10}, {3, 1}}, 100) == Ranges{{0, 4}, {10, 12}});
  CHECK(normalized({{0, 100}, {10, 5}}, 50) == Ranges{{0, 50}});
  CHECK(normalized({{50, 1}, {60, 1}}, 50).empty());
  Prng prng(umbra::test::seed());
  for (int round = 0; round < 500; ++round) {
    const std::uint64_t bytes = prng.below(64);
    std::vector<bool> named(64);
    Ranges ranges;
    for (std::uint64_t i = prng.below(8); i > 0; --i) {
      ranges.push_back({prng.below(60), 1 + prng.below(20)});
      for (std::uint64_t at = 0; at < ranges.back().length; ++at)
        if (ranges.back().offset + at < bytes) named[ranges.back().offset + at] = true;
    }
    std::vector<bool> copied(64);
    for (const ByteRange& range : normalized(ranges, bytes)) {
      CHECK(range.length > 0);
      for (std::uint64_t at = 0; at < range.length; ++at) {
        CHECK_FALSE(copied[range.offset + at]);
        copied[range.offset + at] = true;
      }
    }
    CHECK(copied == named);
  }
}

}  // namespace
