// SPDX-License-Identifier: Apache-2.0
//
// Change checkpoints as management calls. The store keeps them (docs/design/0005); here they are
// found over all volumes, by id.
#include "provider/contract/management.h"

namespace umbra::contract {
namespace {

CheckpointProperties describe(const std::string& name, const VolumeId& id,
                              const cow::CheckpointRecord& record) {
  CheckpointProperties checkpoint;
  checkpoint.checkpoint_id = record.id;
  checkpoint.volume_id = id;
  checkpoint.volume_name = name;
  checkpoint.name = record.name;
  checkpoint.snapshot_id = record.snapshot;
  checkpoint.creation_filetime = record.creation_filetime;
  checkpoint.lost = record.everything;
  return checkpoint;
}

}  // namespace

std::optional<SystemProvider::Management::CheckpointEntry>
SystemProvider::Management::find_checkpoint(const Guid& id) const {
  const std::lock_guard lock(provider_.mutex_);
  for (const auto& [volume, entry] : provider_.entries_) {
    if (entry->volume == nullptr) continue;
    for (auto& record : entry->volume->list_checkpoints()) {
      if (record.id == id) return CheckpointEntry{entry, std::move(record)};
    }
  }
  return std::nullopt;
}

Result<CheckpointProperties> SystemProvider::Management::create_checkpoint(
    const SnapshotId& snapshot, const std::string& name) {
  const auto copy = provider_.created_copy(snapshot);
  if (!copy) return fail(copy.error());
  const EntryPtr& entry = copy->entry;
  const Turn turn = provider_.take_turn({entry});
  const auto store = entry->store();
  if (!store) return fail(store.error());
  cow::CheckpointRequest request;
  request.id = CheckpointId::random();
  request.snapshot = snapshot;
  request.name = name;
  if (const Status made = (*store)->create_checkpoint(request); !made) {
    return fail(made.error(), "volume '" + entry->description.name + "'");
  }
  for (const auto& record : (*store)->list_checkpoints()) {
    if (record.id == request.id) {
      return contract::describe(entry->description.name, entry->id, record);
    }
  }
  return fail(Errc::object_not_found, "the checkpoint went at once");
}

Result<std::vector<CheckpointProperties>> SystemProvider::Management::query_checkpoints(
    const VolumeRef& volume) {
  const auto entries = entries_of(volume);
  if (!entries) return fail(entries.error());
  const std::lock_guard lock(provider_.mutex_);
  std::vector<CheckpointProperties> checkpoints;
  for (const auto& entry : *entries) {
    if (entry->volume == nullptr) continue;
    for (const auto& record : entry->volume->list_checkpoints()) {
      checkpoints.push_back(contract::describe(entry->description.name, entry->id, record));
    }
  }
  return checkpoints;
}

Status SystemProvider::Management::delete_checkpoint(const CheckpointId& checkpoint) {
  const auto found = find_checkpoint(checkpoint);
  if (!found) return fail(Errc::object_not_found, "no such checkpoint: " + checkpoint.to_string());
  const Turn turn = provider_.take_turn({found->entry});
  const auto store = found->entry->store();
  if (!store) return fail(store.error());
  if (const Status removed = (*store)->remove_checkpoint(checkpoint); !removed) {
    return fail(removed.error(), "volume '" + found->entry->description.name + "'");
  }
  return {};
}

}  // namespace umbra::contract
