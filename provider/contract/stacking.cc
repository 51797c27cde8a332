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

// Each of `rest` carries another one: up from anywhere until one comes twice, told downwards.
std::string circle_in(const std::vector<StackedVolume>& volumes, const Positions& rest) {
  Positions path;
  std::size_t at = rest.front();
  while (!contains(path, at)) {
    path.push_back(at);
    at = *std::find_if(rest.begin(), rest.end(),
                       [&](std::size_t upper) { return lies_on(volumes[upper], volumes[at]); });
  }
  std::string text = "'" + volumes[at].name + "'";
  for (std::size_t step = path.size(); step-- > 0;) {
    text += " lies on '" + volumes[path[step]].name + "'";
    if (path[step] == at) break;
  }
  return text;
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
  std::vector<Positions> layers;
  for (Positions rest = chosen; !rest.empty();) {
    Positions layer;
    Positions below;
    for (const std::size_t position : rest) {
      const bool carries = std::any_of(rest.begin(), rest.end(), [&](std::size_t upper) {
        return lies_on(volumes[upper], volumes[position]);
      });
      (carries ? below : layer).push_back(position);
    }
    if (layer.empty()) return fail(Errc::nested_volume_limit, circle_in(volumes, rest));
    layers.push_back(std::move(layer));
    rest = std::move(below);
  }
  return layers;
}

}  // namespace umbra::contract
