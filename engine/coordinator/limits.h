// SPDX-License-Identifier: Apache-2.0
//
// Every limit of the coordinator, with its unit and its reason. The values are defaults; umbrad's
// configuration file may change those in `Limits`, never the constants.

#pragma once

#include <chrono>
#include <cstddef>

namespace umbra::coord {

using std::chrono::milliseconds;

/// VSS's own number; VSS_E_MAXIMUM_NUMBER_OF_VOLUMES_REACHED beyond it.
inline constexpr std::size_t kVolumesPerSetMax = 64;
/// Writers registered at a time. Windows machines have about 15; a container host has more.
inline constexpr std::size_t kWritersMax = 256;
/// Requesters that wait for the creation slot. More would only wait in vain.
inline constexpr std::size_t kSlotQueueMax = 32;
/// Longest wait for the creation slot that a requester may ask for.
inline constexpr milliseconds kSlotQueueLimitMax = std::chrono::minutes{60};
/// VSS's longest freeze window. A writer may ask for less, never for more.
inline constexpr milliseconds kFreezeWindowMax = std::chrono::seconds{60};
/// Names and messages from peers, in bytes; longer ones are refused (names) or cut (messages).
inline constexpr std::size_t kPeerNameBytesMax = 256;
inline constexpr std::size_t kPeerMessageBytesMax = 4096;

struct Limits {
  // A writer's answers. VSS publishes none of these but the freeze window; they are long because a
  // database may checkpoint for minutes, and finite because a set must end.
  milliseconds identify = std::chrono::minutes{5};
  milliseconds prepare_for_backup = std::chrono::minutes{15};
  milliseconds prepare_for_snapshot = std::chrono::minutes{15};
  milliseconds freeze_window = kFreezeWindowMax;  ///< Cap on every writer's own window.
  milliseconds thaw = std::chrono::seconds{60};
  milliseconds post_snapshot = std::chrono::minutes{30};
  milliseconds backup_complete = std::chrono::minutes{60};
  milliseconds backup_shutdown = std::chrono::minutes{2};
  milliseconds abort = std::chrono::minutes{2};
  milliseconds pre_restore = std::chrono::minutes{60};
  milliseconds post_restore = std::chrono::minutes{60};  ///< A database may recover for long.

  /// How long a level that has not answered Thaw may keep the next level frozen: a stalled system
  /// writer must not use up the databases' windows.
  milliseconds thaw_level = std::chrono::seconds{5};
  /// How long the end of an aborted set waits for writers and providers that do not answer Abort.
  /// They go on with it; only the slot and the requester stop waiting.
  milliseconds abort_wait = std::chrono::seconds{10};

  // A provider's answers.
  milliseconds end_prepare = std::chrono::minutes{15};     ///< Includes the long flush.
  milliseconds pre_commit = std::chrono::seconds{10};      ///< VSS wants 1 to 2 s.
  milliseconds hold_flush = std::chrono::seconds{30};      ///< Flushing and freezing.
  milliseconds hold_lease = std::chrono::seconds{10};      ///< VSS's hold limit, not longer.
  milliseconds post_commit = std::chrono::seconds{30};     ///< Writers are still frozen.
  milliseconds final_commit = std::chrono::minutes{5};     ///< PreFinalCommit, PostFinalCommit.
  milliseconds confirm = std::chrono::minutes{1};          ///< ConfirmSet.
  milliseconds provider_query = std::chrono::seconds{30};  ///< Find, list, query, BeginPrepare.
  milliseconds provider_delete = std::chrono::minutes{10};
  milliseconds provider_admin = std::chrono::minutes{10};  ///< Attach, detach, mount.
  /// How long an import waits for LUNs to appear after the array let this machine see them.
  milliseconds lun_arrival = std::chrono::minutes{2};
  /// How long after its start umbrad, without its list of providers, waits for one that it has not
  /// heard of, before a set with members that nobody has is taken for one that was never created.
  milliseconds settle_wait = std::chrono::minutes{10};
  /// On top of what a provider may take for the hold, before it counts as not answering.
  milliseconds provider_grace = std::chrono::seconds{5};
  /// What the way to the provider may take: the window that travels with the hold is this much
  /// shorter than what is left here, since the provider counts from the call's arrival.
  milliseconds hand_over = milliseconds{250};

  // A requester's pauses between two calls, from StartSnapshotSet to the end of DoSnapshotSet.
  milliseconds sequence = std::chrono::seconds{180};
  milliseconds sequence_long = std::chrono::seconds{1800};  ///< After a good Add or Prepare.
};

}  // namespace umbra::coord
