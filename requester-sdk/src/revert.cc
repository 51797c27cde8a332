// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "requester-sdk/src/revert.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "engine/platform/log.h"

namespace umbra::requester {
namespace {

using namespace std::chrono_literals;

// RevertToSnapshot returns when it has started; which is asked for so often, and so long.
constexpr std::chrono::milliseconds kStartSlice = 100ms;
constexpr std::chrono::milliseconds kRevertStartMax = 5min;
constexpr std::chrono::milliseconds kWaitGrace = 30s;

// One that is over is not known any more, nor is one whose volume is gone.
Result<AsyncStatus> without_revert(Link& link, const VolumeId& volume) {
  const auto list = link.call<rpc::VolumeList>("volume.list", rpc::Nothing{});
  if (!list) return fail(list.error());
  const bool there =
      std::any_of(list->volumes.begin(), list->volumes.end(),
                  [&](const VolumeProperties& one) { return one.volume_id == volume; });
  if (there) return AsyncStatus{Errc::async_finished, {}, {}};
  if (!list->absent_providers.empty()) {
    return fail(Errc::provider_not_registered,
                "the provider is away; when it is back the revert goes on");
  }
  return AsyncStatus{Errc::revert_volume_lost,
                     "the volume was detached; when it is attached again the revert goes on",
                     {}};
}

Result<AsyncStatus> revert_now(Link& link, const VolumeId& volume) {
  const auto list = reverts(link, ProviderId{}, {.id = volume});
  if (!list && list.error().code != Errc::object_not_found) return fail(list.error());
  if (!list || list->empty()) return without_revert(link, volume);
  const RevertInfo& revert = list->front();
  if (revert.stopped) {
    return AsyncStatus{Errc::io_error,
                       "the revert of volume '" + printable(revert.volume_name) +
                           "' has stopped: " + printable(revert.trouble),
                       {}};
  }
  return AsyncStatus{Errc::async_pending,
                     {},
                     "copied back " + std::to_string(revert.done_bytes) + " of " +
                         std::to_string(revert.total_bytes) + " bytes"};
}

}  // namespace

Result<OperationId> start_revert(Link& link, const ProviderId& provider, const SnapshotId& snapshot,
                                 bool force_dismount) {
  const auto begun = link.call<rpc::StartedProviderOperation>(
      "management.revert_to_snapshot", rpc::RevertToSnapshot{provider, snapshot, force_dismount});
  if (!begun) return fail(begun.error());
  const OperationId operation = begun->operation_id;
  const rpc::ProviderOperation slice{provider, operation,
                                     static_cast<std::uint32_t>(kStartSlice.count())};
  // Dismounting, draining and withdrawing are bounded at the provider's.
  for (const TimePoint end = link.now() + kRevertStartMax;;) {
    const auto info =
        link.call<OperationInfo>("management.wait_operation", slice, kStartSlice + kWaitGrace);
    if (!info) {
      return fail(info.error(),
                  "it may have started; query_revert_status (umbra query revert) tells");
    }
    for (const OperationFact& fact : info->facts) {
      if (fact.name == "started") return operation;
    }
    if (info->status == Errc::async_finished) return operation;
    if (info->status != Errc::async_pending) return fail(info->status, info->context);
    if (link.now() > end) {
      return fail(Errc::provider_not_registered,
                  "the provider does not say whether the revert has started; operation " +
                      operation.to_string());
    }
  }
}

Result<std::vector<RevertInfo>> reverts(Link& link, const ProviderId& provider,
                                        const VolumeRef& volume) {
  auto reply = link.call<rpc::RevertList>("management.query_revert_status",
                                          rpc::ManagementVolume{provider, volume});
  if (!reply) return fail(reply.error());
  return std::move(reply->reverts);
}

Result<AsyncStatus> look_at_revert(Link& link, const VolumeId& volume,
                                   std::chrono::milliseconds slice) {
  for (const TimePoint end = link.now() + slice;;) {
    auto status = revert_now(link, volume);
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - link.now());
    if (!status || status->code != Errc::async_pending || left <= 0ms) return status;
    // Providers tell when one ends, so that nobody has to ask more often.
    rpc::QueryEvents events;
    events.after = std::numeric_limits<std::uint64_t>::max();
    events.count = 1;
    events.time_limit_ms = static_cast<std::uint32_t>(left.count());
    const auto page = link.call<rpc::EventList>("query.events", events, left + kWaitGrace);
    if (!page) return fail(page.error());
  }
}

}  // namespace umbra::requester
