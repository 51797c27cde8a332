// SPDX-License-Identifier: Apache-2.0

#include "writer-sdk/writers/postgresql/backup_record.h"

#include <algorithm>
#include <array>
#include <utility>

namespace umbra::postgresql {

namespace {

constexpr std::string_view kFormatKey = "umbra-postgresql";
constexpr std::string_view kFormatVersion = "1";
constexpr std::string_view kTablespaceKey = "tablespace";

struct Field {
  std::string_view key;
  std::string BackupRecord::*member;
  bool required = false;
};

constexpr std::array kFields = {
    Field{"cluster", &BackupRecord::cluster, true},
    Field{"system_identifier", &BackupRecord::system_identifier, true},
    Field{"server_version", &BackupRecord::server_version, true},
    Field{"data_directory", &BackupRecord::data_directory, true},
    Field{"wal_directory", &BackupRecord::wal_directory, true},
    Field{"tablespace_directory", &BackupRecord::tablespace_directory},
    Field{"config_file", &BackupRecord::config_file},
    Field{"hba_file", &BackupRecord::hba_file},
    Field{"ident_file", &BackupRecord::ident_file},
    Field{"data_checksums", &BackupRecord::data_checksums},
    Field{"wal_segment_size", &BackupRecord::wal_segment_size},
    Field{"wal_level", &BackupRecord::wal_level},
    Field{"full_page_writes", &BackupRecord::full_page_writes},
    Field{"fsync", &BackupRecord::fsync},
    Field{"archive_mode", &BackupRecord::archive_mode},
    Field{"in_recovery", &BackupRecord::in_recovery},
    Field{"replication_slots", &BackupRecord::replication_slots},
    Field{"checkpoint", &BackupRecord::checkpoint},
    Field{"checkpoint_lsn", &BackupRecord::checkpoint_lsn},
    Field{"redo_lsn", &BackupRecord::redo_lsn},
    Field{"timeline", &BackupRecord::timeline},
    Field{"freeze_insert_lsn", &BackupRecord::freeze_insert_lsn},
    Field{"freeze_flush_lsn", &BackupRecord::freeze_flush_lsn},
    Field{"freeze_time", &BackupRecord::freeze_time},
    Field{"thaw_insert_lsn", &BackupRecord::thaw_insert_lsn},
    Field{"thaw_flush_lsn", &BackupRecord::thaw_flush_lsn},
    Field{"thaw_time", &BackupRecord::thaw_time},
};

constexpr std::array<std::pair<char, char>, 4> kEscapes = {
    std::pair{'\\', '\\'}, {'\n', 'n'}, {'\r', 'r'}, {' ', 's'}};

std::string escaped(std::string_view value, bool spaces = false) {
  std::string text;
  for (const char c : value) {
    const auto* escape = std::find_if(kEscapes.begin(), kEscapes.end(),
                                      [&](const auto& entry) { return entry.first == c; });
    if (escape == kEscapes.end() || (c == ' ' && !spaces)) {
      text.push_back(c);
    } else {
      text.append({'\\', escape->second});
    }
  }
  return text;
}

Result<std::string> unescaped(std::string_view text) {
  std::string value;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      value.push_back(text[i]);
      continue;
    }
    const auto* escape = std::find_if(kEscapes.begin(), kEscapes.end(), [&](const auto& entry) {
      return i + 1 < text.size() && entry.second == text[i + 1];
    });
    if (escape == kEscapes.end()) {
      return fail(Errc::invalid_argument, "a \\ that stands for nothing");
    }
    value.push_back(escape->first);
    ++i;
  }
  return value;
}

Result<Tablespace> parse_tablespace(std::string_view text) {
  const auto first = text.find(' ');
  const auto second = first == text.npos ? text.npos : text.find(' ', first + 1);
  if (second == text.npos) return fail(Errc::invalid_argument, "a tablespace without three parts");
  auto location = unescaped(text.substr(first + 1, second - first - 1));
  auto name = unescaped(text.substr(second + 1));
  const auto oid = text.substr(0, first);
  const bool sound = location && name && !oid.empty() &&
                     oid.find_first_not_of("0123456789") == oid.npos && location->starts_with('/');
  if (!sound) return fail(Errc::invalid_argument, "a tablespace that is none");
  return Tablespace{std::string(oid), std::move(*name), std::move(*location)};
}

Status parse_line(std::string_view line, BackupRecord& record) {
  const auto equals = line.find('=');
  if (equals == line.npos) return fail(Errc::invalid_argument, "no '='");
  const auto key = line.substr(0, equals);
  const auto text = line.substr(equals + 1);
  if (key == kTablespaceKey) {
    auto tablespace = parse_tablespace(text);
    if (!tablespace) return fail(std::move(tablespace.error()));
    record.tablespaces.push_back(std::move(*tablespace));
    return {};
  }
  const auto* field = std::find_if(kFields.begin(), kFields.end(),
                                   [&](const Field& other) { return other.key == key; });
  if (field == kFields.end()) return {};
  auto value = unescaped(text);
  if (!value) return fail(std::move(value.error()));
  record.*(field->member) = std::move(*value);
  return {};
}

}  // namespace

std::string to_text(const BackupRecord& record) {
  std::string text;
  const auto line = [&](std::string_view key, std::string_view value) {
    text.append(key).append("=").append(value).append("\n");
  };
  line(kFormatKey, kFormatVersion);
  for (const Field& field : kFields) {
    const auto& value = record.*(field.member);
    if (!value.empty()) line(field.key, escaped(value));
  }
  for (const auto& tablespace : record.tablespaces) {
    line(kTablespaceKey, tablespace.oid + " " + escaped(tablespace.location, true) + " " +
                             escaped(tablespace.name));
  }
  return text;
}

Result<BackupRecord> parse_backup_record(std::string_view text) {
  const auto wrong = [](std::size_t number, const std::string& why) {
    return fail(Errc::invalid_argument,
                "the backup metadata, line " + std::to_string(number) + ": " + why);
  };
  BackupRecord record;
  std::size_t number = 0;
  while (!text.empty()) {
    ++number;
    const auto end = std::min(text.find('\n'), text.size());
    const auto line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (number == 1) {
      if (line == std::string(kFormatKey) + "=" + std::string(kFormatVersion)) continue;
      return wrong(1, "this is not of umbra-writer-postgresql, or of a later version of it");
    }
    if (auto parsed = parse_line(line, record); !parsed) {
      return wrong(number, parsed.error().context);
    }
  }
  for (const Field& field : kFields) {
    if (!field.required || !(record.*(field.member)).empty()) continue;
    return wrong(number, std::string(field.key) + " is missing");
  }
  for (const auto* directory : {&record.data_directory, &record.wal_directory}) {
    if (!directory->starts_with('/')) return wrong(number, "a directory that is not absolute");
  }
  return record;
}

std::string stamp_of(const BackupRecord& record) {
  return record.system_identifier + "/" + record.timeline + "/" + record.freeze_flush_lsn;
}

}  // namespace umbra::postgresql
