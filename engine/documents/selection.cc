// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "engine/documents/selection.h"

#include <algorithm>
#include <map>
#include <set>

#include "engine/documents/rules.h"

namespace umbra::documents {
namespace {

constexpr char kSeparator = '\\';

template <class Component>
std::string path_of(const Component& component) {
  return full_path(component.logical_path, component.name);
}

bool has_selectable_ancestor(const WriterMetadataDocument& metadata, const std::string& path) {
  return std::any_of(metadata.components.begin(), metadata.components.end(),
                     [&](const auto& c) { return c.selectable && is_ancestor(path_of(c), path); });
}

// Folded full paths of all components: a writer may declare very many, so none is looked for by
// comparing it with each.
std::map<std::string, std::size_t> by_path(const WriterMetadataDocument& metadata) {
  std::map<std::string, std::size_t> paths;
  for (std::size_t i = 0; i < metadata.components.size(); ++i)
    paths.emplace(folded(path_of(metadata.components[i])), i);
  return paths;
}

// The entry that brings a component: itself, or the nearest selectable ancestor that is one.
std::optional<std::size_t> entry_of(const std::map<std::string, std::size_t>& entries,
                                    const WriterMetadataDocument& metadata,
                                    const std::map<std::string, std::size_t>& declared,
                                    std::string path) {
  for (bool itself = true;; itself = false) {
    const auto entry = entries.find(path);
    if (entry != entries.end()) {
      const auto component = declared.find(path);
      const bool brings =
          component != declared.end() && metadata.components[component->second].selectable;
      if (itself || brings) return entry->second;
    }
    const std::size_t cut = path.rfind(kSeparator);
    if (cut == std::string::npos) return std::nullopt;
    path.resize(cut);
  }
}

std::map<std::string, std::size_t> entries_of(const WriterComponents& part) {
  std::map<std::string, std::size_t> entries;
  for (std::size_t i = 0; i < part.components.size(); ++i)
    entries.emplace(folded(path_of(part.components[i])), i);
  return entries;
}

}  // namespace

Participation participation(const WriterMetadataDocument& metadata, std::size_t component) {
  const ComponentInfo& info = metadata.components.at(component);
  const bool below = has_selectable_ancestor(metadata, path_of(info));
  if (info.selectable)
    return below ? Participation::with_ancestor_or_optional : Participation::optional;
  return below ? Participation::with_ancestor : Participation::mandatory;
}

std::optional<std::size_t> find_component(const WriterMetadataDocument& metadata,
                                          std::string_view path) {
  for (std::size_t i = 0; i < metadata.components.size(); ++i)
    if (same_path(path_of(metadata.components[i]), path)) return i;
  return std::nullopt;
}

std::vector<std::size_t> component_set(const WriterMetadataDocument& metadata,
                                       std::size_t component) {
  const std::string top = path_of(metadata.components.at(component));
  const bool defines_set = metadata.components[component].selectable;
  std::vector<std::size_t> set;
  for (std::size_t i = 0; i < metadata.components.size(); ++i) {
    if (i == component || (defines_set && is_ancestor(top, path_of(metadata.components[i]))))
      set.push_back(i);
  }
  return set;
}

std::vector<Included> included(const WriterMetadataDocument& metadata,
                               const WriterComponents& part) {
  const auto entries = entries_of(part);
  const auto declared = by_path(metadata);
  std::vector<Included> all;
  for (std::size_t i = 0; i < metadata.components.size(); ++i) {
    const auto entry =
        entry_of(entries, metadata, declared, folded(path_of(metadata.components[i])));
    if (entry) all.push_back({i, *entry});
  }
  return all;
}

std::vector<std::size_t> missing_mandatory(const WriterMetadataDocument& metadata,
                                           const WriterComponents& part) {
  std::vector<std::size_t> missing;
  if (part.components.empty()) return missing;
  const auto entries = entries_of(part);
  std::set<std::string> selectable;
  for (const ComponentInfo& component : metadata.components)
    if (component.selectable) selectable.insert(folded(path_of(component)));
  for (std::size_t i = 0; i < metadata.components.size(); ++i) {
    if (metadata.components[i].selectable) continue;
    std::string path = folded(path_of(metadata.components[i]));
    if (entries.contains(path)) continue;
    bool below = false;
    while (!below && path.find(kSeparator) != std::string::npos) {
      path.resize(path.rfind(kSeparator));
      below = selectable.contains(path);
    }
    if (!below) missing.push_back(i);
  }
  return missing;
}

bool is_system_state(const WriterMetadataDocument& metadata, std::size_t component) {
  const UsageType usage = metadata.identity.usage;
  const bool writer_of_it =
      usage == UsageType::bootable_system_state || usage == UsageType::system_service;
  return writer_of_it &&
         (metadata.components.at(component).flags & component_flag::kNotSystemState) == 0;
}

Result<RestoreSelection> restore_selection(const WriterMetadataDocument& metadata,
                                           const WriterComponents& part, std::string_view path) {
  const std::string wanted(path);
  const auto component = find_component(metadata, path);
  if (!component) {
    return fail(Errc::object_not_found, "'" + wanted + "' is not in the metadata of writer '" +
                                            metadata.identity.name + "'");
  }
  const auto entry = entry_of(entries_of(part), metadata, by_path(metadata), folded(path));
  if (!entry)
    return fail(Errc::object_not_found, "component '" + wanted + "' is not in the backup");
  if (same_path(path_of(part.components[*entry]), path)) return RestoreSelection{*entry, false};
  if (metadata.components[*component].selectable_for_restore) return RestoreSelection{*entry, true};
  return fail(Errc::not_supported, "component '" + wanted + "' is restored only with '" +
                                       path_of(part.components[*entry]) + "'");
}

Result<std::vector<std::size_t>> restore_set(const WriterMetadataDocument& metadata,
                                             const BackupComponent& entry,
                                             const std::vector<RestoreSubcomponent>& parts) {
  const auto not_declared = [&](const std::string& path) {
    return fail(Errc::object_not_found,
                "'" + path + "' is not in the metadata of writer '" + metadata.identity.name + "'");
  };
  const std::string whole = path_of(entry);
  const auto top = find_component(metadata, whole);
  if (!top) return not_declared(whole);
  std::vector<std::size_t> set = component_set(metadata, *top);
  if (parts.empty()) return set;
  std::set<std::size_t> chosen;
  for (const RestoreSubcomponent& one : parts) {
    const std::string path = path_of(one);
    const auto found = find_component(metadata, path);
    if (!found || std::find(set.begin(), set.end(), *found) == set.end()) return not_declared(path);
    if (*found != *top && !metadata.components[*found].selectable_for_restore)
      return fail(Errc::not_supported, "'" + path + "' cannot be restored by itself");
    for (const std::size_t i : set) {
      if (i == *found || is_ancestor(path, path_of(metadata.components[i]))) chosen.insert(i);
    }
  }
  return std::vector<std::size_t>(chosen.begin(), chosen.end());
}

// --- dependencies -------------------------------------------------------------------------------

Dependency parsed(const ComponentDependency& dependency) {
  constexpr std::string_view kRemote = "\\\\";
  Dependency result{.on = dependency};
  for (std::string* text : {&result.on.logical_path, &result.on.component}) {
    if (!text->starts_with(kRemote)) continue;
    const std::string rest = text->substr(kRemote.size());
    const std::size_t end = rest.find(kSeparator);
    result.machine = rest.substr(0, end);
    *text = end == std::string::npos ? "" : rest.substr(end + 1);
    break;
  }
  return result;
}

std::vector<Dependency> dependencies(const WriterMetadataDocument& metadata,
                                     const WriterComponents& part,
                                     const BackupComponentsDocument& backup,
                                     const std::vector<WriterMetadataDocument>& writers) {
  std::set<std::pair<WriterClassId, std::string>> present;
  for (const WriterComponents& other : backup.writers) {
    for (const WriterMetadataDocument& writer : writers) {
      if (writer.identity.class_id != other.class_id) continue;
      for (const Included& one : included(writer, other))
        present.insert({other.class_id, folded(path_of(writer.components[one.component]))});
    }
  }
  std::vector<Dependency> result;
  for (const Included& one : included(metadata, part)) {
    for (const ComponentDependency& on : metadata.components[one.component].dependencies) {
      Dependency dependency = parsed(on);
      dependency.component = one.component;
      const std::string path = full_path(dependency.on.logical_path, dependency.on.component);
      dependency.satisfied =
          dependency.machine.empty() && present.contains({dependency.on.writer, folded(path)});
      result.push_back(std::move(dependency));
    }
  }
  return result;
}

}  // namespace umbra::documents
