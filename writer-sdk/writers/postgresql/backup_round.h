// SPDX-License-Identifier: Apache-2.0
//
// One backup session's work on the clusters that take part in it. Knows PostgreSQL, not the SDK.
//
//   prepare   a session with each cluster; where its files are, whether the set holds them all; a
//             checkpoint, so that recovery of the copy is short
//   freeze    notes the WAL position
//   thaw      asks for the position again and does not wait for the answer
//   finish    takes that answer; the sessions end
//
// Nothing is held in a cluster at any time: it reads and writes on throughout. A set is one instant
// of all its volumes, and PostgreSQL recovers from such an instant as from a power failure, which
// is what its WAL is for (docs/writer-postgresql.md). A cluster that fails is out of the round; the
// others go on.

#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "umbra/result.h"
#include "writer-sdk/writers/postgresql/backup_record.h"
#include "writer-sdk/writers/postgresql/clusters.h"
#include "writer-sdk/writers/postgresql/connection.h"

namespace umbra::postgresql {

/// Sessions that are kept for a backup end by themselves when nothing is asked for this long.
inline constexpr std::chrono::minutes kSessionIdleMax{40};

struct RoundOptions {
  std::chrono::milliseconds answer_wait{};
  std::chrono::milliseconds checkpoint_wait{};
  bool keep_replication_slots = false;
};

struct RoundMember {
  std::string name{};
  Target target{};
  std::optional<Layout> declared{};  ///< As Identify told it; empty: it told no files.
  BackupRecord record{};
  std::optional<Error> failure{};

  std::optional<Connection> connection{};
  std::optional<Layout> layout{};
};

/// Blocks in no call for longer than its limit. Threads: one call at a time.
class BackupRound {
 public:
  BackupRound(RoundOptions options, std::vector<KnownCluster> clusters, Log log);

  /// `is_affected` is called on this thread.
  void prepare(const Limit& limit, const std::function<bool(const std::string& path)>& is_affected);
  void freeze(const Limit& limit);
  void thaw() noexcept;
  void finish(const Limit& limit);

  [[nodiscard]] const std::vector<RoundMember>& members() const noexcept { return members_; }

 private:
  void connect(RoundMember& member, const Limit& limit) const;
  void check(RoundMember& member,
             const std::function<bool(const std::string& path)>& is_affected) const;
  void checkpoint(RoundMember& member, const Limit& limit) const;
  void note_freeze(RoundMember& member, const Limit& limit) const;
  void note_thaw(RoundMember& member, const Limit& limit) const;
  // `action` on each that has not failed, all at once.
  void for_sound(const std::function<void(RoundMember&)>& action);

  RoundOptions options_;
  Log log_;
  std::vector<RoundMember> members_;
};

/// What an event's answer says of the failures. No failure: ok and nothing to report.
struct Verdict {
  std::optional<Error> veto{};     ///< Every cluster failed.
  std::optional<Error> in_part{};  ///< Some did; the code is writererror_partial_failure.
};
[[nodiscard]] Verdict judge(const std::vector<RoundMember>& members);

}  // namespace umbra::postgresql
