// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Every step goes through an open directory and follows no link, so a tree that changes meanwhile,
// or that somebody laid out with intent, leads nowhere else.
#include "writer-sdk/src/exclusions.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <system_error>

#include "engine/platform/unique_fd.h"

namespace umbra::writer {
namespace {

constexpr std::size_t kDepthMax = 256;  // Of directories below a file set's.

struct CloseDirectory {
  void operator()(DIR* directory) const { (void)::closedir(directory); }
};
using Directory = std::unique_ptr<DIR, CloseDirectory>;

constexpr int kOpenDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

std::string error_text(int number) { return std::generic_category().message(number); }

// The parts of a path, without empty ones and `.`.
std::vector<std::string> parts_of(std::string_view path) {
  std::vector<std::string> parts;
  while (!path.empty()) {
    const std::size_t slash = path.find('/');
    const std::string_view part = path.substr(0, slash);
    if (!part.empty() && part != ".") parts.emplace_back(part);
    if (slash == std::string_view::npos) break;
    path.remove_prefix(slash + 1);
  }
  return parts;
}

// One run over one copy.
class Deletion {
 public:
  explicit Deletion(dev_t device) : device_(device) {}

  void files(int directory, const FileSet& set, const std::string& path, std::size_t depth) {
    const int own = ::fcntl(directory, F_DUPFD_CLOEXEC, 0);
    const Directory list(own < 0 ? nullptr : ::fdopendir(own));
    if (!list) {
      const int number = errno;
      if (own >= 0) close_fd(own);
      return fail_at(path, error_text(number));
    }
    while (const dirent* entry = ::readdir(list.get())) {  // NOLINT(concurrency-mt-unsafe)
      const std::string name = entry->d_name;
      if (name == "." || name == "..") continue;
      std::string below = path;
      below.append("/").append(name);
      one(directory, set, below, name, depth);
    }
  }

  ExclusionReport report;

 private:
  void one(int directory, const FileSet& set, const std::string& path, const std::string& name,
           std::size_t depth) {
    struct stat status {};
    if (::fstatat(directory, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
      return fail_at(path, error_text(errno));
    }
    if (!S_ISDIR(status.st_mode)) {
      if (fits_pattern(set.pattern, name)) remove(directory, status, path, name);
      return;
    }
    if (!set.recursive || status.st_dev != device_) return;  // Another file system is not the copy.
    if (depth >= kDepthMax) return fail_at(path, "too deep");
    const UniqueFd below(::openat(directory, name.c_str(), kOpenDirectory));
    if (!below) return fail_at(path, error_text(errno));
    files(below.get(), set, path, depth + 1);
  }

  void remove(int directory, const struct stat& status, const std::string& path,
              const std::string& name) {
    if (::unlinkat(directory, name.c_str(), 0) != 0) return fail_at(path, error_text(errno));
    ++report.deleted;
    if (status.st_nlink == 1) report.bytes += static_cast<std::uint64_t>(status.st_blocks) * 512;
  }

  void fail_at(const std::string& path, const std::string& why) {
    ++report.failed;
    if (report.failures.size() >= ExclusionReport::kFailuresMax) return;
    report.failures.push_back(path + ": " + why);
  }

  dev_t device_;
};

// The directory that the parts lead to from `root`; nothing if it is not there.
std::optional<UniqueFd> walk(int root, const std::vector<std::string>& parts, dev_t device) {
  UniqueFd at(::fcntl(root, F_DUPFD_CLOEXEC, 0));
  for (const std::string& part : parts) {
    if (!at) return std::nullopt;
    at.reset(UniqueFd(::openat(at.get(), part.c_str(), kOpenDirectory)).release());
  }
  struct stat status {};
  if (!at || ::fstat(at.get(), &status) != 0 || status.st_dev != device) return std::nullopt;
  return at;
}

}  // namespace

bool fits_pattern(std::string_view pattern, std::string_view name) noexcept {
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

std::optional<std::vector<std::string>> parts_below(std::string_view root, std::string_view path) {
  const std::vector<std::string> above = parts_of(root);
  std::vector<std::string> parts = parts_of(path);
  if (parts.size() < above.size()) return std::nullopt;
  for (std::size_t i = 0; i < above.size(); ++i) {
    if (parts[i] != above[i]) return std::nullopt;
  }
  parts.erase(parts.begin(), parts.begin() + static_cast<std::ptrdiff_t>(above.size()));
  for (const std::string& part : parts) {
    if (part == "..") return std::nullopt;
  }
  return parts;
}

ExclusionReport delete_excluded_in(const std::vector<FileSet>& files, const std::string& volume,
                                   int copy) {
  struct stat status {};
  if (::fstat(copy, &status) != 0) return {};
  Deletion deletion(status.st_dev);
  for (const FileSet& set : files) {
    const auto parts = parts_below(volume, set.path);
    if (!parts) continue;
    const auto directory = walk(copy, *parts, status.st_dev);
    if (directory) deletion.files(directory->get(), set, set.path, 0);
  }
  return std::move(deletion.report);
}

Result<ExclusionReport> delete_excluded_files(const std::vector<FileSet>& files,
                                              const MountedCopy& mounted) {
  const auto& [volume, copy] = mounted;
  for (const std::string* path : {&volume, &copy}) {
    if (!path->starts_with('/')) {
      return fail(Errc::invalid_argument, "'" + *path + "' must be absolute");
    }
  }
  const UniqueFd root(::open(copy.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  struct stat live {};
  struct stat status {};
  if (!root || ::fstat(root.get(), &status) != 0 || ::stat(volume.c_str(), &live) != 0) {
    const int number = errno;
    return fail(number == EACCES ? Errc::access_denied : Errc::io_error,
                (root ? volume : copy) + ": " + error_text(number));
  }
  if (live.st_dev == status.st_dev) {
    return fail(Errc::bad_state, copy + " is no copy of " + volume +
                                     ": it is the same file system; mount the copy there first");
  }
  return delete_excluded_in(files, volume, root.get());
}

}  // namespace umbra::writer
