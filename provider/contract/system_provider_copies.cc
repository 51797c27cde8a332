// SPDX-License-Identifier: Apache-2.0
//
// The system provider's registry of volumes, and the life of copies after their set is made:
// queries, deletion, release with their session, recovery.

#include <algorithm>
#include <string>

#include "provider/contract/set_recovery.h"
#include "provider/contract/system_provider.h"
#include "provider/contract/system_provider_state.h"
#include "umbra/caller.h"

namespace umbra::contract {

ProviderId system_provider_id() noexcept {
  static const ProviderId id = *ProviderId::parse("5c0a2d64-0f0b-4f6b-8a7e-2f6d5e1b9c31");
  return id;
}

ProviderProperties SystemProvider::properties() const {
  ProviderProperties properties;
  properties.provider_id = system_provider_id();
  properties.name = "Umbra software shadow copy provider";
  properties.type = ProviderType::system;
  properties.version = options_.version;
  return properties;
}

// --- the registry
// ---------------------------------------------------------------------------------

Status SystemProvider::add_volume(std::shared_ptr<cow::Volume> volume,
                                  VolumeDescription description) {
  if (description.name.empty()) return fail(Errc::invalid_argument, "a volume needs a name");
  auto entry = std::make_shared<Entry>();
  entry->id = volume->id();
  entry->volume = std::move(volume);
  entry->description = std::move(description);
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [id, other] : entries_) {
      const auto& mine = entry->description;
      const auto& theirs = other->description;
      if (id != entry->id && theirs.name != mine.name &&
          (mine.device == 0 || theirs.device != mine.device)) {
        continue;
      }
      return fail(Errc::object_already_exists,
                  "volume '" + theirs.name + "' has the same id, name or device");
    }
    for (const auto& record : entry->volume->list()) index_.add(record);
    entries_.emplace(entry->id, entry);
  }
  recover_sets();
  surface_created();
  if (!options_.on_reverting) return {};
  cow::RevertStatus revert;
  {
    const std::lock_guard lock(mutex_);
    if (entry->volume != nullptr) revert = entry->volume->revert_status();
  }
  if (revert.under_way) options_.on_reverting(entry->id, revert.snapshot);
  return {};
}

void SystemProvider::all_volumes_attached() {
  {
    const std::lock_guard lock(mutex_);
    all_attached_ = true;
  }
  recover_sets();
}

Status SystemProvider::remove_volume(const VolumeId& volume, bool force) {
  EntryPtr entry;
  {
    const std::lock_guard lock(mutex_);
    const auto found = entries_.find(volume);
    if (found == entries_.end()) return fail(Errc::object_not_found, "no such volume is attached");
    entry = found->second;
  }
  const Turn turn = take_turn({entry});
  std::vector<SnapshotId> copies;
  {
    const std::lock_guard lock(mutex_);
    if (const auto there = entry->store(); !there) return fail(there.error());
    const auto members = current_ == nullptr ? std::vector<EntryPtr>{} : current_->entries();
    if (current_ != nullptr && current_->is_unfinished() &&
        std::find(members.begin(), members.end(), entry) != members.end()) {
      return fail(Errc::volume_in_use, "a snapshot set that contains it is being created");
    }
    // The origin is a mix of before and after. One that has stopped is helped by attaching anew.
    if (const auto revert = entry->volume->revert_status(); revert.under_way && !revert.stopped) {
      return fail(Errc::revert_in_progress, "volume '" + entry->description.name + "' to " +
                                                revert.snapshot.to_string() +
                                                "; `umbra query revert` says how far it is");
    }
    for (const auto& record : entry->volume->list()) {
      if (surfaced_.count(record.id) != 0) copies.push_back(record.id);
    }
  }
  for (auto copy = copies.begin(); copy != copies.end(); ++copy) {
    const auto withdrawn = withdraw(*copy, force);
    if (withdrawn) continue;
    for (auto done = copies.begin(); done != copy; ++done) resurface(*entry->volume, *done);
    return fail(withdrawn.error(), "shadow copy " + copy->to_string());
  }
  const std::lock_guard lock(mutex_);
  entry->volume.reset();
  entries_.erase(volume);
  return {};
}

