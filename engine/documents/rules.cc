// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "engine/documents/rules.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <set>

#include "engine/documents/ranges.h"

namespace umbra::documents {
namespace {

constexpr char kSeparator = '\\';
constexpr std::size_t kLocationsMax = 100'000;  // Of one component.
constexpr std::size_t kShownBytesMax = 64;      // Of a peer's word in a message.

char lower(char letter) noexcept {
  return letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter - 'A' + 'a') : letter;
}

std::string path_of(const ComponentInfo& component) {
  return full_path(component.logical_path, component.name);
}

template <class Component>
bool is_named(const Component& component, std::string_view logical_path, std::string_view name) {
  return same_path(full_path(component.logical_path, component.name),
                   full_path(logical_path, name));
}

Status check_logical_path(std::string_view path) {
  if (path.empty()) return {};
  const bool edges = path.front() == kSeparator || path.back() == kSeparator;
  if (edges || path.find("\\\\") != std::string_view::npos) {
    return fail(Errc::invalid_argument, "logical path '" + std::string(path) +
                                            "' has an empty part; separate parts by one backslash");
  }
  return {};
}

bool has_selectable_ancestor(const WriterMetadataDocument& metadata, const std::string& path) {
  return std::any_of(metadata.components.begin(), metadata.components.end(),
                     [&](const auto& c) { return c.selectable && is_ancestor(path_of(c), path); });
}

// Whether `predicate` holds for one of the paths above `path`, nearest first.
template <class Predicate>
bool any_ancestor(std::string path, Predicate predicate) {
  for (std::size_t cut = path.rfind(kSeparator); cut != std::string::npos;
       cut = path.rfind(kSeparator)) {
    path.resize(cut);
    if (predicate(path)) return true;
  }
  return false;
}

const std::string& directory_of(const FileSet& files) {
  return files.alternate_path.empty() ? files.path : files.alternate_path;
}

bool files_fit(const ComponentInfo& component,
               const std::function<bool(const std::string&)>& holds) {
  const auto fits = [&](const FileSet& files) { return holds(directory_of(files)); };
  return std::all_of(component.files.begin(), component.files.end(), fits) &&
         std::all_of(component.log_files.begin(), component.log_files.end(), fits);
}

// Absolute, or so once its first variable has a value (file_rules.h, expanded()).
bool is_directory(std::string_view path, Paths paths) {
  if (paths == Paths::any) return !path.empty();
  return path.starts_with('/') || path.starts_with("${") ||
         (path.starts_with('%') && path.find('%', 1) != std::string_view::npos);
}

// --- edits --------------------------------------------------------------------------------------

Status wrong_values(const Edit& edit, std::string_view wanted) {
  return fail(Errc::invalid_argument, edit.op + ": expected " + std::string(wanted));
}

std::optional<std::int64_t> decimal(std::string_view text) {
  std::int64_t number = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
  if (parsed.ec != std::errc{} || parsed.ptr != text.data() + text.size()) return std::nullopt;
  return number;
}

Status set_metadata(BackupComponent& component, const Edit& edit) {
  if (edit.values.size() != 1) return wrong_values(edit, "the metadata");
  if (component.backup_metadata) {
    return fail(Errc::object_already_exists,
                "backup metadata of component '" + component.name + "' is set already");
  }
  component.backup_metadata = edit.values[0];
  return {};
}

std::string& message_of(BackupComponent& component, EditPhase phase) {
  switch (phase) {
    case EditPhase::post_snapshot: return component.post_snapshot_failure;
    case EditPhase::pre_restore: return component.pre_restore_failure;
    case EditPhase::post_restore: return component.post_restore_failure;
    default: return component.prepare_for_backup_failure;
  }
}

Status set_message(BackupComponent& component, const Edit& edit, EditPhase phase) {
  if (edit.values.size() != 1) return wrong_values(edit, "the text");
  message_of(component, phase) = edit.values[0];
  return {};
}

Status set_failure(BackupComponent& component, const Edit& edit) {
  constexpr std::string_view kWanted =
      "code such as \"0x800423F3\", decimal application code, text";
  if (edit.values.size() != 3 || edit.values[0].size() != 10 || !edit.values[0].starts_with("0x")) {
    return wrong_values(edit, kWanted);
  }
  const std::string_view digits = std::string_view(edit.values[0]).substr(2);
  std::uint32_t code = 0;
  const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), code, 16);
  const auto application = decimal(edit.values[1]);
  const bool whole = parsed.ec == std::errc{} && parsed.ptr == digits.data() + digits.size();
  if (!whole || !application || !std::in_range<std::uint32_t>(*application)) {
    return wrong_values(edit, kWanted);
  }
  component.failure = ComponentFailure{static_cast<Errc>(code),
                                       static_cast<std::uint32_t>(*application), edit.values[2]};
  return {};
}

