// SPDX-License-Identifier: Apache-2.0
//
// What a session asks about copies beyond its own set. Import, break and resync are work of
// providers of hardware copies; until the provider contract has calls for them, each ends with the
// code that VSS has for a copy whose provider cannot do it, and this is the place that would ask.

#include <algorithm>
#include <utility>

#include "engine/coordinator/provider_choice.h"
#include "engine/daemon/ask_all.h"
#include "engine/daemon/requester_session.h"

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

std::string with_absent(std::string text, const std::vector<std::string>& absent) {
  for (const auto& name : absent) text += "; provider '" + printable(name) + "' is away";
  return text;
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

}  // namespace

// --- IsVolumeSupported --------------------------------------------------------------------------

void RequesterSession::is_volume_supported(const Json& params, const Reply& reply) {
  const auto message = take<rpc::IsVolumeSupported>(params, reply);
  if (!message || !allowed(SessionCall::is_volume_supported, reply)) return;
  if (session_.context() == context::kAll)
    return reply.error({Errc::unsupported_context, "no copy can be made in VSS_CTX_ALL"});
  struct Asking {
    Reply reply;
    std::vector<std::shared_ptr<ProviderLink>> asked;
    std::vector<coord::ProviderCandidate> answers;
    std::size_t left = 0;
  };
  const bool named = !message->provider_id.is_nil();
  auto asking = std::make_shared<Asking>(Asking{reply, {}, {}, 0});
  if (!named) asking->asked = server_.connected_providers();
  if (auto link = named ? server_.provider(message->provider_id) : nullptr)
    asking->asked.push_back(std::move(link));
  const auto answer = [self = shared_from_this(), asking, named] {
    const auto choice = coord::choose_provider(asking->answers, named);
    if (choice) return asking->reply.good(rpc::SupportReply{true});
    // Known, but not with these attributes: that is an answer. Known to nobody is none.
    const bool known = std::any_of(asking->answers.begin(), asking->answers.end(),
                                   [](const auto& one) { return one.supports.has_value(); });
    if (known) return asking->reply.good(rpc::SupportReply{false});
    auto error = choice.error();
    if (error.code == Errc::volume_not_supported) error.code = Errc::object_not_found;
    error.context = with_absent(std::move(error.context), self->server_.absent_providers());
    asking->reply.error(std::move(error));
  };
  asking->left = asking->asked.size();
  asking->answers.resize(asking->asked.size());
  if (asking->asked.empty()) return answer();
  for (std::size_t i = 0; i < asking->asked.size(); ++i) {
    asking->answers[i].type = asking->asked[i]->properties().type;
    asking->asked[i]->call<rpc::SupportReply>(
        "is_volume_supported", rpc::VolumeSupportRequest{message->volume, session_.context()},
        server_.limits().provider_query, [asking, i, answer](Result<rpc::SupportReply> supports) {
          asking->answers[i].supports =
              supports.map([](const rpc::SupportReply& one) { return one.supported; });
          if (--asking->left == 0) answer();
        });
  }
}

// --- transportable sets -------------------------------------------------------------------------

void RequesterSession::import_snapshots(const Json&, const Reply& reply) {
  if (!allowed(SessionCall::import_snapshots, reply)) return;
  if (!import_loaded_)
    return reply.error({Errc::bad_state,
                        "import_snapshots: initialize_for_backup was given no document of a set"});
  const auto operation = begin_operation(SessionCall::import_snapshots);
  reply.good(rpc::StartedOperation{operation});
  // No provider can write LUN data into a document yet, so no document can have any.
  finish_operation(operation, Errc::nontransportable_bcd,
                   "the document that was loaded holds no data of a transportable set");
}

void RequesterSession::break_snapshot_set(const Json& params, const Reply& reply) {
  const auto message = take<rpc::BreakSnapshotSet>(params, reply);
  if (!message || !allowed(SessionCall::break_snapshot_set, reply)) return;
  if (const auto wrong = wrong_flags(message->flags); !wrong.empty())
    return reply.error({Errc::invalid_argument, wrong});
  const auto operation = begin_operation(SessionCall::break_snapshot_set);
  reply.good(rpc::StartedOperation{operation});
  find_snapshots(
      server_, [self = shared_from_this(), operation, set = message->set_id](const Gathered& all) {
        const bool found =
            std::any_of(all.snapshots.begin(), all.snapshots.end(),
                        [&](const SnapshotProperties& one) { return one.set_id == set; });
        if (!found)
          self->finish_operation(operation, Errc::object_not_found,
                                 with_absent("snapshot set " + set.to_string(), all.absent));
        else
          self->finish_operation(operation, Errc::provider_veto,
                                 "snapshot set " + set.to_string() +
                                     " was not imported from hardware: delete it, or revert to it");
        self->session_.call_ended(self->server_.now(), SessionCall::break_snapshot_set, false);
        self->server_.touch();
      });
}

// --- resync of LUNs -----------------------------------------------------------------------------

void RequesterSession::add_snapshot_to_recovery_set(const Json& params, const Reply& reply) {
  const auto message = take<rpc::AddSnapshotToRecoverySet>(params, reply);
  if (!message || !allowed(SessionCall::add_snapshot_to_recovery_set, reply)) return;
  if (message->snapshot_id.is_nil())
    return reply.error({Errc::invalid_argument, "snapshot_id: must name a snapshot"});
  if (message->flags != 0) return reply.error({Errc::invalid_argument, "flags: must be 0"});
  find_snapshots(server_, [reply, id = message->snapshot_id](const Gathered& all) {
    const auto found =
        std::find_if(all.snapshots.begin(), all.snapshots.end(),
                     [&](const SnapshotProperties& one) { return one.snapshot_id == id; });
    if (found == all.snapshots.end())
      return reply.error(
          {Errc::object_not_found, with_absent("snapshot " + id.to_string(), all.absent)});
    reply.error({Errc::legacy_provider,
                 "the provider of snapshot " + id.to_string() + " does not copy LUNs back"});
  });
}

void RequesterSession::recover_set(const Json& params, const Reply& reply) {
  const auto message = take<rpc::RecoverSet>(params, reply);
  if (!message || !allowed(SessionCall::recover_set, reply)) return;
  if ((message->flags & ~kRecoveryOptions) != 0)
    return reply.error({Errc::invalid_argument, "flags: there is one that is not defined"});
  reply.error({Errc::bad_state, "recover_set: add_snapshot_to_recovery_set first"});
}

}  // namespace umbra::daemon
