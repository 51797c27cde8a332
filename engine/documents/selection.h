// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Which components belong together: VSS's tables of selectability for backup and for restore,
// component sets, and dependencies. Pure; a component is named by its index in its writer's
// metadata.
//
//   selectable  selectable ancestor   in a backup
//   no          no                    explicit, as soon as one of the writer's is (mandatory)
//   yes         no                    explicit if chosen
//   no          yes                   comes with the nearest one that is in it, never by itself
//   yes         yes                   comes with such a one, or is chosen by itself, never both

#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "umbra/documents.h"
#include "umbra/result.h"

namespace umbra::documents {

enum class Participation : std::uint8_t {
  mandatory,
  optional,
  with_ancestor,
  with_ancestor_or_optional,
};
[[nodiscard]] Participation participation(const WriterMetadataDocument& metadata,
                                          std::size_t component);

/// The component at this full path, in any case of its letters.
[[nodiscard]] std::optional<std::size_t> find_component(const WriterMetadataDocument& metadata,
                                                        std::string_view path);

/// A component and, if it is selectable, all below it: what one entry of a backup stands for.
/// Ascending.
[[nodiscard]] std::vector<std::size_t> component_set(const WriterMetadataDocument& metadata,
                                                     std::size_t component);

/// A component that takes part, and the entry of the backup it belongs to.
struct Included {
  std::size_t component = 0;
  std::size_t entry = 0;  ///< Index in WriterComponents::components.

  friend bool operator==(const Included&, const Included&) = default;
};
/// All that a writer's part of a backup includes, each once: the entries and what comes with them.
/// An entry that its metadata does not know includes nothing. Ascending by component.
[[nodiscard]] std::vector<Included> included(const WriterMetadataDocument& metadata,
                                             const WriterComponents& part);

/// Mandatory components that a part with at least one entry lacks. Ascending.
[[nodiscard]] std::vector<std::size_t> missing_mandatory(const WriterMetadataDocument& metadata,
                                                         const WriterComponents& part);

/// Whether a backup of the system's state has the component: of a writer of it, unless it says that
/// it is none.
[[nodiscard]] bool is_system_state(const WriterMetadataDocument& metadata, std::size_t component);

/// How one component of a backup can be restored.
struct RestoreSelection {
  std::size_t entry = 0;         ///< To be selected (SetSelectedForRestore).
  bool as_subcomponent = false;  ///< And the component is named (AddRestoreSubcomponent).

  friend bool operator==(const RestoreSelection&, const RestoreSelection&) = default;
};
/// Errors: object_not_found (not in the metadata, or not in the backup); not_supported (it comes
/// with its set only).
[[nodiscard]] Result<RestoreSelection> restore_selection(const WriterMetadataDocument& metadata,
                                                         const WriterComponents& part,
                                                         std::string_view path);

/// What a restore of an entry covers: its set, or of these parts of it only, each with what is
/// below it. Ascending. Errors: object_not_found (the entry or a part is not in the metadata);
/// not_supported (a part that cannot be restored by itself).
[[nodiscard]] Result<std::vector<std::size_t>> restore_set(
    const WriterMetadataDocument& metadata, const BackupComponent& entry,
    const std::vector<RestoreSubcomponent>& parts);

/// A component that says: that one too.
struct Dependency {
  std::size_t component = 0;  ///< Who says it.
  ComponentDependency on{};   ///< As in the document, but without the machine's name.
  std::string machine{};      ///< Where it runs; empty: here.
  bool satisfied = false;     ///< It is in the backup; one of another machine never is.

  friend bool operator==(const Dependency&, const Dependency&) = default;
};
/// A dependency is on another machine if its logical path begins with `\\machine\`; VSS once says
/// that of the component's name, which is accepted too.
[[nodiscard]] Dependency parsed(const ComponentDependency& dependency);
/// Dependencies of all components that `part` includes, on what `backup` has by `writers`, the
/// metadata of its writers. Satisfied is one whose target is included, as an entry or with one.
[[nodiscard]] std::vector<Dependency> dependencies(
    const WriterMetadataDocument& metadata, const WriterComponents& part,
    const BackupComponentsDocument& backup, const std::vector<WriterMetadataDocument>& writers);

}  // namespace umbra::documents
