// SPDX-License-Identifier: Apache-2.0
#include "provider/daemon/file_stores.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <mutex>

#include "engine/platform/clock.h"
#include "provider/cow/contents.h"
#include "provider/daemon/host_space_posix.h"
#include "provider/daemon/patience.h"
#include "provider/format/diff_area.h"

namespace umbra::cowd {
namespace {

namespace fs = std::filesystem;

// In the order of construction; the volume goes first.
struct Parts {
  std::unique_ptr<FileDevice> origin;
  std::unique_ptr<FileDevice> diff;
  std::unique_ptr<FileHostSpace> host_space;
  std::vector<std::unique_ptr<FileDevice>> former;  // Diff areas that moved and are still read.
  std::unique_ptr<cow::Volume> volume;
};

Result<std::unique_ptr<FileDevice>> open_with_engine(const std::string& path,
                                                     FileDeviceOptions options, Duration patience,
                                                     const FileStoresOptions& stores);

class FileStore final : public Store {
 public:
  FileStore(std::shared_ptr<Parts> parts, const FileStoresOptions& options)
      : parts_(std::move(parts)), options_(options) {}
  VolumeId id() const override { return parts_->volume->id(); }
  std::shared_ptr<block::Device> live() override { return {parts_, &parts_->volume->live()}; }
  cow::Statistics statistics() const override { return parts_->volume->statistics(); }
  std::vector<cow::SnapshotRecord> snapshots() const override { return parts_->volume->list(); }
  Status check_retention() const override { return parts_->volume->check_retention(); }
  std::string io_text() const override {
    const std::lock_guard lock(mutex_);
    const bool shares = parts_->volume->statistics().reflink;
    return "origin: " + parts_->origin->io_text() + "; diff area: " + parts_->diff->io_text() +
           (shares ? "; old data shares blocks with the origin" : "");
  }
  Status close() override { return parts_->volume->close(); }
  Result<MovedDiffArea> move_diff_area(const MoveDiffArea& request) override;
  std::shared_ptr<cow::Volume> volume() { return {parts_, parts_->volume.get()}; }
  Result<SnapshotReader> open_reader(const SnapshotId& snapshot,
                                     std::shared_ptr<cow::HomeSink> sink);
  ReaderAlignment reader_alignment() {
    const std::lock_guard lock(mutex_);
    return {parts_->origin->geometry().alignment_bytes, parts_->diff->geometry().alignment_bytes};
  }

 private:
  [[nodiscard]] Result<MovedDiffArea> move_to(const MoveDiffArea& request);

