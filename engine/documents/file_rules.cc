// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "engine/documents/file_rules.h"

#include <algorithm>

#include "engine/documents/rules.h"

namespace umbra::documents {
namespace {

constexpr std::size_t kLinesMax = 10'000;

std::string_view without_slash(std::string_view path) noexcept {
  while (!path.empty() && path.back() == '/') path.remove_suffix(1);
  return path;
}

std::string_view trimmed(std::string_view text) noexcept {
  constexpr std::string_view kBlanks = " \t\r";
  const std::size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

// Calls `line(number, text)` for each that is neither empty nor a comment, until one is refused.
template <class Line>
Status for_each_line(std::string_view text, Line line) {
  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view content = trimmed(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (number > kLinesMax) return fail(Errc::limit_reached, "more than 10000 lines");
    if (content.empty() || content.front() == '#') continue;
    if (const Status good = line(content); !good)
      return fail(good.error(), "line " + std::to_string(number));
  }
  return {};
}

bool is_name(std::string_view text) noexcept {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char letter) {
    return letter == '_' || (letter >= '0' && letter <= '9') || (letter >= 'A' && letter <= 'Z') ||
           (letter >= 'a' && letter <= 'z');
  });
}

struct Reference {
  std::string_view name;   // Of the variable; empty: one percent sign.
  std::size_t length = 0;  // 0: none begins here.
};

Reference reference_at(std::string_view text) {
  if (text.starts_with("%%")) return {{}, 2};
  const bool braces = text.starts_with("${");
  if (!braces && !text.starts_with('%')) return {};
  const std::size_t begin = braces ? 2 : 1;
  const std::size_t end = text.find(braces ? '}' : '%', begin);
  if (end == std::string_view::npos) return {};
  const std::string_view name = text.substr(begin, end - begin);
  return is_name(name) ? Reference{name, end + 1} : Reference{};
}

std::uint32_t backup_bit(BackupType type) noexcept {
  switch (type) {
    case BackupType::incremental: return file_spec::kIncrementalBackup;
    case BackupType::differential: return file_spec::kDifferentialBackup;
    case BackupType::log: return file_spec::kLogBackup;
    default: return file_spec::kFullBackup;
  }
}

constexpr unsigned kSnapshotShift = 8;  // From "is copied" to "is copied from a copy".

}  // namespace

