// SPDX-License-Identifier: Apache-2.0

#include "engine/daemon/lun_recovery.h"

#include <algorithm>
#include <utility>

#include "engine/coordinator/snapshot_set.h"
#include "engine/daemon/server.h"
#include "engine/rpc/hardware_messages.h"
#include "engine/rpc/management_calls.h"

namespace umbra::daemon {
namespace {

std::string named(const LunInformation& lun) {
  const auto found = std::find_if(lun.identifiers.begin(), lun.identifiers.end(),
                                  [](const auto& one) { return is_unique(one.type); });
  return "LUN " + printable(found != lun.identifiers.end() ? found->value : lun.serial);
}

}  // namespace

LunRecovery::LunRecovery(Server& server, std::vector<RecoveryTarget> targets, std::uint32_t options,
                         Done done)
    : server_(server), targets_(std::move(targets)), options_(options), done_(std::move(done)) {
  for (const auto& one : targets_)
    if (std::find(providers_.begin(), providers_.end(), one.provider) == providers_.end())
      providers_.push_back(one.provider);
}

void LunRecovery::start() {
  for (const auto& target : targets_)
    for (const auto& lun : target.luns)
      if (server_.is_resyncing(lun.target))
        return finish(Errc::resync_in_progress, named(lun.target));
  took_luns_ = true;
  for (const auto& target : targets_)
    for (const auto& lun : target.luns) server_.resyncing.push_back(lun.target);
  if ((options_ & recovery_option::kNoVolumeCheck) != 0) return check_disks();
  check_volumes();
}

bool LunRecovery::reach() {
  link_ = server_.provider(providers_[at_]);
  if (link_) return true;
  finish(Errc::provider_not_registered, "provider " + providers_[at_].to_string());
  return false;
}

std::vector<LunMapping> LunRecovery::mappings() const {
  std::vector<LunMapping> all;
  for (const auto& target : targets_) {
    if (target.provider != providers_[at_]) continue;
    // Several volumes on one LUN are written over once.
    for (const auto& lun : target.luns)
      if (std::none_of(all.begin(), all.end(),
                       [&](const auto& one) { return is_same_lun(one.target, lun.target); }))
        all.push_back(lun);
  }
  return all;
}

std::vector<LunInformation> LunRecovery::written_over() const {
  std::vector<LunInformation> luns;
  for (const auto& lun : mappings()) luns.push_back(lun.target);
  return luns;
}

void LunRecovery::next(void (LunRecovery::*step)()) {
  ++at_;
  (this->*step)();
}

void LunRecovery::check_volumes() {
  if (at_ == providers_.size()) {
    at_ = 0;
    return check_disks();
  }
  if (!reach()) return;
  link_->call_in<rpc::VolumeIdList>(
      "hardware", "query_volumes_on_luns", rpc::LunList{written_over()},
      server_.limits().provider_query,
      [self = shared_from_this()](const Result<rpc::VolumeIdList>& on_them) {
        if (!on_them) return self->finish(on_them.error().code, on_them.error().context);
        for (const auto& id : on_them->volume_ids)
          if (std::none_of(self->targets_.begin(), self->targets_.end(),
                           [&](const auto& one) { return one.volume == id; }))
            return self->finish(Errc::unselected_volume, "volume " + id.to_string());
        self->next(&LunRecovery::check_volumes);
      });
}

void LunRecovery::check_disks() {
  if (at_ == providers_.size()) {
    at_ = 0;
    return write_over();
  }
  if (!reach()) return;
  link_->call_in<rpc::LunList>(
      "hardware", "fill_in_lun_info", rpc::Nothing{}, server_.limits().provider_query,
      [self = shared_from_this()](const Result<rpc::LunList>& seen) {
        if (!seen) return self->finish(seen.error().code, seen.error().context);
        for (const auto& lun : self->written_over())
          if (std::none_of(seen->luns.begin(), seen->luns.end(),
                           [&](const auto& one) { return is_same_lun(one, lun); }))
            return self->finish(Errc::missing_disk, named(lun) + " is not visible here");
        self->next(&LunRecovery::check_disks);
      });
}

void LunRecovery::write_over() {
  if (at_ == providers_.size()) return finish(Errc::async_finished, "");
  if (!reach()) return;
  const auto begin = [self = shared_from_this()](const Result<rpc::Nothing>& told) {
    if (!told) return self->finish(told.error().code, told.error().context);
    self->link_->call_in<rpc::StartedProviderOperation>(
        "hardware", "resync_luns", rpc::ResyncLuns{self->mappings(), self->options_},
        self->server_.limits().provider_query,
        [self](const Result<rpc::StartedProviderOperation>& started) {
          if (!started) return self->written(started.error().code, started.error().context);
          self->watch(started->operation_id);
        });
  };
  link_->call_in<rpc::Nothing>(
      "hardware", "on_lun_state_change",
      rpc::LunStateChange{written_over(), lun_state::kNotifyLunPreRecovery},
      server_.limits().provider_query, begin);
}

void LunRecovery::watch(const OperationId& operation) {
  const rpc::ProviderOperation request{providers_[at_], operation,
                                       static_cast<std::uint32_t>(rpc::kOperationWaitMax.count())};
  link_->call_in<OperationInfo>(
      "management", "wait_operation", request,
      rpc::kOperationWaitMax + server_.limits().provider_query,
      [self = shared_from_this(), operation](const Result<OperationInfo>& info) {
        if (!info) return self->written(info.error().code, info.error().context);
        if (info->status == Errc::async_pending) return self->watch(operation);
        if (info->status == Errc::async_finished || info->status == Errc::async_cancelled)
          return self->written(info->status, info->context);
        const auto error = coord::map_provider_error(self->link_->properties().name, "resync_luns",
                                                     {info->status, info->context});
        self->written(error.code, error.context);
      });
}

void LunRecovery::written(Errc code, const std::string& context) {
  link_->call_in<rpc::Nothing>(
      "hardware", "on_lun_state_change",
      rpc::LunStateChange{written_over(), lun_state::kNotifyLunPostRecovery},
      server_.limits().provider_query,
      [self = shared_from_this(), code, context](const Result<rpc::Nothing>& told) {
        if (code != Errc::async_finished) return self->finish(code, context);
        if (!told) return self->finish(told.error().code, told.error().context);
        self->look_for_volumes(0);
      });
}

void LunRecovery::look_for_volumes(std::size_t i) {
  while (i < targets_.size() && targets_[i].provider != providers_[at_]) ++i;
  if (i == targets_.size()) return next(&LunRecovery::write_over);
  VolumeRef volume;
  volume.id = targets_[i].volume;
  link_->call<VolumeProperties>(
      "find_volume", rpc::VolumeRequest{volume}, server_.limits().provider_query,
      [self = shared_from_this(), i](const Result<VolumeProperties>& found) {
        if (found) return self->look_for_volumes(i + 1);
        const bool gone = found.error().code == Errc::object_not_found;
        self->finish(gone ? Errc::missing_volume : found.error().code, found.error().context);
      });
}

void LunRecovery::finish(Errc code, const std::string& context) {
  if (took_luns_)
    for (const auto& target : targets_)
      for (const auto& lun : target.luns) {
        const auto mine =
            std::find_if(server_.resyncing.begin(), server_.resyncing.end(),
                         [&](const auto& one) { return is_same_lun(one, lun.target); });
        if (mine != server_.resyncing.end()) server_.resyncing.erase(mine);
      }
  std::exchange(done_, nullptr)(code, context);
}

}  // namespace umbra::daemon
