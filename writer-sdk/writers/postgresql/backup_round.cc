// SPDX-License-Identifier: Apache-2.0

#include "writer-sdk/writers/postgresql/backup_round.h"

#include <algorithm>
#include <array>
#include <utility>

#include "writer-sdk/writers/postgresql/facts.h"

namespace umbra::postgresql {

namespace {

// In the order in which one explains the whole: what no repetition cures comes first.
constexpr std::array kSeverity = {
    Errc::writererror_nonretryable, Errc::writererror_inconsistentsnapshot,
    Errc::writererror_outofresources, Errc::writererror_timeout, Errc::writererror_retryable};

bool same_files(const Layout& left, const Layout& right) {
  const auto same = [](const Tablespace& a, const Tablespace& b) {
    return a.oid == b.oid && a.location == b.location;
  };
  return left.data == right.data && left.wal == right.wal &&
         std::equal(left.tablespaces.begin(), left.tablespaces.end(), right.tablespaces.begin(),
                    right.tablespaces.end(), same);
}

}  // namespace

BackupRound::BackupRound(RoundOptions options, std::vector<KnownCluster> clusters, Log log)
    : options_(options), log_(std::move(log)) {
  for (auto& cluster : clusters) {
    RoundMember member;
    member.name = cluster.options.name;
    member.target = std::move(cluster.options.target);
    member.declared = std::move(cluster.layout);
    members_.push_back(std::move(member));
  }
}

void BackupRound::for_sound(const std::function<void(RoundMember&)>& action) {
  std::vector<RoundMember*> sound;
  for (auto& member : members_) {
    if (!member.failure) sound.push_back(&member);
  }
  for_all(sound.size(), [&](std::size_t i) { action(*sound[i]); });
  for (auto& member : members_) {
    if (member.failure) member.connection.reset();
  }
}

void BackupRound::prepare(const Limit& limit,
                          const std::function<bool(const std::string& path)>& is_affected) {
  for_sound([&](RoundMember& member) { connect(member, limit.cut_to(options_.answer_wait)); });
  for (auto& member : members_) {
    if (!member.failure) check(member, is_affected);
  }
  for_sound([&](RoundMember& member) { checkpoint(member, limit); });
}

void BackupRound::connect(RoundMember& member, const Limit& limit) const {
  auto connection = Connection::open(member.target, limit, kSessionIdleMax);
  if (!connection) {
    auto why = connection.error();
    why.context = "cannot be reached at " + member.target.address() + ": " + why.context +
                  "; start it, or take it out of the writer's configuration";
    member.failure = std::move(why);
    return;
  }
  auto facts = ask_facts(*connection, limit);
  if (!facts) {
    member.failure = std::move(facts.error());
    return;
  }
  member.connection = std::move(*connection);
  member.layout = std::move(facts->layout);
  member.record = std::move(facts->record);
  member.record.cluster = member.name;
  member.record.replication_slots = options_.keep_replication_slots ? "kept" : "left out";
}

void BackupRound::check(RoundMember& member,
                        const std::function<bool(const std::string& path)>& is_affected) const {
  if (!member.declared || !same_files(*member.declared, *member.layout)) {
    member.failure = Error{Errc::writererror_retryable,
                           "its directories are not those that were described when the backup "
                           "began (a tablespace came or went, or it was down); try again"};
    return;
  }
  const auto found = coverage(*member.layout, is_affected);
  if (found.is_whole()) return;
  member.failure = Error{
      Errc::writererror_inconsistentsnapshot,
      "a part of it is not in the set: " + join(found.outside) +
          "; without that the rest is of no use. Put all volumes of the cluster into the set"};
}

void BackupRound::checkpoint(RoundMember& member, const Limit& limit) const {
  auto& connection = *member.connection;
  auto& record = member.record;
  Status asked;
  if (options_.checkpoint_wait.count() == 0) {
    record.checkpoint = "not asked for";
  } else {
    asked = ask_checkpoint(connection, limit.cut_to(options_.checkpoint_wait), record);
    if (asked && record.checkpoint != "done") {
      log_(LogLevel::warning, "cluster " + member.name + ": checkpoint " + record.checkpoint +
                                  ": recovery of the copy will take longer");
    }
  }
  if (asked) asked = ask_control(connection, limit.cut_to(options_.answer_wait), record);
  if (!asked) member.failure = std::move(asked.error());
}

void BackupRound::freeze(const Limit& limit) {
  for_sound([&](RoundMember& member) { note_freeze(member, limit.cut_to(options_.answer_wait)); });
}

void BackupRound::note_freeze(RoundMember& member, const Limit& limit) const {
  if (!member.connection) {
    member.failure = Error{Errc::writererror_retryable, "asked to freeze what was not prepared"};
    return;
  }
  auto rows = member.connection->query(position_sql(), limit);
  if (!rows) {
    member.failure = std::move(rows.error());
  } else if (rows->size() == 1 && rows->front().size() == 3) {
    member.record.freeze_insert_lsn = rows->front()[0];
    member.record.freeze_flush_lsn = rows->front()[1];
    member.record.freeze_time = rows->front()[2];
  }
}

void BackupRound::thaw() noexcept {
  for (auto& member : members_) {
    if (!member.failure && member.connection) (void)member.connection->send(position_sql());
  }
}

void BackupRound::finish(const Limit& limit) {
  for_sound([&](RoundMember& member) { note_thaw(member, limit.cut_to(options_.answer_wait)); });
  for (auto& member : members_) member.connection.reset();
}

// The copy is made and good without this: what cannot be asked stays unknown.
void BackupRound::note_thaw(RoundMember& member, const Limit& limit) const {
  if (!member.connection) return;
  auto rows = member.connection->receive(limit);
  if (rows && rows->size() == 1 && rows->front().size() == 3) {
    member.record.thaw_insert_lsn = rows->front()[0];
    member.record.thaw_flush_lsn = rows->front()[1];
    member.record.thaw_time = rows->front()[2];
    return;
  }
  log_(LogLevel::warning, "cluster " + member.name + ": no WAL position after the copy was made: " +
                              (rows ? std::string("an unexpected answer") : rows.error().context));
}

Verdict judge(const std::vector<RoundMember>& members) {
  std::size_t failed = 0;
  std::size_t gravest = kSeverity.size();
  std::string text;
  for (const auto& member : members) {
    if (!member.failure) continue;
    ++failed;
    const auto* rank = std::find(kSeverity.begin(), kSeverity.end(), member.failure->code);
    gravest = std::min(gravest, static_cast<std::size_t>(rank - kSeverity.begin()));
    if (!text.empty()) text += "; ";
    text += "cluster " + member.name + ": " + member.failure->context;
  }
  if (failed == 0) return {};
  if (failed < members.size()) {
    return {.in_part = Error{Errc::writererror_partial_failure, std::move(text)}};
  }
  const Errc code =
      gravest < kSeverity.size() ? kSeverity.at(gravest) : Errc::writererror_nonretryable;
  return {.veto = Error{code, std::move(text)}};
}

}  // namespace umbra::postgresql
