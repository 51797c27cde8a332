// SPDX-License-Identifier: Apache-2.0
//
// Private to system_provider*.cc: what the provider remembers of volumes and of the set in the
// making.

#pragma once

#include <memory>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "provider/contract/system_provider.h"

namespace umbra::contract {

enum class SystemProvider::State : std::uint8_t {
  preparing,
  prepared,
  precommitted,
  held,
  committed,
  released,
  postcommitted,
  prefinal,
  final,
  created,
  aborted,
  parked,
};

/// The volume is touched with its turn, except that its lists and statistics may be read under the
/// provider's mutex.
struct SystemProvider::Entry {
  std::shared_ptr<cow::Volume> volume;  // Null once removed.
  VolumeId id;
  VolumeDescription description;
  bool busy = false;  // Somebody has the turn.

  /// With its turn, or the provider's mutex. Errors: object_not_found (it was removed meanwhile).
  [[nodiscard]] Result<cow::Volume*> store() const {
    if (volume == nullptr) return fail(Errc::object_not_found, "the volume was detached");
    return volume.get();
  }
};

struct SystemProvider::Set {
  struct Member {
    EntryPtr entry;
    PrepareSnapshot request;
  };
  SnapshotSetId id;
  SessionId session;
  std::vector<Member> members;
  State state = State::preparing;
  bool running = false;          // A call of the set is being worked on.
  bool foreign = false;          // Other providers have members, too.
  std::shared_ptr<Hold> hold;    // From flush_and_hold on.
  std::vector<FreeExtent> free;  // Of the file systems, from the hold on.
  std::stop_source stop;         // Requested when it is aborted: ends a flush that runs.

  [[nodiscard]] bool is_unfinished() const {
    return state != State::created && state != State::aborted && state != State::parked;
  }
  /// Whether others may have created their members: from `final` on umbrad may have asked them to.
  [[nodiscard]] bool in_doubt() const { return state == State::final && foreign; }
  [[nodiscard]] std::vector<EntryPtr> entries() const {
    std::vector<EntryPtr> all;
    for (const auto& member : members) all.push_back(member.entry);
    return all;
  }
  /// Of volumes that are not in the set, writes are held only.
  [[nodiscard]] HoldLayer hold_layer(const std::vector<EntryPtr>& entries) const {
    HoldLayer layer;
    for (const auto& entry : entries) {
      auto& held =
          layer.members.emplace_back(HoldMember{entry->volume.get(), {}, entry->description.name});
      for (const auto& member : members) {
        if (member.entry != entry) continue;
        held.snapshot = member.request.snapshot_id;
        if (entry->description.device != 0) layer.devices.push_back(entry->description.device);
      }
    }
    return layer;
  }
};

struct SystemProvider::Copy {
  EntryPtr entry;
  cow::SnapshotRecord record;
};

/// Exclusive use of volumes, from take_turn() to destruction, on whatever thread that is.
class SystemProvider::Turn {
 public:
  Turn(SystemProvider& provider, std::vector<EntryPtr> entries)
      : provider_(&provider), entries_(std::move(entries)) {}
  Turn(Turn&& other) noexcept : provider_(other.provider_), entries_(std::move(other.entries_)) {
    other.entries_.clear();
  }
  Turn& operator=(Turn&&) = delete;
  ~Turn() {
    if (entries_.empty()) return;
    const std::lock_guard lock(provider_->mutex_);
    for (const auto& entry : entries_) entry->busy = false;
    provider_->changed_.notify_all();
  }

 private:
  SystemProvider* provider_;
  std::vector<EntryPtr> entries_;
};

/// `error` as a provider may answer it: codes that the contract does not list become provider_veto
/// and keep their story in the context.
[[nodiscard]] tl::unexpected<Error> provider_error(const Error& error);

[[nodiscard]] inline Error aborted_error() { return {Errc::bad_state, "the set was aborted"}; }

}  // namespace umbra::contract
