// SPDX-License-Identifier: Apache-2.0
#include "tests/tools/test_writer/behaviour.h"

#include <algorithm>
#include <filesystem>

namespace umbra::test_writer {
namespace {

namespace fs = std::filesystem;

const BackupComponent* find(const writer::Context& context, const Component& component) {
  if (context.components() == nullptr) return nullptr;
  for (const BackupComponent& one : context.components()->components) {
    if (one.name == component.info.name && one.logical_path == component.info.logical_path) {
      return &one;
    }
  }
  return nullptr;
}

writer::ComponentName name_of(const Component& component) {
  return {component.info.logical_path, component.info.name};
}

bool is_part_of_chain(BackupType type) {
  return type == BackupType::incremental || type == BackupType::differential;
}

Error error_of(const std::string& what, const std::error_code& error) {
  return {Errc::writererror_nonretryable, what + ": " + error.message()};
}

Status remove(const std::vector<std::string>& paths) {
  for (const std::string& path : paths) {
    std::error_code error;
    if (!fs::remove(path, error) && error) return fail(error_of("delete " + path, error));
  }
  return {};
}

// Where a file set came back to: the requester's new target, a mapping it used, or its own place.
std::string place_of(const BackupComponent& component, const FileSet& files) {
  for (const auto* list : {&component.new_targets, &component.alternate_locations}) {
    for (const AlternateLocation& location : *list) {
      if (location.path == files.path && location.pattern == files.pattern) {
        return location.destination;
      }
    }
  }
  return files.path;
}

}  // namespace

std::vector<std::string> files_in(const FileSet& files, const std::string& directory) {
  std::vector<std::string> found;
  const std::string& root = directory.empty() ? files.path : directory;
  std::error_code error;
  for (auto it = fs::recursive_directory_iterator(root, error);
       !error && it != fs::recursive_directory_iterator{}; it.increment(error)) {
    std::error_code unknown;
    const bool is_directory = !it->is_symlink(unknown) && it->is_directory(unknown);
    if (is_directory && !files.recursive) it.disable_recursion_pending();
    if (!is_directory && fits(files.pattern, it->path().filename().string())) {
      found.push_back(it->path().string());
    }
  }
  std::sort(found.begin(), found.end());
  return found;
}

bool is_in(const FileSet& files, const std::string& path) {
  const fs::path file(path);
  const fs::path root = fs::path(files.path + "/").lexically_normal().parent_path();
  if (!fits(files.pattern, file.filename().string())) return false;
  const fs::path parent = file.parent_path().lexically_normal();
  if (parent == root) return true;
  const auto [end, ignored] = std::mismatch(root.begin(), root.end(), parent.begin(), parent.end());
  return files.recursive && end == root.end();
}

Status Behaviour::describe(writer::MetadataBuilder& metadata) const {
  metadata.set_backup_schema(config_.schema);
  if (config_.restore) {
    if (Status set = metadata.set_restore_rules(*config_.restore); !set) return set;
  }
  for (const Component& component : config_.components) {
    if (Status added = metadata.add_component(component.info); !added) return added;
  }
  for (const FileSet& files : config_.excludes) {
    if (Status added = metadata.add_exclude_files(files); !added) return added;
  }
  for (const FileSet& files : config_.excludes_from_snapshot) {
    if (Status added = metadata.add_exclude_files_from_snapshot(files); !added) return added;
  }
  return {};
}

Status Behaviour::fail_if_asked(const std::string& event) {
  const auto found = config_.failures.find(event);
  if (found == config_.failures.end()) return {};
  const std::lock_guard lock(mutex_);
  std::uint32_t& times = failed_[event];
  if (times >= found->second.left) return {};
  ++times;
  return fail(found->second.code, "fails as configured, at " + event + " (" +
                                      std::to_string(times) + " of " +
                                      std::to_string(found->second.left) + ")");
}

Status Behaviour::act(const std::string& event, writer::Context& context) const {
  if (event == "prepare_for_backup") return say(context, false);
  if (event == "prepare_for_snapshot") return spit(context);
  if (event == "post_snapshot") {
    if (Status said = say(context, true); !said) return said;
    return remove_originals(context);
  }
  if (event == "pre_restore") return direct(context);
  if (event == "post_restore") return check(context);
  return {};
}

// Files are told of once the copy exists; a stamp too.
Status Behaviour::say(writer::Context& context, bool after_snapshot) const {
  for (const Component& component : config_.components) {
    if (find(context, component) == nullptr) continue;
    const auto name = name_of(component);
    Status done;
    if (!component.failure_message.empty()) {
      done = context.set_failure_message(name, component.failure_message);
    }
    if (done && after_snapshot && !component.backup_stamp.empty()) {
      done = context.set_backup_stamp(name, component.backup_stamp);
    }
    if (done && after_snapshot && !component.backup_metadata.empty()) {
      done = context.set_backup_metadata(name, component.backup_metadata);
    }
    const bool partial = after_snapshot && context.partial_file_support();
    for (std::size_t i = 0; done && partial && i < component.partial_files.size(); ++i) {
      done = context.add_partial_file(name, component.partial_files[i]);
    }
    const bool chain = after_snapshot && is_part_of_chain(context.backup_type());
    for (std::size_t i = 0; done && chain && i < component.differenced_files.size(); ++i) {
      done = context.add_differenced_file(name, component.differenced_files[i]);
    }
    if (!done) return done;
  }
  return {};
}

Status Behaviour::direct(writer::Context& context) const {
  for (const Component& component : config_.components) {
    const BackupComponent* selected = find(context, component);
    if (selected == nullptr || !selected->selected_for_restore) continue;
    const auto name = name_of(component);
    Status done;
    if (!component.failure_message.empty()) {
      done = context.set_failure_message(name, component.failure_message);
    }
    if (done && component.restore_target) {
      done = context.set_restore_target(name, *component.restore_target);
    }
    for (std::size_t i = 0; done && i < component.directed_targets.size(); ++i) {
      done = context.add_directed_target(name, component.directed_targets[i]);
    }
    if (done && !component.restore_metadata.empty()) {
      done = context.set_restore_metadata(name, component.restore_metadata);
    }
    if (!done) return done;
  }
  return {};
}

Status Behaviour::spit(const writer::Context& context) const {
  for (const Component& component : config_.components) {
    if (context.component_mode() && find(context, component) == nullptr) continue;
    for (const FileSet& files : component.info.files) {
      if (files.alternate_path.empty()) continue;
      for (const std::string& source : files_in(files)) {
        const fs::path target =
            fs::path(files.alternate_path) / fs::path(source).lexically_relative(files.path);
        std::error_code error;
        fs::create_directories(target.parent_path(), error);
        if (!error) fs::copy_file(source, target, fs::copy_options::overwrite_existing, error);
        if (error) return fail(error_of("copy " + source + " to " + target.string(), error));
      }
    }
  }
  return {};
}

Status Behaviour::remove_originals(const writer::Context& context) const {
  for (const Component& component : config_.components) {
    if (find(context, component) == nullptr) continue;
    Status done;
    for (std::size_t i = 0; done && config_.delete_files && i < component.info.files.size(); ++i) {
      done = remove(files_in(component.info.files[i]));
    }
    for (const PartialFile& file : component.partial_files) {
      if (done && config_.delete_partial_files) done = remove({file.path + "/" + file.file_name});
    }
    for (const DifferencedFile& file : component.differenced_files) {
      if (!done || !config_.delete_differenced_files) continue;
      done = remove(
          files_in({.path = file.path, .pattern = file.pattern, .recursive = file.recursive}));
    }
    if (!done) return done;
  }
  return {};
}

Status Behaviour::check(writer::Context& context) const {
  std::string wrong;
  for (const Component& component : config_.components) {
    const BackupComponent* restored = find(context, component);
    if (restored == nullptr || !restored->selected_for_restore ||
        restored->file_restore_status != FileRestoreStatus::all) {
      continue;
    }
    std::string missing;
    std::string excluded;
    for (const FileSet& files : component.info.files) {
      const auto found = files_in(files, place_of(*restored, files));
      if (config_.check_includes && found.empty()) missing = files.path + "/" + files.pattern;
      for (const std::string& path : found) {
        const bool out = std::any_of(config_.excludes.begin(), config_.excludes.end(),
                                     [&](const FileSet& exclude) { return is_in(exclude, path); });
        if (config_.check_excludes && out) excluded = path;
      }
    }
    if (missing.empty() && excluded.empty()) continue;
    const std::string why = missing.empty() ? "is there although it is excluded: " + excluded
                                            : "did not come back: " + missing;
    static_cast<void>(context.set_failure_message(name_of(component), why));
    wrong = component.info.name + ": " + why;
  }
  if (!wrong.empty()) return fail(Errc::writererror_nonretryable, wrong);
  return {};
}

}  // namespace umbra::test_writer
