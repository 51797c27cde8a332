// SPDX-License-Identifier: Apache-2.0
//
// Scrub as a management call: the store does it (provider/cow/scrub.cc), this says what came of it.
// It takes no turn of the volume, since sets are made and copies deleted meanwhile; a detach ends
// it.
#include "provider/contract/management.h"
#include "provider/cow/check.h"

namespace umbra::contract {
namespace {

constexpr std::size_t kFindingsTold = 100;
constexpr std::size_t kSnapshotsTold = 500;

const char* outcome_of(const cow::CheckReport& report) {
  if (report.damaged > 0) return "damaged";
  if (report.repairable > 0) return "repairable";
  return report.repaired > 0 ? "repaired" : "clean";
}

void say_what_was_found(const cow::CheckReport& report, std::uint64_t verified_bytes,
                        OperationMonitor& monitor) {
  monitor.fact("outcome", outcome_of(report));
  monitor.fact("verified_bytes", std::to_string(verified_bytes));
  monitor.fact("repaired", std::to_string(report.repaired));
  monitor.fact("repairable", std::to_string(report.repairable));
  monitor.fact("damaged", std::to_string(report.damaged));
  for (std::size_t i = 0; i < std::min(report.snapshots_damaged.size(), kSnapshotsTold); ++i) {
    monitor.fact("damaged_snapshot", report.snapshots_damaged[i].to_string());
  }
  for (std::size_t i = 0; i < std::min(report.findings.size(), kFindingsTold); ++i) {
    const cow::Finding& finding = report.findings[i];
    monitor.fact("finding", std::string(cow::text_of(finding.kind)) + " at " +
                                std::to_string(finding.offset_bytes) + ": " + finding.what);
  }
}

}  // namespace

Status SystemProvider::Management::scrub_diff_area(const VolumeRef& volume,
                                                   std::uint64_t bytes_per_second,
                                                   OperationMonitor& monitor) {
  const auto entry = find({volume, {}});
  if (!entry) return fail(entry.error());
  std::shared_ptr<cow::Volume> store;
  {
    const std::lock_guard lock(provider_.mutex_);
    store = (*entry)->volume;
  }
  const std::string name = "volume '" + (*entry)->description.name + "'";
  if (store == nullptr) return fail(Errc::object_not_found, name + " was detached");
  const auto report = store->scrub(
      [&](std::uint64_t done, std::uint64_t total) { return monitor.progress(done, total); },
      bytes_per_second);
  if (!report && report.error().code == Errc::bad_state) {
    return fail(Errc::object_not_found, name + " was detached meanwhile");
  }
  if (!report) return fail(report.error(), name);
  say_what_was_found(*report, report->chunks_verified * store->statistics().chunk_bytes, monitor);
  if (report->damaged > 0) {
    return fail(Errc::diff_area_corrupt,
                name + ": " + std::to_string(report->damaged) + " places are damaged, " +
                    std::to_string(report->snapshots_damaged.size()) +
                    " shadow copies have lost data; delete them and make new ones, and look at "
                    "the device");
  }
  if (!report->complete) return fail(Errc::async_cancelled, name);
  return {};
}

}  // namespace umbra::contract
