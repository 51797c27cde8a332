// SPDX-License-Identifier: Apache-2.0
//
// What comes first when both cannot be had: the volume, or its copies.
//
// Protection level "original volume" (the default): a copy that cannot be made costs snapshots,
// never a live write. Level "snapshot", or a snapshot under retention lock that would be lost: the
// volume is faulted instead. From that moment every live request gets EIO, those that wait
// included; no write has reached the origin that the snapshots do not know. The fault is kept in
// the superblock and survives a restart; if it cannot be written there (the diff area is what
// failed), it is tried again with every tick, and a restart before that comes up without the fault
// and meets it again at the first write: nothing is lost by it.
//
// Retention: a locked snapshot is deleted, lost or given up by nobody until its time. What "now" is
// comes from the clock, but never below the highest time that this volume has seen, which is kept
// in the superblock: setting the clock back does not help. Whoever can write the diff area's device
// itself, or set the clock forward, is beyond its reach.
#include <algorithm>

#include "engine/platform/assert.h"
#include "provider/cow/contents.h"
#include "provider/cow/core.h"

namespace umbra::cow {
namespace {

constexpr std::int64_t kTicksPerSecond = 10'000'000;

}  // namespace

// --- settings ------------------------------------------------------------------------------------

Status Volume::Impl::change_settings(const std::function<void(format::Settings&)>& change) {
  const format::Settings before = superblock_.settings;
  change(superblock_.settings);
  Status written = write_superblock(false);
  // On failure either may be found after a crash; here the former counts.
  if (!written) superblock_.settings = before;
  return written;
}

void Volume::Impl::adopt_settings() {
  const format::Settings& settings = superblock_.settings;
  const std::lock_guard lock(mutex_);
  protects_.store(settings.protection_level == 1);
  fault_ = static_cast<Fault>(settings.fault);
  fault_filetime_ = settings.fault_filetime;
  faulted_.store(settings.fault != 0);
  highest_filetime_ = settings.highest_filetime;
  space_.thresholds.set(settings.threshold_percents);
  space_.initial_segments = layout_.segments_in(settings.diff_bytes_initial);
  retention_reserve_bytes_ = settings.retention_reserve_bytes;
  if (faulted_.load()) trouble_ = std::string("faulted: ") + name_of(fault_);
}

// --- protection ----------------------------------------------------------------------------------

bool Volume::Impl::must_protect(const std::vector<std::shared_ptr<Snapshot>>& victims) noexcept {
  if (victims.empty()) return false;
  return protects_.load() ||
         std::any_of(victims.begin(), victims.end(),
                     [this](const auto& victim) { return is_retained(victim->slot); });
}

void Volume::Impl::raise_fault(Fault fault) {
  {
    const std::lock_guard lock(mutex_);
    if (!faulted_.exchange(true)) {
      fault_ = fault;
      fault_filetime_ = clock_.wall_filetime();
      fault_unsaved_ = true;
      trouble_ = std::string("faulted: ") + name_of(fault);
      Event event;
      event.kind = EventKind::protection_fault;
      event.fault = fault;
      event.text = "live I/O fails until the fault is cleared; the copies are kept";
      tell(std::move(event));
    }
    if (!fault_unsaved_) return;
  }
  log_.error("the volume is faulted to protect its copies: live I/O fails until that is cleared",
             {{"volume", id().to_string()}, {"fault", name_of(fault)}});
  save_fault();
}

void Volume::Impl::save_fault() {
  const std::lock_guard table(table_mutex_);
  Fault fault = Fault::none;
  std::int64_t when = 0;
  {
    const std::lock_guard lock(mutex_);
    if (!fault_unsaved_) return;
    fault = fault_;
    when = fault_filetime_;
  }
  const Status saved = change_settings([&](format::Settings& settings) {
    settings.fault = static_cast<std::uint32_t>(fault);
    settings.fault_filetime = when;
  });
  const std::lock_guard lock(mutex_);
  fault_unsaved_ = !saved;
  if (!saved) post_tick();
}

Protection Volume::Impl::protection() const {
  const std::lock_guard lock(mutex_);
  Protection protection;
  protection.level =
      protects_.load() ? ProtectionLevel::snapshot : ProtectionLevel::original_volume;
  protection.fault = fault_;
  protection.fault_filetime = fault_filetime_;
  protection.offline = faulted_.load();
  return protection;
}

Status Volume::Impl::set_protection_level(ProtectionLevel level) {
  const std::lock_guard table(table_mutex_);
  const bool protects = level == ProtectionLevel::snapshot;
  {
    const std::lock_guard lock(mutex_);
    if (closed_.load()) return fail(Errc::bad_state, "the volume is closed");
    if (protects == protects_.load()) return {};
    if (!protects && faulted_.load()) {
      return fail(Errc::bad_state, "the volume is faulted; clear the fault first");
    }
    if (!protects) {
      if (Status unlocked = refuse_if_retained(); !unlocked) return unlocked;
    }
  }
  const Status written = change_settings([&](format::Settings& settings) {
    settings.protection_level = static_cast<std::uint32_t>(level);
  });
  if (written) protects_.store(protects);
  return written;
}

Status Volume::Impl::clear_protection_fault() {
  const std::lock_guard table(table_mutex_);
  {
    const std::lock_guard lock(mutex_);
    if (closed_.load()) return fail(Errc::bad_state, "the volume is closed");
    if (!faulted_.load()) return {};
  }
  const Status written = change_settings([](format::Settings& settings) {
    settings.fault = 0;
    settings.fault_filetime = 0;
  });
  if (!written) return fail(written.error(), "the diff area does not work yet; attach it again");
  const std::lock_guard lock(mutex_);
  fault_ = Fault::none;
  fault_filetime_ = 0;
  fault_unsaved_ = false;
  trouble_.clear();
  space_.growth.reset();
  space_.eviction_failed = false;
  faulted_.store(false);
  Event event;
  event.kind = EventKind::protection_cleared;
  tell(std::move(event));
  return {};
}

// --- thresholds ----------------------------------------------------------------------------------

Status Volume::Impl::set_thresholds(const ThresholdPercents& percents) {
  if (!std::is_sorted(percents.begin(), percents.end()) || percents.front() == 0 ||
      percents.back() > 100) {
    return fail(Errc::invalid_argument, "thresholds are percents, 1 to 100, in ascending order");
  }
  const std::lock_guard table(table_mutex_);
  if (closed_.load()) return fail(Errc::bad_state, "the volume is closed");
  if (superblock_.settings.threshold_percents == percents) return {};
  const Status written =
      change_settings([&](format::Settings& settings) { settings.threshold_percents = percents; });
  if (!written) return written;
  const std::lock_guard lock(mutex_);
  space_.thresholds.set(percents);
  note_thresholds();
  return {};
}

// --- retention -----------------------------------------------------------------------------------

std::int64_t Volume::Impl::trusted_now() noexcept {
  highest_filetime_ = std::max(highest_filetime_, clock_.wall_filetime());
  return highest_filetime_;
}

bool Volume::Impl::is_retained(const format::SnapshotSlot& slot) noexcept {
  return slot.retain_until_filetime != 0 && slot.retain_until_filetime > trusted_now();
}

// The one place that says whether a lock forbids something, and in which words.
Status Volume::Impl::refuse_if_retained(std::uint64_t above_epoch,
                                        std::uint64_t up_to_epoch) noexcept {
  for (auto it = snapshots_.upper_bound(above_epoch);
       it != snapshots_.end() && it->first <= up_to_epoch; ++it) {
    const format::SnapshotSlot& slot = it->second->slot;
    if (!is_retained(slot)) continue;
    return fail(Errc::access_denied, locked_text(slot.id, slot.retain_until_filetime) +
                                         "; nothing that could cost it is done before");
  }
  return {};
}

Status Volume::Impl::check_retention(const std::optional<SnapshotId>& newer_than) noexcept {
  const std::lock_guard lock(mutex_);
  if (!newer_than) return refuse_if_retained();
  const auto snapshot = find_snapshot(*newer_than);
  if (!snapshot) return fail(Errc::object_not_found, "snapshot " + newer_than->to_string());
  return refuse_if_retained(snapshot->epoch);
}

Status Volume::Impl::set_retention(const RetentionPolicy& policy) {
  const std::lock_guard table(table_mutex_);
  if (closed_.load()) return fail(Errc::bad_state, "the volume is closed");
  if (policy.longest_seconds < 0 ||
      policy.longest_seconds > std::numeric_limits<std::int64_t>::max() / kTicksPerSecond / 2) {
    return fail(Errc::invalid_argument, "the longest term of a retention lock");
  }
  const Status written = change_settings([&](format::Settings& settings) {
    settings.retention_longest_seconds = policy.longest_seconds;
    settings.retention_reserve_bytes = policy.reserve_bytes;
  });
  if (!written) return written;
  const std::lock_guard lock(mutex_);
  retention_reserve_bytes_ = policy.reserve_bytes;
  return {};
}

Status Volume::Impl::retain(const SnapshotId& id, std::int64_t until_filetime) {
  const std::lock_guard table(table_mutex_);
  const auto snapshot = committed(id);
  if (!snapshot) return fail(snapshot.error());
  format::SnapshotSlot slot = slot_of(**snapshot);
  if (slot.lost) return fail(Errc::snapshot_lost, "snapshot " + id.to_string());
  if (!slot.persistent) {
    return fail(Errc::unsupported_context, "only persistent snapshots can be locked");
  }
  const std::int64_t longest = superblock_.settings.retention_longest_seconds;
  if (longest == 0) {
    return fail(Errc::bad_state, "the volume has no retention policy; set its longest term first");
  }
  {
    const std::lock_guard lock(mutex_);
    const std::int64_t now = trusted_now();
    if (until_filetime > now && until_filetime - now > longest * kTicksPerSecond) {
      return fail(Errc::invalid_argument,
                  "longer than the policy's longest term of " + std::to_string(longest) + " s");
    }
    if (until_filetime < slot.retain_until_filetime && is_retained(slot)) {
      return fail(Errc::invalid_argument, "a retention lock can be made longer, not shorter");
    }
    if (until_filetime <= now) {
      return fail(Errc::invalid_argument, "a retention lock ends in the future");
    }
  }
  slot.retain_until_filetime = until_filetime;
  if (Status written = write_slot(slot); !written) return written;
  {
    const std::lock_guard lock(mutex_);
    (*snapshot)->slot.retain_until_filetime = until_filetime;
  }
  // The time that was seen, so that a restart with an older clock knows it.
  return change_settings([](format::Settings&) {});
}

}  // namespace umbra::cow
