// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// The rules of the documents, as pure functions on their values: what a writer may declare, what a
// requester may select, what a writer may change in its part of a backup and when. The writer SDK
// applies them before anything is sent, umbrad applies them again to what arrives.

#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/documents/ranges.h"
#include "umbra/documents.h"
#include "umbra/result.h"

namespace umbra::documents {

inline constexpr std::size_t kComponentsPerWriterMax = 100'000;
/// Copies of a transportable set, and LUNs of one of them.
inline constexpr std::size_t kTransportedMax = 64;
inline constexpr std::size_t kStringBytesMax = 1U << 20U;  // One name, stamp, message, metadata.

/// "logical\path\name"; just the name at the root.
[[nodiscard]] std::string full_path(std::string_view logical_path, std::string_view name);
/// Equal but for ASCII case: how full paths are compared.
[[nodiscard]] bool same_path(std::string_view left, std::string_view right) noexcept;
/// A full path in the case that all its spellings share, to look it up by.
[[nodiscard]] std::string folded(std::string_view path);
/// Whether the component at full path `ancestor` is above the one at `descendant`.
[[nodiscard]] bool is_ancestor(std::string_view ancestor, std::string_view descendant) noexcept;

/// What a directory may look like: one of this system, or whatever another one's documents hold.
enum class Paths : std::uint8_t { ours, any };

/// What a writer may declare (IVssCreateWriterMetadata). Errors: invalid_argument (empty or
/// backslashed name, bad logical path, relative directory, separator in a pattern, recursion or an
/// alternate path in a database, log files in a file group, dependency on the writer itself, an
/// alternate location of no file set);
/// object_already_exists (two components of one full path); limit_reached.
[[nodiscard]] Status check(const WriterMetadataDocument& document, Paths paths = Paths::ours);
[[nodiscard]] Status check_component(const ComponentInfo& component, Paths paths = Paths::ours);
[[nodiscard]] Status check_file_set(const FileSet& files, Paths paths = Paths::ours);

/// Adds a component to a backup (AddComponent) after looking it up in its writer's metadata.
/// Errors: object_not_found (not declared, or of another type); object_already_exists;
/// invalid_argument (not selectable, and a selectable ancestor exists: it comes with that).
[[nodiscard]] Status add_component(WriterComponents& part, const WriterMetadataDocument& metadata,
                                   ComponentType type, std::string_view logical_path,
                                   std::string_view name);

/// Which components a backup of some volumes selects explicitly: every mandatory one and the
/// topmost selectable ones whose files, with those of all that comes with them, lie on the volumes
/// (`holds` says so of a directory). A writer with a mandatory component elsewhere gives none: it
/// could not be restored. A component without files fits everywhere. Indices into
/// metadata.components.
[[nodiscard]] std::vector<std::size_t> select_components(
    const WriterMetadataDocument& metadata,
    const std::function<bool(const std::string& directory)>& holds);

/// Selectable components that such a backup leaves out although a part of their files, or of what
/// comes with them, lies on the volumes: a copy of that part alone is of no use. Indices,
/// ascending.
[[nodiscard]] std::vector<std::size_t> partly_held_components(
    const WriterMetadataDocument& metadata,
    const std::function<bool(const std::string& directory)>& holds);

/// During which event a writer wants to change its part.
enum class EditPhase : std::uint8_t {
  prepare_for_backup,
  prepare_for_snapshot,
  frozen,  ///< Freeze, Thaw, Abort.
  post_snapshot,
  read_only,  ///< BackupComplete and later.
  pre_restore,
  post_restore,
};

/// A change to one component, as rpc::ComponentEdit carries it. `values` by operation:
///   set_backup_metadata  metadata                          once per component
///   set_backup_stamp     stamp
///   set_failure_message  text                              for the phase it is made in
///   set_failure          code ("0x800423F3"), application code (decimal), text
///   add_partial_file     path, file name, ranges, metadata; not in PrepareForSnapshot
///   add_differenced_file path, pattern, "yes" or "no", last modify time (FILETIME, decimal); the
///                        same
///   set_restore_target   "original", "alternate", "directed" or "original-location"
///   add_directed_target  source path, file, ranges; destination path, file, ranges
///   set_restore_metadata metadata                          once per component
/// The last three are PreRestore's; in PostRestore only the two of failures are left.
struct Edit {
  std::string op;
  std::string logical_path;
  std::string component;
  std::vector<std::string> values;
};

/// Applies one change or none. Errors: bad_state (not in this phase); object_not_found (the
/// component is not in this part); object_already_exists (metadata set twice); invalid_argument
/// (unknown operation, wrong number or form of values).
[[nodiscard]] Status apply(WriterComponents& part, const Edit& edit, EditPhase phase);

/// Takes out what an earlier restore left in a kept document.
void clear_restore(BackupComponentsDocument& document);

/// "Only this part of the component". Errors: object_not_found (the component is not selected);
/// invalid_argument (not below it); object_already_exists.
[[nodiscard]] Status add_restore_subcomponent(BackupComponent& component,
                                              std::string_view logical_path, std::string_view name);
/// A destination of a file set, for new targets and alternate locations. Errors: invalid_argument
/// (not absolute, not a file set); object_already_exists (the set has one); limit_reached.
[[nodiscard]] Status add_location(std::vector<AlternateLocation>& list,
                                  const AlternateLocation& location);

}  // namespace umbra::documents
