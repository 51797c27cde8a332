// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "requester-sdk/src/revert.h"

#include <utility>

namespace umbra::requester {
namespace {

using namespace std::chrono_literals;

// RevertToSnapshot returns when it has started; which is asked for so often, and so long.
constexpr std::chrono::milliseconds kStartSlice = 100ms;
constexpr std::chrono::milliseconds kRevertStartMax = 5min;
constexpr std::chrono::milliseconds kWaitGrace = 30s;

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

}  // namespace umbra::requester
