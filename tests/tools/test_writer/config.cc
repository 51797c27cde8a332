// SPDX-License-Identifier: Apache-2.0
#include "tests/tools/test_writer/config.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <fstream>
#include <iterator>
#include <pugixml.hpp>
#include <set>

namespace umbra::test_writer {
namespace {

constexpr std::array kUsages{std::pair{"BOOTABLE_SYSTEM_STATE", UsageType::bootable_system_state},
                             std::pair{"SYSTEM_SERVICE", UsageType::system_service},
                             std::pair{"USER_DATA", UsageType::user_data},
                             std::pair{"OTHER", UsageType::other}};
constexpr std::array kMethods{
    std::pair{"RESTORE_IF_NOT_THERE", RestoreMethod::restore_if_not_there},
    std::pair{"RESTORE_IF_CAN_BE_REPLACED", RestoreMethod::restore_if_can_replace},
    std::pair{"STOP_RESTORE_START", RestoreMethod::stop_restore_start},
    std::pair{"RESTORE_TO_ALTERNATE_LOCATION", RestoreMethod::restore_to_alternate_location},
    std::pair{"REPLACE_AT_REBOOT", RestoreMethod::restore_at_reboot},
    std::pair{"REPLACE_AT_REBOOT_IF_CANNOT_REPLACE",
              RestoreMethod::restore_at_reboot_if_cannot_replace},
    std::pair{"CUSTOM", RestoreMethod::custom},
    std::pair{"RESTORE_STOP_START", RestoreMethod::restore_stop_start}};
constexpr std::array kWriterRestore{std::pair{"never", WriterRestore::never},
                                    std::pair{"if_replace_fails", WriterRestore::if_replace_fails},
                                    std::pair{"always", WriterRestore::always}};
constexpr std::array kTypes{std::pair{"filegroup", ComponentType::file_group},
                            std::pair{"database", ComponentType::database}};
constexpr std::array kTargets{std::pair{"original", RestoreTarget::original},
                              std::pair{"alternate", RestoreTarget::alternate},
                              std::pair{"directed", RestoreTarget::directed},
                              std::pair{"original-location", RestoreTarget::original_location}};
constexpr std::array kCodes{
    std::pair{"retryable", Errc::writererror_retryable},
    std::pair{"nonretryable", Errc::writererror_nonretryable},
    std::pair{"timeout", Errc::writererror_timeout},
    std::pair{"outofresources", Errc::writererror_outofresources},
    std::pair{"inconsistentsnapshot", Errc::writererror_inconsistentsnapshot}};
constexpr std::array kEvents{std::pair{"Identify", "identify"},
                             std::pair{"PrepareForBackup", "prepare_for_backup"},
                             std::pair{"PrepareForSnapshot", "prepare_for_snapshot"},
                             std::pair{"Freeze", "freeze"},
                             std::pair{"Thaw", "thaw"},
                             std::pair{"PostSnapshot", "post_snapshot"},
                             std::pair{"Abort", "abort"},
                             std::pair{"BackupComplete", "backup_complete"},
                             std::pair{"BackupShutdown", "backup_shutdown"},
                             std::pair{"PreRestore", "pre_restore"},
                             std::pair{"PostRestore", "post_restore"}};

// An element whose attributes are taken one by one; what nobody took is a mistake. The first
// mistake counts, and is kept for all elements of a document.
class Element {
 public:
  Element(pugi::xml_node node, std::string& problem) : node_(node), problem_(problem) {}
  Element(const Element&) = delete;
  Element& operator=(const Element&) = delete;
  ~Element() {
    for (const pugi::xml_attribute attribute : node_.attributes()) {
      if (!taken_.contains(attribute.name())) complain(attribute.name(), "is not understood");
    }
  }

  std::string text(const char* name, const std::string& usual = {}) {
    taken_.insert(name);
    return node_.attribute(name).as_string(usual.c_str());
  }
  std::string needed(const char* name) {
    if (!node_.attribute(name)) complain(name, "is missing");
    return text(name);
  }
  bool flag(const char* name, bool usual = false) {
    const std::string word = text(name, usual ? "yes" : "no");
    if (word != "yes" && word != "no") complain(name, "must be yes or no");
    return word == "yes";
  }
  std::uint32_t number(const char* name, std::uint32_t usual, std::uint32_t largest) {
    const std::string digits = text(name, std::to_string(usual));
    std::uint32_t value = 0;
    const char* end = digits.data() + digits.size();
    const auto parsed = std::from_chars(digits.data(), end, value);
    if (parsed.ec != std::errc{} || parsed.ptr != end || value > largest) {
      complain(name, "must be a number up to " + std::to_string(largest));
    }
    return value;
  }
  template <class Table>
  auto one_of(const char* name, const Table& table, const char* usual) {
    const std::string word = usual == nullptr ? needed(name) : text(name, usual);
    for (const auto& [key, value] : table) {
      if (word == key) return value;
    }
    std::string words;
    for (const auto& [key, value] : table) words.append(words.empty() ? "" : ", ").append(key);
    complain(name, "must be one of " + words);
    return table[0].second;
  }
  [[nodiscard]] bool has(const char* name) const { return !node_.attribute(name).empty(); }
  void complain(const std::string& attribute, const std::string& what) {
    if (problem_.empty()) problem_ = std::string(node_.name()) + "@" + attribute + " " + what;
  }
  [[nodiscard]] const pugi::xml_node& node() const { return node_; }
  [[nodiscard]] std::string& problem() { return problem_; }