Result<SystemProvider::EntryPtr> SystemProvider::find_entry(const VolumeRef& volume) const {
  const auto fits = [&](const Entry& entry) {
    if (volume.id && *volume.id != entry.id) return false;
    if (volume.device && (*volume.device == 0 || *volume.device != entry.description.device)) {
      return false;
    }
    if (volume.name.empty() || volume.name == entry.description.name) return true;
    const auto as_id = VolumeId::parse(volume.name);
    return as_id && *as_id == entry.id;
  };
  const bool is_named = volume.id || volume.device || !volume.name.empty();
  for (const auto& [id, entry] : entries_) {
    if (is_named && fits(*entry)) return entry;
  }
  const std::string& shown = volume.path.empty() ? volume.name : volume.path;
  return fail(Errc::object_not_found, "no attached volume is meant by '" + printable(shown) +
                                          "'; see `umbra list volumes`");
}

VolumeProperties SystemProvider::describe(const Entry& entry) const {
  const cow::Statistics statistics = entry.volume->statistics();
  VolumeProperties properties;
  properties.volume_id = entry.id;
  properties.name = entry.description.name;
  properties.origin_path = entry.description.origin_path;
  properties.diff_area_path = entry.description.diff_area_path;
  properties.device_path = entry.description.device_path;
  properties.nbd_uri = entry.description.nbd_uri;
  properties.front_end = entry.description.front_end;
  properties.front_end_why = entry.description.front_end_why;
  properties.device = entry.description.device;
  properties.size_bytes = entry.volume->live().geometry().size_bytes;
  properties.chunk_bytes = static_cast<std::uint32_t>(statistics.chunk_bytes);
  properties.diff_used_bytes = statistics.diff_used_bytes;
  properties.diff_allocated_bytes = statistics.diff_allocated_bytes;
  properties.diff_maximum_bytes = statistics.diff_bytes_max;
  properties.free_bytes_not_copied = statistics.free_bytes_not_copied;
  properties.snapshot_count = statistics.snapshots;
  properties.state = statistics.state;
  if (const auto revert = entry.volume->revert_status(); revert.stopped) {
    properties.state = "its revert has stopped: " + revert.trouble;
  } else if (revert.under_way) {
    properties.state = "being reverted";
  }
  return properties;
}

Result<VolumeProperties> SystemProvider::find_volume(const VolumeRef& volume) {
  const std::lock_guard lock(mutex_);
  return find_entry(volume).map([this](const EntryPtr& entry) { return describe(*entry); });
}

Result<std::vector<VolumeProperties>> SystemProvider::list_volumes() {
  std::vector<VolumeProperties> volumes;
  if (options_.absent_volumes) volumes = options_.absent_volumes();
  const std::lock_guard lock(mutex_);
  for (const auto& [id, entry] : entries_) volumes.push_back(describe(*entry));
  return volumes;
}

std::string SystemProvider::asked_by() {
  const std::string& caller = current_caller();
  return caller.empty() ? "umbra-cowd" : caller;
}

// --- copies
// -----------------------------------------------------------------------------------------

std::vector<SystemProvider::Copy> SystemProvider::copies_where(
    const std::function<bool(const cow::SnapshotRecord&)>& wanted, bool surfaced_too) const {
  const std::lock_guard lock(mutex_);
  std::vector<Copy> copies;
  const bool making = current_ != nullptr && current_->is_unfinished() &&
                      current_->state != State::final &&
                      !(surfaced_too && current_->state == State::prefinal);
  for (const auto& [id, entry] : entries_) {
    for (auto& record : entry->volume->list()) {
      if (making && record.set_id == current_->id) continue;
      if (wanted(record)) copies.push_back({entry, std::move(record)});
    }
  }
  return copies;
}

std::vector<SystemProvider::Copy> SystemProvider::copy_of(const SnapshotId& snapshot) const {
  const std::lock_guard lock(mutex_);
  const bool making =
      current_ != nullptr && current_->is_unfinished() && current_->state != State::final;
  for (const auto& [id, entry] : entries_) {
    auto record = entry->volume->find(snapshot);
    if (!record) continue;
    const bool in_the_making = making && record->set_id == current_->id;
    if (in_the_making || record->stage == cow::Stage::prepared) return {};
    return {{entry, std::move(*record)}};
  }
  return {};
}

Result<SystemProvider::Copy> SystemProvider::created_copy(const SnapshotId& snapshot) const {
  auto copies = copy_of(snapshot);
  if (copies.empty() || copies.front().record.stage != cow::Stage::created) {
    return fail(Errc::object_not_found, "no such shadow copy: " + snapshot.to_string());
  }
  return std::move(copies.front());
}

Result<std::vector<SnapshotProperties>> SystemProvider::query_snapshots(bool incomplete) {
  const auto copies = copies_where(
      [incomplete](const cow::SnapshotRecord& record) {
        return record.stage == cow::Stage::created ||
               (incomplete && record.stage == cow::Stage::committed);
      },
      incomplete);
  std::vector<SnapshotProperties> found;
  const Surfaces::MountPoints mounted = surfaces_.mount_points();
  for (const auto& copy : copies) found.push_back(describe(copy, mounted));
  return found;
}

