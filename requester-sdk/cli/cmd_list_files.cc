// SPDX-License-Identifier: Apache-2.0
// umbra list files BUNDLE [--component WRITER:LOGICAL\NAME]...
//
// The files come one by one, with --json each as an object of its own and {"summary": ...} as the
// last one: a backup may have more of them than anybody's memory holds.
#include <boost/json/array.hpp>
#include <boost/json/value.hpp>
#include <filesystem>

#include "requester-sdk/cli/commands.h"

namespace umbra::cli {
namespace {

std::string lower(std::string text) {
  for (char& letter : text)
    if (letter >= 'A' && letter <= 'Z') letter = static_cast<char>(letter - 'A' + 'a');
  return text;
}

// A word names a writer by its name or class id, in any case, and perhaps one of its components;
// names may hold colons themselves.
std::optional<requester::ComponentChoice> find_choice(const BackupBundle& bundle,
                                                      const std::string& word) {
  const std::string wanted = lower(word);
  for (const auto& owner : bundle.components.writers) {
    std::vector<std::string> names{lower(owner.class_id.to_string())};
    for (const auto& writer : bundle.writers)
      if (writer.identity.class_id == owner.class_id) names.push_back(lower(writer.identity.name));
    for (const auto& name : names) {
      if (wanted == name) return requester::ComponentChoice{owner.class_id, {}};
      if (wanted.starts_with(name + ":"))
        return requester::ComponentChoice{owner.class_id, word.substr(name.size() + 1)};
    }
  }
  return std::nullopt;
}

std::string_view kind_name(requester::FileKind kind) {
  switch (kind) {
    case requester::FileKind::regular: return "file";
    case requester::FileKind::directory: return "directory";
    case requester::FileKind::link: return "link";
    case requester::FileKind::other: break;
  }
  return "other";
}

boost::json::object file_to_json(const requester::ListedFile& file) {
  boost::json::object entry{{"path", shown(file.original)},
                            {"source", shown(file.source)},
                            {"kind", kind_name(file.kind)},
                            {"bytes", file.bytes},
                            {"modified", time_text(file.modify_filetime)},
                            {"writer_class_id", file.class_id.to_string()},
                            {"component", file.component},
                            {"from_snapshot", file.from_snapshot}};
  boost::json::array ranges;
  for (const auto& range : file.ranges)
    ranges.push_back(boost::json::object{{"offset", range.offset}, {"length", range.length}});
  if (!ranges.empty()) entry["ranges"] = std::move(ranges);
  return entry;
}

std::string line_of(const requester::ListedFile& file) {
  std::string text = shown(file.original);
  if (file.kind == requester::FileKind::directory) text += "/";
  if (!file.ranges.empty()) text += " (" + std::to_string(file.ranges.size()) + " ranges)";
  return text;
}

}  // namespace

ExitCode list_files(Service& service, Output& output, const ListFiles& arguments) {
  const auto path = find_bundle(arguments.bundle);
  if (!path) return output.error(path.error());
  const auto bundle = service.load_documents(*path);
  if (!bundle) return output.error(bundle.error());
  requester::FileListOptions options;
  for (const auto& word : arguments.components) {
    auto choice = find_choice(*bundle, word);
    if (!choice)
      return output.error({Errc::object_not_found, "the backup has nothing of '" + word + "'"});
    options.components.push_back(std::move(*choice));
  }
  options.snapshots = arguments.snapshots;
  options.type = arguments.type;
  options.base_filetime = arguments.since;
  if (!arguments.source_directory.empty()) {
    options.sources = {
        {"/", std::filesystem::absolute(arguments.source_directory).lexically_normal()}};
  }
  if (arguments.not_to_backup) options.not_to_backup = *arguments.not_to_backup;
  const auto summary = service.list_files(*bundle, options, [&](const auto& file) -> Status {
    output.object(file_to_json(file));
    output.line(line_of(file));
    return {};
  });
  if (!summary) return output.error(summary.error());
  output.object({{"summary",
                  {{"files", summary->files},
                   {"directories", summary->directories},
                   {"bytes", summary->bytes},
                   {"notes", names_to_json(summary->notes)}}}});
  for (const auto& note : summary->notes) output.note("umbra: " + shown(note));
  output.note(std::to_string(summary->files) + " files, " + bytes_text(summary->bytes));
  return ExitCode::done;
}

}  // namespace umbra::cli
