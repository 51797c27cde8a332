// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <utility>

#include "engine/coordinator/context_rules.h"
#include "engine/coordinator/provider_choice.h"
#include "engine/daemon/provider_link.h"
#include "engine/daemon/requester_session.h"
#include "engine/documents/rules.h"

namespace umbra::daemon {

using coord::Phase;
using coord::ProviderCall;
using coord::SessionCall;
using coord::StopCause;

namespace {

constexpr std::size_t kAbortedSetsMax = 64;  // Remembered per absent provider.

// The machine decides when a call is late; the wire only must not decide earlier.
constexpr std::chrono::seconds kWireGrace{2};

bool holds_writes(Phase phase) {
  return phase == Phase::hold || phase == Phase::flush_and_hold || phase == Phase::commit ||
         phase == Phase::release;
}

}  // namespace

// --- AddToSnapshotSet ---------------------------------------------------------------------------

struct RequesterSession::Adding {
  Reply reply;
  VolumeRef volume;
  bool named = false;  // The requester named the provider.
  std::vector<std::shared_ptr<ProviderLink>> asked;
  std::vector<coord::ProviderCandidate> answers;
  std::size_t left = 0;
  std::shared_ptr<ProviderLink> chosen;
  Member member;
};

void RequesterSession::add_to_snapshot_set(const Json& params, const Reply& reply) {
  const auto message = take<rpc::AddToSnapshotSet>(params, reply);
  if (!message || !allowed(SessionCall::add_to_snapshot_set, reply)) return;
  if (members_.size() >= coord::kVolumesPerSetMax)
    return reply.error({Errc::maximum_number_of_volumes_reached,
                        std::to_string(coord::kVolumesPerSetMax) + " volumes are in the set"});
  for (const auto& member : members_)
    if (member.lost)
      return reply.error({Errc::unexpected_provider_error,
                          "the provider of volume '" + printable(member.volume.name) +
                              "' was lost after it had prepared it; begin a new backup"});
  auto adding = std::make_shared<Adding>(Adding{reply, message->volume, false, {}, {}, 0, {}, {}});
  adding->named = !message->provider_id.is_nil();
  if (!adding->named) {
    adding->asked = server_.connected_providers();
  } else if (auto link = server_.provider(message->provider_id)) {
    adding->asked.push_back(std::move(link));
  }
  adding_ = true;
  session_.call_began();
  adding->left = adding->asked.size();
  adding->answers.resize(adding->asked.size());
  if (adding->asked.empty()) return choose_for(adding);
  for (std::size_t i = 0; i < adding->asked.size(); ++i) {
    adding->answers[i].type = adding->asked[i]->properties().type;
    adding->asked[i]->call<rpc::SupportReply>(
        "is_volume_supported", rpc::VolumeSupportRequest{adding->volume, session_.context()},
        server_.limits().provider_query,
        [self = shared_from_this(), adding, i](Result<rpc::SupportReply> answer) {
          // Only LUNs of an array can be seen by another machine.
          const bool able =
              !self->is_transportable() || adding->answers[i].type == ProviderType::hardware;
          adding->answers[i].supports =
              answer.map([able](const rpc::SupportReply& one) { return able && one.supported; });
          if (--adding->left == 0) self->choose_for(adding);
        });
  }
}

void RequesterSession::choose_for(const std::shared_ptr<Adding>& adding) {
  const auto choice = coord::choose_provider(adding->answers, adding->named);
  if (!choice) {
    auto error = choice.error();
    for (const auto& name : server_.absent_providers())
      error.context += "; provider '" + printable(name) + "' is away";
    return added(adding, tl::unexpected<Error>(std::move(error)));
  }
  adding->chosen = adding->asked[*choice];
  adding->chosen->call<VolumeProperties>(
      "find_volume", rpc::VolumeRequest{adding->volume}, server_.limits().provider_query,
      [self = shared_from_this(), adding](Result<VolumeProperties> volume) {
        if (!volume) return self->added(adding, tl::unexpected<Error>(volume.error()));
        adding->member.volume = std::move(*volume);
        self->prepare_on(adding);
      });
}

void RequesterSession::prepare_on(const std::shared_ptr<Adding>& adding) {
  auto& member = adding->member;
  for (const auto& other : members_)
    if (other.volume.volume_id == member.volume.volume_id)
      return added(adding, fail(Errc::object_already_exists,
                                "volume '" + printable(other.volume.name) + "' is in the set"));
  if (session_.state() != coord::SessionState::set_open)
    return added(adding, {});  // Aborted meanwhile: nothing is to be prepared any more.
  member.snapshot = SnapshotId::random();
  member.provider = adding->chosen->properties().provider_id;
  PrepareSnapshot request;
  request.set_id = set_id_;
  request.snapshot_id = member.snapshot;
  request.volume.id = member.volume.volume_id;
  recovery_ = coord::recovery_attribute(session_.context(), component_flags());
  request.attributes = session_.context() | recovery_;
  if (is_transportable()) request.attributes |= attribute::kNotSurfaced;
  const auto type = adding->chosen->properties().type;
  if (type == ProviderType::hardware) request.attributes |= attribute::kHardwareAssisted;
  if (type == ProviderType::file_share) request.attributes |= attribute::kFileShare;
  member.attributes = request.attributes;
  request.session_id = id_;
  adding->chosen->call<rpc::Nothing>(
      "begin_prepare_snapshot", request, server_.limits().provider_query,
      [self = shared_from_this(), adding](const Result<rpc::Nothing>& prepared) {
        self->added(adding, prepared.map([](const rpc::Nothing&) {}));
      });
}

// Of all components that take part: in component mode the selected ones with what comes with them.
std::uint32_t RequesterSession::component_flags() const {
  std::uint32_t flags = 0;
  for (const auto& writer : writers_) {
    for (const auto& declared : writer.metadata.components) {
      const auto path = documents::full_path(declared.logical_path, declared.name);
      const auto& added = writer.part.components;
      const bool selected = std::any_of(added.begin(), added.end(), [&](const auto& one) {
        const auto root = documents::full_path(one.logical_path, one.name);
        return documents::same_path(root, path) || documents::is_ancestor(root, path);
      });
      if (selected || !backup_state_.component_mode) flags |= declared.flags;
    }
  }
  return flags;
}

void RequesterSession::added(const std::shared_ptr<Adding>& adding, const Status& status) {
  adding_ = false;
  if (session_.state() != coord::SessionState::set_open) {
    if (adding->chosen) adding->chosen->abort_set(set_id_);
    return adding->reply.error({Errc::async_cancelled, "the set was aborted"});
  }
  session_.call_ended(server_.now(), SessionCall::add_to_snapshot_set, status.has_value());
  server_.touch();
  if (!status) return adding->reply.error(status.error());
  const auto& member = adding->member;
  server_.log().info("volume added to the set", {{"set", set_id_.to_string()},
                                                 {"volume", printable(member.volume.name)},
                                                 {"snapshot", member.snapshot.to_string()}});
  adding->reply.good(rpc::AddedSnapshot{member.snapshot, member.volume.volume_id});
  members_.push_back(member);
}

std::vector<ProviderId> RequesterSession::set_providers() const {
  std::vector<ProviderId> providers;
  for (const auto& member : members_)
    if (std::find(providers.begin(), providers.end(), member.provider) == providers.end())
      providers.push_back(member.provider);
  return providers;
}

bool RequesterSession::makes_set_on(const ProviderId& id) const {
  return makes_set() &&
         (adding_ || std::any_of(members_.begin(), members_.end(),
                                 [&](const auto& one) { return one.provider == id; }));
}

// --- DoSnapshotSet ------------------------------------------------------------------------------

void RequesterSession::do_snapshot_set(const Json& params, const Reply& reply) {
  const auto message = take<rpc::DoSnapshotSet>(params, reply);
  if (!message || !allowed(SessionCall::do_snapshot_set, reply)) return;
  const auto operation = begin_operation(SessionCall::do_snapshot_set);
  session_.creation_started();
  reply.good(rpc::StartedOperation{operation});
  set_.emplace(make_plan(*message), server_.limits());
  set_->start(server_.now());
  // What a provider had prepared before it went away is gone; the rest must not be taken for all.
  for (const auto& member : members_)
    if (member.lost) plan_provider_lost(member.provider);
  run_actions();
}

coord::SetPlan RequesterSession::make_plan(const rpc::DoSnapshotSet& message) {
  coord::SetPlan plan;
  plan.set_id = set_id_;
  plan.policy = message.policy;
  plan.policy_list = message.policy_list;
  set_writers_.clear();
  for (std::size_t w = 0; w < writers_.size() && session_.with_writers(); ++w) {
    if (!participates(writers_[w])) continue;
    set_writers_.push_back(w);
    plan.writers.push_back(writers_[w].status);
    // Which volume a writer's files lie on only it knows (paths are of its own mount namespace), so
    // whoever has a selected component counts as involved; in volume mode everybody does.
    plan.writers.back().involved = true;
  }
  set_plan_providers_ = set_providers();
  for (const auto& id : set_plan_providers_) {
    const auto link = server_.provider(id);
    plan.providers.push_back({id, link ? link->properties().name : id.to_string()});
  }
  return plan;
}

void RequesterSession::run_actions() {
  if (in_actions_ || !set_) return;  // What an action causes at once is seen by the loop below.
  in_actions_ = true;
  bool ended = false;
  for (auto actions = set_->take_actions(); !actions.empty(); actions = set_->take_actions()) {
    const bool held = holds_writes(set_->phase());
    if (held != std::exchange(log_held_, held)) server_.hold_log(held);
    trace_phase();
    for (const auto& action : actions) {
      if (const auto* send = std::get_if<coord::SendToWriter>(&action)) carry_out(*send);
      if (const auto* call = std::get_if<coord::CallProvider>(&action)) carry_out(*call);
      if (std::holds_alternative<coord::ReportOutcome>(action)) ended = true;
      if (std::holds_alternative<coord::ReleaseSlot>(action)) server_.leave_slot(key_);
    }
  }
  in_actions_ = false;
  server_.touch();
  if (ended) set_ended();
}

// A phase that nobody had anything to do in is not in the story.
void RequesterSession::trace_phase() {
  if (set_->phase() == traced_phase_) return;
  traced_phase_ = set_->phase();
  server_.traces.answered(phase_span_);
  phase_span_.reset();
  if (!set_->done())
    phase_span_ = server_.traces.asked(set_id_, "umbrad", std::string(name(traced_phase_)));
}

void RequesterSession::carry_out(const coord::SendToWriter& action) {
  auto& writer = writers_[set_writers_[action.writer]];
  const auto link = server_.writer(writer.status.instance_id);
  if (!link) return set_->writer_lost(server_.now(), action.writer);
  server_.log().debug("event to writer", {{"set", set_id_.to_string()},
                                          {"writer", printable(writer.status.name)},
                                          {"event", std::string(name(action.event))}});
  auto params = event_params(writer, action.event);
  params.time_limit_ms = static_cast<std::uint32_t>(action.limit.count());
  link->send(action.event, std::move(params), action.limit,
             [self = shared_from_this(), action](WriterOutcome outcome) {
               if (!self->set_) return;
               auto& machine = *self->set_;
               const auto now = self->server_.now();
               if (outcome.kind == WriterOutcome::Kind::lost)
                 machine.writer_lost(now, action.writer);
               else if (outcome.kind == WriterOutcome::Kind::late)
                 machine.deadline_passed(now);
               else if (machine.writer_replied(now, action.writer, action.event, outcome.answer))
                 self->apply_edits(self->writers_[self->set_writers_[action.writer]], action.event,
                                   outcome.edits);
               self->run_actions();
             });
}

void RequesterSession::carry_out(const coord::CallProvider& action) {
  const auto link = server_.provider(set_plan_providers_[action.provider]);
  if (!link) return set_->provider_lost(server_.now(), action.provider);
  const auto limit = action.limit + kWireGrace;
  const auto answered = [self = shared_from_this(), action](const Result<HoldReport>& report) {
    self->provider_answered(action.provider, action.call, report);
  };
  const std::string member(name(action.call));
  if (action.call == ProviderCall::delete_set) {
    rpc::DeleteSnapshots removal;
    removal.id = set_id_;
    removal.type = ObjectType::snapshot_set;
    removal.force = true;
    return link->call<rpc::DeletedSnapshots>(
        member, removal, limit, [answered](const Result<rpc::DeletedSnapshots>& done) {
          if (!done) return answered(tl::unexpected<Error>(done.error()));
          const bool gone = done->status == Errc::ok || done->status == Errc::object_not_found;
          answered(gone ? Result<HoldReport>{HoldReport{}} : fail(done->status, done->context));
        });
  }
  rpc::SetRequest request;
  request.set_id = set_id_;
  request.limits = action.limits;
  if (action.call == ProviderCall::post_commit_snapshots)
    for (const auto& member_of_set : members_) request.members.push_back(member_of_set.snapshot);
  if (action.call == ProviderCall::flush_commit_release ||
      action.call == ProviderCall::release_hold)
    return link->call<HoldReport>(member, request, limit, answered);
  link->call<rpc::Nothing>(member, request, limit, [answered](const Result<rpc::Nothing>& result) {
    answered(result.map([](const rpc::Nothing&) { return HoldReport{}; }));
  });
}

void RequesterSession::provider_answered(std::size_t provider, ProviderCall call,
                                         const Result<HoldReport>& report) {
  if (!set_) return;
  // Not an answer: the provider may come back and have one.
  if (!server_.provider(set_plan_providers_[provider])) {
    set_->provider_lost(server_.now(), provider);
    return run_actions();
  }
  // Writers want the copies' devices in PostSnapshot, the next phase.
  if (call == ProviderCall::pre_final_commit_snapshots && report) return look_for_devices(provider);
  if (call == ProviderCall::post_final_commit_snapshots && report && is_transportable())
    return look_for_luns(provider);
  static_cast<void>(set_->provider_replied(server_.now(), provider, call, report));
  run_actions();
}

void RequesterSession::look_for_devices(std::size_t provider) {
  const auto go_on = [self = shared_from_this(), provider](const Result<HoldReport>& result) {
    if (!self->set_) return;
    static_cast<void>(self->set_->provider_replied(
        self->server_.now(), provider, ProviderCall::pre_final_commit_snapshots, result));
    self->run_actions();
  };
  const auto link = server_.provider(set_plan_providers_[provider]);
  if (!link) return go_on(HoldReport{});
  rpc::QuerySnapshots query;
  query.incomplete = true;
  link->call<rpc::SnapshotList>(
      "query_snapshots", query, server_.limits().provider_query,
      [self = shared_from_this(), go_on, provider](const Result<rpc::SnapshotList>& list) {
        if (!list) return go_on(HoldReport{});
        for (auto& member : self->members_) {
          if (member.provider != self->set_plan_providers_[provider]) continue;
          const auto found =
              std::find_if(list->snapshots.begin(), list->snapshots.end(),
                           [&](const auto& one) { return one.snapshot_id == member.snapshot; });
          // Whatever the provider answered to its calls: a set is whole, or is not.
          if (found == list->snapshots.end())
            return go_on(
                fail(Errc::unexpected_provider_error,
                     "the copy of volume '" + printable(member.volume.name) + "' is not there"));
          member.device_object = found->device_object;
          member.machine = found->originating_machine;
          member.filetime = found->creation_filetime;
        }
        go_on(HoldReport{});
      });
}

void RequesterSession::provider_lost(const ProviderId& id) {
  for (auto& member : members_)
    if (member.provider == id) member.lost = true;
  if (!set_) return;
  plan_provider_lost(id);
  run_actions();
}

void RequesterSession::plan_provider_lost(const ProviderId& id) {
  for (std::size_t p = 0; p < set_plan_providers_.size(); ++p)
    if (set_plan_providers_[p] == id) set_->provider_lost(server_.now(), p);
}

void RequesterSession::provider_returned(const ProviderId& id) {
  if (!set_) return;
  for (std::size_t p = 0; p < set_plan_providers_.size(); ++p)
    if (set_plan_providers_[p] == id) set_->provider_returned(server_.now(), p);
  run_actions();
}

void RequesterSession::set_ended() {
  const auto outcome = set_->outcome();
  const bool good = outcome.code == Errc::async_finished;
  for (std::size_t i = 0; i < set_writers_.size(); ++i) {
    auto& status = writers_[set_writers_[i]].status;
    const bool failed_now = status.failure == Errc::ok;
    const auto before = server_.writers.find(status.instance_id);
    status = set_->writers()[i];
    if (failed_now || before == nullptr) note(status);
  }
  for (const auto p : set_->untold()) {
    // It may be back already, or go once more before it hears of it.
    if (const auto link = server_.provider(set_plan_providers_[p])) link->abort_set(set_id_);
    for (auto& known : server_.known_providers())
      if (known.properties.provider_id == set_plan_providers_[p] &&
          known.aborted_sets.size() < kAbortedSetsMax)
        known.aborted_sets.push_back(set_id_);
  }
  const bool in_doubt = set_->in_doubt();
  const auto& hold = set_->hold();
  if (good)
    server_.traces.note(set_id_, "umbrad", "hold",
                        "flush " + std::to_string(hold.flush.count()) + " us, freeze " +
                            std::to_string(hold.freeze.count()) + " us, gate " +
                            std::to_string(hold.gate.count()) + " us");
  server_.traces.ended(set_id_, outcome.code, outcome.context);
  if (good)
    server_.log().info("set created", {{"set", set_id_.to_string()},
                                       {"snapshots", members_.size()},
                                       {"freeze_us", hold.freeze.count()},
                                       {"gate_us", hold.gate.count()}});
  else
    server_.log().warning("set failed", {{"set", set_id_.to_string()},
                                         {"code", std::string(code_name(outcome.code))},
                                         {"phase", std::string(name(outcome.phase))},
                                         {"in_doubt", in_doubt},
                                         {"why", outcome.context}});
  session_.creation_finished(good);
  if (!good) end_reason_ = outcome.context;
  if (!good && !in_doubt) carried_.clear();
  finish_operation(running_, outcome.code, outcome.context);
  set_.reset();
  if (in_doubt) server_.settle();
  for (const auto& reply : std::exchange(aborting_, {})) reply.good();
  if (ending_) end_now();
}

// The set is not being created yet, or not any more.
void RequesterSession::drop_set(StopCause cause, const std::string& reason) {
  const bool open = session_.holds_set();
  std::string why(coord::describe(cause));
  if (!reason.empty()) why += ": " + reason;
  if (open) {
    for (const auto& provider : set_providers())
      if (const auto link = server_.provider(provider)) link->abort_set(set_id_);
    server_.log().warning("set dropped", {{"set", set_id_.to_string()},
                                          {"state", std::string(name(session_.state()))},
                                          {"why", why}});
  }
  tell_writers(coord::WriterEvent::abort);
  session_.aborted();
  end_reason_ = why;
  if (running_ != 0) finish_operation(running_, Errc::async_cancelled, end_reason_);
  server_.traces.ended(set_id_, Errc::async_cancelled, end_reason_);
  if (open) server_.leave_slot(key_);
}

}  // namespace umbra::daemon
