// SPDX-License-Identifier: Apache-2.0
//
// The provider in memory as one of hardware: its volumes are LUNs of a MemoryArray, its copies too.

#include <algorithm>
#include <utility>

#include "tests/support/memory_array.h"
#include "tests/support/memory_provider.h"

namespace umbra::test {

class MemoryProvider::Hardware final : public HardwareProvider {
 public:
  Hardware(MemoryProvider& provider, MemoryArray& array) : provider_(provider), array_(array) {}

  Result<LunSupport> are_luns_supported(const VolumeRef& ref, std::uint32_t attributes) override {
    Lock lock(provider_.mutex_);
    if (auto entered = enter(lock, "are_luns_supported"); !entered) return fail(entered.error());
    const auto volume = provider_.locate(ref);
    if (!volume) return fail(volume.error());
    return LunSupport{(attributes & provider_.not_offered()) == 0, {(*volume)->second.lun}};
  }

  Result<std::vector<SnapshotLuns>> get_target_luns(const SnapshotSetId& id) override {
    Lock lock(provider_.mutex_);
    if (auto entered = enter(lock, "get_target_luns"); !entered) return fail(entered.error());
    const auto set = provider_.sets_.find(id);
    if (set == provider_.sets_.end()) return fail(Errc::object_not_found, "no such set");
    std::vector<SnapshotLuns> all;
    for (const auto& [snapshot_id, snapshot] : set->second.snapshots)
      all.push_back({snapshot_id, snapshot.luns});
    return all;
  }

  Status locate_luns(const std::vector<LunInformation>& luns) override {
    Lock lock(provider_.mutex_);
    if (auto entered = enter(lock, "locate_luns"); !entered) return entered;
    for (const auto& lun : luns) static_cast<void>(array_.present(lun, &provider_));
    return {};
  }

  Result<std::vector<LunInformation>> fill_in_lun_info() override {
    Lock lock(provider_.mutex_);
    if (auto entered = enter(lock, "fill_in_lun_info"); !entered) return fail(entered.error());
    return array_.seen_by(&provider_);
  }

  Status import_snapshots(const ImportedSet& request) override {
    Lock lock(provider_.mutex_);
    if (auto entered = enter(lock, "import_snapshots"); !entered) return entered;
    if (provider_.ended_.has(request.session_id))
      return fail(Errc::provider_veto, "the session has ended");
    for (const auto& snapshot : request.snapshots) {
      for (const auto& [set_id, set] : provider_.sets_)
        if (set.snapshots.count(snapshot.snapshot_id) > 0)
          return fail(Errc::object_already_exists, "the copy is here");
      for (const auto& lun : snapshot.luns)
        if (!array_.is_presented(lun.target, &provider_))
          return fail(Errc::object_not_found, "a LUN is not here");
    }
    for (const auto& snapshot : request.snapshots) take_in(snapshot, request.session_id);
    return {};
  }

  Status break_snapshot_set(const SnapshotSetId& id, std::uint32_t flags) override {
    Lock lock(provider_.mutex_);
    if (auto entered = enter(lock, "break_snapshot_set"); !entered) return entered;
    const auto set = provider_.sets_.find(id);
    if (set == provider_.sets_.end() || set->second.step != Step::created)
      return fail(Errc::object_not_found, "no such set");
    for (const auto& [snapshot_id, snapshot] : set->second.snapshots) {
      if ((provider_.attributes_of(snapshot) & attribute::kImported) == 0)
        return fail(Errc::provider_veto, "a copy of the set is not imported");
      for (const auto& lun : snapshot.luns)
        if ((flags & break_flag::kRevertIdentityAll) != 0 &&
            array_.is_presented(lun.source, &provider_))
          return fail(Errc::break_revert_id_failed, "LUN " + lun.source.serial + " is visible");
    }
    for (const auto& [snapshot_id, snapshot] : set->second.snapshots) let_go(snapshot, flags);
    provider_.sets_.erase(set);
    provider_.calls_.push_back("broken with " + std::to_string(flags));
    return {};
  }

  Status on_lun_state_change(const std::vector<LunInformation>&, std::uint32_t flags) override {
    Lock lock(provider_.mutex_);
    if (auto entered = enter(lock, "on_lun_state_change"); !entered) return entered;
    provider_.calls_.push_back("state " + std::to_string(flags));
    return {};
  }

  Status resync_luns(const std::vector<LunMapping>& luns, std::uint32_t options,
                     OperationMonitor& monitor) override {
    Lock lock(provider_.mutex_);
    if (auto entered = enter(lock, "resync_luns"); !entered) return entered;
    provider_.calls_.push_back("resync with " + std::to_string(options));
    std::uint64_t done = 0;
    for (const auto& lun : luns) {
      const auto bytes = array_.read(lun.source);
      array_.write(lun.target, bytes);
      for (auto& [id, volume] : provider_.volumes_)
        if (is_same_lun(volume.lun, lun.target)) volume.bytes = bytes;
      static_cast<void>(monitor.progress(++done, luns.size()));
    }
    return {};
  }