bool matches(std::string_view pattern, std::string_view name) noexcept {
  if (pattern == "*.*") return true;
  std::size_t p = 0;
  std::size_t n = 0;
  std::size_t star = std::string_view::npos;  // The last `*`, and what it covers so far.
  std::size_t covered = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      covered = n;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++covered;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

bool has_wildcards(std::string_view pattern) noexcept {
  return pattern.find_first_of("*?") != std::string_view::npos;
}

std::optional<std::string_view> below(std::string_view top, std::string_view path) noexcept {
  top = without_slash(top);
  path = without_slash(path);
  if (!path.starts_with(top)) return std::nullopt;
  const std::string_view rest = path.substr(top.size());
  if (!rest.empty() && rest.front() != '/') return std::nullopt;
  return rest;
}

bool covers(const FileSet& files, std::string_view directory, std::string_view name) noexcept {
  const auto rest = below(files.path, directory);
  return rest && (rest->empty() || files.recursive) && matches(files.pattern, name);
}

// --- variables ----------------------------------------------------------------------------------

Result<std::string> expanded(std::string_view path, const Variables& variables) {
  std::string result;
  for (std::size_t i = 0; i < path.size();) {
    const Reference reference = reference_at(path.substr(i));
    if (reference.length == 0) {
      result.push_back(path[i++]);
      continue;
    }
    i += reference.length;
    if (reference.name.empty()) {
      result.push_back('%');
      continue;
    }
    const auto found = variables.find(reference.name);
    if (found == variables.end()) {
      return fail(Errc::object_not_found, "variable '" + std::string(reference.name) + "' of '" +
                                              std::string(path) + "' has no value on this machine");
    }
    result += found->second;
  }
  if (result.find('\0') != std::string::npos)
    return fail(Errc::invalid_argument, "directory '" + result + "' has a NUL");
  if (!result.starts_with('/')) {
    return fail(Errc::invalid_argument,
                "directory '" + std::string(path) + "' must be absolute; it is '" + result + "'");
  }
  return result;
}

Variables parse_variables(std::string_view text) {
  Variables variables;
  const Status all = for_each_line(text, [&](std::string_view line) -> Status {
    if (line.starts_with("export ")) line.remove_prefix(7);
    const std::size_t cut = line.find('=');
    if (cut == std::string_view::npos || !is_name(line.substr(0, cut))) return {};
    std::string_view value = line.substr(cut + 1);
    const bool quoted = value.size() >= 2 && value.front() == value.back() &&
                        (value.front() == '"' || value.front() == '\'');
    if (quoted) value = value.substr(1, value.size() - 2);
    variables.insert_or_assign(std::string(line.substr(0, cut)), std::string(value));
    return {};
  });
  static_cast<void>(all);  // Of a file that is too long its first part counts.
  return variables;
}

// --- backup types -------------------------------------------------------------------------------

BackupType effective_type(std::uint32_t schema, BackupType type) noexcept {
  const auto has = [schema](std::uint32_t bit) { return (schema & bit) != 0; };
  switch (type) {
    case BackupType::incremental: return has(backup_schema::kIncremental) ? type : BackupType::full;
    case BackupType::differential:
      return has(backup_schema::kDifferential) ? type : BackupType::full;
    case BackupType::log: return has(backup_schema::kLog) ? type : BackupType::full;
    case BackupType::undefined: return BackupType::full;
    default: return type;
  }
}

bool is_backed_up(const FileSet& files, BackupType type) noexcept {
  return (files.backup_type_mask & backup_bit(type)) != 0;
}

bool needs_snapshot(const FileSet& files, BackupType type) noexcept {
  return (files.backup_type_mask & (backup_bit(type) << kSnapshotShift)) != 0;
}

bool contributes(const ComponentInfo& component, BackupType type) noexcept {
  const auto counts = [type](const FileSet& files) { return is_backed_up(files, type); };
  return std::any_of(component.files.begin(), component.files.end(), counts) ||
         std::any_of(component.log_files.begin(), component.log_files.end(), counts);
}

// --- sets by directory --------------------------------------------------------------------------

void FileSetIndex::add(const FileSet& files, std::size_t id) {
  sets_[std::string(without_slash(files.path))].push_back({id, files.recursive, files.pattern});
}

std::optional<std::size_t> FileSetIndex::find(std::string_view directory, std::string_view name,
                                              std::size_t limit) const {
  std::optional<std::size_t> best;
  std::string_view path = without_slash(directory);
  for (bool itself = true;; itself = false) {
    if (const auto found = sets_.find(path); found != sets_.end()) {
      for (const Entry& entry : found->second) {
        const bool smaller = entry.id < limit && (!best || entry.id < *best);
        if (smaller && (itself || entry.recursive) && matches(entry.pattern, name)) best = entry.id;
      }
    }
    const std::size_t cut = path.rfind('/');
    if (cut == std::string_view::npos) return best;
    path = path.substr(0, cut);
  }
}

// --- what a requester leaves out ----------------------------------------------------------------

Result<std::vector<NotToBackup>> parse_not_to_backup(std::string_view text) {
  constexpr std::string_view kRecursive = " /s";
  std::vector<NotToBackup> list;
  const Status all = for_each_line(text, [&](std::string_view line) -> Status {
    if (line.front() == '[') {
      const bool closed = line.size() > 2 && line.back() == ']';
      if (!closed) return fail(Errc::invalid_argument, "expected [name]");
      list.push_back({.name = std::string(line.substr(1, line.size() - 2))});
      return {};
    }
    FileSet files;
    files.recursive = line.ends_with(kRecursive);
    if (files.recursive) line = trimmed(line.substr(0, line.size() - kRecursive.size()));
    const std::size_t cut = line.rfind('/');
    if (cut == std::string_view::npos || cut + 1 == line.size())
      return fail(Errc::invalid_argument, "expected /directory/pattern");
    files.path = line.substr(0, std::max<std::size_t>(cut, 1));
    files.pattern = line.substr(cut + 1);
    if (Status sound = check_file_set(files); !sound) return sound;
    if (has_wildcards(files.path))
      return fail(Errc::invalid_argument, "wildcards are for the last part of the path only");
    if (list.empty()) list.emplace_back();
    list.back().files.push_back(std::move(files));
    return {};
  });
  if (!all) return fail(all.error());
  return list;
}

std::vector<FileSet> not_to_backup(const std::vector<NotToBackup>& list,
                                   const std::vector<std::string>& writers) {
  std::vector<FileSet> files;
  for (const NotToBackup& entry : list) {
    const bool knows_better =
        std::any_of(writers.begin(), writers.end(),
                    [&](const std::string& writer) { return same_path(writer, entry.name); });
    if (!knows_better) files.insert(files.end(), entry.files.begin(), entry.files.end());
  }
  return files;
}

// --- one file -----------------------------------------------------------------------------------

FileDecision decide(const FileFacts& facts) noexcept {
  if (facts.differenced) {
    const std::int64_t time = *facts.differenced;
    const bool newer_than_base =
        !facts.base_filetime || facts.modify_filetime > *facts.base_filetime;
    const bool by_threshold = time != 0 && facts.modify_filetime > time;
    const bool by_own_time = time != 0 && (!facts.base_filetime || time > *facts.base_filetime);
    const bool take = time == 0 ? newer_than_base : by_threshold || by_own_time;
    return {take ? Take::whole : Take::nothing, facts.partial};
  }
  if (facts.partial) return {Take::ranges, false};
  return {facts.mask_says_copy ? Take::whole : Take::nothing, false};
}

Result<std::optional<std::size_t>> choose_base(std::uint32_t schema, BackupType type,
                                               const std::vector<PastBackup>& past) {
  const bool exclusive = (schema & backup_schema::kExclusiveIncrementalDifferential) != 0;
  const BackupType wanted = effective_type(schema, type);
  const bool based = wanted == BackupType::incremental || wanted == BackupType::differential ||
                     wanted == BackupType::log;
  if (!based) return std::optional<std::size_t>{};
  for (std::size_t i = past.size(); i > 0; --i) {
    const PastBackup& one = past[i - 1];
    if (!one.succeeded) continue;
    const bool full = one.type == BackupType::full;
    const bool other_kind =
        (wanted == BackupType::incremental && one.type == BackupType::differential) ||
        (wanted == BackupType::differential && one.type == BackupType::incremental);
    if (other_kind && exclusive) {
      return fail(Errc::not_supported,
                  "the writer does not mix incremental and differential backups; make a full one");
    }
    const bool same_chain = wanted != BackupType::differential &&
                            (one.type == BackupType::incremental ||
                             (wanted == BackupType::log && (one.type == BackupType::log ||
                                                            one.type == BackupType::differential)));
    if (full || same_chain) return std::optional<std::size_t>{i - 1};
  }
  return std::optional<std::size_t>{};
}

}  // namespace umbra::documents