SnapshotProperties SystemProvider::describe(const Copy& copy,
                                            const Surfaces::MountPoints& mounted) const {
  const auto& [entry, record] = copy;
  SnapshotProperties properties;
  properties.snapshot_id = record.id;
  properties.set_id = record.set_id;
  properties.volume_id = entry->id;
  properties.provider_id = system_provider_id();
  properties.snapshots_count = static_cast<std::uint32_t>(record.members.size());
  properties.original_volume = entry->description.name;
  properties.originating_machine = options_.machine_name;
  properties.service_machine = options_.machine_name;
  if (const auto at = mounted.find(record.id); at != mounted.end()) {
    properties.exposed_path = at->second;
  }
  properties.attributes = record.attributes;
  if (!properties.exposed_path.empty()) properties.attributes |= attribute::kExposedLocally;
  properties.creation_filetime = record.creation_filetime;
  properties.state =
      record.stage == cow::Stage::created ? SnapshotState::created : SnapshotState::postcommitted;
  properties.lost = record.lost;
  const std::lock_guard lock(mutex_);
  if (const auto where = surfaced_.find(record.id); where != surfaced_.end()) {
    properties.device_object = where->second.device_object;
    properties.nbd_uri = where->second.nbd_uri;
  }
  return properties;
}

Status SystemProvider::surface(cow::Volume& volume, const SnapshotId& snapshot) {
  return surface(snapshot, volume.open_snapshot(snapshot));
}

Status SystemProvider::surface(const SnapshotId& snapshot,
                               Result<std::shared_ptr<block::Device>> device) {
  if (!device) return fail(device.error());
  auto where = surfaces_.surface(snapshot, std::move(*device));
  if (!where) return fail(where.error(), "surfacing");
  const std::lock_guard lock(mutex_);
  surfaced_[snapshot] = std::move(*where);
  return {};
}

void SystemProvider::resurface(cow::Volume& volume, const SnapshotId& snapshot) {
  if (const auto status = surface(volume, snapshot); !status) {
    log_.warning("a shadow copy could not be surfaced",
                 {{"snapshot", snapshot.to_string()}, {"error", status.error().to_string()}});
  }
}

Status SystemProvider::withdraw(const SnapshotId& snapshot, bool force) {
  {
    const std::lock_guard lock(mutex_);
    if (surfaced_.count(snapshot) == 0) return {};
  }
  if (const auto status = surfaces_.withdraw(snapshot, force); !status) return status;
  const std::lock_guard lock(mutex_);
  surfaced_.erase(snapshot);
  return {};
}

void SystemProvider::copy_is_gone(const SnapshotId& snapshot) noexcept {
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [id, entry] : entries_) {
      if (entry->volume->find(snapshot)) return;
    }
  }
  if (const auto gone = withdraw(snapshot, true); !gone) {
    log_.warning("a copy that is gone could not be withdrawn",
                 {{"snapshot", snapshot.to_string()}, {"error", gone.error().to_string()}});
  }
}

Status SystemProvider::remove_copy(const Copy& copy, bool force, const cow::RemovalCause& cause) {
  const Turn turn = take_turn({copy.entry});
  const auto store = copy.entry->store();
  if (!store) return fail(store.error());
  const SnapshotId& id = copy.record.id;
  bool was_surfaced = false;
  {
    const std::lock_guard lock(mutex_);
    was_surfaced = surfaced_.count(id) != 0;
  }
  if (const auto status = withdraw(id, force); !status) return provider_error(status.error());
  const auto removed = (*store)->remove(id, force, cause);
  if (removed) return {};
  if (was_surfaced && removed.error().code != Errc::object_not_found) {
    resurface(**store, id);
  }
  return provider_error(removed.error());
}

DeleteReport SystemProvider::delete_snapshots(const Guid& id, ObjectType type, bool force) {
  DeleteReport report;
  if (type != ObjectType::snapshot && type != ObjectType::snapshot_set) {
    report.status = fail(Errc::invalid_argument, "only copies and sets can be deleted");
    return report;
  }
  const auto copies = type == ObjectType::snapshot
                          ? copy_of(SnapshotId{id})
                          : copies_where([&](const cow::SnapshotRecord& record) {
                              return static_cast<const Guid&>(record.set_id) == id &&
                                     record.stage != cow::Stage::prepared;
                            });
  if (copies.empty()) {
    report.status = fail(Errc::object_not_found, "no such shadow copy or set: " + id.to_string());
    if (type == ObjectType::snapshot) report.not_deleted = SnapshotId{id};
    return report;
  }
  for (const auto& copy : copies) {
    const auto removed = remove_copy(copy, force, {cow::Removal::requested, asked_by()});
    if (!removed) {
      report.not_deleted = copy.record.id;
      report.status = fail(removed.error(), "shadow copy " + copy.record.id.to_string());
      return report;
    }
    ++report.deleted;
  }
  return report;
}

