// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Files of a backup: where each is to be read, and which ones a writer's file sets mean. The rules
// are documents/file_rules.h; here the directories are walked.

#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/documents/file_rules.h"
#include "umbra/documents.h"
#include "umbra/requester/file_list.h"
#include "umbra/result.h"

namespace umbra::requester {

/// `what` and errno's text, as object_not_found, access_denied or io_error.
[[nodiscard]] tl::unexpected<Error> file_error(const std::string& what);
/// Makes names in a directory durable. An empty path is the working directory.
[[nodiscard]] Status sync_directory(const std::string& path);
/// Adds what only this machine knows: time, name, mounts of these devices, links in the paths.
void complete_bundle(BackupBundle& bundle, const std::vector<std::uint64_t>& devices);

/// The metadata that was kept of a part's writer; null: none was.
[[nodiscard]] const WriterMetadataDocument* metadata_of(const BackupBundle& bundle,
                                                        const WriterComponents& part);

/// From paths at backup time to where the backup can be read now.
class SourceTree {
 public:
  /// What was below `point` is now below `directory`.
  void add(std::string point, std::string directory);
  /// `path` was reached through symbolic links; it was `real`.
  void add_resolved(std::string path, std::string real);
  /// Nothing: on no volume of the backup.
  [[nodiscard]] std::optional<std::string> locate(const std::string& path) const;
  /// Whether a real path, free of links, is in one of its directories.
  [[nodiscard]] bool holds(const std::string& real) const;
  /// What was mounted exactly there; nothing if nothing was.
  [[nodiscard]] std::optional<std::string> mounted_at(const std::string& path) const;

 private:
  struct Root {
    std::string point;  // Without a trailing slash; "" is the root.
    std::string directory;
  };
  std::vector<Root> roots_;
  std::vector<ResolvedPath> resolved_;
};

struct SourceFile {
  std::string original;  // Its path at backup time.
  std::string source;    // Where it can be read.
  FileKind kind = FileKind::regular;
  std::uint64_t bytes = 0;  // Of a regular file.
  std::int64_t modify_filetime = 0;
};

using documents::matches;

/// Variables of this machine: /etc/environment. Empty if it cannot be read.
[[nodiscard]] documents::Variables machine_variables();
/// The device of a directory of a document, its variables replaced; 0: not known.
[[nodiscard]] std::uint64_t device_of_declared(const std::string& path);
/// A whole file of at most `bytes_max`. Errors: object_not_found; access_denied; io_error;
/// invalid_argument (longer).
[[nodiscard]] Result<std::string> read_small_file(const std::string& path, std::size_t bytes_max);
/// The file itself, also if it is a link. Errors: object_not_found; access_denied; io_error.
[[nodiscard]] Result<SourceFile> look_at(std::string original, std::string source);

/// A file or directory that was found. `directory` is the original one it is in; a directory is in
/// itself and its name is empty.
struct FoundFile {
  SourceFile file;
  std::string_view directory;
  std::string_view name;
};
using OnFoundFile = std::function<Status(FoundFile found)>;
/// Tells what a file set names, one directory at a time, directories before what is in them; a
/// recursive set has its directories too, also empty ones. Links are not followed: one that leads
/// a directory of the set out of the tree is access_denied. `files.path` must have no variables.
/// Returns how many were found that are no directories: a set without wildcards must have one.
/// Errors: object_not_found (on no volume of the backup); access_denied; io_error; what `on_found`
/// returned.
[[nodiscard]] Result<std::uint64_t> walk_files(const SourceTree& tree, const FileSet& files,
                                               const OnFoundFile& on_found);

/// The same, all at once and without what `excludes` name. Errors also: object_not_found (a name
/// without wildcards that is not there).
[[nodiscard]] Result<std::vector<SourceFile>> list_files(const SourceTree& tree,
                                                         const FileSet& files,
                                                         const std::vector<FileSet>& excludes);

}  // namespace umbra::requester
