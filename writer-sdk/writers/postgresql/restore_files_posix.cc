// SPDX-License-Identifier: Apache-2.0

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <set>
#include <string>
#include <system_error>
#include <vector>

#include "writer-sdk/writers/postgresql/data_directory.h"
#include "writer-sdk/writers/postgresql/restore_files.h"

namespace umbra::postgresql {

namespace fs = std::filesystem;

namespace {

constexpr const char* kAside = ".umbra-replaced";

constexpr std::array kDirectories = {
    "pg_commit_ts", "pg_dynshmem", "pg_logical",  "pg_logical/mappings", "pg_logical/snapshots",
    "pg_multixact", "pg_notify",   "pg_replslot", "pg_serial",           "pg_snapshots",
    "pg_stat",      "pg_stat_tmp", "pg_subtrans", "pg_tblspc",           "pg_twophase"};

tl::unexpected<Error> wrong(const std::string& text) {
  return fail(Errc::writererror_nonretryable, text);
}

tl::unexpected<Error> wrong(const std::string& path, const std::error_code& error) {
  return wrong(path + ": " + error.message());
}

// What a directory holds; nothing if it is not there.
Result<std::vector<fs::path>> content(const std::string& directory) {
  std::vector<fs::path> entries;
  std::error_code error;
  fs::directory_iterator found(directory, error);
  if (error == std::errc::no_such_file_or_directory) return entries;
  if (error) return wrong(directory, error);
  for (const fs::directory_entry& entry : found) {
    if (entry.path().filename() != "lost+found") entries.push_back(entry.path());
  }
  return entries;
}

// Where this cluster's files go, and nobody else's.
std::vector<std::string> directories_of(const RestorePlan& plan) {
  std::vector<std::string> directories{plan.data};
  if (plan.wal != plan.data + "/pg_wal") directories.push_back(plan.wal);
  for (const auto& tablespace : plan.tablespaces) {
    directories.push_back(tablespace.location + "/" + plan.tablespace_directory);
  }
  return directories;
}

Status check_stopped(const RestorePlan& plan) {
  const auto pid = running_postmaster(plan.data);
  if (!pid) return {};
  return wrong("a server (process " + std::to_string(*pid) + ") runs on " + plan.data +
               "; stop it first: pg_ctl stop -D " + plan.data);
}

// The directories of the cluster that is there now, if it is the one that is restored. Empty if
// that cannot be said: nobody else's files are ever removed.
std::set<std::string> owned_by_old_cluster(const RestorePlan& plan) {
  const auto control = read_control_file(plan.data);
  if (!control || control->system_identifier != plan.system_identifier) return {};
  const auto layout = read_layout(plan.data);
  if (!layout) return {};
  std::set<std::string> directories{layout->data, layout->wal};
  for (const auto& tablespace : layout->tablespaces) {
    directories.insert(tablespace.location + "/" + layout->tablespace_directory);
  }
  return directories;
}

Status sync_directory(const std::string& directory) {
  const int descriptor = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const int synced = descriptor < 0 ? -1 : ::fsync(descriptor);
  const int reason = errno;
  if (descriptor >= 0) ::close(descriptor);
  if (synced != 0) return wrong(directory, {reason, std::generic_category()});
  return {};
}

Status append(const std::string& path, const std::string& text) {
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  bool good = descriptor >= 0;
  for (std::size_t done = 0; good && done < text.size();) {
    const auto written = ::write(descriptor, text.data() + done, text.size() - done);
    good = written > 0 || (written < 0 && errno == EINTR);
    if (written > 0) done += static_cast<std::size_t>(written);
  }
  good = good && ::fsync(descriptor) == 0;
  const int reason = errno;
  if (descriptor >= 0) ::close(descriptor);
  if (!good) return wrong(path, {reason, std::generic_category()});
  return {};
}

Status check_is_this_cluster(const RestorePlan& plan) {
  const auto major = read_major_version(plan.data);
  if (!major) return fail(major.error(), "the restored files are not whole");
  if (*major != plan.major_version) {
    return wrong(plan.data + " is of PostgreSQL " + *major + ", the backup of " +
                 plan.major_version);
  }
  const auto control = read_control_file(plan.data);
  if (!control) return fail(control.error(), "the restored files are not whole");
  if (control->system_identifier != plan.system_identifier) {
    return wrong(plan.data + " is the cluster with system identifier " +
                 control->system_identifier + ", the backup is of " + plan.system_identifier);
  }
  return {};
}

Status set_owner_and_mode(const std::string& directory) {
  struct stat status {};
  if (::stat(directory.c_str(), &status) != 0) {
    return wrong(directory, {errno, std::generic_category()});
  }
  if (::geteuid() != 0 && status.st_uid != ::geteuid()) {
    return wrong(directory + " belongs to user " + std::to_string(status.st_uid) +
                 ", not to the one who runs the server and this writer; chown -R it");
  }
  // PostgreSQL starts only on 0700 or 0750.
  if ((status.st_mode & 0027U) != 0 && ::chmod(directory.c_str(), 0700) != 0) {
    return wrong(directory, {errno, std::generic_category()});
  }
  return {};
}

Status make_directory(const std::string& directory) {
  if (::mkdir(directory.c_str(), 0700) == 0 || errno == EEXIST) return {};
  return wrong(directory, {errno, std::generic_category()});
}

// Into the directory `to` of the same file system; what is there already is not replaced.
Status move_all(const std::vector<fs::path>& entries, const fs::path& to) {
  for (const auto& entry : entries) {
    const auto place = to / entry.filename();
    std::error_code error;
    if (fs::exists(fs::symlink_status(place, error))) {
      return wrong(place.string() + " is in the way of " + entry.string());
    }
    fs::rename(entry, place, error);
    if (error) return wrong(entry.string(), error);
  }
  return {};
}

// `link` leads to `target`, which is a directory.
Status set_link(const std::string& link, const std::string& target) {
  std::error_code error;
  if (!fs::is_directory(target, error)) return wrong(target + " was not restored");
  if (fs::is_symlink(link, error)) {
    if (fs::read_symlink(link, error).string() == target) return {};
    if (!fs::remove(link, error)) return wrong(link, error);
  } else if (fs::exists(link, error)) {
    if (!fs::is_empty(link, error) || !fs::remove(link, error)) {
      return wrong(link + " must be a link to " + target + "; move it away");
    }
  }
  fs::create_directory_symlink(target, link, error);
  if (error) return wrong(link, error);
  return {};
}

Status set_links(const RestorePlan& plan) {
  if (plan.wal != plan.data + "/pg_wal") {
    if (auto set = set_link(plan.data + "/pg_wal", plan.wal); !set) return set;
  }
  for (const auto& tablespace : plan.tablespaces) {
    auto set = set_link(plan.data + "/pg_tblspc/" + tablespace.oid, tablespace.location);
    if (!set) return set;
  }
  return make_directory(plan.wal + "/archive_status");
}

}  // namespace

Status check_destination(const RestorePlan& plan) {
  if (auto stopped = check_stopped(plan); !stopped) return stopped;
  const auto own = owned_by_old_cluster(plan);
  for (const auto& directory : directories_of(plan)) {
    const auto entries = content(directory);
    if (!entries) return fail(entries.error());
    if (entries->empty()) continue;
    std::error_code error;
    if (fs::exists(fs::path(directory) / kAside, error)) {
      return wrong((fs::path(directory) / kAside).string() +
                   " holds what an earlier restore was to replace; move it back or remove it");
    }
    if (!plan.replace_existing) {
      return wrong(directory +
                   " is not empty; what is left there would be mixed with the restored files. Move "
                   "it away, or give the restore option existing=replace");
    }
    if (own.contains(fs::canonical(directory, error).string())) continue;
    return wrong(directory + " holds files that are not known to be of cluster " + plan.cluster +
                 " and are not replaced; move them away");
  }
  return {};
}

Status set_aside(const RestorePlan& plan) {
  if (!plan.replace_existing) return {};
  for (const auto& directory : directories_of(plan)) {
    const auto entries = content(directory);
    if (!entries) return fail(entries.error());
    if (entries->empty()) continue;
    const auto aside = fs::path(directory) / kAside;
    auto moved = make_directory(aside.string());
    if (moved) moved = move_all(*entries, aside);
    if (moved) continue;
    auto back = put_back(plan);
    return back ? moved : fail(std::move(back.error()), moved.error().context);
  }
  return {};
}

Status put_back(const RestorePlan& plan) {
  for (const auto& directory : directories_of(plan)) {
    const auto aside = fs::path(directory) / kAside;
    const auto entries = content(aside.string());
    if (!entries) return fail(entries.error());
    if (auto moved = move_all(*entries, directory); !moved) return moved;
    std::error_code error;
    (void)fs::remove(aside, error);
    if (error) return wrong(aside.string(), error);
  }
  return {};
}

Status remove_replaced(const RestorePlan& plan) {
  for (const auto& directory : directories_of(plan)) {
    const auto aside = fs::path(directory) / kAside;
    std::error_code error;
    (void)fs::remove_all(aside, error);
    if (error) return wrong(aside.string(), error);
  }
  return {};
}

Status finish_restored(const RestorePlan& plan) {
  if (auto stopped = check_stopped(plan); !stopped) return stopped;
  if (auto own = check_is_this_cluster(plan); !own) return own;
  for (const auto& directory : directories_of(plan)) {
    if (auto set = set_owner_and_mode(directory); !set) return set;
  }
  for (const char* file : {"postmaster.pid", "postmaster.opts"}) {
    std::error_code error;
    (void)fs::remove(plan.data + "/" + file, error);
    if (error) return wrong(plan.data + "/" + file, error);
  }
  for (const char* directory : kDirectories) {
    if (auto made = make_directory(plan.data + "/" + directory); !made) return made;
  }
  if (auto set = set_links(plan); !set) return set;
  if (!plan.settings.empty()) {
    auto written =
        append(plan.data + "/postgresql.auto.conf",
               "# By a restore of umbra-writer-postgresql\n" + settings_text(plan.settings));
    if (!written) return written;
  }
  if (plan.recover_to_target) {
    if (auto made = append(plan.data + "/recovery.signal", ""); !made) return made;
  }
  return sync_directory(plan.data);
}

}  // namespace umbra::postgresql
