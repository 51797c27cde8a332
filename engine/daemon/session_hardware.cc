// SPDX-License-Identifier: Apache-2.0
//
// What a session does with copies that are LUNs of an array: they are carried in its document,
// imported, broken, written back. The work is LunImport's and LunRecovery's; here are VSS's rules
// of who may ask for it.

#include <algorithm>
#include <iterator>
#include <utility>

#include "engine/daemon/ask_all.h"
#include "engine/daemon/lun_import.h"
#include "engine/daemon/lun_recovery.h"
#include "engine/daemon/requester_session.h"
#include "engine/documents/rules.h"
#include "engine/rpc/hardware_messages.h"

namespace umbra::daemon {

using coord::SessionCall;

namespace {

constexpr std::uint32_t kBreakFlags = break_flag::kMaskLuns | break_flag::kMakeReadWrite |
                                      break_flag::kRevertIdentityAll |
                                      break_flag::kRevertIdentityNone;
constexpr std::uint32_t kRecoveryOptions =
    recovery_option::kRevertIdentityAll | recovery_option::kNoVolumeCheck;

// VSS's rules of BreakSnapshotSetEx. Empty: they go together.
std::string wrong_flags(std::uint32_t flags) {
  if ((flags & ~kBreakFlags) != 0) return "flags: there is one that is not defined";
  const bool masks = (flags & break_flag::kMaskLuns) != 0;
  if (masks && flags != break_flag::kMaskLuns) return "flags: masking the LUNs excludes the others";
  const bool both = (flags & break_flag::kRevertIdentityAll) != 0 &&
                    (flags & break_flag::kRevertIdentityNone) != 0;
  return both ? "flags: revert all identities or none, not both" : "";
}

// What the provider hears: the requester's wish, and what it means for the LUNs.
std::uint32_t hardware_options(std::uint32_t flags) {
  if ((flags & break_flag::kMaskLuns) != 0) flags |= lun_state::kDoMaskLuns;
  if ((flags & break_flag::kMakeReadWrite) != 0) flags |= lun_state::kNotifyReadWrite;
  return flags;
}

struct Gathered {
  std::vector<SnapshotProperties> snapshots;
  std::vector<std::string> absent;
};

void find_snapshots(Server& server, const std::function<void(Gathered)>& done) {
  ask_all<rpc::SnapshotList>(
      server, "query_snapshots", rpc::QuerySnapshots{},
      [done](std::vector<rpc::SnapshotList> answers, std::vector<std::string> absent) {
        Gathered all;
        all.absent = std::move(absent);
        for (auto& one : answers)
          std::move(one.snapshots.begin(), one.snapshots.end(), std::back_inserter(all.snapshots));
        done(std::move(all));
      });
}

bool is_hardware(const Server& server, const ProviderId& id) {
  const auto link = server.provider(id);
  return link && link->properties().type == ProviderType::hardware;
}

// Copies that came in, or were never away: what is only to be transported is no volume here.
bool can_break(const Server& server, const SnapshotProperties& snapshot) {
  const bool away = (snapshot.attributes & attribute::kTransportable) != 0 &&
                    (snapshot.attributes & attribute::kImported) == 0;
  return is_hardware(server, snapshot.provider_id) && !away;
}

}  // namespace

// --- GetTargetLuns ------------------------------------------------------------------------------

// A transportable copy without its LUNs in the document would be lost to everybody.
Status RequesterSession::carry(const ProviderId& provider,
                               const std::vector<SnapshotLuns>& answer) {
  std::vector<TransportedSnapshot> carried;
  for (const auto& member : members_) {
    if (member.provider != provider) continue;
    const auto luns = std::find_if(answer.begin(), answer.end(), [&](const auto& one) {
      return one.snapshot_id == member.snapshot;
    });
    const bool sound =
        luns != answer.end() && !luns->luns.empty() &&
        luns->luns.size() <= documents::kTransportedMax &&
        std::all_of(luns->luns.begin(), luns->luns.end(), [](const LunMapping& lun) {
          return has_unique_identifier(lun.source) && has_unique_identifier(lun.target);
        });
    if (!sound)
      return fail(Errc::unexpected_provider_error,
                  "get_target_luns: no LUNs, or none that can be "
                  "found again, for the copy of volume '" +
                      printable(member.volume.name) + "'");
    TransportedSnapshot one;
    one.snapshot_id = member.snapshot;
    one.set_id = set_id_;
    one.provider_id = provider;
    one.volume_id = member.volume.volume_id;
    one.volume_name = member.volume.name;
    one.snapshots_count = static_cast<std::uint32_t>(members_.size());
    one.attributes = member.attributes;
    one.originating_machine = member.machine;
    one.creation_filetime = member.filetime;
    one.luns = luns->luns;
    carried.push_back(std::move(one));
  }
  std::move(carried.begin(), carried.end(), std::back_inserter(carried_));
  return {};
}

void RequesterSession::look_for_luns(std::size_t provider) {
  const auto go_on = [self = shared_from_this(), provider](const Result<HoldReport>& result) {
    if (!self->set_) return;
    static_cast<void>(self->set_->provider_replied(
        self->server_.now(), provider, coord::ProviderCall::post_final_commit_snapshots, result));
    self->run_actions();
  };
  const auto id = set_plan_providers_[provider];
  const auto link = server_.provider(id);
  if (!link) return;  // The machine knows.
  rpc::SetRequest request;
  request.set_id = set_id_;
  link->call_in<rpc::SnapshotLunsList>(
      "hardware", "get_target_luns", request, server_.limits().provider_query,
      [self = shared_from_this(), go_on, id](const Result<rpc::SnapshotLunsList>& luns) {
        if (!self->set_) return;
        if (!luns) return go_on(tl::unexpected<Error>(luns.error()));
        go_on(self->carry(id, luns->snapshots).map([] { return HoldReport{}; }));
      });
}

// --- import -------------------------------------------------------------------------------------

void RequesterSession::import_snapshots(const Json&, const Reply& reply) {
  if (!allowed(SessionCall::import_snapshots, reply)) return;
  if (!import_loaded_)
    return reply.error({Errc::bad_state,
                        "import_snapshots: initialize_for_backup was given no document of a set"});
  if (server_.importing)
    return reply.error({Errc::snapshot_set_in_progress, "another import is under way"});
  const auto operation = begin_operation(SessionCall::import_snapshots);
  reply.good(rpc::StartedOperation{operation});
  const auto ended = [self = shared_from_this(), operation](Errc code, std::string context) {
    self->import_.reset();
    self->server_.importing.reset();
    self->session_.call_ended(self->server_.now(), SessionCall::import_snapshots,
                              code == Errc::async_finished);
    self->finish_operation(operation, code, std::move(context));
    self->server_.touch();
  };
  server_.importing = key_;
  if (restore_.snapshots.empty())
    return ended(Errc::nontransportable_bcd,
                 "the document that was loaded holds no data of a transportable set");
  import_ = std::make_shared<LunImport>(
      server_, ImportedSet{restore_.set_id, id_, restore_.snapshots}, ended);
  import_->start();
}

void RequesterSession::abandon_import() {
  if (!import_) return;
  import_->abandon();
  import_.reset();
  if (server_.importing == key_) server_.importing.reset();
}

// --- break --------------------------------------------------------------------------------------

struct RequesterSession::Breaking {
  std::uint32_t operation = 0;
  rpc::BreakLuns request;
  std::vector<ProviderId> providers;
  std::size_t at = 0;
};

void RequesterSession::break_snapshot_set(const Json& params, const Reply& reply) {
  const auto message = take<rpc::BreakSnapshotSet>(params, reply);
  if (!message || !allowed(SessionCall::break_snapshot_set, reply)) return;
  if (const auto wrong = wrong_flags(message->flags); !wrong.empty())
    return reply.error({Errc::invalid_argument, wrong});
  const auto operation = begin_operation(SessionCall::break_snapshot_set);
  reply.good(rpc::StartedOperation{operation});
  auto breaking = std::make_shared<Breaking>(
      Breaking{operation, {message->set_id, hardware_options(message->flags)}, {}, 0});
  find_snapshots(server_, [self = shared_from_this(), breaking](const Gathered& all) {
    const auto& set = breaking->request.set_id;
    bool whole = true;
    for (const auto& one : all.snapshots) {
      if (one.set_id != set) continue;
      whole = whole && can_break(self->server_, one);
      auto& asked = breaking->providers;
      if (std::find(asked.begin(), asked.end(), one.provider_id) == asked.end())
        asked.push_back(one.provider_id);
    }
    if (breaking->providers.empty())
      return self->broken(*breaking, Errc::object_not_found,
                          with_absent("snapshot set " + set.to_string(), all.absent));
    if (!whole)
      return self->broken(*breaking, Errc::provider_veto,
                          "snapshot set " + set.to_string() +
                              " was not imported from hardware: delete it, or revert to it");
    self->break_next(breaking);
  });
}

void RequesterSession::break_next(const std::shared_ptr<Breaking>& breaking) {
  if (breaking->at == breaking->providers.size())
    return broken(*breaking, Errc::async_finished, "");
  const auto& id = breaking->providers[breaking->at++];
  const auto link = server_.provider(id);
  if (!link) return broken(*breaking, Errc::provider_not_registered, "provider " + id.to_string());
  link->call_in<rpc::Nothing>(
      "hardware", "break_snapshot_set", breaking->request, server_.limits().provider_admin,
      [self = shared_from_this(), breaking](const Result<rpc::Nothing>& done) {
        if (!done) return self->broken(*breaking, done.error().code, done.error().context);
        self->break_next(breaking);
      });
}

void RequesterSession::broken(const Breaking& breaking, Errc code, std::string context) {
  const bool good = code == Errc::async_finished;
  if (good)
    server_.log().info("set broken",
                       {{"set", breaking.request.set_id.to_string()}, {"peer", peer_.describe()}});
  finish_operation(breaking.operation, code, std::move(context));
  session_.call_ended(server_.now(), SessionCall::break_snapshot_set, good);
  server_.touch();
}

// --- resync of LUNs -----------------------------------------------------------------------------

void RequesterSession::add_snapshot_to_recovery_set(const Json& params, const Reply& reply) {
  const auto message = take<rpc::AddSnapshotToRecoverySet>(params, reply);
  if (!message || !allowed(SessionCall::add_snapshot_to_recovery_set, reply)) return;
  const auto& id = message->snapshot_id;
  if (id.is_nil())
    return reply.error({Errc::invalid_argument, "snapshot_id: must name a snapshot"});
  if (message->flags != 0) return reply.error({Errc::invalid_argument, "flags: must be 0"});
  const auto carried = std::find_if(restore_.snapshots.begin(), restore_.snapshots.end(),
                                    [&](const auto& one) { return one.snapshot_id == id; });
  if (carried == restore_.snapshots.end()) return refuse_recovery(id, reply);
  const auto link = server_.provider(carried->provider_id);
  if (!link)
    return reply.error(
        {Errc::provider_not_registered, "provider " + carried->provider_id.to_string()});
  if (link->properties().type != ProviderType::hardware)
    return reply.error({Errc::legacy_provider, "snapshot " + id.to_string()});
  RecoveryTarget target{id, carried->provider_id, carried->volume_id, {}};
  const auto& destination = message->destination;
  const bool elsewhere = destination.id || destination.device || !destination.name.empty();
  if (!elsewhere) {
    for (const auto& lun : carried->luns) target.luns.push_back({lun.target, lun.source, {}});
    return add_recovery(std::move(target), reply);
  }
  link->call<VolumeProperties>(
      "find_volume", rpc::VolumeRequest{destination}, server_.limits().provider_query,
      [self = shared_from_this(), link, reply, target, carried = *carried,
       destination](const Result<VolumeProperties>& volume) mutable {
        if (!volume) return reply.error(volume.error());
        target.volume = volume->volume_id;
        link->call_in<LunSupport>(
            "hardware", "are_luns_supported", rpc::VolumeSupportRequest{destination, 0},
            self->server_.limits().provider_query,
            [self, reply, target, carried](const Result<LunSupport>& support) mutable {
              if (!support) return reply.error(support.error());
              if (!support->supported || support->luns.size() != carried.luns.size())
                return reply.error({Errc::volume_not_supported,
                                    "the destination does not lie on as many LUNs of the array"});
              for (std::size_t i = 0; i < carried.luns.size(); ++i)
                target.luns.push_back({carried.luns[i].target, support->luns[i], {}});
              self->add_recovery(std::move(target), reply);
            });
      });
}

// It is not in the document: VSS's code says why.
void RequesterSession::refuse_recovery(const SnapshotId& id, const Reply& reply) {
  find_snapshots(server_, [self = shared_from_this(), reply, id](const Gathered& all) {
    const auto found =
        std::find_if(all.snapshots.begin(), all.snapshots.end(),
                     [&](const SnapshotProperties& one) { return one.snapshot_id == id; });
    const auto text = "snapshot " + id.to_string();
    if (found == all.snapshots.end())
      return reply.error({Errc::object_not_found, with_absent(text, all.absent)});
    if (is_hardware(self->server_, found->provider_id))
      return reply.error(
          {Errc::snapshot_not_in_set, text + " is not in the document that was loaded"});
    reply.error({Errc::legacy_provider, "the provider of " + text + " does not copy LUNs back"});
  });
}

void RequesterSession::add_recovery(RecoveryTarget target, const Reply& reply) {
  for (const auto& lun : target.luns) {
    if (!has_unique_identifier(lun.target))
      return reply.error({Errc::volume_not_supported, "the LUN has no unique identifier"});
    if (server_.is_resyncing(lun.target))
      return reply.error({Errc::resync_in_progress, "another recovery writes over the LUN"});
    // Volumes that share a LUN come back together, from one copy's LUN.
    for (const auto& other : recoveries_)
      for (const auto& taken : other.luns)
        if (is_same_lun(taken.target, lun.target) && !is_same_lun(taken.source, lun.source))
          return reply.error({Errc::resync_in_progress,
                              "snapshot " + other.snapshot.to_string() + " goes to that LUN"});
  }
  if (recoveries_.size() >= coord::kVolumesPerSetMax)
    return reply.error({Errc::maximum_number_of_volumes_reached, "in one recovery"});
  recoveries_.push_back(std::move(target));
  reply.good();
}

void RequesterSession::recover_set(const Json& params, const Reply& reply) {
  const auto message = take<rpc::RecoverSet>(params, reply);
  if (!message || !allowed(SessionCall::recover_set, reply)) return;
  if ((message->flags & ~kRecoveryOptions) != 0)
    return reply.error({Errc::invalid_argument, "flags: there is one that is not defined"});
  if (recoveries_.empty())
    return reply.error({Errc::bad_state, "recover_set: add_snapshot_to_recovery_set first"});
  const auto operation = begin_operation(SessionCall::recover_set);
  reply.good(rpc::StartedOperation{operation});
  server_.log().info("LUNs are written over", {{"session", id_.to_string()},
                                               {"snapshots", recoveries_.size()},
                                               {"peer", peer_.describe()}});
  std::make_shared<LunRecovery>(
      server_, std::exchange(recoveries_, {}), message->flags,
      [self = shared_from_this(), operation](Errc code, std::string context) {
        self->finish_operation(operation, code, std::move(context));
        self->session_.call_ended(self->server_.now(), SessionCall::recover_set,
                                  code == Errc::async_finished);
        self->server_.touch();
      })
      ->start();
}

}  // namespace umbra::daemon
