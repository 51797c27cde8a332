// SPDX-License-Identifier: Apache-2.0
//
// Everything that `umbra` prints. Results go to `out`, as text for people or as one JSON object
// with stable member names (docs/cli.md, pinned by tests); errors, notes and progress go to `err`.
// Text that comes from others (names, paths, a writer's words) is escaped for the terminal.

#pragma once

#include <boost/json/object.hpp>
#include <iosfwd>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "requester-sdk/cli/exit_code.h"
#include "umbra/diff_area_management.h"
#include "umbra/provider_events.h"
#include "umbra/requester/types.h"

namespace umbra::cli {

class Output {
 public:
  /// `terminal`: `err` is one, so progress is welcome.
  Output(std::ostream& out, std::ostream& err, bool terminal)
      : out_(out), err_(err), terminal_(terminal) {}

  void use_json() { json_ = true; }
  [[nodiscard]] bool json() const { return json_; }

  void line(std::string_view text);                               // To people only.
  void note(std::string_view text);                               // To people only, on `err`.
  void object(const boost::json::object& value);                  // With --json only.
  void table(const std::vector<std::vector<std::string>>& rows);  // The first is the heading.

  /// One line, or one object {"error": {...}}; returns the exit status, which is that of the error
  /// unless given. `details` are further members of the object.
  ExitCode error(const Error& error, const boost::json::object& details = {},
                 std::optional<ExitCode> status = std::nullopt);
  /// Rewrites one line on a terminal; nothing otherwise. end_progress() clears it.
  void progress(const requester::Progress& progress);
  void end_progress();

 private:
  std::ostream& out_;
  std::ostream& err_;
  bool terminal_;
  bool json_ = false;
  bool progress_shown_ = false;
};

/// To standard output and standard error.
[[nodiscard]] Output standard_output(bool terminal);

// --- values as JSON ----------------------------------------------------------------------------

[[nodiscard]] boost::json::object to_json(const VolumeProperties& volume);
[[nodiscard]] boost::json::object to_json(const SnapshotProperties& snapshot);
[[nodiscard]] boost::json::object to_json(const requester::WriterInfo& writer);
[[nodiscard]] boost::json::object to_json(const requester::WriterStatus& writer);
[[nodiscard]] boost::json::object to_json(const requester::ProviderInfo& provider);
[[nodiscard]] boost::json::object to_json(const requester::CoordinatorStatus& status);
[[nodiscard]] boost::json::object to_json(const requester::PhaseTime& phase);
[[nodiscard]] boost::json::object to_json(const HoldReport& hold);
[[nodiscard]] boost::json::object to_json(const requester::SetReport& report);
[[nodiscard]] boost::json::object to_json(const requester::SetTrace& trace);
[[nodiscard]] boost::json::object to_json(const SupportedVolume& volume);
[[nodiscard]] boost::json::object to_json(const DiffVolumeProperties& volume);
[[nodiscard]] boost::json::object to_json(const DiffAreaProperties& area);
[[nodiscard]] boost::json::object to_json(const VolumeProtectionInfo& info);
[[nodiscard]] boost::json::object to_json(const OperationInfo& operation);
[[nodiscard]] boost::json::object to_json(const ProviderEvent& event);
[[nodiscard]] boost::json::object to_json(const RevertInfo& revert);
[[nodiscard]] boost::json::object to_json(const CheckpointProperties& checkpoint);
[[nodiscard]] boost::json::object error_to_json(const Error& error);

template <class T>
[[nodiscard]] boost::json::array list_to_json(const std::vector<T>& values);
[[nodiscard]] boost::json::array names_to_json(const std::vector<std::string>& names);

// --- values as text ----------------------------------------------------------------------------

/// For a terminal: control bytes escaped.
[[nodiscard]] std::string shown(std::string_view text);
[[nodiscard]] std::string bytes_text(std::uint64_t bytes);   // "1.5 GiB"
[[nodiscard]] std::string time_text(std::int64_t filetime);  // "2026-01-31T23:59:59Z", "-" for 0
[[nodiscard]] std::string duration_text(std::chrono::microseconds duration);  // "12.3 ms"
/// One line per phase that took any time: name, duration, and a bar where it lies in the whole.
[[nodiscard]] std::vector<std::string> timeline_text(
    const std::vector<requester::PhaseTime>& phases);
[[nodiscard]] std::string event_text(const ProviderEvent& event);  // One line.
[[nodiscard]] std::string context_text(std::uint32_t attributes);  // "app-rollback"

}  // namespace umbra::cli