  std::shared_ptr<Parts> parts_;  // Shared with the front ends and the provider.
  const FileStoresOptions options_;
  mutable std::mutex mutex_;  // Guards which diff area there is.
  std::mutex readers_mutex_;  // Above mutex_. Held while a reader gets what belongs together.
  bool moving_ = false;       // readers_mutex_
};

// The system does not tell when a lock becomes free.
Result<std::unique_ptr<FileDevice>> open_patiently(const std::string& path,
                                                   const FileDeviceOptions& options,
                                                   Duration patience) {
  auto device = open_file_device(path, options);
  (void)wait_until(patience, [&] {
    if (device || device.error().code != Errc::volume_attached) return true;
    device = open_file_device(path, options);
    return false;
  });
  return device;
}

Result<std::unique_ptr<FileDevice>> open_with_engine(const std::string& path,
                                                     FileDeviceOptions options, Duration patience,
                                                     const FileStoresOptions& stores) {
  options.engine = stores.engine;
  auto device = open_patiently(path, options, patience);
  if (device || device.error().code != Errc::missing_kernel_feature) return device;
  const Logger log(stores.log != nullptr ? *stores.log : null_log(), "stores");
  log.warning("io_uring was asked for and is not to be had; going on with threads",
              {{"reason", device.error().context}});
  options.engine = FileEngine::threads;
  return open_patiently(path, options, patience);
}

// A file of another length is nobody's diff area, and cannot even be opened as a device.
Status check_file_size(const OpenStore& request) {
  constexpr std::uintmax_t kSectorBytes = 512;
  const fs::path path(request.diff_area_path);
  std::error_code error;
  if (!fs::is_regular_file(path, error)) return {};
  const std::uintmax_t size = fs::file_size(path, error);
  if (error || size % kSectorBytes == 0) return {};
  if (!request.force) return fail(Errc::diff_area_foreign, request.diff_area_path);
  fs::resize_file(path, size - size % kSectorBytes, error);
  if (error) return fail(Errc::io_error, request.diff_area_path + ": " + error.message());
  return {};
}

struct DiffArea {
  std::unique_ptr<FileDevice> device;
  bool created = false;  // The file was not there before.
};

Result<DiffArea> open_diff_area(const OpenStore& request, const FileStoresOptions& stores) {
  DiffArea area;
  std::error_code ignored;
  const bool exists = fs::exists(fs::path(request.diff_area_path), ignored);
  if (!exists && !request.may_format) {
    return fail(Errc::object_not_found, "there is no diff area " + request.diff_area_path +
                                            "; detach the volume if it has gone for good");
  }
  FileDeviceOptions options;
  options.create = !exists;
  options.apart = request.apart;
  if (exists && request.may_format) {
    if (const Status usable = check_file_size(request); !usable) return fail(usable.error());
  }
  auto device = open_with_engine(request.diff_area_path, options, request.lock_patience, stores);
  if (!device) return fail(device.error(), "the diff area");
  area.device = std::move(*device);
  area.created = !exists;
  return area;
}

// What cannot be read as a diff area has no locks that anybody could know of.
Status check_no_lock(FileDevice& diff) {
  const auto contents = cow::read_contents(diff);
  if (!contents) {
    return contents.error().code == Errc::io_error ? Status(fail(contents.error())) : Status{};
  }
  const Status free = cow::check_retention(*contents, system_clock().wall_filetime());
  if (free) return {};
  return fail(free.error().code,
              "the diff area " + diff.path() + ": " + free.error().context +
                  "; attach its volume without force, or name another diff area");
}

// Makes the diff area if it may and must. True if it did.
Result<bool> format_if_needed(const OpenStore& request, const FileDevice& origin,
                              FileDevice& diff) {
  if (!request.may_format) return false;
  const bool empty = diff.geometry().size_bytes == 0;
  if (!empty && !request.force) {
    const auto description = cow::inspect_diff_area(diff);
    if (description) return false;
    // Nothing at all on a block device is fine; formatting looks closer and refuses the rest.
    const bool nothing_of_ours = description.error().code == Errc::diff_area_foreign;
    if (!nothing_of_ours || !diff.identity().block_device) return fail(description.error());
  }
  if (!empty) {
    if (const Status may_go = check_no_lock(diff); !may_go) return fail(may_go.error());
  }
  cow::FormatOptions options;
  options.volume_id = VolumeId::random();
  options.chunk_bytes = request.chunk_bytes;
  options.diff_bytes_initial =
      std::max(request.diff_initial_bytes, cow::diff_bytes_min(request.chunk_bytes));
  options.diff_bytes_max = request.diff_maximum_bytes;
  options.force = request.force;
  if (const Status made = cow::format_diff_area(origin, diff, options); !made) {
    return fail(made.error(), "making the diff area " + request.diff_area_path);
  }
  return true;
}

// A diff area that was named as the origin by mistake would be overwritten. One that something else
// was put on since is not whole any more.
Status check_no_diff_area(FileDevice& origin) {
  alignas(format::kBlockBytes) std::array<std::byte, format::kBlockBytes> first{};
  if (origin.geometry().size_bytes < first.size()) return {};
  block::Request read;
  read.size_bytes = first.size();
  read.buffer = first.data();
  if (block::run(origin, read) != 0) return {};  // Whoever reads it next says so.
  const auto found = format::decode_superblock(first);
  if (!found) return {};
  return fail(Errc::invalid_argument,
              "the origin " + origin.path() + " is itself the diff area of volume " +
                  found->volume_id.to_string() +
                  "; name the volume, or clear its first 128 KiB if its snapshots are not needed");
}

// Said when it is asked for, not by the first write.
Status check_preserving(const OpenStore& request, FileDevice& origin, FileDevice& diff) {
  if (!request.reflink || !request.may_format) return {};
  std::uint32_t chunk_bytes = request.chunk_bytes;
  if (diff.geometry().size_bytes != 0 && !request.force) {
    if (const auto found = cow::inspect_diff_area(diff)) chunk_bytes = found->chunk_bytes;
  }
  return cow::check_sharing(origin, diff, chunk_bytes);
}

Result<OpenedStore> open_parts(const OpenStore& request, const FileStoresOptions& options,
                               std::unique_ptr<FileDevice> origin,
                               std::unique_ptr<FileDevice> diff) {
  if (const Status distinct = check_distinct(*origin, *diff); !distinct) {
    return fail(distinct.error());
  }
  if (const Status possible = check_preserving(request, *origin, *diff); !possible) {
    return fail(possible.error());
  }
  const auto formatted = format_if_needed(request, *origin, *diff);
  if (!formatted) return fail(formatted.error());
  // What lies on a volume of ours is not asked: the answer may wait for ourselves.
  std::unique_ptr<FileHostSpace> host_space;
  if (!request.apart && !diff->identity().block_device) {
    host_space = std::make_unique<FileHostSpace>(request.diff_area_path, request.origin_path);
  }
  cow::OpenOptions open;
  open.volume_id = request.volume_id;
  open.boot_id = options.boot_id;
  open.log = options.log;
  open.lost_store = options.lost_store;
  open.events = options.events;
  open.host_space = host_space.get();
  open.snapshots_max = request.snapshots_max;
  open.origin_identity = origin->lasting_identity();
  open.origin_change_time = [device = origin.get()] { return device->settled_change_time(); };
  open.accept_changed_origin = request.accept_changed_origin;
  open.origin_moved = request.origin_moved;
  open.reflink = request.reflink;
  auto volume = cow::Volume::open(*origin, *diff, open);
  if (!volume) return fail(volume.error(), "the diff area " + request.diff_area_path);
  if (options.thresholds) {
    const Status set = (*volume)->set_thresholds(*options.thresholds);
    if (!set) return fail(set.error(), "the thresholds of " + request.diff_area_path);
  }
  auto parts = std::make_shared<Parts>();
  parts->origin = std::move(origin);
  parts->diff = std::move(diff);
  parts->host_space = std::move(host_space);
  parts->volume = std::move(*volume);
  OpenedStore opened;
  opened.store = std::make_unique<FileStore>(std::move(parts), options);
  opened.formatted = *formatted;
  return opened;
}

// --- taking it away -----------------------------------------------------------------------------

// One that was seen by nobody has no line.
void tell_of_discarded(const DiscardArea& request, const cow::AreaContents& contents,
                       std::int64_t now, cow::EventSink* events) {
  if (events == nullptr || !contents.in_force) return;
  for (const cow::SnapshotRecord& record : contents.snapshots) {
    if (record.stage != cow::Stage::created) continue;
    cow::Event event;
    event.kind = cow::EventKind::snapshot_deleted;
    event.volume = request.volume_id;
    event.snapshot = record.id;
    event.set = record.set_id;
    event.removal = cow::Removal::requested;
    event.who = request.who;
    event.time_filetime = now;
    event.text = "its volume has gone, and its diff area was deleted";
    events->on_event(event);
  }
}

// --- moving it ----------------------------------------------------------------------------------

// The descriptor and what the volume tells have to be of the same diff area.
Result<SnapshotReader> FileStore::open_reader(const SnapshotId& snapshot,
                                              std::shared_ptr<cow::HomeSink> sink) {
  const std::lock_guard readers(readers_mutex_);
  if (moving_) return fail(Errc::volume_in_use, "its diff area is being moved; try again later");
  SnapshotReader reader;
  if (sink) {
    auto watch = parts_->volume->watch_homes(snapshot, std::move(sink));
    if (!watch) return fail(watch.error());
    reader.watch = std::move(*watch);
  }
  const std::lock_guard lock(mutex_);
  auto origin = parts_->origin->open_for_reader();
  if (!origin) return fail(origin.error());
  auto diff_area = parts_->diff->open_for_reader();
  if (!diff_area) return fail(diff_area.error());
  reader.origin = std::move(*origin);
  reader.diff_area = std::move(*diff_area);
  return reader;
}

Result<MovedDiffArea> FileStore::move_diff_area(const MoveDiffArea& request) {
  const auto say_moving = [this](bool moving) {
    const std::lock_guard readers(readers_mutex_);
    moving_ = moving;
  };
  say_moving(true);
  auto moved = move_to(request);
  say_moving(false);
  return moved;
}

Result<MovedDiffArea> FileStore::move_to(const MoveDiffArea& request) {
  const std::string& from = parts_->diff->path();
  FileDeviceOptions options;
  options.create = request.makes;
  options.apart = request.apart;
  auto target = open_with_engine(request.path, options, Duration::zero(), options_);
  if (!target) return fail(target.error());
  std::unique_ptr<FileHostSpace> host_space;
  if (!request.apart && !(*target)->identity().block_device) {
    host_space = std::make_unique<FileHostSpace>(request.path, parts_->origin->path());
  }
  cow::MigrateOptions move;
  move.from_path = from;
  move.to_path = request.path;
  move.host_space = host_space.get();
  move.bytes_per_second_max = request.bytes_per_second;
  const auto report = parts_->volume->migrate(**target, move, request.on_progress);
  if (!report) {
    std::error_code ignored;
    if (request.makes) fs::remove(fs::path(request.path), ignored);
    return fail(report.error());
  }
  const std::lock_guard lock(mutex_);
  std::swap(parts_->diff, *target);
  parts_->host_space = std::move(host_space);
  if (!report->source_left) parts_->former.push_back(std::move(*target));
  return MovedDiffArea{report->done, report->settled, report->source_left};
}

}  // namespace

Result<cow::MoveSide> FileStores::settle(const SettleMove& request) {
  FileDeviceOptions options;
  options.apart = request.apart;
  const auto source = open_with_engine(request.from, options, request.lock_patience, options_);
  if (!source) return fail(source.error());
  const auto known = cow::inspect_diff_area(**source);
  if (!known) return fail(known.error(), request.from);
  if (known->volume_id != request.volume_id) {
    return fail(Errc::diff_area_wrong_origin,
                request.from + " belongs to volume " + known->volume_id.to_string());
  }
  std::error_code ignored;
  if (!known->moved_to && !fs::exists(fs::path(request.to), ignored)) return cow::MoveSide::source;
  const auto target = open_with_engine(request.to, options, request.lock_patience, options_);
  if (!target) return fail(target.error());
  return cow::settle_move(**source, **target);
}

Status FileStores::remove_area(const std::string& path) {
  std::error_code error;
  const fs::path file(path);
  if (!fs::is_regular_file(file, error)) return {};
  if (fs::file_size(file, error) != 0) {
    const auto device = open_with_engine(path, {}, Duration::zero(), options_);
    if (!device) return fail(device.error());
    const auto known = cow::inspect_diff_area(**device);
    // The target of a move that came to nothing has no superblocks any more.
    const bool of_nobody =
        known ? known->moved_to.has_value() : known.error().code == Errc::diff_area_foreign;
    if (!of_nobody) return fail(Errc::bad_state, "it is a diff area that is in force");
  }
  if (fs::remove(file, error) || !error) return {};
  return fail(Errc::io_error, path + ": " + error.message());
}

Status FileStores::discard_area(const DiscardArea& request) {
  std::error_code error;
  const fs::path file(request.path);
  if (!fs::exists(file, error)) {
    return error ? Status(fail(Errc::io_error, request.path + ": " + error.message())) : Status{};
  }
  const auto device = open_with_engine(request.path, {}, Duration::zero(), options_);
  if (!device) return fail(device.error());
  const auto contents = cow::read_contents(**device);
  if (!contents) return fail(contents.error(), request.path);
  if (contents->description.volume_id != request.volume_id) {
    return fail(Errc::diff_area_wrong_origin,
                request.path + " belongs to volume " + contents->description.volume_id.to_string());
  }
  const std::int64_t now = system_clock().wall_filetime();
  if (Status free = cow::check_retention(*contents, now); !free) return free;
  if (contents->in_force && contents->unknown_slots > 0) {
    return fail(Errc::diff_area_corrupt,
                request.path +
                    ": places of its snapshot table are damaged, and whether a copy is "
                    "under retention lock is not known; remove it by hand");
  }
  if (Status erased = cow::erase_diff_area(**device); !erased) return erased;
  tell_of_discarded(request, *contents, now, options_.events);
  if (!(*device)->identity().block_device && !fs::remove(file, error) && error) {
    const Logger log(options_.log != nullptr ? *options_.log : null_log(), "stores");
    log.warning("a file that is no diff area any more could not be removed; remove it by hand",
                {{"path", request.path}, {"reason", error.message()}});
  }
  return {};
}

Result<OpenedStore> FileStores::open(const OpenStore& request) {
  FileDeviceOptions origin_options;
  origin_options.apart = request.apart;
  origin_options.direct = request.direct;
  auto origin =
      open_with_engine(request.origin_path, origin_options, request.lock_patience, options_);
  if (!origin) return fail(origin.error(), "the origin");
  if (request.may_format) {
    if (const Status good = check_no_diff_area(**origin); !good) return fail(good.error());
  }
  auto area = open_diff_area(request, options_);
  if (!area) return fail(area.error());
  auto opened = open_parts(request, options_, std::move(*origin), std::move(area->device));
  if (!opened && area->created) {
    std::error_code ignored;
    fs::remove(fs::path(request.diff_area_path), ignored);
  }
  return opened;
}

Result<SnapshotReader> open_reader(Store& store, const SnapshotId& snapshot,
                                   std::shared_ptr<cow::HomeSink> sink) {
  return static_cast<FileStore&>(store).open_reader(snapshot, std::move(sink));
}

ReaderAlignment reader_alignment(Store& store) {
  return static_cast<FileStore&>(store).reader_alignment();
}

std::shared_ptr<cow::Volume> volume_of(Store& store) {
  return static_cast<FileStore&>(store).volume();
}

}  // namespace umbra::cowd
