// SPDX-License-Identifier: Apache-2.0

#include "engine/daemon/settler.h"

#include <algorithm>
#include <functional>
#include <map>
#include <string>

#include "engine/coordinator/settlement.h"
#include "engine/daemon/provider_link.h"
#include "engine/daemon/server.h"

namespace umbra::daemon {
namespace {

// To be called once for each call that is answered, and once when all were made; the last of them
// is `done`. Counted, not tied to a lifetime: what a call captured may end on another thread.
std::function<void()> countdown(std::size_t times, std::function<void()> done) {
  return [left = std::make_shared<std::size_t>(times), done = std::move(done)] {
    if (--*left == 0) done();
  };
}

}  // namespace

void Settler::look() {
  if (running_) {
    again_ = true;
    return;
  }
  running_ = true;
  again_ = false;
  waiting_ = false;
  retry_.reset();
  collect();
}

void Settler::tick(TimePoint now) {
  if (retry_ && *retry_ <= now) look();
}

void Settler::collect() {
  struct Copies {
    std::size_t expected = 0;
    std::size_t found = 0;
  };
  const auto links = server_.connected_providers();
  const auto found = std::make_shared<std::map<SnapshotSetId, Copies>>();
  const auto answered = countdown(links.size() + 1, [this, found] {
    sets_.clear();
    for (const auto& [set, copies] : *found)
      sets_.push_back({set, copies.found >= copies.expected});
    next_set();
  });
  rpc::QuerySnapshots query;
  query.incomplete = true;
  for (const auto& link : links)
    link->call<rpc::SnapshotList>("query_snapshots", query, server_.limits().provider_query,
                                  [this, found, answered](const Result<rpc::SnapshotList>& list) {
                                    if (!list) waiting_ = true;
                                    for (std::size_t i = 0; list && i < list->snapshots.size();
                                         ++i) {
                                      const auto& copy = list->snapshots[i];
                                      if (copy.state == SnapshotState::created) continue;
                                      auto& copies = (*found)[copy.set_id];
                                      copies.expected = copy.snapshots_count;
                                      ++copies.found;
                                    }
                                    answered();
                                  });
  answered();
}

void Settler::next_set() {
  while (!sets_.empty() && server_.is_being_made(sets_.front().id)) sets_.pop_front();
  if (sets_.empty()) return finish();
  const auto set = sets_.front();
  sets_.pop_front();
  const auto links = server_.connected_providers();
  // Of those who are asked now: one that comes later has said nothing about this set.
  const bool everybody = server_.absent_providers().empty();
  const auto answers = std::make_shared<Answers>();
  const auto answered = countdown(
      links.size() + 1, [this, set, answers, everybody] { decide(set, *answers, everybody); });
  rpc::SetRequest request;
  request.set_id = set.id;
  for (const auto& link : links)
    link->call<rpc::SetFateReply>(
        "query_set", request, server_.limits().provider_query,
        [answers, link, answered](const Result<rpc::SetFateReply>& reply) {
          answers->emplace_back(link, reply ? reply->fate : SetFate::undecided);
          answered();
        });
  answered();
}

void Settler::decide(const Waiting& waiting, const Answers& answers, bool everybody) {
  const SnapshotSetId& set = waiting.id;
  coord::Findings findings;
  for (const auto& [link, fate] : answers) findings.fates.push_back(fate);
  findings.everybody = everybody;
  findings.all_members = waiting.all_members;
  findings.knows_all = server_.knows_all_providers();
  const auto& fates = findings.fates;
  const auto settlement = coord::decide_settlement(findings);
  // Whoever is away is asked when it comes; only what nobody announces is looked for again.
  if (settlement == coord::Settlement::wait && everybody) waiting_ = true;
  if (settlement == coord::Settlement::wait || server_.is_being_made(set)) return next_set();
  const bool complete = settlement == coord::Settlement::complete;
  const auto prepared = std::count(fates.begin(), fates.end(), SetFate::prepared);
  const auto obeyed = countdown(static_cast<std::size_t>(prepared) + 1, [this] { next_set(); });
  const auto told = [this, set, complete, obeyed](const std::string& provider,
                                                  const Status& status) {
    if (status) {
      server_.log().info("a set in doubt is settled",
                         {{"set", set.to_string()},
                          {"provider", provider},
                          {"as", complete ? "created, confirmed late" : "never created, deleted"}});
    } else {
      waiting_ = true;
      server_.log().warning(
          "a set in doubt is not settled",
          {{"set", set.to_string()}, {"provider", provider}, {"why", status.error().context}});
    }
    obeyed();
  };
  rpc::SetRequest completion;
  completion.set_id = set;
  rpc::DeleteSnapshots removal;
  removal.id = set;
  removal.type = ObjectType::snapshot_set;
  removal.force = true;
  for (const auto& [link, fate] : answers) {
    if (fate != SetFate::prepared) continue;
    const auto name = printable(link->properties().name);
    if (complete) {
      link->call<rpc::Nothing>("complete_set", completion, server_.limits().confirm,
                               [told, name](const Result<rpc::Nothing>& done) {
                                 told(name, done.map([](const rpc::Nothing&) {}));
                               });
    } else {
      link->call<rpc::DeletedSnapshots>("delete_snapshots", removal,
                                        server_.limits().provider_delete,
                                        [told, name](const Result<rpc::DeletedSnapshots>& done) {
                                          if (done && done->status != Errc::ok)
                                            return told(name, fail(done->status, done->context));
                                          told(name, done.map([](const rpc::DeletedSnapshots&) {}));
                                        });
    }
  }
  obeyed();
}

void Settler::finish() {
  running_ = false;
  if (waiting_) retry_ = server_.now() + kSettleRetry;
  if (again_) return look();
  server_.touch();
}

}  // namespace umbra::daemon
