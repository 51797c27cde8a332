// SPDX-License-Identifier: Apache-2.0
//
// The configuration file of umbra-test-writer, in the vocabulary of VSS's own test writer. The
// reference is docs/tools/test-writer.md. Reading is strict: an element or attribute that is not
// understood is an error, since a test that silently checks less is worse than none.

#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "umbra/documents.h"
#include "umbra/result.h"

namespace umbra::test_writer {

/// A component, and what the writer says of it in a backup and in a restore.
struct Component {
  ComponentInfo info{};
  std::vector<PartialFile> partial_files{};
  std::vector<DifferencedFile> differenced_files{};
  std::string backup_stamp{};
  std::string backup_metadata{};
  std::string restore_metadata{};
  std::string failure_message{};  ///< Wherever one can be set.
  std::optional<RestoreTarget> restore_target{};
  std::vector<DirectedTarget> directed_targets{};
};

struct Failure {
  Errc code = Errc::writererror_retryable;
  std::uint32_t left = 1;  ///< How often the event still fails.
};

struct Config {
  UsageType usage = UsageType::user_data;
  std::uint32_t schema = 0;
  bool delete_files = false;  ///< After the copy exists: whoever reads them reads the copy.
  bool delete_partial_files = false;
  bool delete_differenced_files = false;
  bool check_includes = false;  ///< After a restore: every file set has files again.
  bool check_excludes = false;  ///< After a restore: no excluded file came back.
  std::optional<RestoreRules> restore{};
  std::vector<FileSet> excludes{};
  std::vector<FileSet> excludes_from_snapshot{};
  std::vector<Component> components{};
  // By event, as on the wire: "prepare_for_backup", ...
  std::map<std::string, Failure> failures{};
  std::map<std::string, std::chrono::milliseconds> delays{};
};

/// Errors: invalid_argument (names the element and what would be right).
[[nodiscard]] Result<Config> parse_config(std::string_view xml);
/// Errors: also io_error.
[[nodiscard]] Result<Config> read_config(const std::string& path);

/// Whether a file's name fits a pattern of `*` and `?`.
[[nodiscard]] bool fits(std::string_view pattern, std::string_view name) noexcept;

}  // namespace umbra::test_writer
