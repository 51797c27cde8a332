// SPDX-License-Identifier: Apache-2.0
//
// The byte streams under a connection, plain and with TLS, against the other end of a socket pair.
// Whose certificates are taken is tried with other people's clients: tests/e2e/nbd.py.
#include "provider/frontend/nbd/tls_posix.h"

#include <gnutls/gnutls.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <thread>
#include <vector>

#include "engine/platform/prng.h"
#include "engine/platform/unique_fd.h"
#include "tests/support/catch.h"
#include "tests/support/seed.h"
#include "tests/support/temp_dir.h"

using namespace umbra;
using namespace umbra::nbd;

namespace {

using Bytes = std::vector<std::byte>;
constexpr const char* kKey = "00112233445566778899aabbccddeeff";
constexpr int kSmallBufferBytes = 8 * 1024;

Bytes pattern(std::size_t size) {
  Bytes out(size);
  Prng prng(test::seed());
  for (auto& byte : out) byte = static_cast<std::byte>(prng.next());
  return out;
}

struct Pair {
  Pair() {
    std::array<int, 2> made{};
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, made.data()) == 0);
    ours.reset(made[0]);
    theirs.reset(made[1]);
    (void)::setsockopt(made[0], SOL_SOCKET, SO_SNDBUF, &kSmallBufferBytes, sizeof(int));
  }
  UniqueFd ours;
  UniqueFd theirs;
};

// A client of GnuTLS's own, with a shared key.
class Client {
 public:
  Client(int socket, const char* key) {
    REQUIRE(gnutls_init(&session_, GNUTLS_CLIENT) == 0);
    REQUIRE(gnutls_psk_allocate_client_credentials(&credentials_) == 0);
    std::string text = key;
    const gnutls_datum_t datum{reinterpret_cast<unsigned char*>(text.data()),
                               static_cast<unsigned>(text.size())};
    REQUIRE(gnutls_psk_set_client_credentials(credentials_, "alice", &datum, GNUTLS_PSK_KEY_HEX) ==
            0);
    REQUIRE(gnutls_credentials_set(session_, GNUTLS_CRD_PSK, credentials_) == 0);
    REQUIRE(gnutls_priority_set_direct(session_, "NORMAL:+ECDHE-PSK", nullptr) == 0);
    gnutls_transport_set_int(session_, socket);
  }
  ~Client() {
    gnutls_deinit(session_);
    gnutls_psk_free_client_credentials(credentials_);
  }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  int shake_hands() { return gnutls_handshake(session_); }
  bool send(const Bytes& bytes) {
    for (std::size_t at = 0; at < bytes.size();) {
      const auto sent = gnutls_record_send(session_, bytes.data() + at, bytes.size() - at);
      if (sent <= 0) return false;
      at += static_cast<std::size_t>(sent);
    }
    return true;
  }
  Bytes receive(std::size_t size) {
    Bytes out(size);
    for (std::size_t at = 0; at < size;) {
      const auto got = gnutls_record_recv(session_, out.data() + at, size - at);
      if (got <= 0) return {};
      at += static_cast<std::size_t>(got);
    }
    return out;
  }
  // 0: the server said goodbye; less: it went without a word.
  ssize_t end() {
    std::byte byte{};
    return gnutls_record_recv(session_, &byte, 1);
  }

 private:
  gnutls_session_t session_ = nullptr;
  gnutls_psk_client_credentials_t credentials_ = nullptr;
};

struct World {
  World() {
    std::ofstream(options.shared_keys) << "alice:" << kKey << "\n";
    std::filesystem::permissions(options.shared_keys, std::filesystem::perms::owner_read);
  }
  // Both sides of a handshake.
  std::unique_ptr<TlsStream> accept() {
    std::thread thread([&] { (void)client.shake_hands(); });
    auto made = TlsStream::accept(below, options);
    thread.join();
    REQUIRE(made);
    return std::move(*made);
  }

  test::TempDir dir;
  TlsOptions options{"", dir / "keys"};
  Pair pair;
  SocketStream below{pair.ours.get()};
  Client client{pair.theirs.get(), kKey};
};

// Sends all of it from vectors of many sizes, some of them empty.
bool send_all(Stream& stream, const Bytes& bytes, bool may_block, std::size_t* blocked = nullptr) {
  constexpr std::array<std::size_t, 6> kSizes{16, 0, 4096, 40'000, 1, 100'000};
  std::vector<iovec> vectors;
  for (std::size_t at = 0, i = 0; at < bytes.size(); ++i) {
    const auto size = std::min(kSizes.at(i % kSizes.size()), bytes.size() - at);
    vectors.push_back({const_cast<std::byte*>(bytes.data()) + at, size});
    at += size;
  }
  for (std::size_t first = 0; first < vectors.size();) {
    const auto outcome = stream.send(std::span(vectors).subspan(first), may_block);
    if (outcome.sent == Stream::Sent::failed) return false;
    if (outcome.sent == Stream::Sent::would_block) {
      if (blocked == nullptr) return false;
      ++*blocked;
      may_block = true;  // As the helper thread does.
      continue;
    }
    for (auto left = outcome.bytes; first < vectors.size();) {
      const auto taken = std::min(left, vectors[first].iov_len);
      vectors[first] = {static_cast<std::byte*>(vectors[first].iov_base) + taken,
                        vectors[first].iov_len - taken};
      left -= taken;
      if (vectors[first].iov_len > 0) break;
      ++first;
    }
    if (blocked != nullptr) may_block = false;
  }
  return true;
}

