// SPDX-License-Identifier: Apache-2.0 OR MIT
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <set>

#include "engine/platform/unique_fd.h"
#include "requester-sdk/src/staging.h"

namespace umbra::requester {
namespace {

constexpr std::uint64_t kStepBytes = 8U << 20U;  // Between two looks at whether to stop.
constexpr std::size_t kNotesMax = 100;
constexpr const char* kDirectoryName = "/.umbra-restore-XXXXXX";

std::string parent_of(const std::string& path) {
  const std::size_t slash = path.find_last_of('/');
  return slash == 0 ? "/" : path.substr(0, slash);
}

// With copy_file_range(2) where the kernel can, else through memory. 0: the source has ended.
ssize_t copy_some(int from, int to, off_t from_offset, off_t to_offset, std::size_t bytes) {
  loff_t in = from_offset;
  loff_t out = to_offset;
  const ssize_t direct = ::copy_file_range(from, &in, to, &out, bytes, 0);
  if (direct > 0) return direct;
  const bool cannot = direct == 0 || errno == EXDEV || errno == EINVAL || errno == ENOSYS ||
                      errno == EOPNOTSUPP || errno == EPERM;
  if (!cannot) return direct;
  static thread_local std::array<char, 256U << 10U> buffer;
  const ssize_t got = ::pread(from, buffer.data(), std::min(bytes, buffer.size()), from_offset);
  if (got <= 0) return got;
  for (ssize_t at = 0; at < got;) {
    const ssize_t put =
        ::pwrite(to, buffer.data() + at, static_cast<std::size_t>(got - at), to_offset + at);
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return -1;
    at += put;
  }
  return got;
}

bool is_refused_politely(int number) {
  return number == EPERM || number == EACCES || number == ENOTSUP || number == EINVAL;
}

}  // namespace

void Staging::note(const std::string& text) {
  if (notes_.size() < kNotesMax) notes_.push_back(text);
}

Status Staging::check_room(const std::vector<Placement>& placements) {
  struct Need {
    std::string path;
    std::uint64_t bytes = 0;
  };
  std::map<std::uint64_t, Need> needs;
  for (const Placement& placement : placements) {
    std::string path = parent_of(placement.destination);
    struct stat status {};
    while (path != "/" && ::stat(path.c_str(), &status) != 0) path = parent_of(path);
    struct stat source {};
    if (::stat(path.c_str(), &status) != 0 || ::lstat(placement.file.source.c_str(), &source) != 0)
      continue;  // Copying will tell.
    Need& need = needs[status.st_dev];
    need.path = path;
    need.bytes +=
        std::min(placement.file.bytes, static_cast<std::uint64_t>(source.st_blocks) * 512);
  }
  for (const auto& [device, need] : needs) {
    struct statvfs room {};
    if (::statvfs(need.path.c_str(), &room) != 0) continue;
    const std::uint64_t blocks = ::geteuid() == 0 ? room.f_bfree : room.f_bavail;
    const std::uint64_t free_bytes = blocks * room.f_frsize;
    if (free_bytes >= need.bytes) continue;
    return fail(Errc::io_error, "no room at " + need.path + ": " + std::to_string(need.bytes) +
                                    " bytes are needed, " + std::to_string(free_bytes) +
                                    " are free; nothing was written");
  }
  return {};
}

Status Staging::stage(const std::vector<Placement>& placements) {
  for (const Placement& placement : placements) {
    if (const Status done = stage_one(placement); !done) return done;
    if (!on_bytes_(0, placement.file.kind != FileKind::directory)) {
      return fail(Errc::async_cancelled, "cancelled by the caller");
    }
  }
  return {};
}

Status Staging::stage_one(const Placement& placement) {
  const SourceFile& file = placement.file;
  struct stat there {};
  const bool exists = ::lstat(placement.destination.c_str(), &there) == 0;
  if (file.kind == FileKind::directory) {
    struct stat target {};
    const bool usable =
        ::stat(placement.destination.c_str(), &target) == 0 && S_ISDIR(target.st_mode);
    if (usable) return {};
    if (exists) {
      return fail(Errc::object_already_exists,
                  placement.destination + ": a directory belongs there, but there is a file");
    }
    return make_directory(placement.destination, file.source);
  }
  if (exists && S_ISDIR(there.st_mode)) {
    return fail(Errc::object_already_exists,
                placement.destination + ": a file belongs there, but there is a directory");
  }
  struct stat status {};
  if (::lstat(file.source.c_str(), &status) != 0) return file_error("cannot read " + file.source);
  if (S_ISSOCK(status.st_mode)) return {};
  if (const Status made = make_parents(parent_of(placement.destination)); !made) return made;
  if (!placement.from.empty()) return stage_ranges(placement);
  const auto beside = name_beside(placement.destination);
  if (!beside) return fail(beside.error());
  const auto identity = std::pair<std::uint64_t, std::uint64_t>(status.st_dev, status.st_ino);
  const auto first = links_.find(identity);
  if (status.st_nlink > 1 && first != links_.end() &&
      ::link(first->second.c_str(), beside->c_str()) == 0) {
    staged_.push_back({*beside, placement.destination});
    return {};
  }
  staged_.push_back({*beside, placement.destination});
  if (file.kind == FileKind::regular) {
    if (const Status done = stage_regular(placement, *beside); !done) return done;
  } else if (file.kind == FileKind::link) {
    std::array<char, 4096> text{};
    const ssize_t length = ::readlink(file.source.c_str(), text.data(), text.size() - 1);
    if (length < 0) return file_error("cannot read " + file.source);
    if (::symlink(text.data(), beside->c_str()) != 0) return file_error("cannot make " + *beside);
  } else if (::mknod(beside->c_str(), status.st_mode, status.st_rdev) != 0) {
    return file_error("cannot make " + placement.destination);
  }
  if (status.st_nlink > 1) links_.emplace(identity, *beside);
  return keep_properties(file.source, *beside);
}

Status Staging::stage_regular(const Placement& placement, const std::string& beside) {
  const std::string& source = placement.file.source;
  const UniqueFd from(::open(source.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!from) return file_error("cannot read " + source);
  struct stat status {};
  if (::fstat(from.get(), &status) != 0) return file_error("cannot read " + source);
  if (static_cast<std::uint64_t>(status.st_size) < placement.file.bytes) {
    return fail(Errc::io_error, source + " has become shorter while it was being restored");
  }
  const UniqueFd to(::open(beside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!to) return file_error("cannot write " + beside);
  if (const Status done = copy_data(from.get(), to.get(), placement.file.bytes); !done) {
    return fail(done.error(), placement.destination);
  }
  return {};
}

Status Staging::copy_data(int from, int to, std::uint64_t bytes) {
  if (::ftruncate(to, static_cast<off_t>(bytes)) != 0) return file_error("cannot write");
  off_t at = 0;
  const auto end = static_cast<off_t>(bytes);
  while (at < end) {
    const off_t data = ::lseek(from, at, SEEK_DATA);
    if (data < 0 && errno == ENXIO) return {};  // The rest is a hole.
    const bool tells = data >= 0;
    const off_t begin = tells ? data : at;
    if (begin >= end) return {};
    off_t stop = tells ? ::lseek(from, begin, SEEK_HOLE) : end;
    if (stop < 0 || stop > end) stop = end;
    const Status copied =
        copy_range(from, to, static_cast<std::uint64_t>(begin), static_cast<std::uint64_t>(begin),
                   static_cast<std::uint64_t>(stop - begin));
    if (!copied) return copied;
    at = stop;
  }
  return {};
}

Status Staging::copy_range(int from, int to, std::uint64_t from_offset, std::uint64_t to_offset,
                           std::uint64_t length) {
  while (length > 0) {
    const auto step = static_cast<std::size_t>(std::min(length, kStepBytes));
    const ssize_t count =
        copy_some(from, to, static_cast<off_t>(from_offset), static_cast<off_t>(to_offset), step);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return file_error("cannot copy");
    if (count == 0) return fail(Errc::io_error, "the source ends before its size");
    const auto done = static_cast<std::uint64_t>(count);
    from_offset += done;
    to_offset += done;
    length -= done;
    if (!on_bytes_(done, false)) return fail(Errc::async_cancelled, "cancelled by the caller");
  }
  return {};
}

// Where the ranges of a destination are collected: a copy of what is there, or an empty file.
Result<std::string> Staging::begin_ranges(const Placement& placement) {
  const std::string& destination = placement.destination;
  if (const auto known = ranged_.find(destination); known != ranged_.end()) return known->second;
  auto name = name_beside(destination);
  if (!name) return name;
  ranged_.emplace(destination, *name);
  staged_.push_back({*name, destination});
  struct stat status {};
  const bool exists = ::stat(destination.c_str(), &status) == 0;
  Placement present;
  present.destination = destination;
  present.file.source = exists ? destination : placement.file.source;
  present.file.bytes = exists ? static_cast<std::uint64_t>(status.st_size) : 0;
  if (const Status done = stage_regular(present, *name); !done) return fail(done.error());
  if (const Status kept = keep_properties(present.file.source, *name); !kept) {
    return fail(kept.error());
  }
  return name;
}

Status Staging::stage_ranges(const Placement& placement) {
  const auto beside = begin_ranges(placement);
  if (!beside) return fail(beside.error());
  const UniqueFd from(::open(placement.file.source.c_str(), O_RDONLY | O_CLOEXEC));
  if (!from) return file_error("cannot read " + placement.file.source);
  const UniqueFd to(::open(beside->c_str(), O_WRONLY | O_CLOEXEC));
  if (!to) return file_error("cannot write " + placement.destination);
  for (std::size_t i = 0; i < placement.from.size() && i < placement.to.size(); ++i) {
    const Status done = copy_range(from.get(), to.get(), placement.from[i].offset,
                                   placement.to[i].offset, placement.from[i].length);
    if (!done) return fail(done.error(), placement.destination);
  }
  return {};
}

Status Staging::keep_properties(const std::string& source, const std::string& target) {
  struct stat status {};
  if (::lstat(source.c_str(), &status) != 0) return file_error("cannot read " + source);
  if (::lchown(target.c_str(), status.st_uid, status.st_gid) != 0) {
    if (errno != EPERM) return file_error("cannot set the owner of " + target);
    note("owner of " + source);
  }
  const bool link = S_ISLNK(status.st_mode);
  if (!link && ::chmod(target.c_str(), status.st_mode & 07777U) != 0) {
    return file_error("cannot set the mode of " + target);
  }
  const ssize_t listed = ::llistxattr(source.c_str(), nullptr, 0);
  std::string names(static_cast<std::size_t>(std::max<ssize_t>(listed, 0)), '\0');
  const ssize_t got = names.empty() ? 0 : ::llistxattr(source.c_str(), names.data(), names.size());
  names.resize(static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
  for (std::size_t at = 0; at < names.size();) {
    const std::string name = names.c_str() + at;
    at += name.size() + 1;
    const ssize_t size = ::lgetxattr(source.c_str(), name.c_str(), nullptr, 0);
    if (size < 0) continue;
    std::string value(static_cast<std::size_t>(size), '\0');
    const ssize_t read = ::lgetxattr(source.c_str(), name.c_str(), value.data(), value.size());
    if (read < 0) continue;
    if (::lsetxattr(target.c_str(), name.c_str(), value.data(), static_cast<std::size_t>(read),
                    0) != 0) {
      if (!is_refused_politely(errno)) return file_error("cannot set " + name + " of " + target);
      note("attribute " + name + " of " + source);
    }
  }
  const std::array<timespec, 2> times{status.st_atim, status.st_mtim};
  if (::utimensat(AT_FDCWD, target.c_str(), times.data(), AT_SYMLINK_NOFOLLOW) != 0) {
    return file_error("cannot set the times of " + target);
  }
  return {};
}

Status Staging::make_parents(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0) {
    if (S_ISDIR(status.st_mode)) return {};
    return fail(Errc::object_already_exists, path + ": there is a file in a directory's place");
  }
  if (errno != ENOENT) return file_error("cannot read " + path);
  if (const Status above = make_parents(parent_of(path)); !above) return above;
  if (::mkdir(path.c_str(), 0755) != 0) return file_error("cannot make " + path);
  made_.push_back({path, {}});
  return {};
}

Status Staging::make_directory(const std::string& destination, const std::string& source) {
  if (const Status above = make_parents(parent_of(destination)); !above) return above;
  if (::mkdir(destination.c_str(), 0700) != 0) return file_error("cannot make " + destination);
  made_.push_back({destination, source});
  return {};
}

// A free name on the destination's file system.
Result<std::string> Staging::name_beside(const std::string& destination) {
  const std::string parent = parent_of(destination);
  struct stat status {};
  if (::stat(parent.c_str(), &status) != 0) return file_error("cannot read " + parent);
  auto found = directories_.find(status.st_dev);
  if (found == directories_.end()) {
    std::string name = (parent == "/" ? "" : parent) + kDirectoryName;
    if (::mkdtemp(name.data()) == nullptr) return file_error("cannot write to " + parent);
    found = directories_.emplace(status.st_dev, std::move(name)).first;
  }
  return found->second + "/" + std::to_string(next_++);
}

Status Staging::flush() {
  for (const auto& [device, directory] : directories_) {
    const UniqueFd opened(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!opened || ::syncfs(opened.get()) != 0) return file_error("cannot sync " + directory);
  }
  return {};
}

Status Staging::commit() {
  std::set<std::string> parents;
  while (!staged_.empty()) {
    const Staged& last = staged_.back();
    if (::rename(last.beside.c_str(), last.destination.c_str()) != 0) {
      return file_error("cannot replace " + last.destination);
    }
    changed_ = true;
    parents.insert(parent_of(last.destination));
    staged_.pop_back();
  }
  remove_directories();
  // The deepest first: a directory's times change with what is made in it.
  for (auto made = made_.rbegin(); made != made_.rend(); ++made) {
    if (!made->source.empty()) {
      if (const Status kept = keep_properties(made->source, made->destination); !kept) return kept;
    }
    parents.insert(made->destination);
    parents.insert(parent_of(made->destination));
    changed_ = true;
  }
  made_.clear();
  for (const std::string& parent : parents) {
    if (const Status synced = sync_directory(parent); !synced) return synced;
  }
  return {};
}

void Staging::remove_directories() noexcept {
  for (const auto& [device, directory] : directories_) (void)::rmdir(directory.c_str());
  directories_.clear();
}

void Staging::rollback() noexcept {
  for (const Staged& one : staged_) (void)::unlink(one.beside.c_str());
  staged_.clear();
  remove_directories();
  // What others have put in the meantime keeps its directory.
  for (auto made = made_.rbegin(); made != made_.rend(); ++made)
    (void)::rmdir(made->destination.c_str());
  made_.clear();
}

}  // namespace umbra::requester
