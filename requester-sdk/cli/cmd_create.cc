// SPDX-License-Identifier: Apache-2.0
// umbra create shadow VOLUME...
#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/value.hpp>

#include "requester-sdk/cli/commands.h"

namespace umbra::cli {
namespace {

bool has_failed(const requester::WriterStatus& writer) {
  return is_failed(writer.state) || writer.failure != Errc::ok;
}

void print_writers(Output& output, const std::vector<requester::WriterStatus>& writers) {
  if (writers.empty()) return;
  output.line("writers");
  for (const auto& writer : writers) {
    std::string text = "  " + shown(writer.name) + ": " + std::string(display_name(writer.state));
    if (has_failed(writer)) {
      text += ", " + std::string(code_name(writer.failure));
      if (!writer.message.empty()) text += ": " + shown(writer.message);
    }
    output.line(text);
  }
}

// Nobody asked these writers, so nothing else tells that their files in the copies are of no use.
void print_partly_held(Output& output, const std::vector<requester::ComponentRef>& components) {
  if (components.empty()) return;
  output.line("only in part on these volumes, and not consistent in the copies: add the others");
  for (const auto& component : components) {
    output.line("  " + shown(component.logical_path.empty()
                                 ? component.name
                                 : component.logical_path + '\\' + component.name));
  }
}

boost::json::array components_to_json(const std::vector<requester::ComponentRef>& components) {
  boost::json::array list;
  for (const auto& component : components) {
    list.push_back(boost::json::object{{"writer_class_id", component.class_id.to_string()},
                                       {"logical_path", component.logical_path},
                                       {"name", component.name}});
  }
  return list;
}

}  // namespace

tl::expected<requester::SnapshotSetInfo, ExitCode> create_set(Service& service, Output& output,
                                                              const CreateShadow& arguments) {
  requester::CreateOptions options;
  options.context = arguments.context;
  options.backup_type = arguments.backup_type;
  options.writer_policy = arguments.policy;
  options.policy_list = arguments.policy_list;
  options.time_limit = arguments.time_limit;
  options.queue_limit = arguments.queue_limit;
  options.on_progress = [&](const requester::Progress& progress) { output.progress(progress); };
  for (const auto& text : arguments.volumes) {
    auto volume = service.resolve(text);
    if (!volume) return tl::unexpected(output.error(volume.error()));
    options.volumes.push_back(std::move(*volume));
  }
  requester::SetReport report;
  auto set = service.create(options, report);
  output.end_progress();
  if (set) return std::move(*set);
  print_writers(output, report.writers);
  return tl::unexpected(output.error(set.error(), to_json(report)));
}

boost::json::object set_to_json(const requester::SnapshotSetInfo& set) {
  boost::json::object object{{"set_id", set.set_id.to_string()},
                             {"snapshots", list_to_json(set.snapshots)}};
  for (const auto& [name, value] : to_json(set.report)) object[name] = value;
  object["components"] = components_to_json(set.components);
  object["partly_held"] = components_to_json(set.partly_held);
  return object;
}

void print_set(Output& output, const requester::SnapshotSetInfo& set) {
  output.line("snapshot set " + set.set_id.to_string());
  for (const auto& snapshot : set.snapshots) {
    output.line("  snapshot " + snapshot.snapshot_id.to_string() + " of " +
                shown(snapshot.original_volume));
    for (const auto& place : {snapshot.device_object, snapshot.nbd_uri}) {
      if (!place.empty()) output.line("    " + shown(place));
    }
  }
  print_writers(output, set.report.writers);
  print_partly_held(output, set.partly_held);
  if (set.report.timeline.empty()) return;
  output.line("timeline");
  for (const auto& text : timeline_text(set.report.timeline)) output.line("  " + text);
  const auto& hold = set.report.hold;
  output.line("file systems frozen for " + duration_text(hold.freeze) + ", writes held for " +
              duration_text(hold.gate));
}

ExitCode create_shadow(Service& service, Output& output, const CreateShadow& arguments) {
  const auto set = create_set(service, output, arguments);
  if (!set) return set.error();
  auto object = set_to_json(*set);
  if (!arguments.documents.empty())
    object["documents"] = bundle_path(arguments.documents, set->set_id);
  print_set(output, *set);
  if (!arguments.documents.empty()) {
    // The copies exist and writers were told so: what is missing then is said, not undone.
    const std::string path = bundle_path(arguments.documents, set->set_id);
    const auto saved = service.save_documents(path);
    if (!saved) return output.error(saved.error(), {}, ExitCode::in_part);
    output.line("documents " + shown(path));
  }
  const auto finished = service.finish(*set, true);
  if (!finished) return output.error(finished.error());
  output.object(object);
  // Under every other policy an earlier failure that matters has failed the set.
  const auto unnoticed = [&](const requester::WriterStatus& writer) {
    return writer.state == WriterState::failed_at_backup_complete ||
           (arguments.policy == WriterPolicy::none && has_failed(writer));
  };
  const auto& writers = set->report.writers;
  const bool in_part =
      !set->partly_held.empty() || std::any_of(writers.begin(), writers.end(), unnoticed);
  return in_part ? ExitCode::in_part : ExitCode::done;
}

}  // namespace umbra::cli
