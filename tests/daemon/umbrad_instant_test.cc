// SPDX-License-Identifier: Apache-2.0
//
// A set over two providers shows one instant: somebody writes n to a volume of the one, waits, and
// writes n to a volume of the other, and so on, while sets are made. In each set A >= B >= A - 1.

#include <atomic>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <thread>

#include "engine/platform/log.h"
#include "engine/rpc/provider_server.h"
#include "tests/support/catch.h"
#include "tests/support/memory_provider.h"
#include "tests/support/wire_client.h"

namespace {

using namespace umbra;
using namespace umbra::test;

constexpr std::size_t kDigits = 20;

struct Served {
  Served(const Umbrad& umbrad, const std::string& name)
      : provider(system_clock(), name), volume_name("volume of " + name) {
    volume = provider.add_volume(volume_name);
    rpc::ProviderServerOptions options;
    options.socket_path = umbrad.socket();
    options.program = name;
    server.emplace(provider, std::map<std::string, rpc::ProviderMethod>{}, options, null_log());
    REQUIRE(server->wait_until_registered(kSoon));
  }
  [[nodiscard]] std::uint64_t number_in(const SnapshotId& snapshot) const {
    const auto text = provider.read_snapshot(snapshot, 0, kDigits);
    REQUIRE(text);
    return std::stoull(*text);
  }

  MemoryProvider provider;
  std::string volume_name;
  VolumeId volume;
  std::optional<rpc::ProviderServer> server;
};

/// Writes until it goes.
class PingPong {
 public:
  PingPong(Served& a, Served& b) : a_(a), b_(b), thread_([this] { run(); }) { pass(1); }
  ~PingPong() {
    ending_ = true;
    thread_.join();
  }
  PingPong(const PingPong&) = delete;
  PingPong& operator=(const PingPong&) = delete;

  /// Returns when so many more rounds are over.
  void pass(std::uint64_t rounds) {
    const auto until = rounds_.load() + rounds;
    for (auto now = rounds_.load(); now < until; now = rounds_.load()) rounds_.wait(now);
  }

 private:
  void run() {
    for (std::uint64_t n = 1; !ending_; ++n) {
      std::string text = std::to_string(n);
      text.insert(0, kDigits - text.size(), '0');
      if (!a_.provider.write(a_.volume, 0, text) || !b_.provider.write(b_.volume, 0, text)) {
        std::terminate();  // Both have the volume.
      }
      rounds_ = n;
      rounds_.notify_all();
    }
  }

  Served& a_;
  Served& b_;
  std::atomic<bool> ending_ = false;
  std::atomic<std::uint64_t> rounds_ = 0;
  std::thread thread_;
};

/// A set of these volumes: the number in the copy of each.
template <class... Of>
std::map<const Served*, std::uint64_t> numbers_of_set(const Umbrad& umbrad, const Of&... of) {
  Requester requester(umbrad);
  requester.begin(context::kFileShareBackup);
  requester.start_set();
  std::map<const Served*, SnapshotId> copies;
  for (const Served* one : {&of...}) {
    const auto added = requester.add(one->volume_name);
    REQUIRE(added);
    copies[one] = added->snapshot_id;
  }
  const auto outcome = requester.create();
  INFO(outcome.context);
  REQUIRE(outcome.status == Errc::async_finished);
  std::map<const Served*, std::uint64_t> numbers;
  for (const auto& [one, copy] : copies) numbers[one] = one->number_in(copy);
  return numbers;
}

TEST_CASE("the copies of a set over two providers show one instant", "[e2e][umbrad]") {
  const Umbrad umbrad;
  Served a(umbrad, "first");
  Served b(umbrad, "second");
  PingPong load(a, b);
  std::uint64_t last = 0;
  for (int set = 0; set < 30; ++set) {
    load.pass(3);
    auto numbers = numbers_of_set(umbrad, a, b);
    INFO("A " << numbers[&a] << ", B " << numbers[&b]);
    CHECK(numbers[&a] >= numbers[&b]);
    CHECK(numbers[&b] + 1 >= numbers[&a]);
    CHECK(numbers[&b] > last);  // The load goes on between sets, and they show it.
    last = numbers[&a];
  }
  // The check of the check: copies that were not made together show two instants.
  const auto before = numbers_of_set(umbrad, a).at(&a);
  load.pass(3);
  CHECK(numbers_of_set(umbrad, b).at(&b) > before);
}

}  // namespace
