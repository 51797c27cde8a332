// SPDX-License-Identifier: Apache-2.0 OR MIT
#include <boost/json/value.hpp>
#include <unordered_map>

#include "engine/rpc/provider_server.h"

namespace umbra::rpc {
namespace {

using Serve = Result<Json> (*)(Provider&, const Json&);

Result<Json> nothing_or(const Status& status) {
  if (!status) return fail(status.error());
  return encode(Nothing{});
}

// A call that takes a message and gives a Status or a Result of something encodable.
template <class Request, auto kCall>
Result<Json> served(Provider& provider, const Json& params) {
  const Result<Request> request = decode<Request>(params);
  if (!request) return fail(request.error());
  return kCall(provider, *request);
}

using Set = SetRequest;

Result<Json> find_volume(Provider& provider, const VolumeRequest& request) {
  const auto volume = provider.find_volume(request.volume);
  if (!volume) return fail(volume.error());
  return encode(*volume);
}
Result<Json> list_volumes(Provider& provider, const Nothing&) {
  auto volumes = provider.list_volumes();
  if (!volumes) return fail(volumes.error());
  return encode(VolumeList{std::move(*volumes), {}});
}
Result<Json> is_supported(Provider& provider, const VolumeSupportRequest& request) {
  const auto supported = provider.is_volume_supported(request.volume, request.attributes);
  if (!supported) return fail(supported.error());
  return encode(SupportReply{*supported});
}
Result<Json> begin_prepare(Provider& provider, const PrepareSnapshot& request) {
  return nothing_or(provider.begin_prepare_snapshot(request));
}
Result<Json> end_prepare(Provider& provider, const Set& request) {
  return nothing_or(provider.end_prepare_snapshots(request.set_id));
}
Result<Json> pre_commit(Provider& provider, const Set& request) {
  return nothing_or(provider.pre_commit_snapshots(request.set_id));
}
Result<Json> flush_and_hold(Provider& provider, const Set& request) {
  return nothing_or(provider.flush_and_hold(request.set_id, request.limits));
}
Result<Json> commit(Provider& provider, const Set& request) {
  return nothing_or(provider.commit_snapshots(request.set_id));
}
Result<Json> release(Provider& provider, const Set& request) {
  const auto report = provider.release_hold(request.set_id);
  if (!report) return fail(report.error());
  return encode(*report);
}
Result<Json> fused(Provider& provider, const Set& request) {
  const auto report = provider.flush_commit_release(request.set_id, request.limits);
  if (!report) return fail(report.error());
  return encode(*report);
}
Result<Json> post_commit(Provider& provider, const Set& request) {
  return nothing_or(provider.post_commit_snapshots(request.set_id, request.members));
}
Result<Json> pre_final(Provider& provider, const Set& request) {
  return nothing_or(provider.pre_final_commit_snapshots(request.set_id));
}
Result<Json> post_final(Provider& provider, const Set& request) {
  return nothing_or(provider.post_final_commit_snapshots(request.set_id));
}
Result<Json> confirm(Provider& provider, const Set& request) {
  return nothing_or(provider.confirm_set(request.set_id));
}
Result<Json> abort_set(Provider& provider, const Set& request) {
  provider.abort_snapshots(request.set_id);
  return encode(Nothing{});
}
Result<Json> query_set(Provider& provider, const Set& request) {
  const auto fate = provider.query_set(request.set_id);
  if (!fate) return fail(fate.error());
  return encode(SetFateReply{*fate});
}
Result<Json> complete_set(Provider& provider, const Set& request) {
  return nothing_or(provider.complete_set(request.set_id));
}
Result<Json> query(Provider& provider, const QuerySnapshots& request) {
  auto snapshots = provider.query_snapshots(request.incomplete);
  if (!snapshots) return fail(snapshots.error());
  return encode(SnapshotList{std::move(*snapshots), {}});
}
Result<Json> remove(Provider& provider, const DeleteSnapshots& request) {
  const DeleteReport report = provider.delete_snapshots(request.id, request.type, request.force);
  DeletedSnapshots reply{report.deleted, report.not_deleted, Errc::ok, {}};
  if (!report.status) {
    reply.status = report.status.error().code;
    reply.context = report.status.error().context;
  }
  return encode(reply);
}
Result<Json> end_session(Provider& provider, const SessionRequest& request) {
  provider.end_session(request.session_id);
  return encode(Nothing{});
}
Result<Json> retain(Provider& provider, const RetainSessions& request) {
  provider.retain_sessions(request.alive);
  return encode(Nothing{});
}

const std::unordered_map<std::string, Serve>& calls() {
  static const std::unordered_map<std::string, Serve> table{
      {"provider.find_volume", served<VolumeRequest, find_volume>},
      {"provider.list_volumes", served<Nothing, list_volumes>},
      {"provider.is_volume_supported", served<VolumeSupportRequest, is_supported>},
      {"provider.begin_prepare_snapshot", served<PrepareSnapshot, begin_prepare>},
      {"provider.end_prepare_snapshots", served<Set, end_prepare>},
      {"provider.pre_commit_snapshots", served<Set, pre_commit>},
      {"provider.flush_and_hold", served<Set, flush_and_hold>},
      {"provider.commit_snapshots", served<Set, commit>},
      {"provider.release_hold", served<Set, release>},
      {"provider.flush_commit_release", served<Set, fused>},
      {"provider.post_commit_snapshots", served<Set, post_commit>},
      {"provider.pre_final_commit_snapshots", served<Set, pre_final>},
      {"provider.post_final_commit_snapshots", served<Set, post_final>},
      {"provider.confirm_set", served<Set, confirm>},
      {"provider.abort_snapshots", served<Set, abort_set>},
      {"provider.query_set", served<Set, query_set>},
      {"provider.complete_set", served<Set, complete_set>},
      {"provider.query_snapshots", served<QuerySnapshots, query>},
      {"provider.delete_snapshots", served<DeleteSnapshots, remove>},
      {"provider.end_session", served<SessionRequest, end_session>},
      {"provider.retain_sessions", served<RetainSessions, retain>},
  };
  return table;
}

}  // namespace

Result<Json> serve_provider_call(Provider& provider, const std::string& method,
                                 const Json& params) {
  const auto found = calls().find(method);
  if (found == calls().end()) return fail(Errc::not_implemented, "no method '" + method + "'");
  return found->second(provider, params);
}

}  // namespace umbra::rpc
