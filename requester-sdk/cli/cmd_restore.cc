// SPDX-License-Identifier: Apache-2.0
// umbra restore BUNDLE --in-place | --to DIR | --map OLD=NEW...
//
// Exit: 0 restored; 15 a writer refused, or its data is not good afterwards; 14 the rules forbid it
// or files are in the way; 13 a component, copy or file is missing; 1 a file could not be written.
#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/value.hpp>
#include <filesystem>

#include "requester-sdk/cli/commands.h"

namespace umbra::cli {
namespace {

namespace fs = std::filesystem;

constexpr const char* kBundleEnd = ".umbra.xml";

std::string absolute(const std::string& path) { return fs::absolute(path).lexically_normal(); }

std::string lower(std::string text) {
  for (char& letter : text)
    if (letter >= 'A' && letter <= 'Z') letter = static_cast<char>(letter - 'A' + 'a');
  return text;
}

std::string full_path(const std::string& logical_path, const std::string& name) {
  return logical_path.empty() ? name : logical_path + "\\" + name;
}

}  // namespace

Result<std::string> find_bundle(const std::string& text) {
  std::error_code error;
  if (!fs::is_directory(text, error)) return text;
  std::vector<std::string> found;
  for (const auto& entry : fs::directory_iterator(text, error)) {
    const std::string path = entry.path();
    if (path.ends_with(kBundleEnd)) found.push_back(path);
  }
  if (found.size() == 1) return found.front();
  std::sort(found.begin(), found.end());
  std::string context = found.empty() ? "no *" + std::string(kBundleEnd) + " in " + text
                                      : text + " holds several; name one of them:";
  for (const auto& path : found) context += " " + path;
  return fail(found.empty() ? Errc::object_not_found : Errc::invalid_argument, std::move(context));
}

namespace {

// A word names a writer by its name or class id, in any case, and perhaps one of its components.
struct Named {
  const WriterComponents* owner = nullptr;
  const BackupComponent* component = nullptr;
};

std::vector<Named> find_components(const BackupBundle& bundle, const std::string& word) {
  std::vector<Named> found;
  for (const auto& owner : bundle.components.writers) {
    std::vector<std::string> names{lower(owner.class_id.to_string())};
    for (const auto& writer : bundle.writers)
      if (writer.identity.class_id == owner.class_id) names.push_back(lower(writer.identity.name));
    for (const auto& component : owner.components) {
      const std::string path = lower(full_path(component.logical_path, component.name));
      const bool meant = std::any_of(names.begin(), names.end(), [&](const std::string& name) {
        return lower(word) == name || lower(word) == name + ":" + path;
      });
      if (meant) found.push_back({&owner, &component});
    }
  }
  return found;
}

std::string known_components(const BackupBundle& bundle) {
  std::string text;
  for (const auto& owner : bundle.components.writers) {
    std::string name = owner.class_id.to_string();
    for (const auto& writer : bundle.writers)
      if (writer.identity.class_id == owner.class_id) name = writer.identity.name;
    for (const auto& component : owner.components)
      text += " '" + name + ":" + full_path(component.logical_path, component.name) + "'";
  }
  return text.empty() ? "; it has none" : "; it has" + text;
}

Result<std::vector<requester::RestoreComponent>> choose(const BackupBundle& bundle,
                                                        const RestoreShadow& arguments) {
  std::vector<requester::RestoreComponent> chosen;
  const auto add = [&](const Named& named) -> requester::RestoreComponent& {
    for (auto& one : chosen) {
      const bool same = one.class_id == named.owner->class_id &&
                        one.logical_path == named.component->logical_path &&
                        one.name == named.component->name;
      if (same) return one;
    }
    auto& one = chosen.emplace_back();
    one.class_id = named.owner->class_id;
    one.logical_path = named.component->logical_path;
    one.name = named.component->name;
    return one;
  };
  for (const auto& word : arguments.components) {
    const auto found = find_components(bundle, word);
    for (const auto& named : found) add(named);
    if (found.empty())
      return fail(Errc::object_not_found,
                  "the backup has no component '" + word + "'" + known_components(bundle));
  }
  if (arguments.components.empty()) {
    for (const auto& owner : bundle.components.writers)
      for (const auto& component : owner.components) add({&owner, &component});
  }
  for (const auto& text : arguments.options) {
    // A component's name may hold '=' as well: the longest that is one counts.
    std::vector<Named> of;
    std::size_t cut = text.rfind('=');
    for (; cut != std::string::npos && cut > 0; cut = text.rfind('=', cut - 1)) {
      of = find_components(bundle, text.substr(0, cut));
      if (!of.empty()) break;
    }
    if (of.empty()) {
      for (auto& one : chosen) one.options = text;
    } else {
      for (const auto& named : of) add(named).options = text.substr(cut + 1);
    }
  }
  return chosen;
}

std::string_view status_text(FileRestoreStatus status) {
  switch (status) {
    case FileRestoreStatus::undefined: return "would be restored";
    case FileRestoreStatus::none: return "not restored, nothing was changed";
    case FileRestoreStatus::all: return "restored";
    case FileRestoreStatus::failed: return "DAMAGED: only some files were replaced";
  }
  return "unknown";
}

std::string_view status_name(FileRestoreStatus status) {
  switch (status) {
    case FileRestoreStatus::undefined: return "undefined";
    case FileRestoreStatus::none: return "none";
    case FileRestoreStatus::all: return "all";
    case FileRestoreStatus::failed: return "failed";
  }
  return "unknown";
}

boost::json::object report_to_json(const requester::RestoreReport& report, bool dry_run) {
  boost::json::array components;
  for (const auto& component : report.components) {
    boost::json::array files;
    for (const auto& file : component.files) {
      boost::json::object entry{{"original", shown(file.original)},
                                {"destination", shown(file.destination)},
                                {"bytes", file.bytes}};
      if (dry_run) entry["replaces"] = file.replaces;
      files.push_back(std::move(entry));
    }
    components.push_back(
        boost::json::object{{"writer_class_id", component.class_id.to_string()},
                            {"writer", component.writer},
                            {"logical_path", component.logical_path},
                            {"name", component.name},
                            {"with_writer", component.with_writer},
                            {"status", status_name(component.status)},
                            {"pre_restore_failure", component.pre_restore_failure},
                            {"post_restore_failure", component.post_restore_failure},
                            {"bytes", component.bytes},
                            {"files", std::move(files)}});
  }
  return {{"dry_run", dry_run},
          {"components", std::move(components)},
          {"writers", list_to_json(report.writers)},
          {"notes", names_to_json(report.notes)},
          {"reboot_required", report.reboot_required}};
}

void print_report(Output& output, const requester::RestoreReport& report, bool dry_run) {
  for (const auto& component : report.components) {
    output.line(shown(component.writer + ":" + full_path(component.logical_path, component.name)) +
                ": " + std::string(status_text(component.status)) + ", " +
                std::to_string(component.files.size()) + " files, " + bytes_text(component.bytes) +
                (component.with_writer ? "" : ", without its writer"));
    for (const auto& words : {component.pre_restore_failure, component.post_restore_failure})
      if (!words.empty()) output.line("  " + shown(words));
    for (const auto& file : component.files)
      if (dry_run)
        output.line("  " + shown(file.original) + " -> " + shown(file.destination) +
                    (file.replaces ? " (replaces what is there)" : ""));
  }
  for (const auto& note : report.notes) output.note("umbra: " + shown(note));
  if (report.reboot_required && !dry_run) output.note("umbra: a reboot is needed");
}

requester::OnRestoreProgress progress_to(Output& output) {
  return [&output](const requester::RestoreProgress& progress) {
    std::string phase(progress.phase);
    if (progress.bytes > 0) {
      phase += " " + std::to_string(progress.files_done) + " of " + std::to_string(progress.files) +
               " files, " + bytes_text(progress.bytes_done) + " of " + bytes_text(progress.bytes);
    }
    output.progress({"restore", phase, progress.elapsed});
  };
}

Status control_service(const RunCommand& run_command, const std::string& service,
                       requester::ServiceAction action) {
  const std::string word = action == requester::ServiceAction::start ? "start" : "stop";
  const auto ended = run_command({"systemctl", word, service}, {});
  if (!ended) return fail(ended.error());
  if (*ended == 0) return {};
  return fail(Errc::unexpected,
              "systemctl " + word + " " + service + " ended with " + std::to_string(*ended));
}

}  // namespace

std::string bundle_path(const std::string& place, const SnapshotSetId& set) {
  std::error_code error;
  const bool directory = place.ends_with('/') || fs::is_directory(place, error);
  return directory ? (fs::path(place) / (set.to_string() + kBundleEnd)).string() : place;
}

ExitCode restore(Service& service, Output& output, const RestoreShadow& arguments,
                 const RunCommand& run_command) {
  const auto path = find_bundle(arguments.bundle);
  if (!path) return output.error(path.error());
  const auto bundle = service.load_documents(*path);
  if (!bundle) return output.error(bundle.error());
  auto components = choose(*bundle, arguments);
  if (!components) return output.error(components.error());
  requester::RestoreOptions options;
  options.components = std::move(*components);
  options.relocations = arguments.relocations;
  if (!arguments.to.empty()) options.relocations.push_back({"/", absolute(arguments.to)});
  options.only_relocated = !arguments.in_place;
  options.snapshots = arguments.snapshots;
  if (!arguments.source_directory.empty())
    options.source_directory = absolute(arguments.source_directory);
  options.replace = arguments.replace;
  options.with_writers = !arguments.without_writers;
  options.additional_restores = arguments.additional_restores;
  options.dry_run = arguments.dry_run;
  options.time_limit = arguments.time_limit;
  options.on_progress = progress_to(output);
  options.control_service = [&](const std::string& name, requester::ServiceAction action) {
    return control_service(run_command, name, action);
  };
  requester::RestoreReport report;
  const auto done = service.restore(*bundle, options, report);
  output.end_progress();
  if (!done) {
    print_report(output, report, false);
    return output.error(done.error(), report_to_json(report, arguments.dry_run));
  }
  output.object(report_to_json(report, arguments.dry_run));
  print_report(output, report, arguments.dry_run);
  return ExitCode::done;
}

}  // namespace umbra::cli
