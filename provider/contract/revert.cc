// SPDX-License-Identifier: Apache-2.0
//
// RevertToSnapshot and QueryRevertStatus over the store, which does the work
// (provider/cow/revert.cc) and goes on by itself over restarts. Here is decided whether it may
// begin, and seen to it that nobody looks at the volume with what he knows of before:
//
//   who has it is asked, or made to let go -> its block device is ours, and the kernel's cache of
//   it empty -> copies that will be deleted are withdrawn -> the store begins -> the block device
//   is given back, and the cache emptied once more
//
// Whatever fails before the store has begun leaves everything as it was, but for what was
// unmounted.
//
// No writer hears of a revert, as in VSS. Whether one wants it blocked is a question for umbrad,
// which passes the call on.
#include <algorithm>
#include <chrono>

#include "provider/contract/management.h"

namespace umbra::contract {
namespace {

constexpr std::chrono::milliseconds kLook{100};  // Between two looks at how far it is.
constexpr const char* kInsteadOfCancelling =
    "the volume shows the copy already, and goes on to be copied back; `umbra query revert` says "
    "how far it is, and if it stops, `umbra revert abandon` gives it up";

std::vector<cow::SnapshotRecord> younger_than(const cow::SnapshotRecord& target,
                                              std::vector<cow::SnapshotRecord> records) {
  std::erase_if(records, [&](const auto& record) {
    return record.stage == cow::Stage::prepared || record.epoch <= target.epoch;
  });
  return records;
}

// What the copy says. Pure.
Status check_copy(const cow::SnapshotRecord& target) {
  if (!target.persistent) {
    return fail(Errc::unsupported_context,
                "a volume is reverted to a persistent copy only; this one ends with its session");
  }
  if (target.lost) return fail(Errc::snapshot_lost, "shadow copy " + target.id.to_string());
  return {};
}

RevertInfo describe(const std::string& name, const VolumeId& id, const cow::RevertStatus& status) {
  RevertInfo info;
  info.volume_id = id;
  info.volume_name = name;
  info.snapshot_id = status.snapshot;
  info.total_bytes = status.bytes_total;
  info.done_bytes = status.bytes_done;
  info.stopped = status.stopped;
  info.trouble = status.trouble;
  return info;
}

ProviderEvent revert_event(const char* name, const SnapshotId& target, EventSeverity severity,
                           std::string text = {}) {
  ProviderEvent event;
  event.name = name;
  event.severity = severity;
  event.snapshot_id = target;
  event.text = std::move(text);
  return event;
}

tl::unexpected<Error> none_under_way(const std::string& name) {
  return fail(Errc::object_not_found, "volume '" + name + "' is not being reverted");
}

}  // namespace

Status SystemProvider::Management::check_no_set(const EntryPtr& entry) const {
  const std::lock_guard lock(provider_.mutex_);
  const SetPtr& set = provider_.current_;
  if (set == nullptr || !set->is_unfinished()) return {};
  const auto members = set->entries();
  if (std::find(members.begin(), members.end(), entry) == members.end()) return {};
  return fail(Errc::snapshot_set_in_progress,
              "a snapshot set with this volume is being created; wait for it, or `umbra abort` it");
}

// Its file system is mounted, or it is opened in a way that an exclusive opener does not see.
Status SystemProvider::Management::check_nothing_on(const Entry& entry) const {
  const std::uint64_t device = entry.description.device;
  if (device == 0) return {};
  const std::lock_guard lock(provider_.mutex_);
  for (const auto& [id, other] : provider_.entries_) {
    const auto& hosts = other->description.host_devices;
    if (std::find(hosts.begin(), hosts.end(), device) == hosts.end()) continue;
    return fail(Errc::volume_in_use, "the volume '" + other->description.name + "' lies on '" +
                                         entry.description.name + "'; detach that first");
  }
  return {};
}

// In use and not `force`: those that were withdrawn are surfaced again.
Status SystemProvider::Management::withdraw_younger(cow::Volume& volume,
                                                    const std::vector<cow::SnapshotRecord>& younger,
                                                    bool force) {
  for (const auto& record : younger) {
    const Status withdrawn = provider_.withdraw(record.id, force);
    if (withdrawn) continue;
    provider_.surface_created_of(volume);
    return fail(withdrawn.error(),
                "shadow copy " + record.id.to_string() + " is younger and would be deleted");
  }
  return {};
}

Status SystemProvider::Management::begin_revert(const EntryPtr& entry,
                                                const cow::SnapshotRecord& target,
                                                bool force_dismount) {
  const auto found = entry->store();
  if (!found) return fail(found.error());
  cow::Volume* const store = *found;
  const std::string& name = entry->description.name;
  if (const auto now = store->revert_status(); now.under_way) {
    return fail(Errc::revert_in_progress, "volume '" + name + "' is being reverted to " +
                                              now.snapshot.to_string() +
                                              "; `umbra query revert` says how far it is");
  }
  if (store->protection().offline) {
    return fail(Errc::bad_state, "volume '" + name +
                                     "' is offline to protect its copies; remove the cause and "
                                     "clear the fault first (umbra protection)");
  }
  if (Status free = check_no_set(entry); !free) return free;
  if (Status free = check_nothing_on(*entry); !free) return free;
  const auto younger = younger_than(target, store->list());
  if (Status good = check_copy(target); !good) return good;
  // Also asked by the store; here before anything is withdrawn.
  if (Status unlocked = store->check_retention(target.id); !unlocked) return unlocked;

  if (!force_dismount && provider_.options_.live_users) {
    const auto users = provider_.options_.live_users(entry->id);
    if (!users.empty()) {
      return fail(Errc::volume_in_use, "volume '" + name + "' is " + users.front() +
                                           "; let go of it first, or say --force");
    }
  }
  std::shared_ptr<void> claim;
  if (provider_.options_.claim_live) {
    auto claimed = provider_.options_.claim_live(entry->id, force_dismount);
    if (!claimed) return fail(claimed.error(), "volume '" + name + "'");
    claim = std::move(*claimed);
  }
  if (Status away = withdraw_younger(*store, younger, force_dismount); !away) return away;
  if (const Status begun = store->begin_revert(target.id, asked_by()); !begun) {
    provider_.surface_created_of(*store);
    return fail(begun.error(), "volume '" + name + "'");
  }
  provider_.log_.warning("a volume is being reverted", {{"volume", name},
                                                        {"snapshot", target.id.to_string()},
                                                        {"younger_copies", younger.size()},
                                                        {"force", force_dismount ? 1 : 0}});
  provider_.tell(*entry, revert_event("revert_begun", target.id, EventSeverity::warning));
  return {};
}

Status SystemProvider::Management::revert_to_snapshot(const SnapshotId& snapshot,
                                                      bool force_dismount,
                                                      OperationMonitor& monitor) {
  const auto copy = provider_.created_copy(snapshot);
  if (!copy) return fail(copy.error());
  {
    const Turn turn = provider_.take_turn({copy->entry});
    if (!monitor.point_of_no_return(kInsteadOfCancelling)) {
      return fail(Errc::async_cancelled, "the volume is as it was");
    }
    if (Status begun = begin_revert(copy->entry, copy->record, force_dismount); !begun) {
      return begun;
    }
  }
  monitor.fact("started", snapshot.to_string());
  return provider_.wait_for_revert(copy->entry->id, monitor);
}

Result<std::vector<RevertInfo>> SystemProvider::Management::query_revert_status(
    const VolumeRef& volume) {
  const auto entries = entries_of(volume);
  if (!entries) return fail(entries.error());
  std::vector<RevertInfo> reverts;
  {
    const std::lock_guard lock(provider_.mutex_);
    for (const auto& entry : *entries) {
      if (entry->volume == nullptr) continue;
      const auto status = entry->volume->revert_status();
      if (!status.under_way) continue;
      reverts.push_back(contract::describe(entry->description.name, entry->id, status));
    }
  }
  const bool one = volume.id || volume.device || !volume.name.empty();
  if (one && reverts.empty()) return none_under_way(entries->front()->description.name);
  return reverts;
}

Status SystemProvider::Management::abandon_revert(const VolumeRef& volume) {
  const auto entry = find({volume, {}});
  if (!entry) return fail(entry.error());
  const Turn turn = provider_.take_turn({*entry});
  const auto found = (*entry)->store();
  if (!found) return fail(found.error());
  cow::Volume* const store = *found;
  const std::string& name = (*entry)->description.name;
  const auto status = store->revert_status();
  if (!status.under_way) return none_under_way(name);
  if (!status.stopped) {
    return fail(Errc::bad_state,
                "volume '" + name + "': a revert that goes on can be neither stopped nor undone");
  }
  if (const Status given_up = store->abandon_revert(); !given_up) {
    return fail(given_up.error(), "volume '" + name + "'");
  }
  provider_.log_.warning(
      "a revert that had stopped was given up: the volume is a mix of before "
      "and after",
      {{"volume", name}, {"snapshot", status.snapshot.to_string()}});
  return {};
}

// The volume is looked at under the mutex only, so that it may be detached meanwhile.
Status SystemProvider::wait_for_revert(const VolumeId& volume, OperationMonitor& monitor) {
  monitor.say("copying back what has changed");
  (void)monitor.point_of_no_return(kInsteadOfCancelling);  // Gone on with by a start, too.
  std::string name;
  SnapshotId target;
  while (true) {
    cow::RevertStatus status;
    EntryPtr entry;
    {
      const std::lock_guard lock(mutex_);
      const auto found = entries_.find(volume);
      if (found == entries_.end() || found->second->volume == nullptr) {
        if (name.empty()) return fail(Errc::object_not_found, "no such volume is attached");
        return fail(Errc::revert_volume_lost, "volume '" + name + "' was detached");
      }
      entry = found->second;
      name = entry->description.name;
      status = entry->volume->revert_status();
    }
    if (!status.under_way) {
      tell(*entry, revert_event("revert_finished", target, EventSeverity::information));
      return {};
    }
    target = status.snapshot;
    if (status.stopped) {
      tell(*entry, revert_event("revert_stopped", target, EventSeverity::error, status.trouble));
      return fail(Errc::io_error, "the revert of volume '" + name +
                                      "' has stopped: " + status.trouble +
                                      "; remove the cause, then detach and attach the volume to "
                                      "go on, or give it up (umbra revert abandon)");
    }
    // Nobody can have it cancelled, as in VSS.
    (void)monitor.progress(status.bytes_done, status.bytes_total);
    std::unique_lock lock(mutex_);
    if (changed_.wait_for(lock, kLook, [this] { return stopping_; })) {
      return fail(Errc::async_cancelled,
                  "umbra-cowd stops; the revert goes on when it is started again");
    }
  }
}

void SystemProvider::stop_waiting() noexcept {
  const std::lock_guard lock(mutex_);
  stopping_ = true;
  changed_.notify_all();
}

}  // namespace umbra::contract
