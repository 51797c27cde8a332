// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// IVssEnumObject: what a query found, to be taken a few at a time. A value that knows its place;
// nothing is asked of umbrad any more, so that copies that are deleted meanwhile are still in it.

#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "umbra/provider.h"
#include "umbra/vss.h"

namespace umbra::requester {

/// VSS_OBJECT_PROP: a snapshot or a provider.
using ObjectProperties = std::variant<SnapshotProperties, ProviderProperties>;

[[nodiscard]] inline ObjectType object_type(const ObjectProperties& object) noexcept {
  return std::holds_alternative<SnapshotProperties>(object) ? ObjectType::snapshot
                                                            : ObjectType::provider;
}

/// Threads: as a std::vector.
class ObjectEnumeration {
 public:
  ObjectEnumeration() = default;
  ObjectEnumeration(std::vector<ObjectProperties> objects,
                    std::vector<std::string> absent_providers)
      : objects_(std::move(objects)), absent_providers_(std::move(absent_providers)) {}

  /// The next `count`; fewer (VSS: S_FALSE) where there are no more, and then none for ever.
  [[nodiscard]] std::vector<ObjectProperties> next(std::size_t count) {
    const std::size_t end = place_ + std::min(count, objects_.size() - place_);
    const auto at = [this](std::size_t i) {
      return objects_.begin() + static_cast<std::ptrdiff_t>(i);
    };
    std::vector<ObjectProperties> part(at(place_), at(end));
    place_ = end;
    return part;
  }
  /// Whether there were so many to skip (VSS: else S_FALSE). Past the end there are none.
  bool skip(std::size_t count) noexcept {
    const bool enough = count <= objects_.size() - place_;
    place_ += std::min(count, objects_.size() - place_);
    return enough;
  }
  void reset() noexcept { place_ = 0; }
  /// A copy at the same place.
  [[nodiscard]] ObjectEnumeration clone() const { return *this; }

  /// Registered, not connected: theirs are missing.
  [[nodiscard]] const std::vector<std::string>& absent_providers() const noexcept {
    return absent_providers_;
  }

 private:
  std::vector<ObjectProperties> objects_;
  std::vector<std::string> absent_providers_;
  std::size_t place_ = 0;
};

}  // namespace umbra::requester
