// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// What a provider tells without being asked: diff areas fill up, copies go, storage fails. A
// provider keeps its last events and hands them to umbrad, which keeps the last of all providers
// and gives them to whoever asks (`umbra list events`, `umbra events --follow`).
//
// Event ids are those of Windows' source "volsnap", where one means the same; 0: there is none.

#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "umbra/ids.h"
#include "umbra/vss.h"

namespace umbra {

enum class EventSeverity : std::uint8_t { information = 0, warning = 1, error = 2 };

struct ProviderEvent {
  std::uint64_t sequence = 0;  ///< Rises by one with each event of the log it was read from.
  std::string name{};          ///< "snapshot_deleted", ...: docs/events.md.
  std::uint32_t event_id = 0;  ///< Of "volsnap"; 0: none corresponds.
  EventSeverity severity = EventSeverity::information;
  std::int64_t time_filetime = 0;  ///< 100 ns ticks since 1601-01-01 UTC.
  ProviderId provider_id{};
  VolumeId volume_id{};  ///< Nil: about no volume.
  std::string volume{};  ///< Its name.
  SnapshotId snapshot_id{};
  SnapshotSetId set_id{};
  std::string cause{};        ///< Of a deletion: "requested", "evicted", ...
  std::string who{};          ///< Who had it done, where that is known.
  std::uint32_t percent = 0;  ///< Of its maximum that the diff area has used, at a threshold.
  ProtectionFault fault = ProtectionFault::none;
  std::uint64_t used_bytes = 0;   ///< Of the diff area.
  std::uint64_t limit_bytes = 0;  ///< Of the diff area; 0: no bound.
  std::string text{};             ///< For people.
};

/// Events that are kept, at a provider and at umbrad.
inline constexpr std::size_t kEventsKeptMax = 1'024;

}  // namespace umbra
