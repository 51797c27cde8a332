// SPDX-License-Identifier: Apache-2.0

#include "provider/contract/stacking.h"

#include <algorithm>

namespace umbra::contract {

namespace {

bool contains(const Positions& positions, std::size_t position) {
  return std::find(positions.begin(), positions.end(), position) != positions.end();
}

bool lies_on(const StackedVolume& upper, const StackedVolume& lower) {
  const auto& hosts = upper.host_devices;
  return lower.device != 0 && std::find(hosts.begin(), hosts.end(), lower.device) != hosts.end();
}

// Each of `rest` lies on another one: down from anywhere until one comes twice.
std::string circle_in(const std::vector<StackedVolume>& volumes, const Positions& rest) {
  Positions path;
  std::size_t at = rest.front();
  while (!contains(path, at)) {
    path.push_back(at);
    at = *std::find_if(rest.begin(), rest.end(),
                       [&](std::size_t below) { return lies_on(volumes[at], volumes[below]); });
  }
  std::string text;
  for (auto step = std::find(path.begin(), path.end(), at); step != path.end(); ++step) {
    text += "'" + volumes[*step].name + "' lies on ";
  }
  return text + "'" + volumes[at].name + "'";
}

}  // namespace

Positions with_dependants(const std::vector<StackedVolume>& volumes, const Positions& chosen) {
  Positions found = chosen;
  for (std::size_t i = 0; i < found.size(); ++i) {
    for (std::size_t upper = 0; upper < volumes.size(); ++upper) {
      if (lies_on(volumes[upper], volumes[found[i]]) && !contains(found, upper)) {
        found.push_back(upper);
      }
    }
  }
  std::sort(found.begin(), found.end());
  return found;
}

Result<std::vector<Positions>> in_layers(const std::vector<StackedVolume>& volumes,
                                         const Positions& chosen) {
  std::vector<Positions> layers;  // Hosts first, at first.
  for (Positions rest = chosen; !rest.empty();) {
    Positions layer;
    Positions above;
    for (const std::size_t position : rest) {
      const bool lies = std::any_of(rest.begin(), rest.end(), [&](std::size_t lower) {
        return lies_on(volumes[position], volumes[lower]);
      });
      (lies ? above : layer).push_back(position);
    }
    if (layer.empty()) return fail(Errc::nested_volume_limit, circle_in(volumes, rest));
    layers.push_back(std::move(layer));
    rest = std::move(above);
  }
  std::reverse(layers.begin(), layers.end());
  return layers;
}

}  // namespace umbra::contract