// After the new copy is created: a set that fails must not have cost an older one.
void SystemProvider::trim_client_accessible(const Set& set) {
  for (const auto& member : set.members) {
    if ((member.request.attributes & attribute::kClientAccessible) == 0) continue;
    auto copies = copies_where([&](const cow::SnapshotRecord& record) {
      return record.stage == cow::Stage::created &&
             (record.attributes & attribute::kClientAccessible) != 0;
    });
    std::erase_if(copies, [&](const Copy& copy) { return copy.entry != member.entry; });
    for (std::size_t i = 0; i + options_.client_accessible_max < copies.size(); ++i) {
      const auto& snapshot = copies[i].record.id;
      if (const auto removed = remove_copy(
              copies[i], false,
              {cow::Removal::requested, "umbra-cowd: more client-accessible copies than may be"});
          !removed) {
        log_.warning("a client-accessible copy above the limit could not be deleted",
                     {{"volume", member.entry->description.name},
                      {"snapshot", snapshot.to_string()},
                      {"error", removed.error().to_string()}});
        continue;
      }
      log_.info("the oldest client-accessible copy was deleted: the volume has as many as it may",
                {{"volume", member.entry->description.name}, {"snapshot", snapshot.to_string()}});
    }
  }
}

void SystemProvider::tell(const Entry& entry, ProviderEvent event) const {
  if (!options_.on_event) return;
  event.time_filetime = clock_.wall_filetime();
  event.volume_id = entry.id;
  event.volume = entry.description.name;
  options_.on_event(std::move(event));
}

// --- sessions
// -----------------------------------------------------------------------------------------

void SystemProvider::remove_released(
    const std::function<bool(const SessionId&)>& is_over) noexcept {
  SetPtr unfinished;
  {
    const std::lock_guard lock(mutex_);
    if (current_ != nullptr && current_->is_unfinished() && is_over(current_->session)) {
      unfinished = current_;
    }
  }
  if (unfinished != nullptr) {
    give_up(unfinished, {Errc::bad_state, "the requester's session is over"});
  }
  const auto copies = copies_where([&](const cow::SnapshotRecord& record) {
    return is_auto_release(record.attributes) && is_over(record.session_id);
  });
  for (const auto& copy : copies) {
    const auto removed =
        remove_copy(copy, true,
                    {cow::Removal::session_ended,
                     "umbra-cowd: session " + copy.record.session_id.to_string() + " is over"});
    if (removed) {
      log_.info("auto-release copy was deleted", {{"set", copy.record.set_id.to_string()},
                                                  {"snapshot", copy.record.id.to_string()}});
    } else if (removed.error().code != Errc::object_not_found) {
      log_.error("an auto-release copy could not be deleted",
                 {{"set", copy.record.set_id.to_string()},
                  {"snapshot", copy.record.id.to_string()},
                  {"error", removed.error().to_string()}});
    }
  }
}

void SystemProvider::end_session(const SessionId& session) noexcept {
  {
    const std::lock_guard lock(mutex_);
    ended_.add(session);
    const bool makes_set =
        current_ != nullptr && current_->is_unfinished() && current_->session == session;
    if (!makes_set && !index_.may_release(session)) return;  // The rule: nothing is left of it.
  }
  remove_released([&](const SessionId& other) { return other == session; });
}

void SystemProvider::retain_sessions(const std::vector<SessionId>& alive) noexcept {
  remove_released([&](const SessionId& session) {
    return std::find(alive.begin(), alive.end(), session) == alive.end();
  });
}

// --- recovery
// -----------------------------------------------------------------------------------------