Status add_partial(BackupComponent& component, const Edit& edit) {
  const bool complete = edit.values.size() == 4 && !edit.values[1].empty() &&
                        edit.values[1].find_first_of("*?/") == std::string::npos &&
                        !edit.values[2].empty() &&
                        (edit.values[0] + edit.values[1]).find('\0') == std::string::npos;
  if (!complete) return wrong_values(edit, "path, file name without wildcards, ranges, metadata");
  if (ranges_file(edit.values[2]).empty()) {
    if (const auto ranges = parse_ranges(edit.values[2]); !ranges)
      return fail(ranges.error(), edit.op);
  }
  component.partial_files.push_back(
      {edit.values[0], edit.values[1], edit.values[2], edit.values[3]});
  return {};
}

Status add_differenced(BackupComponent& component, const Edit& edit) {
  constexpr std::string_view kWanted = "path, pattern, \"yes\" or \"no\", decimal FILETIME";
  if (edit.values.size() != 4) return wrong_values(edit, kWanted);
  const auto time = decimal(edit.values[3]);
  const bool flag = edit.values[2] == "yes" || edit.values[2] == "no";
  if (!flag || !time || *time < 0) return wrong_values(edit, kWanted);
  component.differenced_files.push_back(
      {edit.values[0], edit.values[1], edit.values[2] == "yes", *time});
  return {};
}

// --- edits of a restore -------------------------------------------------------------------------

Status set_restore_target(BackupComponent& component, const Edit& edit) {
  constexpr std::string_view kWanted =
      "\"original\", \"alternate\", \"directed\" or \"original-location\"";
  constexpr std::array kTargets{
      std::pair{"original", RestoreTarget::original},
      std::pair{"alternate", RestoreTarget::alternate},
      std::pair{"directed", RestoreTarget::directed},
      std::pair{"original-location", RestoreTarget::original_location},
  };
  if (edit.values.size() != 1) return wrong_values(edit, kWanted);
  for (const auto& [word, target] : kTargets) {
    if (edit.values[0] != word) continue;
    component.restore_target = target;
    return {};
  }
  return wrong_values(edit, kWanted);
}

Status add_directed(BackupComponent& component, const Edit& edit) {
  if (edit.values.size() != 6) {
    return wrong_values(edit, "source path, file, ranges, destination path, file, ranges");
  }
  DirectedTarget target{edit.values[0], edit.values[1], edit.values[2],
                        edit.values[3], edit.values[4], edit.values[5]};
  if (const Status sound = check_directed_target(target); !sound) return sound;
  component.directed_targets.push_back(std::move(target));
  return {};
}

Status set_restore_metadata(BackupComponent& component, const Edit& edit) {
  if (edit.values.size() != 1) return wrong_values(edit, "the metadata");
  if (component.restore_metadata) {
    return fail(Errc::object_already_exists,
                "restore metadata of component '" + component.name + "' is set already");
  }
  component.restore_metadata = edit.values[0];
  return {};
}

