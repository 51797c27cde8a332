// SPDX-License-Identifier: Apache-2.0
#include "provider/daemon/state_dir_posix.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include "engine/platform/run_dir.h"
#include "engine/platform/unique_fd.h"
#include "engine/rpc/codec.h"

namespace umbra::cowd {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSuffix = ".json";
constexpr std::string_view kUnfinishedSuffix = ".new";
constexpr std::size_t kLostMax = 4096;  // Per volume: eight times what can exist at a time.
constexpr std::size_t kLostBytesMax = 256 * 1024;
constexpr std::size_t kLostMemoryBytesMax = 4U << 20U;

std::string reason(int error) { return std::generic_category().message(error); }

tl::unexpected<Error> io_failure(const std::string& path, int error) {
  return fail(Errc::io_error, path + ": " + reason(error));
}

int sync_folder_of(const std::string& path) {
  const UniqueFd folder(
      ::open(fs::path(path).parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder) return errno;
  return ::fsync(folder.get()) == 0 ? 0 : errno;
}

int write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t done = ::write(fd, text.data(), text.size());
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return errno;
    text.remove_prefix(static_cast<std::size_t>(done));
  }
  return ::fsync(fd) == 0 ? 0 : errno;
}

Status replace_file(const std::string& path, std::string_view text) {
  const std::string beside = path + std::string(kUnfinishedSuffix);
  int error = 0;
  {
    const UniqueFd fd(::open(beside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    error = fd ? write_all(fd.get(), text) : errno;
  }
  if (error == 0 && ::rename(beside.c_str(), path.c_str()) != 0) error = errno;
  if (error != 0) {
    (void)::unlink(beside.c_str());
    return io_failure(path, error);
  }
  error = sync_folder_of(path);
  return error == 0 ? Status{} : Status(io_failure(path, error));
}

Status remove_file(const std::string& path) {
  if (::unlink(path.c_str()) != 0) {
    return errno == ENOENT ? Status{} : Status(io_failure(path, errno));
  }
  const int error = sync_folder_of(path);
  return error == 0 ? Status{} : Status(io_failure(path, error));
}

// At most `bytes_max` and one more, so that the reader sees that it is too long.
Result<std::string> read_file(const std::string& path, std::size_t bytes_max) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd) {
    return fail(errno == ENOENT ? Errc::object_not_found : Errc::io_error,
                path + ": " + reason(errno));
  }
  std::string text(bytes_max + 1, '\0');
  std::size_t size = 0;
  while (size < text.size()) {
    const ssize_t got = ::read(fd.get(), text.data() + size, text.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return io_failure(path, errno);
    if (got == 0) break;
    size += static_cast<std::size_t>(got);
  }
  text.resize(size);
  return text;
}

bool ends_with(const std::string& text, std::string_view end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// The names in a folder, sorted; unfinished files are removed on the way.
Result<std::vector<std::string>> names_in(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (ends_with(name, kUnfinishedSuffix)) {
      (void)::unlink(entry->path().c_str());
    } else {
      names.push_back(name);
    }
  }
  if (error) return fail(Errc::io_error, folder + ": " + error.message());
  std::sort(names.begin(), names.end());
  return names;
}

Result<VolumeConfig> load_config(const std::string& folder, const std::string& name) {
  if (!ends_with(name, kSuffix)) return fail(Errc::invalid_argument, "no file of ours");
  const auto text = read_file(folder + "/" + name, kConfigBytesMax);
  if (!text) return fail(text.error());
  auto config = parse_config(*text);
  if (config && config->volume_id.to_string() + std::string(kSuffix) != name) {
    return fail(Errc::invalid_argument, "the file's name is not that of its volume");
  }
  return config;
}

}  // namespace

Result<std::unique_ptr<StateDir>> StateDir::open(const std::string& directory) {
  for (const std::string& folder : {directory, directory + "/volumes", directory + "/lost"}) {
    if (const Status made = ensure_run_dir(folder, false); !made) {
      return fail(made.error(), "the state directory");
    }
  }
  return std::unique_ptr<StateDir>(new StateDir(directory));
}

std::string StateDir::config_path(const VolumeId& volume) const {
  return directory_ + "/volumes/" + volume.to_string() + std::string(kSuffix);
}

std::string StateDir::lost_path(const VolumeId& volume) const {
  return directory_ + "/lost/" + volume.to_string() + std::string(kSuffix);
}

Result<ConfigStore::Loaded> StateDir::load() {
  const std::lock_guard lock(mutex_);
  const std::string folder = directory_ + "/volumes";
  const auto names = names_in(folder);
  if (!names) return fail(names.error());
  Loaded loaded;
  for (const std::string& name : *names) {
    auto config = load_config(folder, name);
    if (config && loaded.volumes.size() == kVolumesMax) {
      config = fail(Errc::limit_reached, "more than " + std::to_string(kVolumesMax) + " volumes");
    }
    if (config) {
      loaded.volumes.push_back(std::move(*config));
    } else {
      loaded.problems.push_back(folder + "/" + name + ": " + config.error().context);
    }
  }
  return loaded;
}

Status StateDir::save(const VolumeConfig& config) {
  const std::lock_guard lock(mutex_);
  return replace_file(config_path(config.volume_id), to_text(config));
}

Status StateDir::forget(const VolumeId& volume) {
  const std::lock_guard lock(mutex_);
  return remove_file(config_path(volume));
}

Result<std::vector<SnapshotId>> StateDir::read_lost(const VolumeId& volume) const {
  const std::string path = lost_path(volume);
  const auto text = read_file(path, kLostBytesMax);
  if (!text && text.error().code == Errc::object_not_found) return std::vector<SnapshotId>{};
  if (!text) return fail(text.error());
  const auto json = rpc::parse(*text, kLostMemoryBytesMax);
  const auto* list = json && json->is_object() ? json->get_object().if_contains("lost") : nullptr;
  if (list == nullptr || !list->is_array()) {
    return fail(Errc::io_error, path + " is not a list of lost snapshots");
  }
  std::vector<SnapshotId> snapshots;
  for (const auto& item : list->get_array()) {
    const auto id = item.is_string() ? SnapshotId::parse(std::string(item.get_string()))
                                     : fail(Errc::invalid_argument, "not text");
    if (!id) return fail(Errc::io_error, path + " names something that is no snapshot");
    snapshots.push_back(*id);
  }
  return snapshots;
}

Status StateDir::add(const VolumeId& volume, std::span<const SnapshotId> snapshots) {
  const std::lock_guard lock(mutex_);
  auto lost = read_lost(volume);
  if (!lost) return fail(lost.error());
  for (const SnapshotId& snapshot : snapshots) {
    if (std::find(lost->begin(), lost->end(), snapshot) == lost->end()) lost->push_back(snapshot);
  }
  if (lost->size() > kLostMax) {
    lost->erase(lost->begin(), lost->end() - static_cast<std::ptrdiff_t>(kLostMax));
  }
  boost::json::array ids;
  for (const SnapshotId& snapshot : *lost) ids.emplace_back(snapshot.to_string());
  boost::json::object object;
  object["umbra_lost"] = kConfigFormat;
  object["lost"] = std::move(ids);
  return replace_file(lost_path(volume), rpc::serialize(object) + "\n");
}

Result<std::vector<SnapshotId>> StateDir::list(const VolumeId& volume) {
  const std::lock_guard lock(mutex_);
  return read_lost(volume);
}

}  // namespace umbra::cowd