  Result<std::vector<VolumeId>> query_volumes_on_luns(
      const std::vector<LunInformation>& luns) override {
    Lock lock(provider_.mutex_);
    if (auto entered = enter(lock, "query_volumes_on_luns"); !entered) return fail(entered.error());
    std::vector<VolumeId> on_them;
    for (const auto& one : provider_.volumes_)
      if (std::any_of(luns.begin(), luns.end(),
                      [&](const auto& lun) { return is_same_lun(lun, one.second.lun); }))
        on_them.push_back(one.first);
    return on_them;
  }

 private:
  Status enter(Lock& lock, const std::string& call) {
    if (auto entered = provider_.enter(lock, call, {}); !entered) return entered;
    return provider_.take_fault(call, {});
  }

  void take_in(const TransportedSnapshot& snapshot, const SessionId& session) {
    Set& set = provider_.sets_[snapshot.set_id];
    set.step = Step::created;
    set.members.resize(snapshot.snapshots_count);
    Snapshot copy;
    copy.request.set_id = snapshot.set_id;
    copy.request.snapshot_id = snapshot.snapshot_id;
    copy.request.session_id = session;
    copy.request.attributes =
        (snapshot.attributes | attribute::kImported) & ~attribute::kNotSurfaced;
    copy.volume = snapshot.volume_id;
    copy.volume_name = snapshot.volume_name;
    copy.machine = snapshot.originating_machine;
    copy.filetime = snapshot.creation_filetime;
    copy.luns = snapshot.luns;
    copy.image = array_.read(snapshot.luns.front().target);
    set.snapshots[snapshot.snapshot_id] = std::move(copy);
  }

  void let_go(const Snapshot& snapshot, std::uint32_t flags) {
    const auto& lun = snapshot.luns.front().target;
    if ((flags & lun_state::kDoMaskLuns) != 0) return array_.mask(lun, &provider_);
    Volume volume;
    volume.name = "was " + snapshot.request.snapshot_id.to_string();
    volume.bytes = snapshot.image;
    volume.lun = lun;
    provider_.volumes_[VolumeId::random()] = std::move(volume);
  }

  MemoryProvider& provider_;
  MemoryArray& array_;
};

void MemoryProvider::pose_as_hardware(MemoryArray& array, const ProviderId& id, ProviderType type) {
  array_ = &array;
  if (!id.is_nil()) properties_.provider_id = id;
  properties_.type = type;
  hardware_ = std::make_unique<Hardware>(*this, array);
  for (auto& [volume_id, volume] : volumes_) make_lun(volume);
}

HardwareProvider* MemoryProvider::hardware() noexcept { return hardware_.get(); }

void MemoryProvider::make_lun(Volume& volume) {
  volume.lun = array_->create(volume.bytes);
  static_cast<void>(array_->present(volume.lun, this));
}

void MemoryProvider::share_lun(const VolumeId& volume, const VolumeId& with) {
  const Lock lock(mutex_);
  volumes_.at(volume).lun = volumes_.at(with).lun;
}

LunInformation MemoryProvider::lun_of(const VolumeId& volume) const {
  const Lock lock(mutex_);
  return volumes_.at(volume).lun;
}

void MemoryProvider::forget_volume(const VolumeId& volume) {
  const Lock lock(mutex_);
  volumes_.erase(volume);
}

// The copy's LUN; this host sees it unless the set is to be transported.
void MemoryProvider::clone_lun(Snapshot& snapshot) {
  if (array_ == nullptr) return;
  const auto target = array_->create(snapshot.image);
  snapshot.luns = {{volumes_.at(snapshot.volume).lun, target, {}}};
  if ((snapshot.request.attributes & attribute::kTransportable) == 0)
    static_cast<void>(array_->present(target, this));
}

void MemoryProvider::remove_luns(const Snapshot& snapshot) {
  if (array_ == nullptr) return;
  for (const auto& lun : snapshot.luns) array_->remove(lun.target);
}

std::uint32_t MemoryProvider::attributes_of(const Snapshot& snapshot) const {
  const auto attributes = snapshot.request.attributes;
  const bool brought_in = hardware_ && (attributes & attribute::kTransportable) == 0;
  return brought_in ? attributes | attribute::kImported : attributes;
}

std::uint32_t MemoryProvider::not_offered() const {
  std::uint32_t none = attribute::kImported;
  if (!hardware_) none |= attribute::kTransportable | attribute::kPlex;
  if (properties_.type != ProviderType::hardware) none |= attribute::kHardwareAssisted;
  if (properties_.type != ProviderType::file_share) none |= attribute::kFileShare;
  return none;
}

}  // namespace umbra::test
