// SPDX-License-Identifier: Apache-2.0
//
// Diff areas whose volume has gone (DeleteUnusedDiffAreas). The record is forgotten last: after a
// kill in between, the volume is listed as not attached still, and the call can be repeated.
#include "provider/daemon/volume_manager_state.h"

namespace umbra::cowd {

// What lies on a volume of ours is not looked at: the answer may wait for ourselves.
bool VolumeManager::has_gone(const Volume& volume) const {
  const VolumeConfig& config = volume.config;
  if (volume.store != nullptr || !config.hosts.empty() || !config.moving_to.empty()) return false;
  const auto origin = ports_.host.look_at(config.origin_path);
  return origin && origin->kind == PathKind::missing;
}

std::vector<VolumeManager::Unused> VolumeManager::unused() const {
  std::vector<Unused> found;
  for (const VolumePtr& row : table()) {
    if (!has_gone(*row)) continue;
    found.push_back({row->config.volume_id, row->config.name, row->config.diff_area_path});
  }
  return found;
}

Status VolumeManager::discard_unused(const VolumeId& id, const std::string& who) {
  const std::lock_guard operation(operations_);
  VolumeRef ref;
  ref.id = id;
  const auto found = find_volume(ref);
  if (!found) return fail(found.error());
  const VolumeConfig& config = (*found)->config;
  if (!has_gone(**found)) {
    return fail(Errc::object_not_found,
                "the volume " + in_quotes(config.name) + " has not gone; its diff area stays");
  }
  DiscardArea request;
  request.path = config.diff_area_path;
  request.volume_id = id;
  request.who = who;
  if (const Status discarded = ports_.stores.discard_area(request); !discarded) {
    return fail(discarded.error(), "the diff area of volume " + in_quotes(config.name));
  }
  log_.warning("the diff area of a volume that has gone was deleted",
               {{"volume", config.name}, {"diff_area", config.diff_area_path}, {"who", who}});
  if (const Status forgotten = ports_.configs.forget(id); !forgotten) {
    return fail(forgotten.error(), "deleted, but the volume is still recorded; delete it again");
  }
  drop(**found);
  tell_if_complete();
  return {};
}

}  // namespace umbra::cowd
