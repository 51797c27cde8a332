// SPDX-License-Identifier: Apache-2.0
#include "engine/platform/descriptor_passing.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "tests/support/catch.h"

using namespace umbra;

namespace {

struct Pair {
  explicit Pair(int type) {
    std::array<int, 2> ends{-1, -1};
    REQUIRE(::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends.data()) == 0);
    a = UniqueFd(ends[0]);
    b = UniqueFd(ends[1]);
  }
  UniqueFd a;
  UniqueFd b;
};

constexpr std::array<std::byte, 3> kBytes{std::byte{1}, std::byte{2}, std::byte{3}};

}  // namespace

TEST_CASE("descriptors arrive beside bytes, closed on exec", "[platform]") {
  const Pair pair(SOCK_SEQPACKET);
  std::array<int, 2> pipe{-1, -1};
  REQUIRE(::pipe(pipe.data()) == 0);
  const UniqueFd read_end(pipe[0]);
  UniqueFd write_end(pipe[1]);
  REQUIRE(send_with_descriptors(pair.a.get(), kBytes, std::array{write_end.get()}) == 3);
  write_end.reset();

  std::array<std::byte, 8> out{};
  std::vector<UniqueFd> fds;
  const Passed passed = receive_with_descriptors(pair.b.get(), out, fds);
  REQUIRE(passed.count == 3);
  CHECK_FALSE(passed.truncated);
  CHECK(std::equal(kBytes.begin(), kBytes.end(), out.begin()));
  REQUIRE(fds.size() == 1);
  CHECK((::fcntl(fds[0].get(), F_GETFD) & FD_CLOEXEC) != 0);
  REQUIRE(::write(fds[0].get(), "x", 1) == 1);
  char byte = 0;
  CHECK(::read(read_end.get(), &byte, 1) == 1);
  CHECK(byte == 'x');
}

TEST_CASE("as many descriptors as the kernel takes arrive, and one more is refused", "[platform]") {
  const Pair pair(SOCK_STREAM);
  const std::vector<int> many(kDescriptorsPassedMax, pair.a.get());
  REQUIRE(send_with_descriptors(pair.a.get(), kBytes, many) == 3);
  std::array<std::byte, 8> out{};
  std::vector<UniqueFd> fds;
  CHECK(receive_with_descriptors(pair.b.get(), out, fds).count == 3);
  CHECK(fds.size() == kDescriptorsPassedMax);
  const std::vector<int> more(kDescriptorsPassedMax + 1, pair.a.get());
  CHECK(send_with_descriptors(pair.a.get(), kBytes, more) == -1);
  CHECK(errno == EINVAL);
}

TEST_CASE("nothing there, an end and a datagram that is too long are told apart", "[platform]") {
  Pair pair(SOCK_SEQPACKET);
  std::array<std::byte, 2> out{};
  std::vector<UniqueFd> fds;
  Passed passed = receive_with_descriptors(pair.b.get(), out, fds);
  CHECK(passed.count == -1);
  CHECK(passed.error == EAGAIN);
  REQUIRE(send_with_descriptors(pair.a.get(), kBytes, {}) == 3);
  CHECK(receive_with_descriptors(pair.b.get(), out, fds).truncated);
  pair.a.reset();
  passed = receive_with_descriptors(pair.b.get(), out, fds);
  CHECK(passed.count == 0);
  CHECK(passed.error == 0);
  CHECK(fds.empty());
  CHECK(send_with_descriptors(pair.b.get(), kBytes, {}) == -1);
  CHECK(errno == EPIPE);
}
