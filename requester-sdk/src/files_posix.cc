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
#include <filesystem>
#include <memory>
#include <system_error>

#include "engine/platform/clock.h"
#include "engine/platform/path_device.h"
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

constexpr std::int64_t kTicksPerSecond = 10'000'000;
constexpr std::int64_t kSecondsTo1970 = 11'644'473'600;

SourceFile described(std::string original, std::string source, const struct stat& status) {
  const FileKind kind = kind_of(status);
  const auto bytes = kind == FileKind::regular ? static_cast<std::uint64_t>(status.st_size) : 0;
  const std::int64_t time =
      (status.st_mtim.tv_sec + kSecondsTo1970) * kTicksPerSecond + status.st_mtim.tv_nsec / 100;
  return {std::move(original), std::move(source), kind, bytes, time};
}

// One directory's part of a set; directories to go on with are appended to `next`.
Status walk_directory(const SourceTree& tree, const FileSet& files, const Directory& directory,
                      std::uint64_t& count, std::vector<Directory>& next,
                      const OnFoundFile& on_found) {
  const auto names = names_in(directory.source);
  if (!names) return fail(names.error());
  const std::string base = without_slash(directory.original);
  for (const std::string& name : *names) {
    auto found = look_at(base + "/" + name, directory.source + "/" + name);
    if (!found) return fail(found.error());
    if (found->kind == FileKind::directory) {
      if (files.recursive) {
        std::string source = tree.mounted_at(found->original).value_or(found->source);
        next.push_back({std::move(found->original), std::move(source)});
      }
      continue;
    }
    if (!matches(files.pattern, name)) continue;
    ++count;
    if (Status told = on_found({std::move(*found), base, name}); !told) return told;
  }
  return {};
}

// Without links, as far as it exists: what a writer makes during the backup may be in the copy
// only. As it is if it cannot be looked at.
std::string real_path(const std::string& path) {
  std::error_code error;
  const auto real = std::filesystem::weakly_canonical(without_slash(path), error);
  return without_slash(error ? path : real.string());
}

// Links on the way to the top of a set were resolved when the bundle was made. One that is found
// now may lead to the live file system, or anywhere.
Status check_inside(const SourceTree& tree, const std::string& directory) {
  const std::unique_ptr<char, decltype(&std::free)> real(::realpath(directory.c_str(), nullptr),
                                                         &std::free);
  if (!real) return file_error("cannot read " + directory);
  if (tree.holds(real.get())) return {};
  return fail(Errc::access_denied, directory + " leads to " + real.get() + ", out of the copy");
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
  const documents::Variables variables = machine_variables();
  const auto resolve = [&](const std::string& declared) {
    const auto expanded = documents::expanded(declared, variables);
    if (!expanded) return;  // None, or one that a listing will complain of.
    const std::string& path = *expanded;
    const ResolvedPath entry{path, real_path(path)};
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

bool SourceTree::holds(const std::string& real) const {
  return std::any_of(roots_.begin(), roots_.end(), [&](const Root& root) {
    const std::string directory = root.directory.empty() ? "/" : root.directory;
    const std::unique_ptr<char, decltype(&std::free)> top(::realpath(directory.c_str(), nullptr),
                                                          &std::free);
    return top && below(without_slash(top.get()), real);
  });
}

documents::Variables machine_variables() {
  constexpr std::size_t kBytesMax = 1U << 20U;
  const auto text = read_small_file("/etc/environment", kBytesMax);
  return text ? documents::parse_variables(*text) : documents::Variables{};
}

std::uint64_t device_of_declared(const std::string& path) {
  const auto expanded = documents::expanded(path, machine_variables());
  return expanded ? device_of_path(*expanded) : 0;
}

Result<std::string> read_small_file(const std::string& path, std::size_t bytes_max) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file) return file_error("cannot read " + path);
  std::string text;
  std::array<char, 65536> buffer{};
  while (text.size() <= bytes_max) {
    const ssize_t count = ::read(file.get(), buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return file_error("cannot read " + path);
    if (count == 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(count));
  }
  return fail(Errc::invalid_argument,
              path + " is longer than " + std::to_string(bytes_max) + " bytes");
}

Result<SourceFile> look_at(std::string original, std::string source) {
  struct stat status {};
  if (::lstat(source.c_str(), &status) != 0) return file_error("cannot read " + source);
  return described(std::move(original), std::move(source), status);
}

Result<std::uint64_t> walk_files(const SourceTree& tree, const FileSet& files,
                                 const OnFoundFile& on_found) {
  const bool elsewhere = !files.alternate_path.empty();
  const auto top = tree.locate(elsewhere ? files.alternate_path : files.path);
  if (!top) {
    return fail(Errc::object_not_found,
                "'" + files.path + "' lies on no volume of the backup that can be read");
  }
  std::vector<Directory> open{{files.path, top->empty() ? "/" : *top}};
  std::uint64_t count = 0;
  struct stat status {};
  if (::stat(open[0].source.c_str(), &status) != 0) {
    if (errno == ENOENT) return count;
    return file_error("cannot read " + open[0].source);
  }
  if (const Status inside = check_inside(tree, open[0].source); !inside)
    return fail(inside.error());
  while (!open.empty()) {
    Directory directory = std::move(open.back());
    open.pop_back();
    SourceFile itself{directory.original, directory.source, FileKind::directory, 0, 0};
    if (Status told = on_found({std::move(itself), directory.original, ""}); !told)
      return fail(told.error());
    std::vector<Directory> next;
    const Status walked = walk_directory(tree, files, directory, count, next, on_found);
    if (!walked) return fail(walked.error());
    open.insert(open.end(), next.rbegin(), next.rend());
  }
  return count;
}

Result<std::vector<SourceFile>> list_files(const SourceTree& tree, const FileSet& files,
                                           const std::vector<FileSet>& excludes) {
  documents::FileSetIndex left_out;
  for (const FileSet& set : excludes) left_out.add(set, 0);
  std::vector<SourceFile> list;
  const auto count = walk_files(tree, files, [&](FoundFile found) -> Status {
    const bool excluded = found.file.kind != FileKind::directory &&
                          left_out.find(found.directory, found.name).has_value();
    if (!excluded) list.push_back(std::move(found.file));
    return {};
  });
  if (!count) return fail(count.error());
  if (*count == 0 && !documents::has_wildcards(files.pattern)) {
    return fail(Errc::object_not_found,
                "'" + files.pattern + "' in '" + files.path + "' is not in the backup");
  }
  return list;
}

}  // namespace umbra::requester
