// SPDX-License-Identifier: Apache-2.0
//
// Calls that need no session: asked of every provider at once, answered when all have answered. A
// provider that is away or does not answer is named, never left out silently.

#include <algorithm>
#include <utility>

#include "engine/daemon/ask_all.h"
#include "engine/daemon/express.h"
#include "engine/daemon/provider_link.h"
#include "engine/daemon/requester_session.h"
#include "engine/rpc/management_calls.h"

namespace umbra::daemon {
namespace {

// A set may have members at several providers: each deletes its own, one after the other. The first
// that cannot delete one of its own is the answer; who does not know the object does not count
// unless nobody does. Kept alive by the call that is under way.
class Deletion : public std::enable_shared_from_this<Deletion> {
 public:
  Deletion(Server& server, rpc::DeleteSnapshots request, std::string caller, Reply reply)
      : server_(server),
        request_(request),
        caller_(std::move(caller)),
        reply_(std::move(reply)),
        providers_(server.connected_providers()) {}

  void step() {
    if (next_ == providers_.size()) return finish();
    providers_[next_++]->call<rpc::DeletedSnapshots>(
        "delete_snapshots", request_, server_.limits().provider_delete,
        [self = shared_from_this()](const Result<rpc::DeletedSnapshots>& answer) {
          self->answered(answer);
        },
        caller_);
  }

 private:
  void answered(const Result<rpc::DeletedSnapshots>& answer) {
    const auto code = answer ? answer->status : answer.error().code;
    if (answer) total_.deleted += answer->deleted;
    if (code == Errc::object_not_found) return step();
    found_ = true;
    if (code == Errc::ok) return step();
    total_.status = code;
    total_.context = answer ? answer->context : answer.error().context;
    if (answer) total_.not_deleted = answer->not_deleted;
    finish();
  }

  void finish() {
    if (found_) return reply_.good(total_);
    const auto absent = server_.absent_providers();
    std::string context = "no connected provider has it";
    for (const auto& name : absent) context += "; provider '" + printable(name) + "' is away";
    reply_.error(
        {absent.empty() ? Errc::object_not_found : Errc::provider_not_registered, context});
  }

