// SPDX-License-Identifier: Apache-2.0
//
// Who is registered as a writer, and who takes part in a session. Pure. A state belongs to a writer
// in a session (writer_state.h); what is kept here beside it is the last failure of any session,
// with its time, so that an old failure is never shown as a present state.
//
// Who takes part: enabled classes ("only these", once used) less disabled classes and instances,
// fixed at GatherWriterMetadata; of those, whoever answered Identify; of those, in component mode,
// whoever has a component that the requester selected. In volume mode all of them.

#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "engine/coordinator/limits.h"
#include "engine/coordinator/writer_state.h"
#include "umbra/ids.h"
#include "umbra/result.h"
#include "umbra/vss.h"

namespace umbra::coord {

struct RegisteredWriter {
  WriterInstanceId instance_id;
  WriterClassId class_id;
  std::string name;
  std::string instance_name;
  ApplicationLevel level = ApplicationLevel::front_end;
  milliseconds freeze_window = kFreezeWindowMax;
  std::uint32_t subscription = subscribe::kAll;

  // In the newest session it takes part in.
  WriterState state = WriterState::stable;
  // The last failure, whichever session it was in.
  Errc last_failure = Errc::ok;
  std::string last_failure_phase;
  std::string last_failure_message;
  std::int64_t last_failure_filetime = 0;
};

/// Which writers take part, as VSS has it: the first call about classes decides whether only those
/// that are listed do, or all but those. Calls of the same kind add to the list, calls of the other
/// kind take from it.
struct WriterFilter {
  enum class Mode : std::uint8_t { all, only_listed, all_but_listed };
  Mode mode = Mode::all;
  std::vector<Guid> classes;
  std::vector<Guid> disabled_instances;

  void enable_classes(const std::vector<Guid>& ids);
  void disable_classes(const std::vector<Guid>& ids);
  [[nodiscard]] bool admits(const RegisteredWriter& writer) const;
};

/// Threads: one.
class WriterRegistry {
 public:
  /// Errors: invalid_argument (no class id or name, a name too long, a window of 0 or beyond 60 s,
  /// an unknown level, a subscription to nothing or to reserved events); limit_reached
  /// (kWritersMax).
  [[nodiscard]] Status add(RegisteredWriter writer);
  void remove(const WriterInstanceId& id) { writers_.erase(id); }
  /// Null if it is gone. Valid until the next add() or remove().
  [[nodiscard]] RegisteredWriter* find(const WriterInstanceId& id);
  [[nodiscard]] const std::map<WriterInstanceId, RegisteredWriter>& all() const noexcept {
    return writers_;
  }
  /// Takes over state and failure of `writer`, as seen in a session, at `filetime`.
  void note(const SessionWriter& writer, std::int64_t filetime);

 private:
  std::map<WriterInstanceId, RegisteredWriter> writers_;
};

}  // namespace umbra::coord
