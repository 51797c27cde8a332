// SPDX-License-Identifier: Apache-2.0

#include "writer-sdk/writers/sqlite/database_restore.h"

#include <sqlite3.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <memory>
#include <set>
#include <utility>
#include <vector>

namespace umbra::sqlite {

namespace {

namespace fs = std::filesystem;

constexpr std::array kSides{"-wal", "-journal", "-mj", "-shm"};
constexpr const char* kAside = ".before-restore";

struct Close {
  void operator()(sqlite3* connection) const noexcept { sqlite3_close_v2(connection); }
};

using FileId = std::pair<dev_t, ino_t>;

bool is_side(const std::string& name, const std::string& database) {
  return std::any_of(kSides.begin(), kSides.end(),
                     [&](const char* side) { return name.starts_with(database + side); });
}

std::vector<std::string> names_in(const fs::path& directory) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(directory, error))
    names.push_back(entry.path().filename().string());
  return names;
}

// Where there is no /proc, and of processes that this one may not look at, nothing is known.
std::string who_has_open(const std::set<FileId>& files) {
  std::error_code error;
  for (const auto& process : fs::directory_iterator("/proc", error)) {
    const std::string pid = process.path().filename().string();
    if (pid.find_first_not_of("0123456789") != std::string::npos) continue;
    std::error_code ignored;
    for (const auto& open : fs::directory_iterator(process.path() / "fd", ignored)) {
      struct stat status {};
      if (::stat(open.path().c_str(), &status) != 0) continue;
      if (files.contains({status.st_dev, status.st_ino})) return pid;
    }
  }
  return {};
}

}  // namespace

Status DatabaseRestore::begin() {
  const fs::path file(path_);
  const auto name = file.filename().string();
  std::set<FileId> files;
  for (const auto& one : names_in(file.parent_path())) {
    struct stat status {};
    const bool ours = one == name || is_side(one, name);
    if (ours && ::stat((file.parent_path() / one).c_str(), &status) == 0)
      files.insert({status.st_dev, status.st_ino});
  }
  if (const auto pid = who_has_open(files); !files.empty() && !pid.empty()) {
    return fail(Errc::writererror_retryable,
                path_ + ": process " + pid + " has it open; stop the application and try again");
  }
  if (auto moved = move_sides(true); !moved) {
    static_cast<void>(move_sides(false));  // The first error is the one that explains.
    return moved;
  }
  return {};
}

Status DatabaseRestore::put_back() { return move_sides(false); }

Status DatabaseRestore::move_sides(bool aside) {
  const fs::path file(path_);
  const auto directory = file.parent_path();
  const auto name = file.filename().string();
  const std::string end = kAside;
  for (const auto& one : names_in(directory)) {
    const bool is_aside =
        one.starts_with(".") && one.ends_with(end) && is_side(one.substr(1), name);
    if (aside ? !is_side(one, name) : !is_aside) continue;
    const auto other = aside ? "." + one + end : one.substr(1, one.size() - 1 - end.size());
    std::error_code error;
    fs::rename(directory / one, directory / other, error);
    if (!error) continue;
    return fail(Errc::writererror_nonretryable,
                (directory / one).string() + ": cannot be renamed: " + error.message());
  }
  return {};
}

Status DatabaseRestore::finish() {
  sqlite3* raw = nullptr;
  const int opened = sqlite3_open_v2(path_.c_str(), &raw, SQLITE_OPEN_READWRITE, nullptr);
  const std::unique_ptr<sqlite3, Close> connection(raw);
  const auto broken = [&](const std::string& why) {
    return fail(Errc::writererror_nonretryable, path_ + ": restored, but not usable: " + why);
  };
  if (opened != SQLITE_OK) return broken(sqlite3_errstr(opened));
  std::string verdict;
  const auto take = [](void* to, int count, char** values, char**) {
    auto& text = *static_cast<std::string*>(to);
    if (count > 0 && values[0] != nullptr && text.size() < 1024)
      text += std::string(" ") + values[0];
    return 0;
  };
  const int checked =
      sqlite3_exec(connection.get(), "PRAGMA integrity_check", take, &verdict, nullptr);
  if (checked != SQLITE_OK) return broken(sqlite3_errmsg(connection.get()));
  if (verdict != " ok") return broken("integrity_check says:" + verdict);
  const fs::path file(path_);
  const std::string end = kAside;
  for (const auto& one : names_in(file.parent_path())) {
    std::error_code ignored;
    const bool is_aside = one.starts_with(".") && one.ends_with(end) &&
                          is_side(one.substr(1), file.filename().string());
    if (is_aside) fs::remove(file.parent_path() / one, ignored);
  }
  return {};
}

}  // namespace umbra::sqlite
