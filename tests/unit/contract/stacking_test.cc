// SPDX-License-Identifier: Apache-2.0
//
// What lies on what: layers against a naive twin on random graphs, circles and their names.

#include "provider/contract/stacking.h"

#include <algorithm>
#include <numeric>

#include "engine/platform/prng.h"
#include "tests/support/catch.h"
#include "tests/support/seed.h"

namespace {

using namespace umbra;
using namespace umbra::contract;

// Volume i is served by device 100 + i.
using Edges = std::vector<std::vector<std::size_t>>;  // Of each, on which it lies.

std::vector<StackedVolume> volumes_of(const Edges& lies_on) {
  std::vector<StackedVolume> volumes;
  for (std::size_t i = 0; i < lies_on.size(); ++i) {
    StackedVolume volume{std::string(1, static_cast<char>('a' + i)), 100 + i, {8, 0}};
    for (const std::size_t host : lies_on[i]) volume.host_devices.push_back(100 + host);
    volumes.push_back(std::move(volume));
  }
  return volumes;
}

Positions everything(std::size_t count) {
  Positions all(count);
  std::iota(all.begin(), all.end(), 0);
  return all;
}

// What can be reached from where, in one step or more.
std::vector<std::vector<bool>> reachable(const Edges& lies_on) {
  const std::size_t count = lies_on.size();
  std::vector<std::vector<bool>> reach(count, std::vector<bool>(count));
  for (std::size_t i = 0; i < count; ++i) {
    for (const std::size_t host : lies_on[i]) reach[i][host] = true;
  }
  for (std::size_t k = 0; k < count; ++k) {
    for (std::size_t i = 0; i < count; ++i) {
      for (std::size_t j = 0; j < count; ++j) {
        if (reach[i][k] && reach[k][j]) reach[i][j] = true;
      }
    }
  }
  return reach;
}

std::size_t layer_of(const std::vector<Positions>& layers, std::size_t position) {
  std::size_t found = layers.size();
  for (std::size_t i = 0; i < layers.size(); ++i) {
    for (const std::size_t each : layers[i]) {
      if (each != position) continue;
      REQUIRE(found == layers.size());  // Once.
      found = i;
    }
  }
  REQUIRE(found < layers.size());
  return found;
}

TEST_CASE("volumes that do not lie on each other are one layer, in the order asked for",
          "[contract]") {
  const auto volumes = volumes_of({{}, {}, {}});
  CHECK(*in_layers(volumes, {2, 0, 1}) == std::vector<Positions>{{2, 0, 1}});
  CHECK(*in_layers(volumes, {}) == std::vector<Positions>{});
  CHECK(with_dependants(volumes, {1}) == Positions{1});
}

TEST_CASE("dependants come before their hosts", "[contract]") {
  // c on b on a; d on a.
  const auto volumes = volumes_of({{}, {0}, {1}, {0}, {}});
  CHECK(*in_layers(volumes, {0, 1, 2, 3, 4}) == std::vector<Positions>{{2}, {1, 3}, {0, 4}});
  CHECK(*in_layers(volumes, {0, 3}) == std::vector<Positions>{{3}, {0}});
  CHECK(with_dependants(volumes, {0}) == Positions{0, 1, 2, 3});
  CHECK(with_dependants(volumes, {1}) == Positions{1, 2});
  CHECK(with_dependants(volumes, {2}) == Positions{2});
}

TEST_CASE("nobody lies on a volume that has no device", "[contract]") {
  auto volumes = volumes_of({{}, {}});
  volumes[0].device = volumes[1].device = 0;  // And both lie on a device with the number 0.
  CHECK(*in_layers(volumes, {0, 1}) == std::vector<Positions>{{0, 1}});
}

TEST_CASE("a circle is refused by name", "[contract]") {
  const auto context = [](const Edges& edges) {
    const auto layers = in_layers(volumes_of(edges), everything(edges.size()));
    REQUIRE_FALSE(layers);
    CHECK(layers.error().code == Errc::nested_volume_limit);
    return layers.error().context;
  };
  CHECK(context({{0}}) == "'a' lies on 'a'");
  CHECK(context({{1}, {0}}) == "'a' lies on 'b' lies on 'a'");
  CHECK(context({{1}, {2}, {0}}) == "'a' lies on 'b' lies on 'c' lies on 'a'");
  // e lies on the circle, and f, in the middle of nothing, on e; the circle stands on d.
  CHECK(context({{1, 3}, {2}, {0}, {}, {0}, {4}}) == "'a' lies on 'b' lies on 'c' lies on 'a'");
}

TEST_CASE("a circle below does not concern who is not on it", "[contract]") {
  const auto volumes = volumes_of({{1}, {0}, {0}});
  CHECK(*in_layers(volumes, with_dependants(volumes, {2})) == std::vector<Positions>{{2}});
}

TEST_CASE("layers of random graphs agree with a naive twin", "[contract]") {
  Prng random(test::seed());
  int circles = 0;
  int deep = 0;
  for (int round = 0; round < 2000; ++round) {
    const std::size_t count = 1 + random.below(8);
    Edges lies_on(count);
    const std::uint64_t density = 1 + random.below(2 * count);
    for (std::size_t i = 0; i < count; ++i) {
      for (std::size_t j = 0; j < count; ++j) {
        if (random.chance(1, 1 + density)) lies_on[i].push_back(j);
      }
    }
    const auto volumes = volumes_of(lies_on);
    const auto reach = reachable(lies_on);
    Positions wanted;
    for (std::size_t i = 0; i < count; ++i) {
      if (random.chance(1, 2)) wanted.push_back(i);
    }
    const Positions chosen = with_dependants(volumes, wanted);
    for (std::size_t i = 0; i < count; ++i) {
      const bool expected = std::any_of(wanted.begin(), wanted.end(),
                                        [&](std::size_t j) { return i == j || reach[i][j]; });
      REQUIRE((std::count(chosen.begin(), chosen.end(), i) == 1) == expected);
    }
    const bool circle = std::any_of(chosen.begin(), chosen.end(),
                                    [&](std::size_t i) -> bool { return reach[i][i]; });
    const auto layers = in_layers(volumes, chosen);
    REQUIRE(layers.has_value() == !circle);
    if (!layers) {
      ++circles;
      // The story is true, and ends where it began.
      constexpr std::size_t kStep = 12;  // 'a' lies on 'b'
      const std::string& text = layers.error().context;
      for (std::size_t at = 1; at + kStep < text.size(); at += kStep) {
        const auto upper = static_cast<std::size_t>(text[at] - 'a');
        const auto lower = static_cast<std::size_t>(text[at + kStep] - 'a');
        const auto& hosts = lies_on.at(upper);
        REQUIRE(std::count(hosts.begin(), hosts.end(), lower) == 1);
      }
      REQUIRE(text[1] == text[text.size() - 2]);
      continue;
    }
    for (const std::size_t i : chosen) {
      for (const std::size_t j : chosen) {
        if (reach[i][j]) REQUIRE(layer_of(*layers, i) < layer_of(*layers, j));
      }
      const std::size_t layer = layer_of(*layers, i);
      if (layer + 1 == layers->size()) continue;
      ++deep;
      // As late as possible: it lies on somebody in the next layer.
      const auto& next = (*layers)[layer + 1];
      REQUIRE(std::any_of(next.begin(), next.end(),
                          [&](std::size_t j) -> bool { return reach[i][j]; }));
    }
    std::size_t total = 0;
    for (const auto& layer : *layers) total += layer.size();
    REQUIRE(total == chosen.size());
  }
  CHECK(circles > 100);
  CHECK(deep > 100);
}

}  // namespace