void SystemProvider::recover_sets() {
  const auto copies = copies_where([this](const cow::SnapshotRecord& record) {
    return current_ == nullptr || !current_->is_unfinished() || record.set_id != current_->id;
  });
  std::vector<cow::SnapshotRecord> records;
  for (const auto& copy : copies) records.push_back(copy.record);
  bool all_attached = false;
  {
    const std::lock_guard lock(mutex_);
    all_attached = all_attached_;
  }
  for (const auto& action : decide_recovery(records, all_attached)) {
    const auto copy = std::find_if(copies.begin(), copies.end(), [&](const Copy& candidate) {
      return candidate.record.id == action.snapshot;
    });
    const bool confirm = action.kind == RecoveryAction::Kind::confirm;
    Status status;
    {
      const Turn turn = take_turn({copy->entry});
      auto* volume = copy->entry->volume.get();
      if (volume == nullptr) continue;
      status = confirm ? volume->confirm(action.snapshot)
                       : volume->remove(
                             action.snapshot, true,
                             {cow::Removal::recovery, "umbra-cowd: its set was never created"});
    }
    if (status) {
      log_.info(
          confirm ? "half-made copy was completed: its set is created"
                  : "half-made copy was deleted: its set was never created",
          {{"set", copy->record.set_id.to_string()}, {"snapshot", action.snapshot.to_string()}});
    } else if (status.error().code != Errc::object_not_found) {
      log_.error("a half-made copy could not be recovered",
                 {{"set", copy->record.set_id.to_string()},
                  {"snapshot", action.snapshot.to_string()},
                  {"error", status.error().to_string()}});
    }
  }
}

Result<SetFate> SystemProvider::query_set(const SnapshotSetId& id) {
  const std::lock_guard lock(mutex_);
  if (current_ != nullptr && current_->id == id && current_->is_unfinished()) {
    const bool prepared = current_->state == State::final && !current_->running;
    return prepared ? SetFate::prepared : SetFate::undecided;
  }
  bool prepared = false;
  for (const auto& [volume, entry] : entries_) {
    for (const auto& record : entry->volume->list()) {
      if (record.set_id != id) continue;
      if (record.stage == cow::Stage::created) return SetFate::created;
      prepared = true;
    }
  }
  // A volume that is not attached may have one that is created.
  if (!all_attached_) return SetFate::undecided;
  return prepared ? SetFate::prepared : SetFate::none;
}

Status SystemProvider::complete_set(const SnapshotSetId& id) {
  SetPtr set;
  bool is_final = false;
  bool attached = false;
  {
    Lock lock(mutex_);
    if (current_ != nullptr && current_->id == id) set = current_;
    attached = all_attached_;
    changed_.wait(lock,
                  [&] { return set == nullptr || !(set->running && set->state == State::final); });
    if (set != nullptr && set->is_unfinished() && set->state != State::final) {
      return fail(Errc::bad_state, std::string("the set is ") + state_name(set->state));
    }
    is_final = set != nullptr && set->state == State::final;
  }
  if (is_final) return confirm_set(id);
  const auto copies = copies_where([&](const cow::SnapshotRecord& record) {
    return record.set_id == id && record.stage != cow::Stage::prepared;
  });
  if (copies.empty()) {
    if (attached) return fail(Errc::object_not_found, "no such set: " + id.to_string());
    return fail(Errc::bad_state, "it may lie on a volume that is not attached");
  }
  for (const auto& copy : copies) {
    const Turn turn = take_turn({copy.entry});
    if (copy.entry->volume == nullptr) continue;  // Its siblings roll it forward later.
    if (const auto status = copy.entry->volume->confirm(copy.record.id); !status) {
      const auto answer = provider_error(status.error());
      return fail(answer.value(), "volume '" + copy.entry->description.name + "'");
    }
  }
  if (set != nullptr) {
    const std::lock_guard lock(mutex_);
    if (set->state == State::parked) set->state = State::created;
  }
  log_.info("a set that was left in doubt is created",
            {{"set", id.to_string()}, {"copies", copies.size()}});
  surface_created();
  return {};
}

void SystemProvider::surface_created() {
  const auto copies = copies_where([this](const cow::SnapshotRecord& record) {
    return record.stage == cow::Stage::created && surfaced_.count(record.id) == 0 &&
           (record.attributes & attribute::kNotSurfaced) == 0;
  });
  for (const auto& copy : copies) {
    const Turn turn = take_turn({copy.entry});
    if (copy.entry->volume == nullptr) continue;
    resurface(*copy.entry->volume, copy.record.id);
  }
}

void SystemProvider::surface_created_of(cow::Volume& volume) {
  for (const auto& record : volume.list()) {
    if (record.stage != cow::Stage::created) continue;
    if ((record.attributes & attribute::kNotSurfaced) != 0) continue;
    {
      const std::lock_guard lock(mutex_);
      if (surfaced_.count(record.id) != 0) continue;
    }
    resurface(volume, record.id);
  }
}

}  // namespace umbra::contract
