// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Strong identifiers. All are GUIDs; a volume's cannot be passed where a snapshot's is meant.
// Text form: "7b9c2f1e-5d0a-4f4e-9c37-3f3f0a5b1c2d", lower case, no braces; parsing also takes
// upper case and a pair of braces.

#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "umbra/result.h"

namespace umbra {

struct Guid {
  std::array<std::uint8_t, 16> bytes{};  // In the order of the text form.

  /// A new random (version 4) GUID from the operating system's generator. Threads: any.
  [[nodiscard]] static Guid random();
  /// Errors: invalid_argument (not the text form of a GUID; the context shows the text, cut).
  [[nodiscard]] static Result<Guid> parse(std::string_view text);
  [[nodiscard]] std::string to_string() const;
  [[nodiscard]] bool is_nil() const noexcept { return *this == Guid{}; }

  friend auto operator<=>(const Guid&, const Guid&) = default;
};

template <class Tag>
struct Id : Guid {
  [[nodiscard]] static Id random() { return Id{Guid::random()}; }
  [[nodiscard]] static Result<Id> parse(std::string_view text) {
    return Guid::parse(text).map([](const Guid& guid) { return Id{guid}; });
  }
  friend auto operator<=>(const Id&, const Id&) = default;
};

using VolumeId = Id<struct VolumeTag>;            // Made at attach; survives detach.
using SnapshotId = Id<struct SnapshotTag>;        // One shadow copy.
using SnapshotSetId = Id<struct SnapshotSetTag>;  // All shadow copies of one instant.
using CheckpointId = Id<struct CheckpointTag>;    // A point in time from which changes are known.
using SessionId = Id<struct SessionTag>;          // One backup or restore session.
using WriterClassId =
    Id<struct WriterClassTag>;  // A kind of writer; constant, chosen by its author.
using WriterInstanceId = Id<struct WriterInstanceTag>;  // One start of a writer process.
using ProviderId = Id<struct ProviderTag>;    // Constant, chosen by the provider's author.
using OperationId = Id<struct OperationTag>;  // One long call to a provider's management.

}  // namespace umbra

template <>
struct std::hash<umbra::Guid> {
  std::size_t operator()(const umbra::Guid& guid) const noexcept {
    std::size_t value = 0;
    for (const auto byte : guid.bytes) value = value * 131 + byte;
    return value;
  }
};
template <class Tag>
struct std::hash<umbra::Id<Tag>> : std::hash<umbra::Guid> {};
