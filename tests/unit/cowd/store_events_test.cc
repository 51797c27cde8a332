// SPDX-License-Identifier: Apache-2.0
#include "provider/daemon/store_events.h"

#include "tests/support/catch.h"

namespace {

using namespace umbra;
using namespace umbra::cowd;

TEST_CASE("a store's events get Windows' ids where one means the same") {
  cow::Event event;
  event.kind = cow::EventKind::snapshot_deleted;
  event.removal = cow::Removal::evicted;
  event.snapshot = SnapshotId::random();
  event.used_bytes = 7;
  const auto evicted = provider_event(event, "db");
  CHECK(evicted.name == "snapshot_deleted");
  CHECK(evicted.event_id == 33);
  CHECK(evicted.severity == EventSeverity::warning);
  CHECK(evicted.cause == "evicted");
  CHECK(evicted.volume == "db");
  CHECK(evicted.snapshot_id == event.snapshot);
  CHECK(evicted.used_bytes == 7);
  event.removal = cow::Removal::requested;
  CHECK(provider_event(event, "db").event_id == 0);
  event.kind = cow::EventKind::snapshot_lost;
  event.fault = cow::Fault::diff_area_full;
  CHECK(provider_event(event, "db").event_id == 36);
  CHECK(provider_event(event, "db").fault == ProtectionFault::diff_area_full);
  CHECK(provider_event(event, "db").cause.empty());
  event.kind = cow::EventKind::protection_fault;
  CHECK(provider_event(event, "db").event_id == 83);
  CHECK(provider_event(event, "db").severity == EventSeverity::error);
}

TEST_CASE("copies that the store gave up are told on a thread of their own") {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<SnapshotId> gone;
  std::vector<ProviderEvent> told;
  StoreEvents events([&](ProviderEvent event) { told.push_back(std::move(event)); });
  cow::Event event;
  event.volume = VolumeId::random();
  event.snapshot = SnapshotId::random();
  events.name(event.volume, "db");
  events.on_event(event);  // Nobody listens yet.
  events.when_gone([&](const SnapshotId& snapshot) {
    const std::lock_guard lock(mutex);
    gone.push_back(snapshot);
    changed.notify_all();
  });
  event.snapshot = SnapshotId::random();
  event.events_dropped = 3;
  events.on_event(event);
  {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return !gone.empty(); });
  }
  events.when_gone(nullptr);
  CHECK(gone == std::vector<SnapshotId>{event.snapshot});
  REQUIRE(told.size() == 3);
  CHECK(told[0].volume == "db");
  CHECK(told[1].name == "events_lost");
  events.on_event(event);
  CHECK(gone.size() == 1);
}

}  // namespace
