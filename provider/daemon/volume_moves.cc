// SPDX-License-Identifier: Apache-2.0
//
// Moving the diff area of an attached volume.
//
//   look at the target; record where it goes            (now a start may find either in force)
//   the store copies, and switches
//   record the new place; remove the former file
//
// A start that finds the intention recorded asks the store which of the two is in force, records
// that, and removes the other if it is a file that the move made or left. The record is always
// durable before a file goes, so there is no moment at which what the record names is missing.
#include <filesystem>

#include "provider/daemon/volume_manager_state.h"

namespace umbra::cowd {

// --- before -------------------------------------------------------------------------------------

Result<std::string> VolumeManager::target_of(const Volume& volume, const std::string& to) const {
  auto path = check_path(to, "the new diff area");
  if (!path) return fail(path.error());
  const auto facts = ports_.host.look_at(*path);
  if (!facts) return fail(facts.error(), "the new diff area");
  if (facts->kind != PathKind::directory) return path;
  const std::string& from = volume.config.diff_area_path;
  const std::string name = volume.diff.kind == PathKind::file ? from.substr(from.rfind('/') + 1)
                                                              : volume.config.name + ".diff";
  return check_path(*path + "/" + name, "the new diff area");
}

Status VolumeManager::check_target(const Volume& volume, const PathFacts& target,
                                   const std::string& path) const {
  if (target.same_as(volume.diff)) {
    return fail(Errc::invalid_argument, "the diff area is " + shown(path) + " already");
  }
  VolumeConfig there = volume.config;
  there.diff_area_path = path;
  if (const Status good = check_diff_area(volume.origin, target, there); !good) return good;
  if (const Status free = check_not_taken(target, path, &volume); !free) return free;
  const std::uint64_t own = volume.exposed.device;
  const bool is_own = target.kind == PathKind::block_device && own != 0 && target.device == own;
  if (is_own || contains(target.stands_on, own)) {
    return fail(Errc::volume_not_supported, shown(path) +
                                                " lies on the volume itself, which could "
                                                "not keep its own past; name a place on "
                                                "another one");
  }
  for (const VolumePtr& other : table()) {
    if (!contains(target.stands_on, other->exposed.device)) continue;
    if (other->config.order < volume.config.order) continue;
    return fail(Errc::volume_not_supported,
                shown(path) + " lies on the volume " + in_quotes(other->config.name) +
                    ", which was attached after this one; detach this one and attach it again, "
                    "then move it");
  }
  return {};
}

Result<VolumeManager::VolumePtr> VolumeManager::begin_move(const VolumeId& id,
                                                           const std::string& to) {
  const std::lock_guard operation(operations_);
  VolumeRef ref;
  ref.id = id;
  const auto found = find_volume(ref);
  if (!found) return fail(found.error());
  const Volume& volume = **found;
  if (volume.store == nullptr) {
    return fail(Errc::object_not_found, "the volume is not attached: " + volume.problem);
  }
  if (volume.moving) return fail(Errc::bad_state, "its diff area is being moved already");
  if (!volume.config.moving_to.empty()) {
    return fail(Errc::bad_state, "its last move is not settled; start umbra-cowd anew first");
  }
  const auto path = target_of(volume, to);
  if (!path) return fail(path.error());
  auto target = ports_.host.look_at(*path);
  if (!target) return fail(target.error(), "the new diff area");
  if (const Status good = check_target(volume, *target, *path); !good) return fail(good.error());

  const auto moving = std::make_shared<Volume>(volume);
  moving->moving = true;
  moving->target = std::move(*target);
  moving->config.moving_to = *path;
  moving->config.moving_makes = moving->target.kind == PathKind::missing;
  for (const VolumePtr& other : table()) {
    if (!contains(moving->target.stands_on, other->exposed.device)) continue;
    auto& hosts = moving->config.hosts;
    const VolumeId& host = other->config.volume_id;
    if (std::find(hosts.begin(), hosts.end(), host) == hosts.end()) hosts.push_back(host);
  }
  if (const Status saved = ports_.configs.save(moving->config); !saved) {
    (void)ports_.configs.save(volume.config);  // At worst a start finds that nothing was moved.
    return fail(saved.error(), "the move cannot be recorded");
  }
  put(moving, &volume);
  return moving;
}

// --- the move -----------------------------------------------------------------------------------

Result<VolumeManager::Moved> VolumeManager::move_diff_area(const VolumeId& id,
                                                           const std::string& to,
                                                           const MoveProgress& progress,
                                                           std::uint64_t bytes_per_second) {
  const auto begun = begin_move(id, to);
  if (!begun) return fail(begun.error());
  const Volume& volume = **begun;
  log_.info("moving a diff area", {{"volume", volume.config.name},
                                   {"from", volume.config.diff_area_path},
                                   {"to", volume.config.moving_to}});
  bool cancelled = false;
  MoveDiffArea request;
  request.path = volume.config.moving_to;
  request.makes = volume.config.moving_makes;
  request.bytes_per_second = bytes_per_second;
  request.apart = std::any_of(
      volume.config.hosts.begin(), volume.config.hosts.end(), [&](const VolumeId& host) {
        const auto rows = table();
        return std::any_of(rows.begin(), rows.end(), [&](const VolumePtr& row) {
          return row->config.volume_id == host &&
                 contains(volume.target.stands_on, row->exposed.device);
        });
      });
  request.on_progress = [&](const cow::MigrateProgress& now) {
    cancelled = !progress(now.bytes_copied, std::max(now.bytes_total, now.bytes_copied));
    return !cancelled;
  };
  const auto moved = volume.store->move_diff_area(request);
  if (moved) return finish_move(volume, *moved);
  give_up_move(volume);
  if (cancelled) return fail(Errc::async_cancelled, "the diff area is where it was");
  return fail(moved.error(), "moving the diff area to " + shown(request.path));
}

void VolumeManager::give_up_move(const Volume& volume) {
  const std::lock_guard operation(operations_);
  const auto back = std::make_shared<Volume>(volume);
  back->moving = false;
  back->target = {};
  back->config.moving_to.clear();
  back->config.moving_makes = false;
  back->config.hosts.clear();
  for (const VolumePtr& host : hosts_of(*back)) {
    back->config.hosts.push_back(host->config.volume_id);
  }
  put(back, &volume);
  if (const Status saved = ports_.configs.save(back->config); !saved) {
    log_.warning("a move that failed is still recorded; the next start finds that out",
                 {{"volume", volume.config.name}, {"reason", saved.error().context}});
  }
}

VolumeManager::Moved VolumeManager::finish_move(const Volume& volume, const MovedDiffArea& report) {
  const std::lock_guard operation(operations_);
  const std::string from = volume.config.diff_area_path;
  const auto there = std::make_shared<Volume>(volume);
  there->moving = false;
  there->config.diff_area_path = volume.config.moving_to;
  there->config.moving_to.clear();
  there->config.moving_makes = false;
  there->diff = volume.target;
  if (auto facts = ports_.host.look_at(there->config.diff_area_path)) {
    there->diff = std::move(*facts);
  }
  there->target = {};
  there->config.hosts.clear();
  for (const VolumePtr& host : hosts_of(*there)) {
    there->config.hosts.push_back(host->config.volume_id);
  }
  Moved moved;
  const Status saved =
      report.settled ? ports_.configs.save(there->config)
                     : Status(fail(Errc::io_error, "the new one could not be told that it counts"));
  if (!saved) {
    // The record still names both: a start settles it, with both of them.
    moved.kept = shown(from) + ": " + saved.error().context +
                 "; keep both files until umbra-cowd was started anew";
    there->config.moving_to = from;  // Nothing that would need one record of it: detach, move.
    log_.error("a diff area was moved, but that is not recorded yet; keep the former one",
               {{"volume", volume.config.name}, {"reason", saved.error().context}});
  } else if (!report.source_left) {
    moved.kept = shown(from) + ": it is still being read";
  } else if (volume.diff.kind == PathKind::file) {
    moved.kept = remove_area(from);
  } else {
    moved.kept = shown(from) + ": a block device; it says that it was moved";
  }
  put(there, &volume);
  moved.diff_area_path = there->config.diff_area_path;
  moved.host_devices = registration(*there).host_devices;
  moved.bytes_copied = report.done.bytes_copied;
  moved.bytes_damaged = report.done.bytes_damaged;
  log_.info("a diff area was moved", {{"volume", volume.config.name},
                                      {"from", from},
                                      {"to", moved.diff_area_path},
                                      {"bytes", moved.bytes_copied},
                                      {"damaged", moved.bytes_damaged},
                                      {"kept", moved.kept}});
  return moved;
}

// What is left of it, for people; empty: nothing.
std::string VolumeManager::remove_area(const std::string& path) {
  const Status removed = ports_.stores.remove_area(path);
  if (removed) return {};
  log_.warning("a file that no diff area is in any more could not be removed; remove it by hand",
               {{"path", path}, {"reason", removed.error().to_string()}});
  return shown(path) + ": " + removed.error().context;
}

// --- after a kill -------------------------------------------------------------------------------

Status VolumeManager::settle(VolumeConfig& config) {
  if (config.moving_to.empty()) return {};
  SettleMove request;
  request.from = config.diff_area_path;
  request.to = config.moving_to;
  request.volume_id = config.volume_id;
  request.apart = !config.hosts.empty();
  request.lock_patience = kLockPatience;
  const auto side = ports_.stores.settle(request);
  if (!side) {
    return fail(side.error(), "its diff area was being moved from " + shown(request.from) + " to " +
                                  shown(request.to) +
                                  ", and both are needed to tell which of them counts");
  }
  const bool moved = *side == cow::MoveSide::target;
  const bool may_go = moved || config.moving_makes;
  VolumeConfig settled = config;
  if (moved) settled.diff_area_path = request.to;
  settled.moving_to.clear();
  settled.moving_makes = false;
  if (const Status saved = ports_.configs.save(settled); !saved) {
    return fail(saved.error(), "where its diff area is now cannot be recorded");
  }
  config = std::move(settled);
  log_.info("a move of a diff area was cut short and is settled",
            {{"volume", config.name}, {"diff_area", config.diff_area_path}});
  if (may_go) (void)remove_area(moved ? request.from : request.to);
  return {};
}

}  // namespace umbra::cowd
