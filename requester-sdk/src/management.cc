// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "umbra/requester/management.h"

#include <algorithm>
#include <utility>

#include "requester-sdk/src/client_impl.h"
#include "requester-sdk/src/revert.h"

namespace umbra::requester {
namespace {

using namespace std::chrono_literals;

// umbrad keeps one wait no longer than a minute; its answer may take a little more.
constexpr std::chrono::milliseconds kWaitMax = 60s;
constexpr std::chrono::milliseconds kWaitGrace = 30s;

template <class Reply, class Request>
Result<Reply> ask(Link& link, const char* member, const Request& request,
                  std::chrono::milliseconds limit = Link::kCallLimit) {
  return link.call<Reply>(std::string("management.") + member, request, limit);
}

template <class Request>
Status tell(Link& link, const char* member, const Request& request) {
  const auto reply = ask<rpc::Nothing>(link, member, request);
  if (!reply) return fail(reply.error());
  return {};
}

template <class Request>
Result<OperationId> begin(Link& link, const char* member, const Request& request) {
  const auto reply = ask<rpc::StartedProviderOperation>(link, member, request);
  if (!reply) return fail(reply.error());
  return reply->operation_id;
}

rpc::ManagementDiffArea area_message(const ProviderId& provider, const DiffAreaRef& area) {
  rpc::ManagementDiffArea message;
  message.provider_id = provider;
  message.volume = area.volume;
  message.diff_volume = area.diff_volume;
  return message;
}

rpc::ManagementSnapshot snapshot_message(const ProviderId& provider, const SnapshotId& snapshot) {
  rpc::ManagementSnapshot message;
  message.provider_id = provider;
  message.snapshot_id = snapshot;
  return message;
}

}  // namespace

Result<std::vector<SupportedVolume>> Management::query_volumes_supported_for_snapshots(
    std::uint32_t context) {
  auto reply =
      ask<rpc::SupportedVolumeList>(*client_->impl_->link, "query_volumes_supported_for_snapshots",
                                    rpc::ManagementQuery{provider_, context});
  if (!reply) return fail(reply.error());
  return std::move(reply->volumes);
}

Result<std::vector<SnapshotProperties>> Management::query_snapshots_by_volume(
    const VolumeRef& volume) {
  auto reply = ask<rpc::SnapshotList>(*client_->impl_->link, "query_snapshots_by_volume",
                                      rpc::ManagementVolume{provider_, volume});
  if (!reply) return fail(reply.error());
  return std::move(reply->snapshots);
}

Result<std::uint64_t> Management::get_min_diff_area_size() {
  const auto reply = ask<rpc::MinDiffAreaSize>(*client_->impl_->link, "get_min_diff_area_size",
                                               rpc::ManagementQuery{provider_, 0});
  if (!reply) return fail(reply.error());
  return reply->minimum_bytes;
}

Status Management::add_diff_area(const DiffAreaRef& area, std::int64_t maximum_bytes) {
  auto message = area_message(provider_, area);
  message.maximum_bytes = maximum_bytes;
  return tell(*client_->impl_->link, "add_diff_area", message);
}

Result<OperationId> Management::change_diff_area_maximum_size(const DiffAreaRef& area,
                                                              std::int64_t maximum_bytes,
                                                              bool is_volatile) {
  auto message = area_message(provider_, area);
  message.maximum_bytes = maximum_bytes;
  message.is_volatile = is_volatile;
  return begin(*client_->impl_->link, "change_diff_area_maximum_size", message);
}

Result<std::vector<DiffVolumeProperties>> Management::query_volumes_supported_for_diff_areas(
    const VolumeRef& original_volume) {
  auto reply =
      ask<rpc::DiffVolumeList>(*client_->impl_->link, "query_volumes_supported_for_diff_areas",
                               rpc::ManagementVolume{provider_, original_volume});
  if (!reply) return fail(reply.error());
  return std::move(reply->diff_volumes);
}

Result<std::vector<DiffAreaProperties>> Management::query_diff_areas_for_volume(
    const VolumeRef& volume) {
  auto reply = ask<rpc::DiffAreaList>(*client_->impl_->link, "query_diff_areas_for_volume",
                                      rpc::ManagementVolume{provider_, volume});
  if (!reply) return fail(reply.error());
  return std::move(reply->diff_areas);
}

Result<std::vector<DiffAreaProperties>> Management::query_diff_areas_on_volume(
    const std::string& diff_volume) {
  auto reply = ask<rpc::DiffAreaList>(*client_->impl_->link, "query_diff_areas_on_volume",
                                      rpc::ManagementDiffVolume{provider_, diff_volume});
  if (!reply) return fail(reply.error());
  return std::move(reply->diff_areas);
}

Result<std::vector<DiffAreaProperties>> Management::query_diff_areas_for_snapshot(
    const SnapshotId& snapshot) {
  auto reply = ask<rpc::DiffAreaList>(*client_->impl_->link, "query_diff_areas_for_snapshot",
                                      snapshot_message(provider_, snapshot));
  if (!reply) return fail(reply.error());
  return std::move(reply->diff_areas);
}

Result<OperationId> Management::migrate_diff_areas(const DiffAreaRef& area,
                                                   const std::string& new_diff_volume,
                                                   std::uint64_t bytes_per_second) {
  auto message = area_message(provider_, area);
  message.new_diff_volume = new_diff_volume;
  message.bytes_per_second = bytes_per_second;
  return begin(*client_->impl_->link, "migrate_diff_areas", message);
}

Result<OperationInfo> Management::query_migration_status(const VolumeRef& volume) {
  return ask<OperationInfo>(*client_->impl_->link, "query_migration_status",
                            rpc::ManagementVolume{provider_, volume});
}

Status Management::set_volume_protect_level(const VolumeRef& volume, ProtectionLevel level) {
  return tell(*client_->impl_->link, "set_volume_protect_level",
              rpc::SetProtectLevel{provider_, volume, level});
}

Result<VolumeProtectionInfo> Management::get_volume_protect_level(const VolumeRef& volume) {
  return ask<VolumeProtectionInfo>(*client_->impl_->link, "get_volume_protect_level",
                                   rpc::ManagementVolume{provider_, volume});
}

Result<OperationId> Management::clear_volume_protect_fault(const VolumeRef& volume) {
  return begin(*client_->impl_->link, "clear_volume_protect_fault",
               rpc::ManagementVolume{provider_, volume});
}

Result<OperationId> Management::delete_unused_diff_areas(const std::string& diff_volume) {
  return begin(*client_->impl_->link, "delete_unused_diff_areas",
               rpc::ManagementDiffVolume{provider_, diff_volume});
}

Result<SnapshotDelta> Management::query_snapshot_delta_bitmap(const SnapshotId& older,
                                                              const SnapshotId& younger,
                                                              std::uint64_t first_block) {
  return ask<SnapshotDelta>(*client_->impl_->link, "query_snapshot_delta_bitmap",
                            rpc::QueryDelta{provider_, older, younger, first_block});
}

Result<OperationId> Management::scrub_diff_area(const VolumeRef& volume,
                                                std::uint64_t bytes_per_second) {
  return begin(*client_->impl_->link, "scrub_diff_area",
               rpc::ScrubDiffArea{provider_, volume, bytes_per_second});
}

Status Management::retain_snapshot(const SnapshotId& snapshot, std::int64_t until_filetime) {
  auto message = snapshot_message(provider_, snapshot);
  message.until_filetime = until_filetime;
  return tell(*client_->impl_->link, "retain_snapshot", message);
}

Result<OperationId> Management::revert_to_snapshot(const SnapshotId& snapshot,
                                                   bool force_dismount) {
  return start_revert(*client_->impl_->link, provider_, snapshot, force_dismount);
}

Result<std::vector<RevertInfo>> Management::query_revert_status(const VolumeRef& volume) {
  return reverts(*client_->impl_->link, provider_, volume);
}

Status Management::abandon_revert(const VolumeRef& volume) {
  return tell(*client_->impl_->link, "abandon_revert", rpc::ManagementVolume{provider_, volume});
}

Result<CheckpointProperties> Management::create_checkpoint(const SnapshotId& snapshot,
                                                           const std::string& name) {
  return ask<CheckpointProperties>(*client_->impl_->link, "create_checkpoint",
                                   rpc::CreateCheckpoint{provider_, snapshot, name});
}

Result<std::vector<CheckpointProperties>> Management::query_checkpoints(const VolumeRef& volume) {
  auto reply = ask<rpc::CheckpointList>(*client_->impl_->link, "query_checkpoints",
                                        rpc::ManagementVolume{provider_, volume});
  if (!reply) return fail(reply.error());
  return std::move(reply->checkpoints);
}

Status Management::delete_checkpoint(const CheckpointId& checkpoint) {
  return tell(*client_->impl_->link, "delete_checkpoint",
              rpc::DeleteCheckpoint{provider_, checkpoint});
}

Result<SnapshotDelta> Management::query_changes(const Guid& since, const SnapshotId& until,
                                                std::uint64_t first_block) {
  return ask<SnapshotDelta>(*client_->impl_->link, "query_changes",
                            rpc::QueryChanges{provider_, since, until, first_block});
}

Result<std::vector<OperationInfo>> Management::list_operations() {
  auto reply = ask<rpc::OperationList>(*client_->impl_->link, "operations",
                                       rpc::ManagementQuery{provider_, 0});
  if (!reply) return fail(reply.error());
  return std::move(reply->operations);
}

Result<OperationInfo> Management::wait_operation(const OperationId& operation,
                                                 std::chrono::milliseconds limit) {
  Link& link = *client_->impl_->link;
  const TimePoint end = link.now() + limit;
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - link.now());
    const auto slice = std::clamp(left, std::chrono::milliseconds(0), kWaitMax);
    auto info = ask<OperationInfo>(
        link, "wait_operation",
        rpc::ProviderOperation{provider_, operation, static_cast<std::uint32_t>(slice.count())},
        slice + kWaitGrace);
    if (!info || info->status != Errc::async_pending || slice == left || left.count() <= 0) {
      return info;
    }
  }
}

Result<OperationInfo> Management::cancel_operation(const OperationId& operation) {
  return ask<OperationInfo>(*client_->impl_->link, "cancel_operation",
                            rpc::ProviderOperation{provider_, operation, 0});
}

Result<EventPage> Management::query_events(const EventQuery& query) {
  const auto limit = std::clamp(query.time_limit, std::chrono::milliseconds(0), kWaitMax);
  auto reply = client_->impl_->link->call<rpc::EventList>(
      "query.events",
      rpc::QueryEvents{query.after, query.count, static_cast<std::uint32_t>(limit.count())},
      limit + kWaitGrace);
  if (!reply) return fail(reply.error());
  return EventPage{std::move(reply->events), reply->next, reply->lost};
}

}  // namespace umbra::requester
