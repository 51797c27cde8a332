// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Files of a backup: where each is to be read, and which ones a writer's file sets mean.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "umbra/documents.h"
#include "umbra/result.h"

namespace umbra::requester {

/// `what` and errno's text, as object_not_found, access_denied or io_error.
[[nodiscard]] tl::unexpected<Error> file_error(const std::string& what);
/// Makes names in a directory durable. An empty path is the working directory.
[[nodiscard]] Status sync_directory(const std::string& path);
/// Adds what only this machine knows: time, name, mounts of these devices, links in the paths.
void complete_bundle(BackupBundle& bundle, const std::vector<std::uint64_t>& devices);

/// From paths at backup time to where the backup can be read now.
class SourceTree {
 public:
  /// What was below `point` is now below `directory`.
  void add(std::string point, std::string directory);
  /// `path` was reached through symbolic links; it was `real`.
  void add_resolved(std::string path, std::string real);
  /// Nothing: on no volume of the backup.
  [[nodiscard]] std::optional<std::string> locate(const std::string& path) const;
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

enum class FileKind : std::uint8_t { regular, directory, link, other };

struct SourceFile {
  std::string original;  // Its path at backup time.
  std::string source;    // Where it can be read.
  FileKind kind = FileKind::regular;
  std::uint64_t bytes = 0;  // Of a regular file.
};

/// `*` and `?`, nothing else.
[[nodiscard]] bool matches(std::string_view pattern, std::string_view name) noexcept;

/// The files of one file set, directories before what is in them; a recursive set has its
/// directories too, also empty ones. Links are not followed. What `excludes` name is left out.
/// Errors: object_not_found (on no volume of the backup; or a name without wildcards that is not
/// there); access_denied; io_error.
[[nodiscard]] Result<std::vector<SourceFile>> list_files(const SourceTree& tree,
                                                         const FileSet& files,
                                                         const std::vector<FileSet>& excludes);

}  // namespace umbra::requester
