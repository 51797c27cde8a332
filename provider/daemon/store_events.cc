// SPDX-License-Identifier: Apache-2.0
#include "provider/daemon/store_events.h"

#include <utility>

namespace umbra::cowd {
namespace {

// A queue of copies that nobody takes: more than a volume can lose at a time is not remembered, and
// reading what is not withdrawn gives errors all the same.
constexpr std::size_t kQueueMax = 65'536;

struct Meaning {
  std::uint32_t event_id = 0;  // Of "volsnap".
  EventSeverity severity = EventSeverity::information;
};

Meaning meaning_of_removal(cow::Removal removal) {
  switch (removal) {
    case cow::Removal::evicted:
    case cow::Removal::shrunk: return {33, EventSeverity::warning};
    case cow::Removal::requested:
    case cow::Removal::session_ended:
    case cow::Removal::set_failed:
    case cow::Removal::recovery:
    case cow::Removal::reverted: break;
  }
  return {};
}

// Why copies were lost, by the event that Windows has for it.
std::uint32_t loss_id(cow::Fault fault) {
  switch (fault) {
    case cow::Fault::grow_too_slow: return 25;
    case cow::Fault::grow_failed: return 35;
    case cow::Fault::diff_area_full: return 36;
    default: return 14;
  }
}

Meaning meaning_of(const cow::Event& event) {
  switch (event.kind) {
    case cow::EventKind::snapshot_deleted: return meaning_of_removal(event.removal);
    case cow::EventKind::snapshot_lost: return {loss_id(event.fault), EventSeverity::error};
    case cow::EventKind::threshold_crossed:
    case cow::EventKind::overflow: return {0, EventSeverity::warning};
    case cow::EventKind::grow_failed: return {24, EventSeverity::warning};
    case cow::EventKind::damage_found:
    case cow::EventKind::writes_held: return {0, EventSeverity::error};
    case cow::EventKind::protection_fault: return {83, EventSeverity::error};
    case cow::EventKind::diff_area_gone: return {39, EventSeverity::error};
    default: return {};
  }
}

}  // namespace

ProviderEvent provider_event(const cow::Event& event, const std::string& volume) {
  const Meaning meaning = meaning_of(event);
  ProviderEvent told;
  told.name = cow::name_of(event.kind);
  told.event_id = meaning.event_id;
  told.severity = meaning.severity;
  told.time_filetime = event.time_filetime;
  told.volume_id = event.volume;
  told.volume = volume;
  told.snapshot_id = event.snapshot;
  told.set_id = event.set;
  if (event.kind == cow::EventKind::snapshot_deleted) told.cause = cow::name_of(event.removal);
  told.who = event.who;
  told.percent = event.percent;
  told.fault = static_cast<ProtectionFault>(event.fault);
  told.used_bytes = event.used_bytes;
  told.limit_bytes = event.limit_bytes;
  told.text = event.text;
  return told;
}

StoreEvents::StoreEvents(Tell tell) : tell_(std::move(tell)), thread_([this] { run(); }) {}

StoreEvents::~StoreEvents() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

void StoreEvents::name(const VolumeId& volume, const std::string& name) {
  const std::lock_guard lock(mutex_);
  names_[volume] = name;
}

void StoreEvents::when_gone(Gone gone) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return !calling_; });
  gone_ = std::move(gone);
}

void StoreEvents::on_event(const cow::Event& event) noexcept {
  std::string volume;
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = names_.find(event.volume); found != names_.end()) volume = found->second;
    const bool deleted = event.kind == cow::EventKind::snapshot_deleted;
    if (deleted && gone_ && queue_.size() < kQueueMax) {
      queue_.push_back(event.snapshot);
      changed_.notify_all();
    }
  }
  if (event.events_dropped != 0) {
    ProviderEvent lost;
    lost.name = "events_lost";
    lost.severity = EventSeverity::warning;
    lost.time_filetime = event.time_filetime;
    lost.volume_id = event.volume;
    lost.volume = volume;
    lost.text =
        std::to_string(event.events_dropped) + " events of the volume were not taken in time";
    tell_(std::move(lost));
  }
  tell_(provider_event(event, volume));
}

void StoreEvents::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return ending_ || !queue_.empty(); });
    if (ending_) return;
    const SnapshotId snapshot = queue_.front();
    queue_.pop_front();
    const Gone gone = gone_;
    if (!gone) continue;
    calling_ = true;
    lock.unlock();
    gone(snapshot);
    lock.lock();
    calling_ = false;
    changed_.notify_all();
  }
}

}  // namespace umbra::cowd
