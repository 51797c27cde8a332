// SPDX-License-Identifier: Apache-2.0
//
// The stories of the last snapshot sets: who was asked what, when, and what the answer was, from
// StartSnapshotSet to the last event of the session. For people, after something went wrong: `umbra
// trace` shows one, also as a file for trace viewers.
//
// Guarantees: bounded (kTracesMax sets, kTraceSpansMax spans of each, kTraceTextMax bytes of a
// text), the oldest goes first; recording never fails and never waits. On disk each set is a file
// of its own, written whole when no set is on its way, since the disk may be one whose writes are
// held; what a crash of umbrad loses is the story of the set that was being made.
//
// The file format is that of the wire (rpc::SetTrace as JSON), so it grows as the wire does.

#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/platform/clock.h"
#include "engine/platform/log.h"
#include "engine/rpc/codec.h"

namespace umbra::daemon {

inline constexpr std::size_t kTracesMax = 64;
inline constexpr std::size_t kTraceSpansMax = 4096;
inline constexpr std::size_t kTraceTextMax = 512;
inline constexpr const char* kTracesName = "traces";

/// Threads: the coordinator's.
class TraceBook {
 public:
  /// Names a span that has no end yet.
  struct Key {
    SnapshotSetId set;
    std::size_t span = 0;
  };

  explicit TraceBook(const Clock& clock) : clock_(clock) {}

  void begin(const SnapshotSetId& set, const SessionId& session, std::string requester,
             std::uint32_t uid);
  /// Something of a set was asked, or began. Nothing if the set is not known (any more).
  [[nodiscard]] std::optional<Key> asked(const SnapshotSetId& set, std::string actor,
                                         std::string what);
  /// A second answer changes nothing.
  void answered(const std::optional<Key>& key, Errc code = Errc::ok, std::string_view text = {});
  /// Something that has no duration.
  void note(const SnapshotSetId& set, std::string actor, std::string what, std::string_view text);
  /// What became of the set; spans may still come.
  void ended(const SnapshotSetId& set, Errc code, std::string_view context);

  /// Null: not known. Valid until the next call that is not const. Nil: the newest.
  [[nodiscard]] const rpc::SetTrace* find(const SnapshotSetId& set) const;
  /// Oldest first.
  [[nodiscard]] std::vector<const rpc::SetTrace*> all() const;
  /// Copies of those that changed since the last call, and are to be kept.
  [[nodiscard]] std::vector<rpc::SetTrace> take_changed();
  /// One that was kept, by an earlier umbrad: its open spans stay open.
  void restore(rpc::SetTrace trace);

 private:
  struct Record {
    rpc::SetTrace trace;
    TimePoint begin;
    bool changed = false;
  };
  [[nodiscard]] Record* record(const SnapshotSetId& set);
  [[nodiscard]] std::uint64_t since(const Record& record) const;
  void add(Record record);

  const Clock& clock_;
  std::deque<Record> records_;  // Oldest first.
};

/// The set that the params of a call to a provider name, if any.
[[nodiscard]] std::optional<SnapshotSetId> set_in(const rpc::Json& params);

/// The traces that a directory holds, oldest first, at most kTracesMax; files that are none are
/// logged and left. No directory: none.
[[nodiscard]] std::vector<rpc::SetTrace> load_traces(const std::string& directory,
                                                     const Logger& log);
/// Replaces the file of one set whole, and removes the oldest files beyond kTracesMax. Directory
/// and files are for umbrad's own user only. Blocks for the disk. Errors: io_error.
[[nodiscard]] Status save_trace(const std::string& directory, const rpc::SetTrace& trace);

}  // namespace umbra::daemon
