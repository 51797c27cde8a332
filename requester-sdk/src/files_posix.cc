// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "requester-sdk/src/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <system_error>

#include "engine/platform/clock.h"
#include "engine/platform/unique_fd.h"
#include "requester-sdk/src/mounts.h"

namespace umbra::requester {
namespace {

std::string without_slash(std::string path) {
  while (!path.empty() && path.back() == '/') path.pop_back();
  return path;
}

// What follows `point` in `path` ("" or "/..."); nothing if it is not below it.
std::optional<std::string> below(const std::string& point, const std::string& path) {
  if (!path.starts_with(point)) return std::nullopt;
  std::string rest = path.substr(point.size());
  if (!rest.empty() && rest.front() != '/') return std::nullopt;
  return rest;
}

bool is_excluded(const std::vector<FileSet>& excludes, const std::string& directory,
                 std::string_view name) {
  return std::any_of(excludes.begin(), excludes.end(), [&](const FileSet& set) {
    const auto rest = below(without_slash(set.path), directory);
    return rest && (rest->empty() || set.recursive) && matches(set.pattern, name);
  });
}

FileKind kind_of(const struct stat& status) {
  if (S_ISREG(status.st_mode)) return FileKind::regular;
  if (S_ISDIR(status.st_mode)) return FileKind::directory;
  return S_ISLNK(status.st_mode) ? FileKind::link : FileKind::other;
}

struct CloseDirectory {
  void operator()(DIR* directory) const noexcept { ::closedir(directory); }
};

Result<std::vector<std::string>> names_in(const std::string& directory) {
  const std::unique_ptr<DIR, CloseDirectory> stream(::opendir(directory.c_str()));
  if (!stream) return file_error("cannot list " + directory);
  std::vector<std::string> names;
  while (true) {
    errno = 0;
    const dirent* entry = ::readdir(stream.get());  // NOLINT(concurrency-mt-unsafe): own stream.
    if (entry == nullptr) break;
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  if (errno != 0) return file_error("cannot list " + directory);
  std::sort(names.begin(), names.end());
  return names;
}

struct Directory {
  std::string original;
  std::string source;
};

// One directory's part of a set; directories to go on with are appended to `next`.
Status list_directory(const SourceTree& tree, const FileSet& files,
                      const std::vector<FileSet>& excludes, const Directory& directory,
                      std::vector<SourceFile>& found, std::vector<Directory>& next) {
  const auto names = names_in(directory.source);
  if (!names) return fail(names.error());
  for (const std::string& name : *names) {
    const std::string original = without_slash(directory.original) + "/" + name;
    const std::string source = directory.source + "/" + name;
    struct stat status {};
    if (::lstat(source.c_str(), &status) != 0) return file_error("cannot read " + source);
    const FileKind kind = kind_of(status);
    if (kind == FileKind::directory) {
      if (files.recursive) next.push_back({original, tree.mounted_at(original).value_or(source)});
      continue;
    }
    if (!matches(files.pattern, name)) continue;
    if (is_excluded(excludes, without_slash(directory.original), name)) continue;
    const auto bytes = kind == FileKind::regular ? static_cast<std::uint64_t>(status.st_size) : 0;
    found.push_back({original, source, kind, bytes});
  }
  return {};
}

}  // namespace

tl::unexpected<Error> file_error(const std::string& what) {
  const int number = errno;
  const std::string context = what + ": " + std::generic_category().message(number);
  switch (number) {
    case ENOENT: return fail(Errc::object_not_found, context);
    case EACCES:
    case EPERM: return fail(Errc::access_denied, context);
    default: return fail(Errc::io_error, context);
  }
}

Status sync_directory(const std::string& path) {
  const std::string name = path.empty() ? "." : path;
  const UniqueFd directory(::open(name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory || ::fsync(directory.get()) != 0) return file_error("cannot sync " + name);
  return {};
}

void complete_bundle(BackupBundle& bundle, const std::vector<std::uint64_t>& devices) {
  bundle.created_filetime = system_clock().wall_filetime();
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) == 0) bundle.machine = name.data();
  const std::vector<Mount> mounts = own_mounts();
  for (std::size_t i = 0; i < bundle.volumes.size() && i < devices.size(); ++i) {
    for (const Mount& mount : mounts) {
      if (devices[i] != 0 && mount.device == devices[i])
        bundle.volumes[i].mounts.push_back(mount.where);
    }
  }
  const auto resolve = [&](const std::string& path) {
    if (path.empty()) return;
    const std::unique_ptr<char, decltype(&std::free)> real(::realpath(path.c_str(), nullptr),
                                                           &std::free);
    const ResolvedPath entry{path, real ? real.get() : path};
    const auto& known = bundle.resolved_paths;
    if (entry.real != without_slash(path) &&
        std::find(known.begin(), known.end(), entry) == known.end())
      bundle.resolved_paths.push_back(entry);
  };
  for (const WriterMetadataDocument& writer : bundle.writers) {
    for (const ComponentInfo& component : writer.components) {
      for (const auto* sets : {&component.files, &component.log_files}) {
        for (const FileSet& files : *sets) resolve(files.path), resolve(files.alternate_path);
      }
    }
  }
}

void SourceTree::add(std::string point, std::string directory) {
  roots_.push_back({without_slash(std::move(point)), without_slash(std::move(directory))});
  // The longest first: what is mounted deepest hides what is below.
  std::stable_sort(roots_.begin(), roots_.end(),
                   [](const Root& a, const Root& b) { return a.point.size() > b.point.size(); });
}

void SourceTree::add_resolved(std::string path, std::string real) {
  resolved_.push_back({without_slash(std::move(path)), without_slash(std::move(real))});
}

std::optional<std::string> SourceTree::locate(const std::string& path) const {
  std::string wanted = without_slash(path);
  for (const ResolvedPath& entry : resolved_) {
    if (entry.path == wanted) wanted = entry.real;
  }
  for (const Root& root : roots_) {
    if (const auto rest = below(root.point, wanted)) return root.directory + *rest;
  }
  return std::nullopt;
}

std::optional<std::string> SourceTree::mounted_at(const std::string& path) const {
  for (const Root& root : roots_) {
    if (root.point == path) return root.directory;
  }
  return std::nullopt;
}

bool matches(std::string_view pattern, std::string_view name) noexcept {
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

Result<std::vector<SourceFile>> list_files(const SourceTree& tree, const FileSet& files,
                                           const std::vector<FileSet>& excludes) {
  const bool elsewhere = !files.alternate_path.empty();
  const auto top = tree.locate(elsewhere ? files.alternate_path : files.path);
  if (!top) {
    return fail(Errc::object_not_found,
                "'" + files.path + "' lies on no volume of the backup that can be read");
  }
  std::vector<SourceFile> found;
  std::vector<Directory> open{{files.path, top->empty() ? "/" : *top}};
  struct stat status {};
  const bool exists = ::stat(open[0].source.c_str(), &status) == 0;
  if (!exists && errno != ENOENT) return file_error("cannot read " + open[0].source);
  while (exists && !open.empty()) {
    const Directory directory = std::move(open.back());
    open.pop_back();
    found.push_back({directory.original, directory.source, FileKind::directory, 0});
    std::vector<Directory> next;
    const Status listed = list_directory(tree, files, excludes, directory, found, next);
    if (!listed) return fail(listed.error());
    open.insert(open.end(), next.rbegin(), next.rend());
  }
  const bool named = files.pattern.find_first_of("*?") == std::string::npos;
  const bool any = std::any_of(found.begin(), found.end(), [](const SourceFile& file) {
    return file.kind != FileKind::directory;
  });
  if (named && !any) {
    return fail(Errc::object_not_found,
                "'" + files.pattern + "' in '" + files.path + "' is not in the backup");
  }
  return found;
}

}  // namespace umbra::requester