  Server& server_;
  rpc::DeleteSnapshots request_;
  std::string caller_;
  Reply reply_;
  std::vector<std::shared_ptr<ProviderLink>> providers_;
  std::size_t next_ = 0;
  bool found_ = false;
  rpc::DeletedSnapshots total_;
};

}  // namespace

void RequesterSession::list_volumes(const Json&, const Reply& reply) {
  ask_all<rpc::VolumeList>(
      server_, "list_volumes", rpc::Nothing{},
      [reply](std::vector<rpc::VolumeList> answers, std::vector<std::string> absent) {
        rpc::VolumeList list;
        list.absent_providers = std::move(absent);
        for (auto& one : answers)
          std::move(one.volumes.begin(), one.volumes.end(), std::back_inserter(list.volumes));
        reply.good(list);
      });
}

void RequesterSession::list_snapshots(const Json& params, const Reply& reply) {
  const auto message = take<rpc::QuerySnapshots>(params, reply);
  if (!message) return;
  ask_all<rpc::SnapshotList>(
      server_, "query_snapshots", *message,
      [reply, context = message->context](std::vector<rpc::SnapshotList> answers,
                                          std::vector<std::string> absent) {
        rpc::SnapshotList list;
        list.absent_providers = std::move(absent);
        for (auto& one : answers)
          for (auto& snapshot : one.snapshots)
            if (context == context::kAll ||
                (snapshot.attributes & context::kMask) == (context & context::kMask))
              list.snapshots.push_back(std::move(snapshot));
        reply.good(list);
      });
}

void RequesterSession::delete_snapshots(const Json& params, const Reply& reply) {
  const auto message = take<rpc::DeleteSnapshots>(params, reply);
  if (!message) return;
  if (message->type != ObjectType::snapshot && message->type != ObjectType::snapshot_set)
    return reply.error({Errc::invalid_argument, "type: a snapshot (3) or a set (2)"});
  std::make_shared<Deletion>(server_, *message, peer_.describe(), reply)->step();
}

void RequesterSession::list_providers(const Json&, const Reply& reply) {
  rpc::ProviderList list;
  for (const auto& known : server_.known_providers()) {
    const auto link = known.link.lock();
    list.providers.push_back({known.properties, link && link->is_open()});
  }
  reply.good(list);
}

void RequesterSession::list_writers(const Json&, const Reply& reply) {
  rpc::WriterEntryList list;
  for (const auto& [id, writer] : server_.writers.all()) {
    rpc::WriterEntry entry;
    entry.instance_id = writer.instance_id;
    entry.class_id = writer.class_id;
    entry.name = writer.name;
    entry.instance_name = writer.instance_name;
    entry.level = writer.level;
    entry.freeze_window_ms = static_cast<std::uint32_t>(writer.freeze_window.count());
    entry.state = writer.state;
    entry.last_failure = writer.last_failure;
    entry.last_failure_phase = writer.last_failure_phase;
    entry.last_failure_message = writer.last_failure_message;
    entry.last_failure_filetime = writer.last_failure_filetime;
    list.writers.push_back(std::move(entry));
  }
  read_express(server_,
               [list = std::move(list), reply](const documents::ExpressWriters& found) mutable {
                 for (const auto& express : found.writers) {
                   const auto& identity = express.document.identity;
                   rpc::WriterEntry entry;
                   entry.instance_id = identity.instance_id;
                   entry.class_id = identity.class_id;
                   entry.name = identity.name;
                   entry.instance_name = identity.instance_name;
                   entry.level = ApplicationLevel::unknown;
                   entry.freeze_window_ms = 0;
                   entry.state = WriterState::stable;
                   list.writers.push_back(std::move(entry));
                 }
                 reply.good(list);
               });
}

void RequesterSession::query_events(const Json& params, const Reply& reply) {
  auto message = take<rpc::QueryEvents>(params, reply);
  if (!message) return;
  const auto limit = std::min(coord::milliseconds{message->time_limit_ms}, kWaitLimitMax);
  const bool nothing_yet = message->after >= server_.events().last();
  if (!nothing_yet || limit.count() == 0) return answer_events(*message, reply);
  // A number that was never given means the end of the log as it is now.
  message->after = server_.events().last();
  event_waiters_.push_back({*message, reply, server_.now() + limit});
}

void RequesterSession::answer_events(const rpc::QueryEvents& query, const Reply& reply) {
  auto page =
      server_.events().read(query.after, std::min<std::size_t>(query.count, kEventsKeptMax));
  reply.good(rpc::EventList{std::move(page.events), page.next, page.lost});
}

void RequesterSession::events_came() {
  for (const auto& waiter : std::exchange(event_waiters_, {}))
    answer_events(waiter.query, waiter.reply);
}

void RequesterSession::query_settings(const Json&, const Reply& reply) {
  reply.good(server_.settings());
}

// Peers' own words are in it: for the user who made the set, and for administrators.
bool RequesterSession::may_see(const rpc::SetTrace& trace) const {
  return peer_.role == "admin" || trace.uid == peer_.credentials.uid;
}

void RequesterSession::query_trace(const Json& params, const Reply& reply) {
  const auto message = take<rpc::QueryTrace>(params, reply);
  if (!message) return;
  const rpc::SetTrace* found = nullptr;
  if (!message->set_id.is_nil()) {
    found = server_.traces.find(message->set_id);
    if (found != nullptr && !may_see(*found))
      return reply.error({Errc::access_denied, "the set was made by " + found->requester});
  } else {
    for (const auto* one : server_.traces.all())
      if (may_see(*one)) found = one;
  }
  if (found == nullptr)
    return reply.error(
        {Errc::object_not_found,
         "no such set among the last " + std::to_string(kTracesMax) + "; see umbra trace --list"});
  reply.good(*found);
}

void RequesterSession::query_traces(const Json&, const Reply& reply) {
  rpc::TraceList list;
  for (const auto* one : server_.traces.all()) {
    if (!may_see(*one)) continue;
    auto& head = list.traces.emplace_back();
    head.set_id = one->set_id;
    head.session_id = one->session_id;
    head.requester = one->requester;
    head.uid = one->uid;
    head.begin_filetime = one->begin_filetime;
    head.ended = one->ended;
    head.code = one->code;
    head.context = one->context;
  }
  std::reverse(list.traces.begin(), list.traces.end());
  reply.good(list);
}

void RequesterSession::coordinator_status(const Json&, const Reply& reply) {
  reply.good(server_.status());
}

void RequesterSession::coordinator_abort(const Json& params, const Reply& reply) {
  const auto message = take<rpc::AbortSet>(params, reply);
  if (!message) return;
  auto* holder = server_.holder();
  if (holder == nullptr)
    return reply.error({Errc::object_not_found, "no snapshot set is being created"});
  const bool own = holder->peer().credentials.uid == peer_.credentials.uid;
  if (peer_.role != "admin" && !own)
    return reply.error({Errc::access_denied, "the set belongs to " + holder->peer().describe()});
  const rpc::AbortedSet answer{holder->set_id(), holder->peer().describe()};
  server_.log().warning("set aborted by request", {{"set", answer.set_id.to_string()},
                                                   {"peer", peer_.describe()},
                                                   {"reason", printable(message->reason)}});
  holder->abort_set(coord::StopCause::administrator,
                    message->reason.empty() ? "umbra abort" : printable(message->reason));
  reply.good(answer);
}

void RequesterSession::pass_on(const std::string& method, const Json& params, const Reply& reply) {
  const auto link = server_.system_provider();
  if (!link)
    return reply.error({Errc::provider_not_registered,
                        "the system provider is away; start umbra-cowd and try again"});
  pass_to(link, method, params, reply);
}

// Queries are for everybody, changes for administrators; which is which, the wire says.
void RequesterSession::manage(const std::string& method, const Json& params, const Reply& reply) {
  const auto query = rpc::is_management_query(method);
  if (!query) return refuse_method(method, peer_.role, reply);
  if (!*query && peer_.role != "admin")
    return reply.error({Errc::access_denied, method + " needs the role admin"});
  // Every message of management has it.
  const auto message = take<rpc::ManagementQuery>(params, reply);
  if (!message) return;
  if (message->provider_id.is_nil()) return pass_on(method, params, reply);
  const auto link = server_.provider(message->provider_id);
  if (!link)
    return reply.error({Errc::provider_not_registered,
                        "provider " + message->provider_id.to_string() + " is not connected"});
  pass_to(link, method, params, reply);
}

void RequesterSession::pass_to(const std::shared_ptr<ProviderLink>& link, const std::string& method,
                               const Json& params, const Reply& reply) {
  const auto name = printable(link->properties().name);
  link->call_raw(
      method, params, server_.limits().provider_admin,
      [reply, name](Result<Json> result) {
        if (!result && (result.error().code == kLost || result.error().code == kLate))
          result = fail(Errc::provider_not_registered, "provider '" + name + "' did not answer");
        reply.deliver(std::move(result));
      },
      peer_.describe());
}

}  // namespace umbra::daemon