// Which changes an event of a writer may make; nothing but an empty text is a permission.
std::string_view why_not(std::string_view op, EditPhase phase) {
  const bool failure = op == "set_failure_message" || op == "set_failure";
  const bool of_restore =
      op == "set_restore_target" || op == "add_directed_target" || op == "set_restore_metadata";
  const bool of_files = op == "add_partial_file" || op == "add_differenced_file";
  switch (phase) {
    case EditPhase::prepare_for_snapshot:
      if (of_files) return "only in PrepareForBackup and PostSnapshot";
      [[fallthrough]];
    case EditPhase::prepare_for_backup:
    case EditPhase::post_snapshot: return of_restore ? "only in PreRestore" : "";
    case EditPhase::pre_restore:
      return of_restore || failure ? "" : "only in a backup, up to PostSnapshot";
    case EditPhase::post_restore: return failure ? "" : "in PostRestore only failures can be set";
    case EditPhase::frozen:
    case EditPhase::read_only: break;
  }
  return "a writer changes its components from PrepareForBackup to PostSnapshot, and not while "
         "frozen";
}

}  // namespace

std::string full_path(std::string_view logical_path, std::string_view name) {
  std::string path(logical_path);
  if (!path.empty()) path.push_back(kSeparator);
  return path.append(name);
}

std::string folded(std::string_view path) {
  std::string result(path);
  std::transform(result.begin(), result.end(), result.begin(), lower);
  return result;
}

bool same_path(std::string_view left, std::string_view right) noexcept {
  return std::equal(left.begin(), left.end(), right.begin(), right.end(),
                    [](char a, char b) { return lower(a) == lower(b); });
}

bool is_ancestor(std::string_view ancestor, std::string_view descendant) noexcept {
  return descendant.size() > ancestor.size() && descendant[ancestor.size()] == kSeparator &&
         same_path(ancestor, descendant.substr(0, ancestor.size()));
}

Status check_file_set(const FileSet& files, Paths paths) {
  for (const std::string* text : {&files.path, &files.alternate_path, &files.pattern}) {
    if (text->find('\0') != std::string::npos)  // It would end there for the kernel.
      return fail(Errc::invalid_argument, "'" + *text + "' has a NUL, which no file's name has");
  }
  if (!is_directory(files.path, paths)) {
    return fail(Errc::invalid_argument, "directory '" + files.path + "' must be absolute");
  }
  if (!files.alternate_path.empty() && !is_directory(files.alternate_path, paths)) {
    return fail(Errc::invalid_argument,
                "alternate directory '" + files.alternate_path + "' must be absolute");
  }
  if (files.pattern.empty() || files.pattern.find('/') != std::string::npos) {
    return fail(Errc::invalid_argument,
                "pattern '" + files.pattern + "' must be a file name, with * and ? at will");
  }
  return {};
}

Status check_component(const ComponentInfo& component, Paths paths) {
  const std::string what = "component '" + component.name + "'";
  if (component.name.empty() || component.name.find(kSeparator) != std::string::npos) {
    return fail(Errc::invalid_argument, what + ": the name must not be empty or hold a backslash");
  }
  if (const Status path = check_logical_path(component.logical_path); !path) {
    return fail(path.error(), what);
  }
  const bool database = component.type == ComponentType::database;
  if (!database && component.type != ComponentType::file_group) {
    return fail(Errc::invalid_argument, what + ": the type must be database or file_group");
  }
  if (!database && !component.log_files.empty()) {
    return fail(Errc::invalid_argument, what + ": only databases have log files");
  }
  for (const auto* list : {&component.files, &component.log_files}) {
    for (const FileSet& files : *list) {
      if (const Status sound = check_file_set(files, paths); !sound)
        return fail(sound.error(), what);
      if (database && (files.recursive || !files.alternate_path.empty())) {
        return fail(Errc::invalid_argument,
                    what + ": files of a database are neither recursive nor elsewhere");
      }
    }
  }
  return {};
}

