// SPDX-License-Identifier: Apache-2.0
#include "provider/frontend/nbd_device/plan.h"

#include "tests/support/catch.h"

using namespace umbra;
using namespace umbra::nbd_device;

namespace {

block::Geometry geometry_of(std::uint64_t size, std::uint32_t block = 512) {
  block::Geometry geometry;
  geometry.size_bytes = size;
  geometry.block_bytes = block;
  return geometry;
}

// The kernel's numbers (<linux/nbd.h>), written out.
constexpr unsigned kReadOnly = 1U << 1U;
constexpr unsigned kFlush = 1U << 2U;
constexpr unsigned kFua = 1U << 3U;
constexpr unsigned kTrim = 1U << 5U;
constexpr unsigned kZeroes = 1U << 6U;

}  // namespace

TEST_CASE("the kernel is told size, blocks and what can be asked for", "[nbd_device]") {
  auto geometry = geometry_of((1 << 20) + 512, 4096);
  geometry.can_discard = true;
  const auto got = parameters_for(geometry).value();
  CHECK(got.size_bytes == 1 << 20);  // Whole blocks.
  CHECK(got.block_bytes == 4096);
  for (const unsigned flag : {kFlush, kFua, kTrim, kZeroes}) {
    CHECK((got.server_flags & flag) != 0);
  }
  CHECK((got.server_flags & kReadOnly) == 0);
  geometry.can_discard = false;
  CHECK((parameters_for(geometry)->server_flags & kTrim) == 0);
  geometry.read_only = true;
  CHECK((parameters_for(geometry)->server_flags & kReadOnly) != 0);
}

TEST_CASE("what no such device can be", "[nbd_device]") {
  for (const std::uint32_t block : {0U, 256U, 768U, 8192U}) {
    INFO(block);
    CHECK(parameters_for(geometry_of(1 << 20, block)).error().code == Errc::invalid_argument);
  }
  CHECK_FALSE(parameters_for(geometry_of(511)));
  auto slow = geometry_of(1 << 20);
  slow.request_bytes_max = 1 << 20;  // The kernel may ask for more, and would get an error.
  CHECK_FALSE(parameters_for(slow));
}

TEST_CASE("both ends hold for agreed what the kernel speaks", "[nbd_device]") {
  const auto parameters = parameters_for(geometry_of(1 << 20)).value();
  const nbd::Agreement agreement = agreement_for(parameters, "data");
  CHECK(agreement.size_bytes == parameters.size_bytes);
  CHECK(agreement.block_bytes == parameters.block_bytes);
  CHECK(agreement.transmission_flags == parameters.server_flags);
  CHECK(agreement.payload_bytes_max == 32U << 20U);
  CHECK_FALSE(agreement.structured_replies);
  CHECK_FALSE(agreement.extended_headers);
}
