// SPDX-License-Identifier: Apache-2.0

#include "tests/support/memory_provider.h"

#include <algorithm>
#include <utility>

namespace umbra::test {
namespace {

HoldReport report_of(Duration held) {
  const auto us = std::chrono::duration_cast<std::chrono::microseconds>(held);
  return {{}, us, us};
}

}  // namespace

MemoryProvider::MemoryProvider(const Clock& clock, std::string name, ProviderType type)
    : clock_(clock), properties_{ProviderId::random(), std::move(name), type, "1"} {}

MemoryProvider::~MemoryProvider() {
  // Whoever is still blocked in a call gets out first.
  Lock lock(mutex_);
  ending_ = true;
  changed_.notify_all();
  changed_.wait(lock, [this] { return waiting_.empty(); });
}

// --- the world ----------------------------------------------------------------------------------

VolumeId MemoryProvider::add_volume(const std::string& name, std::size_t size_bytes,
                                    std::uint64_t device) {
  const Lock lock(mutex_);
  const auto id = VolumeId::random();
  volumes_[id] = Volume{name, device, std::string(size_bytes, '\0'), {}, false, {}};
  if (array_ != nullptr) make_lun(volumes_[id]);
  return id;
}

bool MemoryProvider::still_held(const Volume& volume) const {
  return volume.held && clock_.now() < volume.held_until;
}

Status MemoryProvider::write(const VolumeId& id, std::size_t offset, std::string_view bytes) {
  Lock lock(mutex_);
  const auto found = volumes_.find(id);
  if (found == volumes_.end()) return fail(Errc::object_not_found, "no such volume");
  auto& volume = found->second;
  if (offset > volume.bytes.size() || bytes.size() > volume.bytes.size() - offset)
    return fail(Errc::invalid_argument, "beyond the end of the volume");
  waiting_.insert("write");
  changed_.notify_all();
  changed_.wait(lock, [&] { return ending_ || !still_held(volume); });
  waiting_.erase(waiting_.find("write"));
  changed_.notify_all();
  volume.bytes.replace(offset, bytes.size(), bytes);
  return {};
}

std::string MemoryProvider::read_volume(const VolumeId& id) const {
  const Lock lock(mutex_);
  const auto found = volumes_.find(id);
  return found != volumes_.end() ? found->second.bytes : std::string{};
}

Result<std::string> MemoryProvider::read_snapshot(const SnapshotId& id, std::size_t offset,
                                                  std::size_t size) const {
  const Lock lock(mutex_);
  for (const auto& [set_id, set] : sets_) {
    const auto found = set.snapshots.find(id);
    if (found == set.snapshots.end() || set.step < Step::committed) continue;
    return found->second.image.substr(std::min(offset, found->second.image.size()), size);
  }
  return fail(Errc::object_not_found, "no such snapshot");
}

void MemoryProvider::set_in_use(const SnapshotId& id, bool in_use) {
  const Lock lock(mutex_);
  for (auto& [set_id, set] : sets_)
    if (const auto found = set.snapshots.find(id); found != set.snapshots.end())
      found->second.in_use = in_use;
}

void MemoryProvider::restart() {
  const Lock lock(mutex_);
  for (auto& [id, volume] : volumes_) volume.held = false;
  for (auto it = sets_.begin(); it != sets_.end();) {
    const auto& set = it->second;
    // A prepared set waits only for members that somebody else may have confirmed.
    it = set.step == Step::created || set.in_doubt() ? std::next(it) : sets_.erase(it);
  }
  ended_ = {};
  ++lives_;
  changed_.notify_all();
}

// --- faults -------------------------------------------------------------------------------------

void MemoryProvider::fail_next(const std::string& call, Error error) {
  const Lock lock(mutex_);
  failures_[call] = std::move(error);
}

void MemoryProvider::block(const std::string& call) {
  const Lock lock(mutex_);
  blocked_.insert(call);
}

void MemoryProvider::unblock(const std::string& call) {
  const Lock lock(mutex_);
  blocked_.erase(call);
  changed_.notify_all();
}

bool MemoryProvider::wait_blocked(const std::string& call, std::chrono::milliseconds limit) {
  Lock lock(mutex_);
  return changed_.wait_for(lock, limit, [&] { return waiting_.count(call) > 0; });
}

bool MemoryProvider::is_held(const VolumeId& id) const {
  const Lock lock(mutex_);
  const auto found = volumes_.find(id);
  return found != volumes_.end() && still_held(found->second);
}

std::vector<std::string> MemoryProvider::calls() const {
  const Lock lock(mutex_);
  return calls_;
}

std::size_t MemoryProvider::unfinished_sets() const {
  const Lock lock(mutex_);
  return static_cast<std::size_t>(std::count_if(
      sets_.begin(), sets_.end(), [](const auto& it) { return it.second.step != Step::created; }));
}

Status MemoryProvider::enter(Lock& lock, const std::string& call, const SnapshotSetId& set) {
  calls_.push_back(call);
  if (blocked_.count(call) == 0) return {};
  waiting_.insert(call);
  changed_.notify_all();
  const bool known = sets_.count(set) > 0;
  if (known && call == "confirm_set") sets_.at(set).confirming = true;
  const int life = lives_;
  changed_.wait(lock, [&] {
    return ending_ || life != lives_ || blocked_.count(call) == 0 ||
           (known && sets_.count(set) == 0);
  });
  waiting_.erase(waiting_.find(call));
  if (sets_.count(set) > 0) sets_.at(set).confirming = false;
  changed_.notify_all();
  if (ending_ || life != lives_) return fail(Errc::provider_veto, "the provider is ending");
  return {};
}

Status MemoryProvider::take_fault(const std::string& call, const SnapshotSetId& set) {
  const auto found = failures_.find(call);
  if (found == failures_.end()) return {};
  auto error = found->second;
  failures_.erase(found);
  const auto it = sets_.find(set);
  if (it != sets_.end() && it->second.in_doubt()) return tl::unexpected<Error>(std::move(error));
  if (it != sets_.end() && it->second.step != Step::preparing)
    discard(set);
  else if (call == "end_prepare_snapshots")
    discard(set);
  return tl::unexpected<Error>(std::move(error));
}

// --- volumes ------------------------------------------------------------------------------------

Result<std::map<VolumeId, MemoryProvider::Volume>::iterator> MemoryProvider::locate(
    const VolumeRef& ref) {
  for (auto it = volumes_.begin(); it != volumes_.end(); ++it) {
    const auto& [id, volume] = *it;
    const bool named = !ref.name.empty();
    if (ref.id && *ref.id != id) continue;
    if (named && ref.name != volume.name && ref.name != id.to_string()) continue;
    if (ref.device && (*ref.device != volume.device || volume.device == 0)) continue;
    if (ref.id || named || ref.device) return it;
  }
  return fail(Errc::object_not_found, "no such volume");
}

VolumeProperties MemoryProvider::describe(const VolumeId& id, const Volume& volume) const {
  VolumeProperties properties;
  properties.volume_id = id;
  properties.name = volume.name;
  properties.device = volume.device;
  properties.size_bytes = volume.bytes.size();
  properties.chunk_bytes = 16 * 1024;
  properties.state = "ok";
  for (const auto& [set_id, set] : sets_)
    for (const auto& [snapshot_id, snapshot] : set.snapshots)
      if (snapshot.volume == id && set.step == Step::created) ++properties.snapshot_count;
  return properties;
}

Result<VolumeProperties> MemoryProvider::find_volume(const VolumeRef& ref) {
  Lock lock(mutex_);
  if (auto entered = enter(lock, "find_volume", {}); !entered) return fail(entered.error());
  if (auto fault = take_fault("find_volume", {}); !fault) return fail(fault.error());
  const auto found = locate(ref);
  if (!found) return fail(found.error());
  return describe((*found)->first, (*found)->second);
}

Result<std::vector<VolumeProperties>> MemoryProvider::list_volumes() {
  Lock lock(mutex_);
  if (auto entered = enter(lock, "list_volumes", {}); !entered) return fail(entered.error());
  if (auto fault = take_fault("list_volumes", {}); !fault) return fail(fault.error());
  std::vector<VolumeProperties> list;
  for (const auto& [id, volume] : volumes_) list.push_back(describe(id, volume));
  return list;
}

Result<bool> MemoryProvider::is_volume_supported(const VolumeRef& ref, std::uint32_t attributes) {
  Lock lock(mutex_);
  if (auto entered = enter(lock, "is_volume_supported", {}); !entered) return fail(entered.error());
  if (auto fault = take_fault("is_volume_supported", {}); !fault) return fail(fault.error());
  if (const auto found = locate(ref); !found) return fail(found.error());
  return (attributes & not_offered()) == 0;
}

// --- one set, call by call ----------------------------------------------------------------------

Status MemoryProvider::begin_prepare_snapshot(const PrepareSnapshot& request) {
  Lock lock(mutex_);
  if (auto entered = enter(lock, "begin_prepare_snapshot", {}); !entered) return entered;
  if (auto fault = take_fault("begin_prepare_snapshot", {}); !fault) return fault;
  if (ended_.has(request.set_id) || ended_.has(request.session_id))
    return fail(Errc::provider_veto, "the set or its session has ended");
  const auto volume = locate(request.volume);
  if (!volume) return fail(volume.error());
  if ((request.attributes & not_offered()) != 0)
    return fail(Errc::unsupported_context, "attributes that a provider in memory does not offer");
  // A new set id says that an older unfinished set is dead.
  for (auto it = sets_.begin(); it != sets_.end();) {
    const auto id = (it++)->first;
    if (id != request.set_id && sets_.at(id).step < Step::postfinal) discard(id);
  }
  std::uint32_t count = 0;
  for (const auto& [set_id, other] : sets_) {
    if (other.snapshots.count(request.snapshot_id) > 0)
      return fail(Errc::object_already_exists, "this snapshot id is in use");
    for (const auto& [id, snapshot] : other.snapshots)
      if (snapshot.volume == (*volume)->first) ++count;
  }
  const auto found = sets_.find(request.set_id);
  if (found != sets_.end()) {
    if (found->second.step != Step::preparing) {
      if (found->second.step != Step::created) discard(request.set_id);
      return fail(Errc::provider_veto, "the set is already prepared");
    }
    for (const auto& [id, snapshot] : found->second.snapshots)
      if (snapshot.volume == (*volume)->first)
        return fail(Errc::object_already_exists, "the volume is already in the set");
    if (found->second.snapshots.size() >= kVolumesPerSetMax)
      return fail(Errc::maximum_number_of_volumes_reached, "64 volumes");
  }
  if (count >= kSnapshotsPerVolumeMax)
    return fail(Errc::maximum_number_of_snapshots_reached, "512 snapshots");
  sets_[request.set_id].snapshots[request.snapshot_id] =
      Snapshot{request, (*volume)->first, {}, 0, false, {}, {}, {}};
  return {};
}

Result<MemoryProvider::Set*> MemoryProvider::expect(Lock& lock, const std::string& call,
                                                    const SnapshotSetId& id, Step expected) {
  if (auto entered = enter(lock, call, id); !entered) return fail(entered.error());
  if (auto fault = take_fault(call, id); !fault) return fail(fault.error());
  const auto found = sets_.find(id);
  if (found == sets_.end()) return fail(Errc::provider_veto, call + ": no such set");
  if (found->second.step != expected) {
    if (found->second.step != Step::created) discard(id);
    return fail(Errc::provider_veto, call + " out of order");
  }
  return &found->second;
}

Status MemoryProvider::step(const std::string& call, const SnapshotSetId& id, Step from, Step to) {
  Lock lock(mutex_);
  const auto set = expect(lock, call, id, from);
  if (!set) return fail(set.error());
  (*set)->step = to;
  return {};
}

Status MemoryProvider::end_prepare_snapshots(const SnapshotSetId& set) {
  return step("end_prepare_snapshots", set, Step::preparing, Step::prepared);
}

Status MemoryProvider::pre_commit_snapshots(const SnapshotSetId& set) {
  return step("pre_commit_snapshots", set, Step::prepared, Step::precommitted);
}

void MemoryProvider::hold(Set& set, const HoldLimits& limits) {
  set.hold_begin = clock_.now();
  set.lease_end = set.hold_begin + limits.hold;
  for (auto& [id, snapshot] : set.snapshots) {
    auto& volume = volumes_.at(snapshot.volume);
    volume.held = true;
    volume.held_until = set.lease_end;
  }
  set.step = Step::holding;
}

void MemoryProvider::commit(Set& set) {
  for (auto& [id, snapshot] : set.snapshots) {
    snapshot.image = volumes_.at(snapshot.volume).bytes;
    snapshot.filetime = clock_.wall_filetime();
    clone_lun(snapshot);
  }
  set.step = Step::committed;
}

HoldReport MemoryProvider::open_gates(Set& set) {
  for (auto& [id, snapshot] : set.snapshots)
    if (const auto volume = volumes_.find(snapshot.volume); volume != volumes_.end())
      volume->second.held = false;  // An imported copy's is not here.
  changed_.notify_all();
  return report_of(clock_.now() - set.hold_begin);
}

Status MemoryProvider::flush_and_hold(const SnapshotSetId& id, const HoldLimits& limits) {
  Lock lock(mutex_);
  const auto set = expect(lock, "flush_and_hold", id, Step::precommitted);
  if (!set) return fail(set.error());
  hold(**set, limits);
  return {};
}

Status MemoryProvider::commit_snapshots(const SnapshotSetId& id) {
  Lock lock(mutex_);
  const auto set = expect(lock, "commit_snapshots", id, Step::holding);
  if (!set) return fail(set.error());
  if (clock_.now() >= (*set)->lease_end) {
    discard(id);
    return fail(Errc::hold_writes_timeout, "the lease has ended before the commit");
  }
  commit(**set);
  return {};
}

Result<HoldReport> MemoryProvider::release_hold(const SnapshotSetId& id) {
  Lock lock(mutex_);
  if (auto entered = enter(lock, "release_hold", id); !entered) return fail(entered.error());
  if (auto fault = take_fault("release_hold", id); !fault) return fail(fault.error());
  const auto found = sets_.find(id);
  // Idempotent: what is not held is released.
  if (found == sets_.end() || found->second.step >= Step::released) return HoldReport{};
  auto& set = found->second;
  if (set.step < Step::holding) return fail(Errc::provider_veto, "release_hold out of order");
  const bool throughout = clock_.now() < set.lease_end;
  const bool has_commit = set.step == Step::committed;
  const auto report = open_gates(set);
  if (!throughout || !has_commit) {
    discard(id);
    if (!throughout) return fail(Errc::hold_writes_timeout, "the lease ended before the release");
    return report;
  }
  set.step = Step::released;
  return report;
}

Result<HoldReport> MemoryProvider::flush_commit_release(const SnapshotSetId& id,
                                                        const HoldLimits& limits) {
  Lock lock(mutex_);
  const auto arrival = clock_.now();
  const auto set = expect(lock, "flush_commit_release", id, Step::precommitted);
  if (!set) return fail(set.error());
  if (clock_.now() - arrival >= limits.window) {
    discard(id);
    return fail(Errc::writererror_timeout, "the smallest freeze window has passed");
  }
  hold(**set, limits);
  commit(**set);
  const auto report = open_gates(**set);
  (*set)->step = Step::released;
  return report;
}

Status MemoryProvider::post_commit_snapshots(const SnapshotSetId& id,
                                             const std::vector<SnapshotId>& members) {
  Lock lock(mutex_);
  const auto set = expect(lock, "post_commit_snapshots", id, Step::released);
  if (!set) return fail(set.error());
  for (const auto& [snapshot_id, snapshot] : (*set)->snapshots) {
    if (std::find(members.begin(), members.end(), snapshot_id) != members.end()) continue;
    discard(id);
    return fail(Errc::invalid_argument, "the member list lacks a snapshot of the set");
  }
  (*set)->members = members;
  (*set)->step = Step::postcommitted;
  return {};
}

Status MemoryProvider::pre_final_commit_snapshots(const SnapshotSetId& set) {
  return step("pre_final_commit_snapshots", set, Step::postcommitted, Step::prefinal);
}

Status MemoryProvider::post_final_commit_snapshots(const SnapshotSetId& set) {
  return step("post_final_commit_snapshots", set, Step::prefinal, Step::postfinal);
}

Status MemoryProvider::confirm_set(const SnapshotSetId& set) {
  return step("confirm_set", set, Step::postfinal, Step::created);
}

void MemoryProvider::discard(const SnapshotSetId& id) {
  ended_.add(id);
  const auto found = sets_.find(id);
  if (found == sets_.end()) return;
  static_cast<void>(open_gates(found->second));
  for (const auto& [snapshot_id, snapshot] : found->second.snapshots) remove_luns(snapshot);
  sets_.erase(found);
  changed_.notify_all();
}

void MemoryProvider::abort_snapshots(const SnapshotSetId& id) noexcept {
  Lock lock(mutex_);
  static_cast<void>(enter(lock, "abort_snapshots", {}));
  ended_.add(id);
  const auto found = sets_.find(id);
  if (found != sets_.end() && found->second.step != Step::created) discard(id);
}

Result<SetFate> MemoryProvider::query_set(const SnapshotSetId& id) {
  Lock lock(mutex_);
  if (auto entered = enter(lock, "query_set", {}); !entered) return fail(entered.error());
  if (auto fault = take_fault("query_set", {}); !fault) return fail(fault.error());
  const auto found = sets_.find(id);
  if (found == sets_.end()) return SetFate::none;
  if (found->second.step == Step::created) return SetFate::created;
  const bool prepared = found->second.step == Step::postfinal && !found->second.confirming;
  return prepared ? SetFate::prepared : SetFate::undecided;
}

Status MemoryProvider::complete_set(const SnapshotSetId& id) {
  Lock lock(mutex_);
  if (auto entered = enter(lock, "complete_set", {}); !entered) return entered;
  if (auto fault = take_fault("complete_set", {}); !fault) return fault;
  changed_.wait(lock, [&] { return sets_.count(id) == 0 || !sets_.at(id).confirming; });
  const auto found = sets_.find(id);
  if (found == sets_.end()) return fail(Errc::object_not_found, "no such set");
  if (found->second.step < Step::postfinal) return fail(Errc::bad_state, "not prepared for good");
  found->second.step = Step::created;
  return {};
}

// --- created copies -----------------------------------------------------------------------------

SnapshotProperties MemoryProvider::describe(const Set& set, const Snapshot& snapshot) const {
  SnapshotProperties properties;
  properties.snapshot_id = snapshot.request.snapshot_id;
  properties.set_id = snapshot.request.set_id;
  properties.volume_id = snapshot.volume;
  properties.provider_id = properties_.provider_id;
  properties.snapshots_count = static_cast<std::uint32_t>(set.members.size());
  const auto volume = volumes_.find(snapshot.volume);
  properties.original_volume =
      volume != volumes_.end() ? volume->second.name : snapshot.volume_name;
  properties.originating_machine = snapshot.machine;
  properties.attributes = attributes_of(snapshot);
  // What is to be transported is seen where it is imported.
  const bool away = (properties.attributes & attribute::kTransportable) != 0 &&
                    (properties.attributes & attribute::kImported) == 0;
  if (!away) properties.device_object = "/memory/" + snapshot.request.snapshot_id.to_string();
  properties.creation_filetime = snapshot.filetime;
  properties.state = set.step == Step::created ? SnapshotState::created
                                               : SnapshotState::processing_postfinalcommit;
  return properties;
}

Result<std::vector<SnapshotProperties>> MemoryProvider::query_snapshots(bool incomplete) {
  Lock lock(mutex_);
  if (auto entered = enter(lock, "query_snapshots", {}); !entered) return fail(entered.error());
  if (auto fault = take_fault("query_snapshots", {}); !fault) return fail(fault.error());
  std::vector<SnapshotProperties> list;
  for (const auto& [set_id, set] : sets_) {
    if (set.step != Step::created && !(incomplete && set.step >= Step::prefinal)) continue;
    for (const auto& [id, snapshot] : set.snapshots) list.push_back(describe(set, snapshot));
  }
  return list;
}

DeleteReport MemoryProvider::delete_snapshots(const Guid& id, ObjectType type, bool force) {
  Lock lock(mutex_);
  DeleteReport report;
  report.status = enter(lock, "delete_snapshots", {});
  if (report.status) report.status = take_fault("delete_snapshots", {});
  if (!report.status) return report;
  if (type != ObjectType::snapshot && type != ObjectType::snapshot_set) {
    report.status = fail(Errc::invalid_argument, "neither a snapshot nor a set");
    return report;
  }
  bool found = false;
  for (auto set = sets_.begin(); set != sets_.end();) {
    auto& [set_id, entry] = *set;
    const bool reachable = entry.step >= Step::postfinal;
    for (auto it = entry.snapshots.begin(); reachable && it != entry.snapshots.end();) {
      const bool meant = type == ObjectType::snapshot ? Guid{it->first} == id : Guid{set_id} == id;
      if (!meant) {
        ++it;
        continue;
      }
      found = true;
      if (it->second.in_use && !force) {
        report.not_deleted = it->first;
        report.status = fail(Errc::volume_in_use, "the snapshot is open");
        return report;
      }
      remove_luns(it->second);
      it = entry.snapshots.erase(it);
      ++report.deleted;
    }
    set = entry.snapshots.empty() ? sets_.erase(set) : std::next(set);
  }
  if (!found) report.status = fail(Errc::object_not_found, "no such snapshot or set");
  return report;
}

void MemoryProvider::end_session_locked(const SessionId& session) {
  ended_.add(session);
  for (auto it = sets_.begin(); it != sets_.end();) {
    const auto id = (it++)->first;
    auto& set = sets_.at(id);
    const auto& request = set.snapshots.begin()->second.request;
    if (request.session_id != session) continue;
    const bool stays = set.step == Step::created || set.in_doubt();
    if (!stays || is_auto_release(request.attributes)) discard(id);
  }
}

void MemoryProvider::end_session(const SessionId& session) noexcept {
  Lock lock(mutex_);
  static_cast<void>(enter(lock, "end_session", {}));
  end_session_locked(session);
}

void MemoryProvider::retain_sessions(const std::vector<SessionId>& alive) noexcept {
  Lock lock(mutex_);
  static_cast<void>(enter(lock, "retain_sessions", {}));
  std::set<SessionId> over;
  for (const auto& [id, set] : sets_) over.insert(set.snapshots.begin()->second.request.session_id);
  for (const auto& session : alive) over.erase(session);
  for (const auto& session : over) end_session_locked(session);
}

}  // namespace umbra::test
