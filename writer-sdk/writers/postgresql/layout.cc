// SPDX-License-Identifier: Apache-2.0

#include "writer-sdk/writers/postgresql/layout.h"

#include <algorithm>
#include <utility>

namespace umbra::postgresql {

namespace {

constexpr const char* kPartCaption = "Comes with its cluster";

FileSet file_set(std::string path, std::string pattern, bool recursive) {
  FileSet files;
  files.path = std::move(path);
  files.pattern = std::move(pattern);
  files.recursive = recursive;
  return files;
}

ComponentInfo part(std::string logical_path, std::string name) {
  ComponentInfo component;
  component.type = ComponentType::file_group;
  component.logical_path = std::move(logical_path);
  component.name = std::move(name);
  component.caption = kPartCaption;
  component.selectable = false;
  return component;
}

// Names of tablespaces are free; the OID keeps them apart where upper and lower case do not.
std::string component_name(const Tablespace& tablespace) {
  std::string name = tablespace.oid + "-" + tablespace.name;
  std::replace_if(
      name.begin(), name.end(), [](unsigned char c) { return c == '\\' || c < 0x20 || c == 0x7f; },
      '_');
  return name;
}

}  // namespace

std::vector<ComponentInfo> describe_cluster(const std::string& name, const Layout* layout) {
  ComponentInfo cluster;
  cluster.type = ComponentType::database;
  cluster.name = name;
  cluster.caption = "PostgreSQL cluster " + name;
  cluster.selectable = true;
  cluster.selectable_for_restore = true;
  if (layout == nullptr) return {cluster};

  cluster.caption += " in " + layout->data;
  cluster.files.push_back(file_set(layout->data, "*", false));
  cluster.log_files.push_back(file_set(layout->wal, "*", false));
  cluster.log_files.push_back(file_set(layout->wal + "/archive_status", "*", false));

  ComponentInfo data = part(name, "data");
  for (const auto& directory : layout->directories) {
    if (directory == "pg_wal") continue;
    data.files.push_back(file_set(layout->data + "/" + directory, "*", true));
  }
  std::vector<ComponentInfo> components{std::move(cluster), std::move(data)};
  for (const auto& tablespace : layout->tablespaces) {
    ComponentInfo component = part(name + "\\tablespaces", component_name(tablespace));
    component.files.push_back(
        file_set(tablespace.location + "/" + layout->tablespace_directory, "*", true));
    components.push_back(std::move(component));
  }
  return components;
}

std::vector<FileSet> describe_excludes(const Layout& layout, bool keep_replication_slots) {
  std::vector<FileSet> excludes;
  for (const char* file : {"postmaster.pid", "postmaster.opts", "backup_label", "tablespace_map",
                           "backup_manifest", "postgresql.auto.conf.tmp", "current_logfiles.tmp"}) {
    excludes.push_back(file_set(layout.data, file, false));
  }
  for (const char* directory : {"pg_dynshmem", "pg_notify", "pg_serial", "pg_snapshots",
                                "pg_stat_tmp", "pg_subtrans", "base/pgsql_tmp"}) {
    excludes.push_back(file_set(layout.data + "/" + directory, "*", true));
  }
  if (!keep_replication_slots)
    excludes.push_back(file_set(layout.data + "/pg_replslot", "*", true));
  if (layout.stats_temp.starts_with(layout.data + "/")) {
    excludes.push_back(file_set(layout.stats_temp, "*", true));
  }
  for (const char* directory : {"base", "global"}) {
    excludes.push_back(file_set(layout.data + "/" + directory, "pg_internal.init*", true));
  }
  for (const auto& tablespace : layout.tablespaces) {
    const auto own = tablespace.location + "/" + layout.tablespace_directory;
    excludes.push_back(file_set(own + "/pgsql_tmp", "*", true));
    excludes.push_back(file_set(own, "pg_internal.init*", true));
  }
  return excludes;
}

RestoreRules describe_restore() {
  RestoreRules rules;
  rules.method = RestoreMethod::restore_if_can_replace;
  rules.writer_restore = WriterRestore::always;
  return rules;
}

Coverage coverage(const Layout& layout,
                  const std::function<bool(const std::string& path)>& is_affected) {
  Coverage found;
  const auto look = [&](const std::string& what, const std::string& path) {
    (is_affected(path) ? found.inside : found.outside).push_back(what + " " + path);
  };
  look("the data directory", layout.data);
  look("the WAL directory", layout.wal);
  for (const auto& tablespace : layout.tablespaces) {
    look("tablespace " + tablespace.name + " in", tablespace.location);
  }
  // A directory in the data directory may be the mount point of another volume.
  for (const auto& directory : layout.directories) {
    const auto path = layout.data + "/" + directory;
    if (path != layout.wal && is_affected(path) != is_affected(layout.data))
      look("the directory", path);
  }
  return found;
}

std::string join(const std::vector<std::string>& words) {
  std::string text;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (i > 0) text += i + 1 == words.size() ? " and " : ", ";
    text += words[i];
  }
  return text;
}

}  // namespace umbra::postgresql
