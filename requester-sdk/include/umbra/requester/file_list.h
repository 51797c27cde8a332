// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// From components to files: what a backup of a selection has to copy, and from where. VSS leaves
// this to every requester and documents the rules over many pages; here they are applied once
// (docs/documents.md, "Which files a backup has"): sets of components, masks of the backup type,
// excludes, alternate paths, variables, differenced and partial files.
//
//   auto done = umbra::requester::list_files(
//       client, bundle, {}, [&](const umbra::requester::ListedFile& file) {
//         return archive.add(file.original, file.source, file.ranges);
//       });
//
// Files come as they are found; what is held in memory is the documents and the names of one
// directory at a time, besides directories that are still to be visited.

#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "umbra/requester/bundle.h"
#include "umbra/requester/client.h"
#include "umbra/requester/export.h"
#include "umbra/requester/types.h"
#include "umbra/result.h"

namespace umbra::requester {

enum class FileKind : std::uint8_t {
  regular,
  directory,
  link,   ///< A symbolic one: itself is to be copied, it is not followed.
  other,  ///< A socket, a device...
};

/// In bytes.
struct FileRange {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;

  friend bool operator==(const FileRange&, const FileRange&) = default;
};

struct ListedFile {
  WriterClassId class_id{};
  std::string component{};  ///< Full path of the component that has it.
  std::string original{};   ///< Where it was and is restored to; any bytes but NUL.
  std::string source{};     ///< Where it can be read now.
  FileKind kind = FileKind::regular;
  std::uint64_t bytes = 0;           ///< Of a regular file, all of it.
  std::int64_t modify_filetime = 0;  ///< 100 ns ticks since 1601-01-01 UTC.
  bool from_snapshot = true;         ///< False: the writer allows to copy it from the live volume.
  /// Only these bytes, in order and without overlaps; empty: all.
  std::vector<FileRange> ranges{};
};
/// An error ends the listing and is its error. Must not throw, nor call the client.
using OnListedFile = std::function<Status(const ListedFile& file)>;

/// A component of the backup, explicit or not; with all below it.
struct ComponentChoice {
  WriterClassId class_id{};
  std::string path{};  ///< "logical\\path\\name"; empty: all of the writer.
};

struct FileListOptions {
  std::vector<ComponentChoice> components{};  ///< Empty: all of the backup.
  /// What was below `from` can now be read below `to`: where the copies are mounted. Empty, and
  /// with a client: they are mounted for the time of the call.
  std::vector<Relocation> sources{};
  /// With a client: copies to read instead of those of the bundle, by their volume.
  std::vector<SnapshotId> snapshots{};
  std::optional<BackupType> type{};  ///< Nothing: the type that the backup was.
  /// When the backup was made that this one is based on (FILETIME), for differenced files whose
  /// writer leaves it to the requester. Nothing: all of them are listed.
  std::optional<std::int64_t> base_filetime{};
  /// Values of `${NAME}` and `%NAME%` in paths. Nothing: those of /etc/environment.
  std::optional<std::map<std::string, std::string, std::less<>>> variables{};
  /// A file with what this requester never backs up, in lines of "/directory/pattern", with " /s"
  /// for all below, under "[application]". Empty: none. With a client, FilesNotToSnapshot and
  /// FilesNotToBackup of umbrad's configuration are left out as well.
  std::string not_to_backup{};
};

struct FileListSummary {
  std::uint64_t files = 0;  ///< Without directories.
  std::uint64_t directories = 0;
  std::uint64_t bytes = 0;  ///< Of what is to be copied: of a file with ranges these only.
  /// What a person should know: mistakes of writers that could be gone around. At most 100.
  std::vector<std::string> notes{};
};

/// Lists the files of a backup, directories before what is in them, each once. Paths below a mount
/// point are read from what was mounted there, if it is among the sources.
///
/// Errors: object_not_found (no such component; a file that a writer names without wildcards is
/// not there; a directory that is on no volume of the backup; a variable without a value);
/// invalid_argument (a list of ranges or of files not to back up that cannot be read, with the
/// place; no sources); access_denied (a directory leads out of its copy by a link; or it cannot be
/// read); io_error; whatever `on_file` returned. Files may have been told before an error.
/// Threads: any.
[[nodiscard]] UMBRA_REQUESTER_EXPORT Result<FileListSummary> list_files(
    const BackupBundle& bundle, const FileListOptions& options, const OnListedFile& on_file);

/// The same from the copies of the bundle's set: those that are needed are mounted, and unmounted
/// before it returns. Errors also: those of Client::list_snapshots() and mount_snapshot();
/// snapshot_lost.
[[nodiscard]] UMBRA_REQUESTER_EXPORT Result<FileListSummary> list_files(
    Client& client, const BackupBundle& bundle, const FileListOptions& options,
    const OnListedFile& on_file);

}  // namespace umbra::requester