namespace {

// "The files of that set may go there": of a set that exists, letter by letter.
Status check_alternate_locations(const WriterMetadataDocument& document, Paths paths) {
  if (!document.restore) return {};
  for (const AlternateLocation& location : document.restore->alternate_locations) {
    const auto named = [&](const FileSet& files) {
      return files.path == location.path && files.pattern == location.pattern &&
             files.recursive == location.recursive;
    };
    const auto has_it = [&](const ComponentInfo& component) {
      return std::any_of(component.files.begin(), component.files.end(), named) ||
             std::any_of(component.log_files.begin(), component.log_files.end(), named);
    };
    if (!is_directory(location.destination, paths)) {
      return fail(Errc::invalid_argument,
                  "alternate location '" + location.destination + "' must be absolute");
    }
    if (std::none_of(document.components.begin(), document.components.end(), has_it)) {
      return fail(Errc::invalid_argument, "the alternate location of '" + location.path + "', '" +
                                              location.pattern +
                                              "' belongs to no file set of a component");
    }
  }
  return {};
}

}  // namespace

Status check(const WriterMetadataDocument& document, Paths paths) {
  if (document.components.size() > kComponentsPerWriterMax) {
    return fail(Errc::limit_reached,
                "a writer has at most " + std::to_string(kComponentsPerWriterMax) + " components");
  }
  std::set<std::string> seen;
  for (const ComponentInfo& component : document.components) {
    if (const Status sound = check_component(component, paths); !sound) return sound;
    if (!seen.insert(folded(path_of(component))).second) {
      return fail(Errc::object_already_exists,
                  "two components have the path '" + path_of(component) + "'");
    }
    for (const ComponentDependency& dependency : component.dependencies) {
      if (dependency.writer != document.identity.class_id) continue;
      return fail(Errc::invalid_argument, "component '" + component.name +
                                              "' depends on its own writer, which VSS forbids");
    }
  }
  for (const auto* list : {&document.excludes, &document.excludes_from_snapshot}) {
    for (const FileSet& files : *list) {
      if (const Status sound = check_file_set(files, paths); !sound)
        return fail(sound.error(), "exclude");
    }
  }
  return check_alternate_locations(document, paths);
}

Status add_component(WriterComponents& part, const WriterMetadataDocument& metadata,
                     ComponentType type, std::string_view logical_path, std::string_view name) {
  const std::string path = full_path(logical_path, name);
  const auto declared =
      std::find_if(metadata.components.begin(), metadata.components.end(),
                   [&](const auto& c) { return is_named(c, logical_path, name); });
  if (declared == metadata.components.end() || declared->type != type) {
    return fail(Errc::object_not_found, "writer '" + metadata.identity.name +
                                            "' declares no such component: '" + path + "'");
  }
  const bool present = std::any_of(part.components.begin(), part.components.end(),
                                   [&](auto& c) { return is_named(c, logical_path, name); });
  if (present) {
    return fail(Errc::object_already_exists, "component '" + path + "' is in the backup already");
  }
  if (!declared->selectable && has_selectable_ancestor(metadata, path)) {
    return fail(Errc::invalid_argument,
                "component '" + path + "' comes with its selectable ancestor; add that one");
  }
  BackupComponent component;
  component.type = declared->type;
  component.logical_path = declared->logical_path;
  component.name = declared->name;
  part.components.push_back(std::move(component));
  return {};
}

