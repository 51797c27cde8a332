// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Which files a file set means and what of each is copied (writer-and-documents 5.7, 6): patterns,
// variables, excludes, masks, differenced and partial files, the choice of a base. Pure: whoever
// walks directories asks here.

#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/documents/ranges.h"
#include "umbra/documents.h"
#include "umbra/result.h"

namespace umbra::documents {

/// `*` and `?`, nothing else, over the whole name; letters as they are. "*.*" is every name, with a
/// dot or without, as in VSS. Time: product of the lengths at most.
[[nodiscard]] bool matches(std::string_view pattern, std::string_view name) noexcept;
[[nodiscard]] bool has_wildcards(std::string_view pattern) noexcept;

/// What follows the directory `top` in `path`: "" or "/..."; nothing if it is not below it.
/// Slashes at their ends do not count.
[[nodiscard]] std::optional<std::string_view> below(std::string_view top,
                                                    std::string_view path) noexcept;

/// Whether the set names the file `name` in `directory`.
[[nodiscard]] bool covers(const FileSet& files, std::string_view directory,
                          std::string_view name) noexcept;

/// Values of variables by name.
using Variables = std::map<std::string, std::string, std::less<>>;
/// `path` with `${NAME}` and `%NAME%` replaced, once: values are not looked into. A `$` or `%` that
/// begins no such name stands for itself, "%%" for one percent sign. Errors: object_not_found (no
/// such variable; named); invalid_argument (the result is not absolute, or has a NUL).
[[nodiscard]] Result<std::string> expanded(std::string_view path, const Variables& variables);
/// Variables of a machine, in the form of environment(5) files: NAME=VALUE, perhaps quoted, one a
/// line; `#` begins a comment. Lines of another form are left out.
[[nodiscard]] Variables parse_variables(std::string_view text);

/// As what type a writer takes part that has this schema: VSS treats a type that it does not
/// support as full.
[[nodiscard]] BackupType effective_type(std::uint32_t schema, BackupType type) noexcept;
/// Whether a set is part of a backup of that type. COPY and OTHER copy what FULL does.
[[nodiscard]] bool is_backed_up(const FileSet& files, BackupType type) noexcept;
/// Whether its files must then be read from a copy, not from the live volume.
[[nodiscard]] bool needs_snapshot(const FileSet& files, BackupType type) noexcept;
/// Whether the component has a file set that is part of a backup of that type.
[[nodiscard]] bool contributes(const ComponentInfo& component, BackupType type) noexcept;

/// File sets by their directories, so that a file is not compared with each of them.
class FileSetIndex {
 public:
  /// `id` is what find() gives; smaller ones are found first.
  void add(const FileSet& files, std::size_t id);
  /// The smallest id below `limit` whose set names the file.
  [[nodiscard]] std::optional<std::size_t> find(std::string_view directory, std::string_view name,
                                                std::size_t limit = SIZE_MAX) const;
  [[nodiscard]] bool empty() const noexcept { return sets_.empty(); }

 private:
  struct Entry {
    std::size_t id = 0;
    bool recursive = false;
    std::string pattern;
  };
  std::map<std::string, std::vector<Entry>, std::less<>> sets_;  // By directory, no slash at end.
};

/// A requester's own list of what is never backed up (FilesNotToBackup of VSS).
struct NotToBackup {
  std::string name{};  ///< Of the application or writer.
  std::vector<FileSet> files{};

  friend bool operator==(const NotToBackup&, const NotToBackup&) = default;
};
/// Lines of "/directory/pattern", with " /s" at the end for all subdirectories, below "[name]"
/// lines; `#` begins a comment line. Errors: invalid_argument (another form, with the line);
/// limit_reached (more than 10000 lines).
[[nodiscard]] Result<std::vector<NotToBackup>> parse_not_to_backup(std::string_view text);
/// What of it counts: all but the entries that are named like a writer that runs (in any case),
/// since that writer knows better.
[[nodiscard]] std::vector<FileSet> not_to_backup(const std::vector<NotToBackup>& list,
                                                 const std::vector<std::string>& writers);

/// What is known of one file when it is decided about.
struct FileFacts {
  std::int64_t modify_filetime = 0;
  /// When the backup was made that this one is based on; nothing: not known, or there is none.
  std::optional<std::int64_t> base_filetime{};
  bool mask_says_copy = false;  ///< is_backed_up() of its set; false if it is in none.
  /// The time of the differenced entry that names it; 0: the requester decides.
  std::optional<std::int64_t> differenced{};
  bool partial = false;  ///< A partial entry names it.
};
enum class Take : std::uint8_t { nothing, whole, ranges };
struct FileDecision {
  Take take = Take::nothing;
  bool writer_error = false;  ///< Differenced and partial at once; the former is obeyed.

  friend bool operator==(const FileDecision&, const FileDecision&) = default;
};
/// Differenced before partial before mask. VSS documents two meanings of a differenced entry's
/// time, a threshold and the files' own time: a file is copied if one of them says so.
[[nodiscard]] FileDecision decide(const FileFacts& facts) noexcept;

/// A backup that was made before.
struct PastBackup {
  BackupType type = BackupType::full;
  bool succeeded = true;
};
/// Which of them, oldest first, a new one is based on, so that its stamp is the new one's previous
/// stamp: of an incremental the last full or incremental, of a differential the last full, of a log
/// backup the last of all but copies. Nothing: none is needed, or none is there. Errors:
/// not_supported (the schema forbids to mix incremental and differential after one full backup).
[[nodiscard]] Result<std::optional<std::size_t>> choose_base(std::uint32_t schema, BackupType type,
                                                             const std::vector<PastBackup>& past);

}  // namespace umbra::documents
