// SPDX-License-Identifier: Apache-2.0
//
// Protection levels, faults and retention locks, as management calls: VSS's rules on top of what
// the store does (provider/cow/policy.cc).
#include "provider/contract/management.h"

namespace umbra::contract {
Status SystemProvider::Management::set_volume_protect_level(const VolumeRef& volume,
                                                            ProtectionLevel level) {
  const auto entry = find({volume, {}});
  if (!entry) return fail(entry.error());
  const Turn turn = provider_.take_turn({*entry});
  const auto found = (*entry)->store();
  if (!found) return fail(found.error());
  cow::Volume* const store = *found;
  const std::string name = "volume '" + (*entry)->description.name + "'";
  const bool protects = level == ProtectionLevel::snapshot;
  const cow::Protection now = store->protection();
  if (protects == (now.level == cow::ProtectionLevel::snapshot)) return {};
  if (protects && !store->kept_association().is_explicit) {
    return fail(Errc::volume_not_supported,
                name +
                    " has only an automatic diff area: its copies can be protected once "
                    "somebody has decided on its maximum");
  }
  if (!protects && now.offline) {
    return fail(Errc::volume_in_use,
                name +
                    " is offline to protect its copies: unmount it, remove the cause, and clear "
                    "the fault first");
  }
  const Status set = store->set_protection_level(protects ? cow::ProtectionLevel::snapshot
                                                          : cow::ProtectionLevel::original_volume);
  if (!set) return fail(set.error(), name);
  provider_.log_.info("protection level was set", {{"volume", (*entry)->description.name},
                                                   {"level", std::string(vss_name(level))}});
  return {};
}

Result<VolumeProtectionInfo> SystemProvider::Management::get_volume_protect_level(
    const VolumeRef& volume) {
  const auto entry = find({volume, {}});
  if (!entry) return fail(entry.error());
  VolumeProtectionInfo info;
  info.has_unused_diff_area = has_unused_area(**entry);
  const std::lock_guard lock(provider_.mutex_);
  const auto store = (*entry)->store();
  if (!store) return fail(store.error());
  const cow::Protection protection = (*store)->protection();
  info.level = static_cast<ProtectionLevel>(protection.level);
  info.fault = static_cast<ProtectionFault>(protection.fault);
  info.fault_filetime = protection.fault_filetime;
  info.volume_is_offline = protection.offline;
  if (protection.offline) info.failure = Errc::io_error;  // What its users get.
  return info;
}

// A file system that has met the errors holds what it could not write: cleared under it, it would
// go on with that.
Status SystemProvider::Management::clear_volume_protect_fault(const VolumeRef& volume,
                                                              OperationMonitor& monitor) {
  const auto entry = find({volume, {}});
  if (!entry) return fail(entry.error());
  const Turn turn = provider_.take_turn({*entry});
  const auto found = (*entry)->store();
  if (!found) return fail(found.error());
  cow::Volume* const store = *found;
  if (!store->protection().offline) return {};
  const std::string name = "volume '" + (*entry)->description.name + "'";
  if (provider_.options_.live_users) {
    const auto users = provider_.options_.live_users((*entry)->id);
    if (!users.empty()) {
      return fail(Errc::volume_in_use, name + " is " + users.front() +
                                           "; what uses it has met errors and has to let go first");
    }
  }
  monitor.say("clearing the fault");
  if (const Status cleared = store->clear_protection_fault(); !cleared) {
    return fail(cleared.error(), name);
  }
  provider_.log_.warning("the fault of a protected volume was cleared",
                         {{"volume", (*entry)->description.name}});
  return {};
}

Status SystemProvider::Management::retain_snapshot(const SnapshotId& snapshot,
                                                   std::int64_t until_filetime) {
  const auto copy = provider_.created_copy(snapshot);
  if (!copy) return fail(copy.error());
  if (provider_.options_.retention.longest_seconds == 0) {
    return fail(Errc::access_denied,
                "retention locks are not allowed here: umbra-cowd has no --retention-longest");
  }
  const EntryPtr& entry = copy->entry;
  const Turn turn = provider_.take_turn({entry});
  const auto store = entry->store();
  if (!store) return fail(store.error());
  if (const Status set = (*store)->set_retention(provider_.options_.retention); !set) return set;
  if (const Status kept = (*store)->retain(snapshot, until_filetime); !kept) return kept;
  provider_.log_.info("a shadow copy is under retention lock",
                      {{"snapshot", snapshot.to_string()}, {"until_filetime", until_filetime}});
  return {};
}

}  // namespace umbra::contract