std::vector<std::size_t> select_components(
    const WriterMetadataDocument& metadata,
    const std::function<bool(const std::string& directory)>& holds) {
  // Folded full paths, so that ancestors are found by walking up a path and not by comparing every
  // pair: a writer may declare very many components.
  std::vector<std::string> paths;
  std::set<std::string> selectable;
  std::set<std::string> spoiled;  // Something at or below this path lies elsewhere.
  for (const ComponentInfo& component : metadata.components) {
    paths.push_back(folded(path_of(component)));
    if (component.selectable) selectable.insert(paths.back());
    if (files_fit(component, holds)) continue;
    spoiled.insert(paths.back());
    any_ancestor(paths.back(), [&](const std::string& above) {
      spoiled.insert(above);
      return false;
    });
  }
  std::vector<std::size_t> order(paths.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  // Ancestors are shorter than their descendants, so they are decided first.
  std::stable_sort(order.begin(), order.end(),
                   [&](auto a, auto b) { return paths[a].size() < paths[b].size(); });

  std::vector<std::size_t> selected;
  std::set<std::string> covering;  // Selectable ones that were selected.
  for (const std::size_t i : order) {
    const ComponentInfo& component = metadata.components[i];
    const auto is_in = [](const std::set<std::string>& set) {
      return [&set](const std::string& above) { return set.contains(above); };
    };
    if (!component.selectable) {
      if (any_ancestor(paths[i], is_in(selectable))) continue;  // Implicit, or not at all.
      if (!files_fit(component, holds)) return {};              // A mandatory one is elsewhere.
      selected.push_back(i);
    } else if (!any_ancestor(paths[i], is_in(covering)) && !spoiled.contains(paths[i])) {
      selected.push_back(i);
      covering.insert(paths[i]);
    }
  }
  std::sort(selected.begin(), selected.end());
  return selected;
}

std::vector<std::size_t> partly_held_components(
    const WriterMetadataDocument& metadata,
    const std::function<bool(const std::string& directory)>& holds) {
  struct Unit {
    std::size_t index = 0;
    bool here = false;
    bool elsewhere = false;
  };
  std::map<std::string, Unit> units;  // By folded full path.
  for (std::size_t i = 0; i < metadata.components.size(); ++i) {
    const ComponentInfo& component = metadata.components[i];
    if (component.selectable) units.insert({folded(path_of(component)), {.index = i}});
  }
  for (const ComponentInfo& component : metadata.components) {
    const std::string path = folded(path_of(component));
    auto unit = units.find(path);
    if (unit == units.end()) {
      any_ancestor(path, [&](const std::string& above) {
        unit = units.find(above);
        return unit != units.end();
      });
    }
    if (unit == units.end()) continue;
    for (const auto* list : {&component.files, &component.log_files}) {
      for (const FileSet& files : *list) {
        (holds(directory_of(files)) ? unit->second.here : unit->second.elsewhere) = true;
      }
    }
  }
  std::vector<std::size_t> partly;
  for (const auto& [path, unit] : units) {
    if (unit.here && unit.elsewhere) partly.push_back(unit.index);
  }
  std::sort(partly.begin(), partly.end());
  return partly;
}

Status apply(WriterComponents& part, const Edit& edit, EditPhase phase) {
  if (const std::string_view why = why_not(edit.op, phase); !why.empty()) {
    return fail(Errc::bad_state, edit.op.substr(0, kShownBytesMax) + ": " + std::string(why));
  }
  for (const std::string& value : edit.values) {
    if (value.size() > kStringBytesMax) {
      return fail(Errc::invalid_argument, edit.op + ": a value is longer than 1 MiB");
    }
  }
  const auto component =
      std::find_if(part.components.begin(), part.components.end(),
                   [&](const auto& c) { return is_named(c, edit.logical_path, edit.component); });
  if (component == part.components.end()) {
    return fail(Errc::object_not_found, edit.op + ": component '" +
                                            full_path(edit.logical_path, edit.component) +
                                            "' is not part of this backup");
  }
  const bool restoring = phase == EditPhase::pre_restore || phase == EditPhase::post_restore;
  if (restoring && !component->selected_for_restore) {
    return fail(Errc::object_not_found, edit.op + ": component '" +
                                            full_path(edit.logical_path, edit.component) +
                                            "' is not selected for restore");
  }
  if (edit.op == "set_backup_metadata") return set_metadata(*component, edit);
  if (edit.op == "set_failure_message") return set_message(*component, edit, phase);
  if (edit.op == "set_failure") return set_failure(*component, edit);
  if (edit.op == "add_partial_file") return add_partial(*component, edit);
  if (edit.op == "add_differenced_file") return add_differenced(*component, edit);
  if (edit.op == "set_restore_target") return set_restore_target(*component, edit);
  if (edit.op == "add_directed_target") return add_directed(*component, edit);
  if (edit.op == "set_restore_metadata") return set_restore_metadata(*component, edit);
  if (edit.op != "set_backup_stamp") {
    return fail(Errc::invalid_argument,
                "unknown change '" + edit.op.substr(0, kShownBytesMax) + "'");
  }
  if (edit.values.size() != 1) return wrong_values(edit, "the stamp");
  component->backup_stamp = edit.values[0];
  return {};
}

// --- restores -----------------------------------------------------------------------------------

void clear_restore(BackupComponentsDocument& document) {
  document.restore_type = RestoreType::undefined;
  for (WriterComponents& part : document.writers) {
    for (BackupComponent& component : part.components) {
      BackupComponent kept;
      kept.type = component.type;
      kept.logical_path = std::move(component.logical_path);
      kept.name = std::move(component.name);
      kept.succeeded = component.succeeded;
      kept.previous_backup_stamp = std::move(component.previous_backup_stamp);
      kept.backup_options = std::move(component.backup_options);
      kept.backup_metadata = std::move(component.backup_metadata);
      kept.backup_stamp = std::move(component.backup_stamp);
      kept.prepare_for_backup_failure = std::move(component.prepare_for_backup_failure);
      kept.post_snapshot_failure = std::move(component.post_snapshot_failure);
      kept.failure = std::move(component.failure);
      kept.partial_files = std::move(component.partial_files);
      kept.differenced_files = std::move(component.differenced_files);
      kept.caption = std::move(component.caption);
      kept.unknown = std::move(component.unknown);
      component = std::move(kept);
    }
  }
}

Status add_restore_subcomponent(BackupComponent& component, std::string_view logical_path,
                                std::string_view name) {
  const std::string whole = full_path(component.logical_path, component.name);
  const std::string part = full_path(logical_path, name);
  if (!component.selected_for_restore) {
    return fail(Errc::object_not_found, "component '" + whole + "' is not selected for restore");
  }
  if (name.empty() || !is_ancestor(whole, part)) {
    return fail(Errc::invalid_argument, "'" + part + "' is not below component '" + whole + "'");
  }
  for (const RestoreSubcomponent& present : component.restore_subcomponents) {
    if (!same_path(full_path(present.logical_path, present.name), part)) continue;
    return fail(Errc::object_already_exists, "'" + part + "' is among the parts already");
  }
  component.restore_subcomponents.push_back({std::string(logical_path), std::string(name)});
  return {};
}

Status add_location(std::vector<AlternateLocation>& list, const AlternateLocation& location) {
  const FileSet named{.path = location.path, .pattern = location.pattern};
  if (const Status sound = check_file_set(named); !sound) return sound;
  if (!location.destination.starts_with('/')) {
    return fail(Errc::invalid_argument,
                "destination '" + location.destination + "' must be absolute");
  }
  for (const AlternateLocation& present : list) {
    const bool same = present.path == location.path && present.pattern == location.pattern &&
                      present.recursive == location.recursive;
    if (same) {
      return fail(Errc::object_already_exists,
                  "the file set of '" + location.path + "' has a destination already");
    }
  }
  if (list.size() >= kLocationsMax) return fail(Errc::limit_reached, "too many destinations");
  list.push_back(location);
  return {};
}

}  // namespace umbra::documents
