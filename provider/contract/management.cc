// SPDX-License-Identifier: Apache-2.0
#include "provider/contract/management.h"

#include <algorithm>
#include <utility>

namespace umbra::contract {
namespace {

// The store's 0 is VSS's -1.
std::uint64_t store_maximum(std::int64_t bytes) {
  return bytes == kAssocNoMaxSpace ? 0 : static_cast<std::uint64_t>(bytes);
}

bool names_nothing(const VolumeRef& volume) {
  return !volume.id && !volume.device && volume.name.empty();
}

}  // namespace

Result<std::vector<SystemProvider::EntryPtr>> SystemProvider::Management::entries_of(
    const VolumeRef& volume) const {
  const std::lock_guard lock(provider_.mutex_);
  std::vector<EntryPtr> entries;
  if (names_nothing(volume)) {
    for (const auto& [id, entry] : provider_.entries_) entries.push_back(entry);
    return entries;
  }
  const auto entry = provider_.find_entry(volume);
  if (!entry) return fail(entry.error());
  entries.push_back(*entry);
  return entries;
}

Result<SystemProvider::EntryPtr> SystemProvider::Management::find(const DiffAreaRef& area) const {
  EntryPtr entry;
  {
    const std::lock_guard lock(provider_.mutex_);
    const auto found = provider_.find_entry(area.volume);
    if (!found) return fail(found.error());
    entry = *found;
  }
  if (const auto there = check_place(*entry, area.diff_volume); !there) return fail(there.error());
  return entry;
}

// --- looking ------------------------------------------------------------------------------------

Result<std::vector<SupportedVolume>>
SystemProvider::Management::query_volumes_supported_for_snapshots(std::uint32_t context) {
  std::vector<SupportedVolume> volumes;
  const auto entries = entries_of({});
  if (!entries) return fail(entries.error());
  for (const auto& entry : *entries) {
    VolumeRef volume;
    volume.id = entry->id;
    const auto supported = provider_.is_volume_supported(volume, context);
    if (supported && *supported) volumes.push_back({entry->id, entry->description.name});
  }
  return volumes;
}

Result<std::vector<SnapshotProperties>> SystemProvider::Management::query_snapshots_by_volume(
    const VolumeRef& volume) {
  const auto entries = entries_of(volume);
  if (!entries) return fail(entries.error());
  std::vector<SnapshotProperties> snapshots;
  const Surfaces::MountPoints mounted = provider_.surfaces_.mount_points();
  for (const auto& entry : *entries) {
    std::vector<cow::SnapshotRecord> records;
    {
      const std::lock_guard lock(provider_.mutex_);
      if (entry->volume != nullptr) records = entry->volume->list();
    }
    for (auto& record : records) {
      if (record.stage != cow::Stage::created) continue;
      snapshots.push_back(provider_.describe(Copy{entry, std::move(record)}, mounted));
    }
  }
  return snapshots;
}

std::uint64_t SystemProvider::Management::minimum_of(const Entry& entry) const {
  const auto chunk = static_cast<std::uint32_t>(entry.volume->statistics().chunk_bytes);
  return std::max(provider_.options_.diff_bytes_min, cow::diff_bytes_min(chunk));
}

Result<std::uint64_t> SystemProvider::Management::get_min_diff_area_size() {
  return std::max(provider_.options_.diff_bytes_min, cow::diff_bytes_min(cow::kChunkBytesDefault));
}

DiffAreaProperties SystemProvider::Management::describe(const Entry& entry) const {
  const cow::Statistics statistics = entry.volume->statistics();
  DiffAreaProperties area;
  area.volume_id = entry.id;
  area.volume_name = entry.description.name;
  area.diff_area_path = entry.description.diff_area_path;
  area.maximum_bytes = statistics.diff_bytes_max == 0
                           ? kAssocNoMaxSpace
                           : static_cast<std::int64_t>(statistics.diff_bytes_max);
  area.allocated_bytes = statistics.diff_allocated_bytes;
  area.used_bytes = statistics.diff_used_bytes;
  const cow::Association kept = entry.volume->kept_association();
  area.explicit_association = kept.is_explicit;
  area.volatile_maximum = kept.maximum_bytes != statistics.diff_bytes_max;
  area.snapshots = statistics.snapshots;
  area.snapshots_lost = statistics.snapshots_lost;
  area.reflink = statistics.reflink || statistics.shared_bytes > 0;
  area.state = statistics.state;
  return area;
}

std::vector<DiffAreaProperties> SystemProvider::Management::describe_all(
    const std::vector<EntryPtr>& entries) const {
  std::vector<DiffAreaProperties> areas;
  {
    const std::lock_guard lock(provider_.mutex_);
    for (const auto& entry : entries) {
      if (entry->volume != nullptr) areas.push_back(describe(*entry));
    }
  }
  for (auto& area : areas) {
    if (provider_.options_.diff_volumes == nullptr) continue;
    const auto lies_on = provider_.options_.diff_volumes->of(area.diff_area_path);
    if (lies_on) area.diff_volume = lies_on->properties.diff_volume;
  }
  return areas;
}

Result<std::vector<DiffAreaProperties>> SystemProvider::Management::query_diff_areas_for_volume(
    const VolumeRef& volume) {
  const auto entries = entries_of(volume);
  if (!entries) return fail(entries.error());
  return describe_all(*entries);
}

Result<std::vector<DiffAreaProperties>> SystemProvider::Management::query_diff_areas_on_volume(
    const std::string& diff_volume) {
  if (provider_.options_.diff_volumes == nullptr) {
    return fail(Errc::not_implemented, "what diff areas lie on is not known here");
  }
  const auto wanted = provider_.options_.diff_volumes->of(diff_volume);
  if (!wanted) return fail(wanted.error());
  const auto entries = entries_of({});
  if (!entries) return fail(entries.error());
  auto areas = describe_all(*entries);
  std::erase_if(areas, [&](const DiffAreaProperties& area) {
    return area.diff_volume != wanted->properties.diff_volume;
  });
  return areas;
}

Result<std::vector<DiffAreaProperties>> SystemProvider::Management::query_diff_areas_for_snapshot(
    const SnapshotId& snapshot) {
  const auto copy = provider_.created_copy(snapshot);
  if (!copy) return fail(copy.error());
  return describe_all({copy->entry});
}

Result<std::vector<DiffVolumeProperties>>
SystemProvider::Management::query_volumes_supported_for_diff_areas(
    const VolumeRef& original_volume) {
  const auto entries = entries_of(original_volume);
  if (!entries) return fail(entries.error());
  if (provider_.options_.diff_volumes == nullptr) return std::vector<DiffVolumeProperties>{};
  auto all = provider_.options_.diff_volumes->all();
  if (!all) return fail(all.error());
  std::vector<DiffVolumeProperties> volumes;
  for (auto& candidate : *all) {
    // What lies on the volume itself could not keep its past.
    const bool on_itself = std::any_of(entries->begin(), entries->end(), [&](const auto& entry) {
      const auto& below = candidate.stands_on;
      return entry->description.device != 0 &&
             std::find(below.begin(), below.end(), entry->description.device) != below.end();
    });
    if (!on_itself) volumes.push_back(std::move(candidate.properties));
  }
  std::stable_sort(volumes.begin(), volumes.end(),
                   [](const auto& a, const auto& b) { return a.free_bytes > b.free_bytes; });
  return volumes;
}

// --- changing -----------------------------------------------------------------------------------

Status SystemProvider::Management::check_place(const Entry& entry,
                                               const std::string& diff_volume) const {
  if (diff_volume.empty() || provider_.options_.diff_volumes == nullptr) return {};
  const auto wanted = provider_.options_.diff_volumes->of(diff_volume);
  if (!wanted) return fail(wanted.error());
  std::string path;
  {
    const std::lock_guard lock(provider_.mutex_);
    path = entry.description.diff_area_path;
  }
  const auto lies_on = provider_.options_.diff_volumes->of(path);
  if (!lies_on) return fail(lies_on.error());
  if (wanted->properties.diff_volume == lies_on->properties.diff_volume) return {};
  return fail(Errc::object_not_found, "the diff area of '" + entry.description.name + "' lies on " +
                                          printable(lies_on->properties.diff_volume) + ", not on " +
                                          printable(wanted->properties.diff_volume) +
                                          "; move it there first (umbra move shadowstorage)");
}

Status SystemProvider::Management::check_maximum(const Entry& entry, std::int64_t bytes) const {
  if (bytes == kAssocNoMaxSpace) return {};
  const std::uint64_t least = minimum_of(entry);
  if (bytes > 0 && static_cast<std::uint64_t>(bytes) >= least) return {};
  return fail(Errc::invalid_argument, "the maximum of a diff area is at least " +
                                          std::to_string(least) + " bytes, or none (-1)");
}

Status SystemProvider::Management::add_diff_area(const DiffAreaRef& area,
                                                 std::int64_t maximum_bytes) {
  const auto entry = find(area);
  if (!entry) {
    // In VSS's words: this volume cannot have its area there.
    const bool elsewhere = entry.error().code == Errc::object_not_found &&
                           !area.diff_volume.empty() && entries_of(area.volume).has_value();
    return elsewhere ? fail(Errc::volume_not_supported, entry.error().context)
                     : fail(entry.error());
  }
  const Turn turn = provider_.take_turn({*entry});
  const auto found = (*entry)->store();
  if (!found) return fail(found.error());
  cow::Volume* const volume = *found;
  if (const auto good = check_maximum(**entry, maximum_bytes); !good) return good;
  const std::string name = "volume '" + (*entry)->description.name + "'";
  if (volume->kept_association().is_explicit) {
    return fail(Errc::object_already_exists,
                name + " has an explicit association; change its maximum instead");
  }
  if (volume->count() != 0) {
    return fail(Errc::object_already_exists, name + " has copies; change its maximum instead");
  }
  const std::uint64_t bytes = store_maximum(maximum_bytes);
  if (const auto set = volume->set_diff_maximum(bytes, asked_by()); !set)
    return fail(set.error(), name);
  if (const auto kept = volume->keep_association({bytes, true}); !kept) {
    return fail(kept.error(), name);
  }
  return {};
}

Status SystemProvider::Management::change_diff_area_maximum_size(const DiffAreaRef& area,
                                                                 std::int64_t maximum_bytes,
                                                                 bool is_volatile,
                                                                 OperationMonitor& monitor) {
  const auto entry = find(area);
  if (!entry) return fail(entry.error());
  const Turn turn = provider_.take_turn({*entry});
  const auto found = (*entry)->store();
  if (!found) return fail(found.error());
  cow::Volume* const volume = *found;
  const std::string name = "volume '" + (*entry)->description.name + "'";
  if (maximum_bytes == kAssocRemove) {
    if (is_volatile) {
      return fail(Errc::invalid_argument, "an association cannot be removed for a time only");
    }
    if (volume->count() != 0) {
      return fail(Errc::volume_in_use, name + " has copies; delete them first");
    }
  } else if (const auto good = check_maximum(**entry, maximum_bytes); !good) {
    return good;
  }
  monitor.say("making what is kept fit");
  const std::int64_t bytes = maximum_bytes == kAssocRemove ? kAssocNoMaxSpace : maximum_bytes;
  cow::Association association = volume->kept_association();
  const auto set = volume->set_diff_maximum(store_maximum(bytes), asked_by());
  if (!set) return fail(set.error(), name);
  for (const auto& snapshot : set->deleted) {
    monitor.fact("deleted_snapshot", snapshot.to_string());
    provider_.copy_is_gone(snapshot);
  }
  // A volatile one leaves the former to be found by the next attach.
  if (!is_volatile) association = {store_maximum(bytes), maximum_bytes != kAssocRemove};
  if (const auto kept = volume->keep_association(association); !kept) {
    return fail(kept.error(), name);
  }
  ProviderEvent changed;
  changed.name = "diff_area_maximum_changed";
  changed.limit_bytes = store_maximum(bytes);
  changed.used_bytes = volume->statistics().diff_used_bytes;
  provider_.tell(**entry, std::move(changed));
  provider_.log_.info("maximum of a diff area was changed",
                      {{"volume", (*entry)->description.name},
                       {"maximum_bytes", maximum_bytes},
                       {"volatile", is_volatile ? 1 : 0},
                       {"copies_deleted", set->deleted.size()}});
  return {};
}

}  // namespace umbra::contract