 private:
  pugi::xml_node node_;
  std::string& problem_;
  std::set<std::string> taken_;
};

FileSet files_of(Element& element, bool in_component) {
  FileSet files;
  files.path = element.needed("path");
  files.pattern = element.text("filespec", "*");
  files.recursive = element.flag("recursive");
  if (!in_component) return files;
  files.alternate_path = element.text("alternatePath");
  struct Bit {
    const char* name;
    std::uint32_t mask;
  };
  constexpr std::array kBits{Bit{"fullBackupRequired", file_spec::kFullBackup},
                             Bit{"diffBackupRequired", file_spec::kDifferentialBackup},
                             Bit{"incBackupRequired", file_spec::kIncrementalBackup},
                             Bit{"logBackupRequired", file_spec::kLogBackup},
                             Bit{"fullSnapshotRequired", file_spec::kFullSnapshot},
                             Bit{"diffSnapshotRequired", file_spec::kDifferentialSnapshot},
                             Bit{"incSnapshotRequired", file_spec::kIncrementalSnapshot},
                             Bit{"logSnapshotRequired", file_spec::kLogSnapshot}};
  files.backup_type_mask = 0;
  for (const auto& [name, mask] : kBits) {
    if (element.flag(name, true)) files.backup_type_mask |= mask;
  }
  return files;
}

DifferencedFile differenced_of(Element& element) {
  DifferencedFile file;
  file.path = element.needed("path");
  file.pattern = element.text("filespec", "*");
  file.recursive = element.flag("recursive");
  if (!element.has("year")) return file;  // 0: the requester decides.
  using namespace std::chrono;
  const year_month_day date{year(static_cast<int>(element.number("year", 1970, 9999))),
                            month(element.number("month", 1, 12)),
                            day(element.number("day", 1, 31))};
  if (!date.ok() || date < year_month_day{year(1970), month(1), day(1)}) {
    element.complain("year", "and month and day must be a date from 1970 on");
    return file;
  }
  const auto time = sys_days(date) + hours(element.number("hour", 0, 23)) +
                    minutes(element.number("minute", 0, 59)) +
                    seconds(element.number("second", 0, 59));
  constexpr std::int64_t kSecondsFrom1601 = 11'644'473'600;
  file.last_modify_filetime =
      (duration_cast<seconds>(time.time_since_epoch()).count() + kSecondsFrom1601) * 10'000'000;
  return file;
}

DirectedTarget directed_of(Element& element) {
  return {element.needed("sourcePath"),      element.needed("sourceFile"),
          element.needed("sourceRanges"),    element.needed("destinationPath"),
          element.needed("destinationFile"), element.needed("destinationRanges")};
}

ComponentDependency dependency_of(Element& element) {
  ComponentDependency dependency;
  const auto id = WriterClassId::parse(element.needed("writerId"));
  if (id) dependency.writer = *id;
  if (!id) element.complain("writerId", "must be a GUID");
  dependency.logical_path = element.text("logicalPath");
  dependency.component = element.needed("componentName");
  return dependency;
}

void take_child(Component& component, pugi::xml_node node, std::string& problem) {
  Element element(node, problem);
  const std::string name = node.name();
  if (name == "ComponentFile") {
    component.info.files.push_back(files_of(element, true));
  } else if (name == "ComponentLogFile") {
    component.info.log_files.push_back(files_of(element, true));
  } else if (name == "Dependency") {
    component.info.dependencies.push_back(dependency_of(element));
  } else if (name == "PartialFile") {
    component.partial_files.push_back({element.needed("path"), element.needed("filespec"),
                                       element.needed("ranges"), element.text("metadata")});
  } else if (name == "DifferencedFile") {
    component.differenced_files.push_back(differenced_of(element));
  } else if (name == "DirectedTarget") {
    component.directed_targets.push_back(directed_of(element));
  } else if (problem.empty()) {
    problem = "Component/" + name + " is not understood";
  }
}

Component component_of(Element& element) {
  Component component;
  component.info.type = element.one_of("componentType", kTypes, "filegroup");
  component.info.logical_path = element.text("logicalPath");
  component.info.name = element.needed("componentName");
  component.info.caption = element.text("caption");
  component.info.selectable = element.flag("selectable", true);
  component.info.selectable_for_restore = element.flag("selectableForRestore");
  component.info.notify_on_backup_complete = element.flag("notifyOnBackupComplete");
  component.info.flags = element.number("componentFlags", 0, 7);
  component.backup_stamp = element.text("backupStamp");
  component.backup_metadata = element.text("backupMetadata");
  component.restore_metadata = element.text("restoreMetadata");
  component.failure_message = element.text("failureMessage");
  if (element.has("restoreTarget")) {
    component.restore_target = element.one_of("restoreTarget", kTargets, nullptr);
  }
  for (const pugi::xml_node child : element.node().children()) {
    if (child.type() == pugi::node_element) take_child(component, child, element.problem());
  }
  return component;
}

RestoreRules rules_of(Element& element) {
  RestoreRules rules;
  rules.method = element.one_of("method", kMethods, nullptr);
  rules.writer_restore = element.one_of("writerRestore", kWriterRestore, "always");
  rules.service = element.text("service");
  rules.reboot_required = element.flag("rebootRequired");
  for (const pugi::xml_node child : element.node().children("AlternateLocationMapping")) {
    Element mapping(child, element.problem());
    rules.alternate_locations.push_back({mapping.needed("path"), mapping.text("filespec", "*"),
                                         mapping.flag("recursive"),
                                         mapping.needed("alternatePath")});
  }
  return rules;
}

void take_root(Config& config, Element& root) {
  config.usage = root.one_of("usage", kUsages, "USER_DATA");
  static_cast<void>(root.text("verbosity"));  // Every event is recorded, whatever it says.
  config.delete_files = root.flag("deleteFiles");
  config.delete_partial_files = root.flag("deletePartialFiles");
  config.delete_differenced_files = root.flag("deleteDifferencedFiles");
  config.check_includes = root.flag("checkIncludes");
  config.check_excludes = root.flag("checkExcludes");
  struct Bit {
    const char* name;
    std::uint32_t mask;
  };
  constexpr std::array kBits{Bit{"supportsCopy", backup_schema::kCopy},
                             Bit{"supportsDifferential", backup_schema::kDifferential},
                             Bit{"supportsIncremental", backup_schema::kIncremental},
                             Bit{"supportsLog", backup_schema::kLog},
                             Bit{"supportsNewTarget", backup_schema::kNewTarget},
                             Bit{"supportsStamps", backup_schema::kTimestamped},
                             Bit{"supportsLastModify", backup_schema::kLastModify}};
  for (const auto& [name, mask] : kBits) {
    if (root.flag(name)) config.schema |= mask;
  }
}

void take_child(Config& config, pugi::xml_node node, std::string& problem) {
  Element element(node, problem);
  const std::string name = node.name();
  if (name == "RestoreMethod") {
    config.restore = rules_of(element);
  } else if (name == "ExcludeFile") {
    config.excludes.push_back(files_of(element, false));
  } else if (name == "ExcludeFileFromSnapshot") {
    config.excludes_from_snapshot.push_back(files_of(element, false));
  } else if (name == "Component") {
    config.components.push_back(component_of(element));
  } else if (name == "FailEvent") {
    Failure failure;
    failure.left = element.number("numFailures", 1, 1'000'000);
    const bool retryable = element.flag("retryable", true);
    failure.code = element.one_of("code", kCodes, retryable ? "retryable" : "nonretryable");
    config.failures[element.one_of("writerEvent", kEvents, nullptr)] = failure;
  } else if (name == "DelayEvent") {
    config.delays[element.one_of("writerEvent", kEvents, nullptr)] =
        std::chrono::milliseconds(element.number("milliseconds", 0, 86'400'000));
  } else if (problem.empty()) {
    problem = name + " is not understood";
  }
}

}  // namespace

Result<Config> parse_config(std::string_view xml) {
  pugi::xml_document document;
  const auto parsed = document.load_buffer(xml.data(), xml.size());
  if (!parsed) {
    return fail(Errc::invalid_argument,
                std::string(parsed.description()) + " at byte " + std::to_string(parsed.offset));
  }
  const pugi::xml_node node = document.document_element();
  if (node.name() != std::string_view("TestWriter")) {
    return fail(Errc::invalid_argument, "the root element must be TestWriter");
  }
  Config config;
  std::string problem;
  {
    Element root(node, problem);
    take_root(config, root);
    for (const pugi::xml_node child : node.children()) {
      if (child.type() == pugi::node_element) take_child(config, child, problem);
    }
  }
  if (!problem.empty()) return fail(Errc::invalid_argument, problem);
  return config;
}

Result<Config> read_config(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  if (!file) return fail(Errc::io_error, path + " cannot be read");
  auto config = parse_config(text);
  if (!config) return fail(config.error(), path);
  return config;
}

bool fits(std::string_view pattern, std::string_view name) noexcept {
  std::size_t p = 0;
  std::size_t n = 0;
  std::size_t star = std::string_view::npos;  // The last `*`, and what it has swallowed up to.
  std::size_t swallowed = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      swallowed = n;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++swallowed;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

}  // namespace umbra::test_writer