Bytes receive_all(Stream& stream, std::size_t size) {
  Bytes out(size);
  for (std::size_t at = 0; at < size;) {
    const std::array vectors{
        iovec{out.data() + at, std::min<std::size_t>(100, size - at)},
        iovec{out.data() + std::min(at + 100, size), size - std::min(at + 100, size)}};
    const auto got = stream.receive(vectors);
    if (got == 0) return {};
    at += got;
  }
  return out;
}

}  // namespace

TEST_CASE("the peer is known, and bytes arrive as they were sent, both ways", "[nbd]") {
  World world;
  auto stream = world.accept();
  CHECK(stream->peer() == "key of alice");
  const Bytes data = pattern(1U << 20U);
  Bytes theirs;
  bool sent = false;
  std::thread client([&] {
    sent = world.client.send(data);
    theirs = world.client.receive(data.size());
  });
  CHECK((receive_all(*stream, data.size()) == data));
  CHECK(send_all(*stream, data, true));
  client.join();
  CHECK(sent);
  CHECK((theirs == data));
}

TEST_CASE("a full socket blocks nobody who must not wait, and loses nothing", "[nbd]") {
  const bool encrypted = GENERATE(false, true);
  World world;
  std::unique_ptr<TlsStream> tls;
  if (encrypted) tls = world.accept();
  Stream& stream = encrypted ? static_cast<Stream&>(*tls) : world.below;
  const Bytes data = pattern(1U << 20U);
  CHECK_FALSE(send_all(stream, Bytes(data), false));  // Nobody reads: it comes back.
}

TEST_CASE("what the socket did not take goes on where it was", "[nbd]") {
  World world;
  auto stream = world.accept();
  const Bytes data = pattern(1U << 20U);
  Bytes theirs;
  std::thread client([&] { theirs = world.client.receive(data.size()); });
  std::size_t blocked = 0;
  CHECK(send_all(*stream, data, false, &blocked));
  client.join();
  CHECK(blocked > 0);
  CHECK((theirs == data));
}

TEST_CASE("a goodbye is told from a connection that breaks", "[nbd]") {
  World world;
  auto stream = world.accept();
  SECTION("goodbye") {
    stream->say_goodbye();
    CHECK(world.client.end() == 0);
  }
  SECTION("broken") {
    (void)::shutdown(world.pair.ours.get(), SHUT_RDWR);
    CHECK(world.client.end() < 0);
    std::byte byte{};
    const iovec vector{&byte, 1};
    CHECK(stream->receive(std::span(&vector, 1)) == 0);
    CHECK(stream->send(std::span(&vector, 1), true).sent == Stream::Sent::failed);
  }
}

TEST_CASE("another key than the shared one gets no connection", "[nbd]") {
  World world;
  Client client(world.pair.theirs.get(), "ffeeddccbbaa99887766554433221100");
  int shaken = 0;
  std::thread thread([&] { shaken = client.shake_hands(); });
  const auto refused = TlsStream::accept(world.below, world.options);
  (void)::shutdown(world.pair.ours.get(), SHUT_RDWR);
  thread.join();
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == Errc::access_denied);
}

TEST_CASE("a silent client comes to the deadline", "[nbd]") {
  World world;
  world.below.set_deadline(std::chrono::steady_clock::now() + std::chrono::milliseconds(50));
  SECTION("in the handshake") {
    const auto refused = TlsStream::accept(world.below, world.options);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().context == "the client left, or took too long");
  }
  SECTION("before it") { CHECK(receive_all(world.below, 1).empty()); }
  SECTION("not reading") { CHECK_FALSE(send_all(world.below, pattern(1U << 20U), true)); }
}

TEST_CASE("files that are missing, empty or open to all are named", "[nbd]") {
  World world;
  REQUIRE(check_tls(world.options));
  const auto why = [&] {
    const Status checked = check_tls(world.options);
    REQUIRE_FALSE(checked);
    return checked.error();
  };
  SECTION("nothing is given") {
    world.options = {};
    CHECK(why().code == Errc::invalid_argument);
  }
  SECTION("no keys there") {
    world.options.shared_keys = world.dir / "nowhere";
    CHECK(why().context.find("nowhere: No such file") != std::string::npos);
  }
  SECTION("everybody may read them") {
    std::filesystem::permissions(world.options.shared_keys, std::filesystem::perms::others_read,
                                 std::filesystem::perm_options::add);
    CHECK(why().code == Errc::access_denied);
    CHECK(why().context.find("chmod") != std::string::npos);
  }
  SECTION("no certificates there") {
    world.options.certificates = world.dir / ".";
    CHECK(why().context.find("ca-cert.pem") != std::string::npos);
  }
  SECTION("no certificate in the file") {
    for (const char* name : {"ca-cert.pem", "server-cert.pem", "server-key.pem"}) {
      std::ofstream(world.dir / name) << "nothing";
      std::filesystem::permissions(world.dir / name, std::filesystem::perms::owner_read);
    }
    world.options.certificates = world.dir / ".";
    CHECK(why().context.find("ca-cert.pem") != std::string::npos);
  }
}
