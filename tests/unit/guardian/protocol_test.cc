// SPDX-License-Identifier: Apache-2.0
#include "provider/guardian/protocol.h"

#include "engine/platform/prng.h"
#include "tests/support/catch.h"
#include "tests/support/seed.h"

namespace umbra::guardian {
namespace {

Message full_message() {
  return {.kind = Kind::freeze,
          .id = 77,
          .code = Errc::freeze_failed,
          .flag = true,
          .set = SnapshotSetId::random(),
          .limit_ms = 30'000,
          .lease_ms = 10'000,
          .devices = {0x701, ~0ULL},
          .texts = {"", "/mnt/a b", std::string(60'000, 'x')}};
}

TEST_CASE("a guardian message survives encoding", "[guardian]") {
  for (const auto& message : {full_message(), Message{}}) {
    const auto datagram = encode(message);
    REQUIRE(datagram);
    const auto decoded = decode(*datagram);
    REQUIRE(decoded);
    CHECK(*decoded == message);
  }
}

TEST_CASE("the layout of a guardian message is the documented one", "[guardian]") {
  const auto datagram = encode({.kind = Kind::thaw, .id = 0x01020304, .texts = {"ab"}});
  REQUIRE(datagram);
  const auto at = [&](std::size_t offset) { return std::to_integer<int>(datagram->at(offset)); };
  CHECK(datagram->size() == 52 + 4 + 2);
  CHECK(std::string{static_cast<char>(at(0)), static_cast<char>(at(1)), static_cast<char>(at(2)),
                    static_cast<char>(at(3))} == "UGRD");
  CHECK(at(4) == kVersion);
  CHECK(at(6) == 33);
  CHECK((at(8) == 4 && at(11) == 1));
  CHECK(at(48) == 1);
  CHECK((at(52) == 2 && at(56) == 'a' && at(57) == 'b'));
}

TEST_CASE("another version of the guardian's protocol is told apart from garbage", "[guardian]") {
  auto datagram = encode(full_message());
  REQUIRE(datagram);
  datagram->at(4) = std::byte{kVersion + 1};
  CHECK(decode(*datagram).error().code == Errc::version_mismatch);
  datagram->at(0) = std::byte{0};
  CHECK(decode(*datagram).error().code == Errc::protocol_violation);
}

TEST_CASE("a guardian message that is cut or has a tail is refused", "[guardian]") {
  auto datagram = encode({.kind = Kind::keep, .devices = {1}, .texts = {"name", "payload"}});
  REQUIRE(datagram);
  for (std::size_t size = 0; size < datagram->size(); ++size) {
    CHECK_FALSE(decode(std::span(*datagram).first(size)));
  }
  datagram->push_back(std::byte{0});
  CHECK_FALSE(decode(*datagram));
}

TEST_CASE("a guardian message that is too long is not encoded", "[guardian]") {
  CHECK(encode({.texts = {std::string(kDatagramBytesMax, 'x')}}).error().code ==
        Errc::limit_reached);
  CHECK_FALSE(encode({.devices = std::vector<std::uint64_t>(kDevicesMax + 1)}));
  CHECK_FALSE(encode({.texts = std::vector<std::string>(kTextsMax + 1)}));
}

TEST_CASE("no bytes make the guardian's decoder fail otherwise than by an error", "[guardian]") {
  Prng prng(test::seed());
  const auto good = encode(full_message());
  REQUIRE(good);
  for (int i = 0; i < 20'000; ++i) {
    auto bytes = std::vector(good->begin(), good->begin() + 200);
    for (auto changes = 1 + prng.below(4); changes > 0; --changes) {
      bytes[prng.below(bytes.size())] = static_cast<std::byte>(prng.next());
    }
    bytes.resize(prng.below(bytes.size() + 1));
    if (const auto decoded = decode(bytes)) CHECK(encode(*decoded));
  }
}

}  // namespace
}  // namespace umbra::guardian
