// SPDX-License-Identifier: Apache-2.0
//
// What the test requester is to do and what has to come of it, as a file says it:
// docs/tools/test-requester.md. Reading it is total: whatever is misspelt, missing or of the wrong
// kind is an error that names the key.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "umbra/documents.h"
#include "umbra/requester/types.h"
#include "umbra/result.h"

namespace umbra::test_requester {

/// One component of a backup or a restore.
struct ComponentPlan {
  std::string writer{};  ///< Name or class id.
  std::string logical_path{};
  std::string name{};
  bool succeeded = true;
  std::optional<std::string> backup_options{};
  std::optional<std::string> previous_stamp{};
  std::string previous_stamp_from{};  ///< A bundle: the stamp that this component has there.
  std::optional<std::string> restore_options{};
  std::vector<RestoreSubcomponent> subcomponents{};
  bool authoritative = false;
  std::optional<RollForward> roll_forward{};
  std::string restore_name{};
  bool more_follow = false;
  std::vector<AlternateLocation> new_targets{};
  std::vector<AlternateLocation> alternate_locations{};  ///< Said to have been used.
  FileRestoreStatus status = FileRestoreStatus::all;
};

/// How a writer has to fare. What is absent is not looked at.
struct WriterExpected {
  std::string name{};
  std::string after{};  ///< The step; empty: the last one.
  std::optional<WriterState> state{};
  std::optional<Errc> failure{};
  std::optional<std::uint32_t> application_code{};
  std::string message{};  ///< A part of it.
  bool absent = false;    ///< It is in no list.
};

/// What the document has to say of a component at the end.
struct ComponentExpected {
  std::string writer{};
  std::string logical_path{};
  std::string name{};
  std::optional<std::string> stamp{};
  std::optional<std::string> metadata{};
  std::optional<std::string> restore_metadata{};
  std::optional<RestoreTarget> target{};
  std::optional<std::string> failure_message{};  ///< Of any event.
  std::optional<std::size_t> partial_files{};
  std::optional<std::size_t> differenced_files{};
};

struct Plan {
  bool restore = false;
  // A backup.
  std::uint32_t context = context::kBackup;  ///< With its attributes.
  requester::BackupState state{};
  std::vector<std::string> volumes{};
  WriterPolicy policy = WriterPolicy::none;
  std::string save_to{};  ///< Where the bundle is kept; empty: nowhere.
  // A restore.
  RestoreType restore_type = RestoreType::undefined;
  std::string from{};  ///< The bundle.
  // Both.
  std::vector<WriterClassId> enable{};
  std::vector<WriterClassId> disable{};
  std::vector<ComponentPlan> components{};
  // What has to come of it.
  Errc result = Errc::ok;  ///< Of the step that fails.
  std::string fails_at{};  ///< Its name; empty: any, or none with Errc::ok.
  std::vector<WriterExpected> writers{};
  std::vector<ComponentExpected> documents{};
};

/// Errors: invalid_argument (line or key, and what is wrong).
[[nodiscard]] Result<Plan> parse_plan(std::string_view text);
/// Errors: as above; object_not_found.
[[nodiscard]] Result<Plan> load_plan(const std::string& path);

}  // namespace umbra::test_requester
