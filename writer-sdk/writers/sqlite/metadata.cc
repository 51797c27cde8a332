// SPDX-License-Identifier: Apache-2.0

#include "writer-sdk/writers/sqlite/metadata.h"

#include <filesystem>
#include <system_error>
#include <utility>

namespace umbra::sqlite {

namespace fs = std::filesystem;

ComponentInfo describe_database(const std::string& path) {
  const fs::path file(path);
  const auto directory = file.parent_path().string();
  const auto name = file.filename().string();
  ComponentInfo component;
  component.type = ComponentType::database;
  component.logical_path = directory;
  component.name = name;
  component.caption = "SQLite database " + path;
  for (const char* suffix : {"", "-wal*", "-journal*", "-mj*"}) {
    FileSet files;
    files.path = directory;
    files.pattern = name + suffix;
    component.files.push_back(std::move(files));
  }
  return component;
}

std::vector<FileSet> describe_excludes(const std::vector<std::string>& paths) {
  std::vector<FileSet> excludes;
  for (const auto& path : paths) {
    FileSet files;
    files.path = fs::path(path).parent_path().string();
    files.pattern = fs::path(path).filename().string() + "-shm";
    excludes.push_back(std::move(files));
  }
  return excludes;
}

RestoreRules describe_restore() {
  RestoreRules rules;
  rules.method = RestoreMethod::restore_if_can_replace;
  rules.writer_restore = WriterRestore::always;
  return rules;
}

std::string restored_path(const BackupComponent& component) {
  std::string directory = component.logical_path;
  for (const AlternateLocation& target : component.new_targets) {
    if (target.path == directory && target.pattern == component.name) {
      directory = target.destination;
      break;
    }
  }
  return (fs::path(directory) / component.name).string();
}

std::string real_path(const std::string& path) {
  std::error_code error;
  const auto real = fs::canonical(path, error);
  return error ? path : real.string();
}

}  // namespace umbra::sqlite
