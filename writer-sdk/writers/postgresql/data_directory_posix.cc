// SPDX-License-Identifier: Apache-2.0

#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string_view>
#include <system_error>
#include <utility>

#include "writer-sdk/writers/postgresql/data_directory.h"

namespace umbra::postgresql {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kSocketPrefix = ".s.PGSQL.";
// A control version of ours, read in the other byte order, would be larger than this.
constexpr std::uint32_t kControlVersionMax = 0xFFFF;

tl::unexpected<Error> unreadable(const std::string& path, const std::string& why) {
  return fail(Errc::writererror_nonretryable,
              path + ": " + why +
                  "; run the writer on the server's machine, as the user who owns the files");
}

Result<std::string> read_file(const std::string& path, std::size_t bytes_max) {
  std::ifstream file(path, std::ios::binary);
  if (!file.is_open()) return unreadable(path, std::strerror(errno));
  std::string content(bytes_max, '\0');
  file.read(content.data(), static_cast<std::streamsize>(bytes_max));
  if (file.bad()) return unreadable(path, "cannot be read");
  content.resize(static_cast<std::size_t>(file.gcount()));
  return content;
}

// The link's target with all links followed.
Result<std::string> real_directory(const std::string& path) {
  std::error_code error;
  const auto real = fs::canonical(path, error);
  if (error) return unreadable(path, error.message());
  return real.string();
}

bool is_digits(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == text.npos;
}

Result<std::vector<Tablespace>> read_tablespaces(const std::string& data) {
  std::vector<Tablespace> tablespaces;
  std::error_code error;
  fs::directory_iterator entries(data + "/pg_tblspc", error);
  if (error) return unreadable(data + "/pg_tblspc", error.message());
  for (const fs::directory_entry& entry : entries) {
    const auto oid = entry.path().filename().string();
    std::error_code ignored;
    if (!is_digits(oid) || !entry.is_symlink(ignored)) continue;
    auto location = real_directory(entry.path().string());
    if (!location) return fail(std::move(location.error()));
    tablespaces.push_back({oid, oid, std::move(*location)});
  }
  std::sort(tablespaces.begin(), tablespaces.end(),
            [](const auto& a, const auto& b) { return a.oid < b.oid; });
  return tablespaces;
}

Result<std::vector<std::string>> read_directories(const std::string& data) {
  std::vector<std::string> directories;
  std::error_code error;
  fs::directory_iterator entries(data, error);
  if (error) return unreadable(data, error.message());
  for (const fs::directory_entry& entry : entries) {
    std::error_code ignored;
    const auto name = entry.path().filename().string();
    // mkfs's own; belongs to root and to no cluster.
    if (name == "lost+found") continue;
    if (entry.is_directory(ignored) && !entry.is_symlink(ignored)) directories.push_back(name);
  }
  std::sort(directories.begin(), directories.end());
  return directories;
}

}  // namespace

Result<ControlFile> read_control_file(const std::string& data_directory) {
  const auto path = data_directory + "/global/pg_control";
  auto content = read_file(path, 16);
  if (!content) return fail(std::move(content.error()));
  std::uint64_t identifier = 0;
  std::array<std::uint32_t, 2> versions{};  // pg_control_version, catalog_version_no
  if (content->size() < sizeof identifier + sizeof versions) return unreadable(path, "too short");
  std::memcpy(&identifier, content->data(), sizeof identifier);
  std::memcpy(versions.data(), content->data() + sizeof identifier, sizeof versions);
  if (versions[0] == 0 || versions[0] > kControlVersionMax) {
    return unreadable(path, "is no control file of this machine");
  }
  return ControlFile{std::to_string(identifier), std::to_string(versions[1])};
}

Result<std::string> read_major_version(const std::string& data_directory) {
  const auto path = data_directory + "/PG_VERSION";
  auto content = read_file(path, 64);
  if (!content) return fail(std::move(content.error()));
  content->resize(std::min(content->find('\n'), content->size()));
  if (!is_digits(*content)) return unreadable(path, "holds no version of PostgreSQL 10 or later");
  return content;
}

Result<Layout> read_layout(const std::string& data_directory) {
  Layout layout;
  auto data = real_directory(data_directory);
  if (!data) return fail(std::move(data.error()));
  layout.data = std::move(*data);
  auto wal = real_directory(layout.data + "/pg_wal");
  if (!wal) return fail(std::move(wal.error()));
  layout.wal = std::move(*wal);
  auto tablespaces = read_tablespaces(layout.data);
  if (!tablespaces) return fail(std::move(tablespaces.error()));
  layout.tablespaces = std::move(*tablespaces);
  auto directories = read_directories(layout.data);
  if (!directories) return fail(std::move(directories.error()));
  layout.directories = std::move(*directories);
  const auto control = read_control_file(layout.data);
  if (!control) return fail(control.error());
  const auto major = read_major_version(layout.data);
  if (!major) return fail(major.error());
  layout.tablespace_directory = "PG_" + *major + "_" + control->catalog_version;
  return layout;
}

std::optional<std::int64_t> running_postmaster(const std::string& data_directory) {
  const auto content = read_file(data_directory + "/postmaster.pid", 64);
  if (!content) return std::nullopt;
  std::int64_t pid = 0;
  const auto parsed = std::from_chars(content->data(), content->data() + content->size(), pid);
  if (parsed.ec != std::errc{} || pid == 0) return std::nullopt;
  pid = pid < 0 ? -pid : pid;  // Negative: a single-user server.
  if (::kill(static_cast<pid_t>(pid), 0) != 0 && errno == ESRCH) return std::nullopt;
  // Another process may have got the number since: a server works in its data directory.
  struct stat here {};
  struct stat there {};
  const auto cwd = "/proc/" + std::to_string(pid) + "/cwd";
  if (::stat(cwd.c_str(), &there) != 0) return errno == ENOENT ? std::nullopt : std::optional(pid);
  if (::stat(data_directory.c_str(), &here) != 0) return pid;
  const bool same = here.st_dev == there.st_dev && here.st_ino == there.st_ino;
  return same ? std::optional(pid) : std::nullopt;
}

std::vector<std::string> socket_ports(const std::string& directory) {
  std::vector<std::string> ports;
  std::error_code error;
  fs::directory_iterator entries(directory, error);
  if (error) return ports;
  for (const fs::directory_entry& entry : entries) {
    const auto name = entry.path().filename().string();
    if (!name.starts_with(kSocketPrefix)) continue;
    auto port = name.substr(kSocketPrefix.size());
    std::error_code ignored;
    if (is_digits(port) && entry.is_socket(ignored)) ports.push_back(std::move(port));
  }
  std::sort(ports.begin(), ports.end());
  return ports;
}

}  // namespace umbra::postgresql
