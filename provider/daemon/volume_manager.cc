// SPDX-License-Identifier: Apache-2.0
#include "provider/daemon/volume_manager_state.h"

#include <algorithm>
#include <functional>
#include <utility>

namespace umbra::cowd {
/// Runs what was pushed, newest first, unless dismissed.
class VolumeManager::Undo {
 public:
  Undo() = default;
  Undo(const Undo&) = delete;
  Undo& operator=(const Undo&) = delete;
  ~Undo() {
    while (!steps_.empty()) {
      steps_.back()();
      steps_.pop_back();
    }
  }
  void push(std::function<void()> step) { steps_.push_back(std::move(step)); }
  void dismiss() { steps_.clear(); }

 private:
  std::vector<std::function<void()>> steps_;
};

VolumeManager::VolumeManager(const Ports& ports) : ports_(ports), log_(ports.log, "volumes") {}
VolumeManager::~VolumeManager() = default;

// --- checks -------------------------------------------------------------------------------------

Status VolumeManager::check_not_taken(const PathFacts& facts, const std::string& path,
                                      const Volume* except) const {
  for (const VolumePtr& other : table()) {
    if (other.get() == except) continue;
    if (facts.same_as(other->origin) || facts.same_as(other->diff) ||
        (other->moving && facts.same_as(other->target))) {
      return fail(Errc::volume_attached, shown(path) + " belongs to the attached volume " +
                                             in_quotes(other->config.name) + "; detach that first");
    }
  }
  return {};
}

Status VolumeManager::check_origin(const PathFacts& origin, const VolumeConfig& config) const {
  const std::string path = shown(config.origin_path);
  switch (origin.kind) {
    case PathKind::missing: return fail(Errc::object_not_found, "there is no origin " + path);
    case PathKind::directory:
    case PathKind::other:
      return fail(Errc::invalid_argument,
                  "the origin must be a file or a block device; " + path + " is neither");
    case PathKind::file:
    case PathKind::block_device: break;
  }
  if (!origin.uses.empty()) {
    return fail(Errc::volume_in_use, "the origin " + path + " cannot be attached: " +
                                         joined(origin.uses) + "; free it first (unmount it)");
  }
  if (origin.size_bytes == 0 || origin.size_bytes > kOriginBytesMax) {
    return fail(Errc::invalid_argument, "the origin " + path + " has " +
                                            std::to_string(origin.size_bytes) +
                                            " bytes; it must have 1 to 2^50");
  }
  if (origin.size_bytes % 512 != 0) {
    return fail(Errc::invalid_argument,
                "the size of the origin " + path + " (" + std::to_string(origin.size_bytes) +
                    " bytes) is not a multiple of 512; enlarge it with truncate");
  }
  return {};
}

Status VolumeManager::check_diff_area(const PathFacts& origin, const PathFacts& diff,
                                      const VolumeConfig& config) const {
  const std::string path = shown(config.diff_area_path);
  if (diff.kind == PathKind::other || diff.kind == PathKind::directory) {
    return fail(Errc::invalid_argument,
                "the diff area must be a file or a block device; " + path + " is neither");
  }
  if (config.diff_area_path == config.origin_path || diff.same_as(origin)) {
    return fail(Errc::invalid_argument,
                "the diff area cannot be the origin itself; name another file");
  }
  if (origin.kind == PathKind::block_device && contains(diff.stands_on, origin.device)) {
    return fail(Errc::invalid_argument,
                "the diff area " + path + " lies on the origin itself; put it on another disk");
  }
  if (diff.kind == PathKind::block_device && contains(origin.stands_on, diff.device)) {
    return fail(Errc::invalid_argument,
                "the origin lies on " + path + "; name another device, or a file on another disk");
  }
  if (!diff.uses.empty()) {
    return fail(Errc::volume_in_use, "the diff area " + path + " cannot be used: " +
                                         joined(diff.uses) + "; free it, or name another file");
  }
  return {};
}

// The row that this attach takes the place of: the same volume, recorded but not attached.
Result<VolumeManager::VolumePtr> VolumeManager::replaceable(const VolumeConfig& config) const {
  const std::vector<VolumePtr> rows = table();
  VolumePtr same;
  for (const VolumePtr& other : rows) {
    if (other->store == nullptr && other->config.origin_path == config.origin_path &&
        other->config.diff_area_path == config.diff_area_path) {
      same = other;
    }
  }
  for (const VolumePtr& other : rows) {
    if (other != same && other->config.name == config.name) {
      return fail(Errc::object_already_exists, "there is a volume " + in_quotes(config.name) +
                                                   " already; give this one another name");
    }
  }
  if (!same && rows.size() >= kVolumesMax) {
    return fail(Errc::limit_reached, "at most " + std::to_string(kVolumesMax) +
                                         " volumes can be attached; detach one first");
  }
  return same;
}

Status VolumeManager::look(Volume& volume) const {
  auto origin = ports_.host.look_at(volume.config.origin_path);
  if (!origin) return fail(origin.error(), "the origin");
  volume.origin = std::move(*origin);
  if (const Status good = check_origin(volume.origin, volume.config); !good) {
    return fail(good.error());
  }
  auto diff = ports_.host.look_at(volume.config.diff_area_path);
  if (!diff) return fail(diff.error(), "the diff area");
  volume.diff = std::move(*diff);
  return check_diff_area(volume.origin, volume.diff, volume.config);
}

// The best that is to be had: one that turns out not to be (the kernel has no more of them) counts
// as not offered.
Status VolumeManager::expose(Volume& volume) const {
  FrontEndOffer offer = ports_.front_ends.offer();
  const auto kept = ports_.front_ends.kept(volume.config.volume_id);
  while (true) {
    const auto choice = choose(volume.config.expose, offer, kept);
    if (!choice) return fail(choice.error());
    auto exposed = ports_.front_ends.expose(volume.config.volume_id, volume.config.name,
                                            volume.live, choice->front_end);
    if (exposed) {
      volume.exposed = std::move(*exposed);
      volume.exposed.front_end = choice->front_end;
      volume.exposed.why = choice->why;
      volume.notes.insert(volume.notes.begin(), "served as " + choice->why);
      return {};
    }
    const Error& error = exposed.error();
    const bool is_missing =
        error.code == Errc::limit_reached || error.code == Errc::missing_kernel_feature;
    const bool has_next =
        volume.config.expose == Expose::automatic && !kept && choice->front_end != FrontEnd::none;
    if (!is_missing || !has_next) return fail(error);
    offer.why_not(choice->front_end) = error.context;
  }
}

// --- bringing up and taking down ----------------------------------------------------------------

Registration VolumeManager::registration(const Volume& volume) const {
  Registration result;
  result.volume_id = volume.config.volume_id;
  result.name = volume.config.name;
  result.origin_path = volume.config.origin_path;
  result.diff_area_path = volume.config.diff_area_path;
  result.exposed = volume.exposed;
  result.size_bytes = volume.live->geometry().size_bytes;
  result.copies_free_blocks = volume.config.copy_free_blocks;
  result.host_devices = volume.origin.stands_on;
  if (volume.origin.kind == PathKind::block_device) {
    result.host_devices.push_back(volume.origin.device);
  }
  result.host_devices.insert(result.host_devices.end(), volume.diff.stands_on.begin(),
                             volume.diff.stands_on.end());
  return result;
}

Status VolumeManager::bring_up(Volume& volume, const OpenStore& request, Undo& undo) {
  // Before anything is touched.
  const auto possible = choose(volume.config.expose, ports_.front_ends.offer(),
                               ports_.front_ends.kept(volume.config.volume_id));
  if (!possible) return fail(possible.error());
  auto opened = ports_.stores.open(request);
  if (!opened) return fail(opened.error());
  volume.store = std::move(opened->store);
  volume.config.volume_id = volume.store->id();
  volume.live = volume.store->live();
  undo.push([&volume] {
    (void)volume.store->close();  // What failed before is what gets reported.
    volume.live.reset();
    volume.store.reset();
  });
  volume.notes.push_back(volume.store->io_text());
  if (opened->formatted) {
    volume.notes.emplace_back("made a new diff area");
  } else if (request.may_format) {
    volume.notes.push_back("took over the diff area with its " +
                           std::to_string(volume.store->snapshots().size()) + " snapshots");
    // Lowering it may delete copies, which attaching never does.
    const std::uint64_t maximum = volume.store->statistics().diff_bytes_max;
    if (request.diff_maximum_bytes != 0 && request.diff_maximum_bytes != maximum) {
      volume.notes.push_back(
          "the diff area keeps its maximum: " +
          (maximum == 0 ? std::string("none") : std::to_string(maximum) + " bytes") +
          "; umbra resize shadowstorage changes it");
    }
  }
  if (request.may_format) {  // A diff area that was just made is a file now.
    if (auto diff = ports_.host.look_at(volume.config.diff_area_path)) {
      volume.diff = std::move(*diff);
    }
  }
  if (const Status exposed = expose(volume); !exposed) return fail(exposed.error());
  undo.push([this, &volume] {
    const Status concealed = ports_.front_ends.conceal(volume.config.volume_id);
    if (!concealed) {
      log_.error("a volume that failed to attach is still served",
                 {{"volume", volume.config.name}, {"reason", concealed.error().context}});
    }
  });
  if (const Status added = ports_.registry.add(registration(volume), *volume.store); !added) {
    return fail(added.error());
  }
  undo.push([this, &volume] { (void)ports_.registry.remove(volume.config.volume_id); });
  return {};
}

void VolumeManager::take_down(Volume& volume) {
  if (const Status closed = volume.store->close(); !closed) {
    log_.error("a store could not be closed cleanly",
               {{"volume", volume.config.name}, {"reason", closed.error().context}});
  }
  volume.live.reset();
}

// --- volumes on volumes -------------------------------------------------------------------------

std::vector<VolumeManager::VolumePtr> VolumeManager::hosts_of(const Volume& volume) const {
  std::vector<VolumePtr> hosts;
  for (const VolumePtr& other : table()) {
    const std::uint64_t device = other->exposed.device;
    if (contains(volume.origin.stands_on, device) || contains(volume.diff.stands_on, device)) {
      hosts.push_back(other);
    }
  }
  return hosts;
}

Status VolumeManager::check_hosts(const VolumeConfig& config) const {
  const std::vector<VolumePtr> rows = table();
  for (const VolumeId& host : config.hosts) {
    const auto row = std::find_if(rows.begin(), rows.end(), [&](const VolumePtr& other) {
      return other->config.volume_id == host;
    });
    if (row != rows.end() && (*row)->store != nullptr) continue;
    const std::string name = row != rows.end() ? in_quotes((*row)->config.name) : host.to_string();
    return fail(Errc::object_not_found, "it lies on the volume " + name +
                                            ", which is not attached; attach and mount that first, "
                                            "then attach this one again");
  }
  return {};
}

void VolumeManager::note_hosts(Volume& volume) const {
  for (const VolumePtr& host : hosts_of(volume)) {
    volume.notes.push_back("it lies on the volume " + in_quotes(host->config.name) +
                           ", which cannot be detached before this one");
  }
}

// --- the table ----------------------------------------------------------------------------------

std::vector<VolumeManager::VolumePtr> VolumeManager::table() const {
  const std::lock_guard lock(table_mutex_);
  return volumes_;
}

void VolumeManager::put(VolumePtr volume, const Volume* instead_of) {
  const std::lock_guard lock(table_mutex_);
  for (VolumePtr& row : volumes_) {
    if (row.get() == instead_of) {
      row = std::move(volume);
      return;
    }
  }
  volumes_.push_back(std::move(volume));
}

void VolumeManager::drop(const Volume& volume) {
  const std::lock_guard lock(table_mutex_);
  volumes_.erase(std::remove_if(volumes_.begin(), volumes_.end(),
                                [&](const VolumePtr& row) { return row.get() == &volume; }),
                 volumes_.end());
}

// A set of which a member lies on a volume that is not attached waits for it.
void VolumeManager::tell_if_complete() {
  const std::vector<VolumePtr> rows = table();
  const bool complete = !records_missing_ && std::all_of(rows.begin(), rows.end(), [](auto& row) {
    return row->store != nullptr;
  });
  if (!complete || told_complete_) return;
  told_complete_ = true;
  ports_.registry.all_attached();
}

Result<VolumeManager::VolumePtr> VolumeManager::find_volume(const VolumeRef& ref) const {
  const std::string asked = !ref.path.empty()   ? ref.path
                            : !ref.name.empty() ? ref.name
                            : ref.id            ? ref.id->to_string()
                                                : std::string("(nothing named)");
  for (const VolumePtr& row : table()) {
    const VolumeConfig& config = row->config;
    if (!ref.id && ref.name.empty() && !ref.device) break;
    if (ref.id && *ref.id != config.volume_id) continue;
    if (!ref.name.empty() && ref.name != config.name) {
      const auto id = VolumeId::parse(ref.name);
      if (!id || *id != config.volume_id) continue;
    }
    const bool is_origin =
        row->origin.kind == PathKind::block_device && ref.device == row->origin.device;
    const bool is_live = row->exposed.device != 0 && ref.device == row->exposed.device;
    if (ref.device && !is_live && !is_origin) continue;
    return row;
  }
  return fail(Errc::object_not_found,
              "no attached volume is meant by " + in_quotes(asked) + "; see umbra list volumes");
}

std::vector<std::string> VolumeManager::users(const Volume& volume) const {
  std::vector<std::string> found = ports_.front_ends.users(volume.config.volume_id);
  for (const cow::SnapshotRecord& snapshot : volume.store->snapshots()) {
    for (const std::string& user : ports_.front_ends.users(snapshot.id)) {
      found.push_back("copy " + snapshot.id.to_string() + " " + user);
    }
  }
  return found;
}

// --- the calls ----------------------------------------------------------------------------------

Result<rpc::AttachedVolume> VolumeManager::attach(const rpc::AttachVolume& request) {
  const std::lock_guard operation(operations_);
  auto config = check_request(request);
  if (!config) return fail(config.error());
  const auto replaced = replaceable(*config);
  if (!replaced) return fail(replaced.error());

  const auto volume = std::make_shared<Volume>();
  volume->config = std::move(*config);
  if (const Status seen = look(*volume); !seen) return fail(seen.error());
  for (const auto& [facts, path] : {std::pair{&volume->origin, &volume->config.origin_path},
                                    std::pair{&volume->diff, &volume->config.diff_area_path}}) {
    const Status free = check_not_taken(*facts, *path, replaced->get());
    if (!free) return fail(free.error());
  }
  for (const VolumePtr& other : table()) {
    volume->config.order = std::max(volume->config.order, other->config.order + 1);
  }

  OpenStore open;
  open.origin_path = volume->config.origin_path;
  open.diff_area_path = volume->config.diff_area_path;
  open.may_format = true;
  open.force = request.force;
  open.accept_changed_origin = request.accept_changed_origin;
  open.origin_moved = request.origin_moved;
  open.chunk_bytes = request.chunk_bytes;
  if (request.diff_initial_bytes != 0) {
    open.diff_initial_bytes = request.diff_initial_bytes;
  } else if (request.diff_maximum_bytes != 0) {
    open.diff_initial_bytes = std::min(open.diff_initial_bytes, request.diff_maximum_bytes);
  }
  open.diff_maximum_bytes = request.diff_maximum_bytes;
  for (const VolumePtr& host : hosts_of(*volume)) {
    volume->config.hosts.push_back(host->config.volume_id);
  }
  open.apart = !volume->config.hosts.empty();
  open.snapshots_max = volume->config.snapshots_max;
  open.direct = volume->config.direct;
  open.reflink = volume->config.reflink;
  Undo undo;
  if (const Status up = bring_up(*volume, open, undo); !up) return fail(up.error());
  if (const Status saved = ports_.configs.save(volume->config); !saved) {
    return fail(saved.error(), "the volume cannot be recorded");
  }
  undo.dismiss();
  if (*replaced && (*replaced)->config.volume_id != volume->config.volume_id) {
    (void)ports_.configs.forget((*replaced)->config.volume_id);  // At worst it is listed as failed.
  }
  note_hosts(*volume);
  put(volume, replaced->get());
  tell_if_complete();
  log_.info("volume attached", {{"volume", volume->config.name},
                                {"id", volume->config.volume_id.to_string()},
                                {"origin", volume->config.origin_path},
                                {"diff_area", volume->config.diff_area_path},
                                {"device", volume->exposed.device_path},
                                {"nbd", volume->exposed.nbd_uri},
                                {"served_as", volume->exposed.why},
                                {"io", volume->store->io_text()}});
  rpc::AttachedVolume reply;
  auto found = find({.id = volume->config.volume_id, .name = {}, .device = {}, .path = {}});
  if (found) reply.volume = std::move(*found);
  reply.notes = volume->notes;
  return reply;
}

Status VolumeManager::detach(const VolumeRef& ref) {
  const std::lock_guard operation(operations_);
  const auto found = find_volume(ref);
  if (!found) return fail(found.error());
  Volume& volume = **found;
  const VolumeId id = volume.config.volume_id;
  if (volume.store != nullptr) {
    const std::string name = "volume " + in_quotes(volume.config.name);
    if (volume.moving) {
      return fail(Errc::volume_in_use, "the diff area of the " + name +
                                           " is being moved; wait for that, or cancel it (umbra "
                                           "operations)");
    }
    if (!volume.config.moving_to.empty()) {
      return fail(Errc::bad_state, "the last move of the diff area of the " + name +
                                       " is not settled; start umbra-cowd anew, then detach");
    }
    // Whoever writes to it then costs its copies.
    if (const Status unlocked = volume.store->check_retention(); !unlocked) {
      return fail(unlocked.error(), name + " cannot be detached");
    }
    for (const VolumePtr& other : table()) {
      const auto hosts = other->store != nullptr ? hosts_of(*other) : std::vector<VolumePtr>{};
      if (std::find(hosts.begin(), hosts.end(), *found) == hosts.end()) continue;
      return fail(Errc::volume_in_use, "the volume " + in_quotes(other->config.name) + " lies on " +
                                           name + "; detach that first");
    }
    if (const auto who = users(volume); !who.empty()) {
      return fail(Errc::volume_in_use,
                  name + " is in use: " + joined(who) + "; unmount or close it, then detach");
    }
    if (const Status removed = ports_.registry.remove(id); !removed) {
      return fail(removed.error(), name);
    }
    if (const Status concealed = ports_.front_ends.conceal(id); !concealed) {
      const Status added = ports_.registry.add(registration(volume), *volume.store);
      if (!added) {
        log_.error("a volume that could not be detached cannot be snapshotted until a restart",
                   {{"volume", volume.config.name}, {"reason", added.error().context}});
      }
      return fail(concealed.error(), name);
    }
    const auto forgotten = std::make_shared<Volume>();  // Rows in use are not changed.
    forgotten->config = volume.config;
    forgotten->problem = "detached, but still recorded; detach it again";
    take_down(volume);
    put(forgotten, &volume);
  }
  if (const Status removed = ports_.configs.forget(id); !removed) {
    return fail(removed.error(), "detached, but it would be attached again at the next start");
  }
  log_.info("volume detached", {{"volume", (*found)->config.name}, {"id", id.to_string()}});
  for (const VolumePtr& row : table()) {
    if (row->config.volume_id == id) drop(*row);
  }
  tell_if_complete();
  return {};
}

Status VolumeManager::reattach() {
  const std::lock_guard operation(operations_);
  auto loaded = ports_.configs.load();
  if (!loaded) return fail(loaded.error());
  records_missing_ = !loaded->problems.empty();
  for (const std::string& problem : loaded->problems) {
    log_.error("a volume's record cannot be used; it is left in place", {{"reason", problem}});
  }
  std::stable_sort(loaded->volumes.begin(), loaded->volumes.end(),
                   [](const auto& a, const auto& b) { return a.order < b.order; });
  for (VolumeConfig& config : loaded->volumes) {
    const auto volume = std::make_shared<Volume>();
    volume->config = std::move(config);
    OpenStore open;
    open.origin_path = volume->config.origin_path;
    open.diff_area_path = volume->config.diff_area_path;
    open.volume_id = volume->config.volume_id;
    open.snapshots_max = volume->config.snapshots_max;
    open.direct = volume->config.direct;
    open.reflink = volume->config.reflink;
    open.lock_patience = kLockPatience;
    Status up = check_hosts(volume->config);
    if (up) up = settle(volume->config);
    open.diff_area_path = volume->config.diff_area_path;
    if (up) up = look(*volume);
    if (up) {
      open.apart = !hosts_of(*volume).empty();
      Undo undo;
      up = bring_up(*volume, open, undo);
      if (up) undo.dismiss();
    }
    if (up) {
      log_.info("volume attached again", {{"volume", volume->config.name},
                                          {"id", volume->config.volume_id.to_string()},
                                          {"device", volume->exposed.device_path},
                                          {"served_as", volume->exposed.why},
                                          {"io", volume->store->io_text()}});
    } else {
      volume->exposed = {};
      volume->problem = up.error().to_string();
      log_.error("a recorded volume could not be attached",
                 {{"volume", volume->config.name}, {"reason", volume->problem}});
    }
    put(volume, nullptr);
  }
  tell_if_complete();
  return {};
}

void VolumeManager::close() {
  const std::lock_guard operation(operations_);
  std::vector<VolumePtr> rows = table();
  std::reverse(rows.begin(), rows.end());
  for (const VolumePtr& row : rows) {
    if (row->store != nullptr) {
      ports_.front_ends.cut_off(row->config.volume_id);
      take_down(*row);
    }
    drop(*row);
  }
}

// --- asking -------------------------------------------------------------------------------------

namespace {

void describe_store(const Store& store, VolumeProperties& properties) {
  const cow::Statistics statistics = store.statistics();
  properties.chunk_bytes = static_cast<std::uint32_t>(statistics.chunk_bytes);
  properties.diff_used_bytes = statistics.diff_used_bytes;
  properties.diff_allocated_bytes = statistics.diff_allocated_bytes;
  properties.diff_maximum_bytes = statistics.diff_bytes_max;
  properties.free_bytes_not_copied = statistics.free_bytes_not_copied;
  properties.snapshot_count = statistics.snapshots;
  properties.state = statistics.state.empty() ? "ok" : statistics.state;
}

}  // namespace

VolumeProperties VolumeManager::describe(const Volume& volume) {
  VolumeProperties properties;
  properties.volume_id = volume.config.volume_id;
  properties.name = volume.config.name;
  properties.origin_path = volume.config.origin_path;
  properties.diff_area_path = volume.config.diff_area_path;
  properties.device_path = volume.exposed.device_path;
  properties.device = volume.exposed.device;
  properties.nbd_uri = volume.exposed.nbd_uri;
  if (volume.store != nullptr) {
    properties.front_end = front_end_text(volume.exposed.front_end);
    properties.front_end_why = volume.exposed.why;
  }
  properties.size_bytes = volume.origin.size_bytes;
  if (volume.store != nullptr) {
    describe_store(*volume.store, properties);
  } else {
    properties.state = "not attached: " + volume.problem;
  }
  return properties;
}

std::vector<VolumeProperties> VolumeManager::list() const {
  std::vector<VolumeProperties> result;
  for (const VolumePtr& row : table()) result.push_back(describe(*row));
  std::sort(result.begin(), result.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  return result;
}

std::vector<VolumeProperties> VolumeManager::not_attached() const {
  std::vector<VolumeProperties> missing;
  for (const VolumePtr& row : table()) {
    if (row->store == nullptr) missing.push_back(describe(*row));
  }
  return missing;
}

Result<VolumeProperties> VolumeManager::find(const VolumeRef& ref) const {
  const auto found = find_volume(ref);
  if (!found) return fail(found.error());
  for (VolumeProperties& properties : list()) {
    if (properties.volume_id == (*found)->config.volume_id) return std::move(properties);
  }
  return fail(Errc::object_not_found, "the volume was detached meanwhile");
}

std::vector<std::string> VolumeManager::in_use() const {
  std::vector<std::string> result;
  for (const VolumePtr& row : table()) {
    if (row->store == nullptr) continue;
    for (const std::string& user : users(*row)) result.push_back(row->config.name + ": " + user);
  }
  return result;
}

}  // namespace umbra::cowd
