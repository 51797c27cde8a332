// SPDX-License-Identifier: Apache-2.0
#include "provider/daemon/copy_mounts_linux.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "provider/daemon/copy_file_system.h"
#include "provider/daemon/copy_overlay_posix.h"
#include "provider/daemon/helper_linux.h"
#include "provider/daemon/patience.h"
#include "provider/daemon/system_view_linux.h"

namespace umbra::cowd {
namespace {

constexpr std::chrono::seconds kReleaseLimit{2};
constexpr const char* kCopies = "/fuse/snapshots/";
constexpr std::string_view kKeptOverlay = "overlay/";  // And the name of its file.
constexpr const char* kView = ".view";
constexpr const char* kRecovered = ".recovered";
constexpr const char* kWritable = ".writable";

// What the helper is told; helper_linux.h.
const char* manner_of(const rpc::MountSnapshot& request) {
  if (request.write) return "write";
  return request.recover ? "recover" : "as-it-is";
}

// Empty: the copy's own file.
const char* overlay_for(const rpc::MountSnapshot& request, const CopyFacts& facts) {
  if (request.write) return kWritable;
  if (request.recover) return kRecovered;
  return facts.file_system == FileSystem::btrfs ? kView : "";
}

std::string journal_note(FileSystem file_system) {
  const std::string what = file_system == FileSystem::btrfs ? "log tree"
                           : file_system == FileSystem::xfs ? "log"
                                                            : "journal";
  return "the copy's " + what +
         " holds changes that the rest of it lacks, as its file system was not frozen: what was "
         "written last is missing, and files and directories may look damaged; unmount it and "
         "mount it with --recover to have the " +
         what + " replayed";
}

}  // namespace

CopyMounts::CopyMounts(Options options)
    : options_(std::move(options)), log_(*options_.log, "frontend") {}

std::string CopyMounts::file_of(const SnapshotId& snapshot) const {
  return options_.run_dir + kCopies + snapshot.to_string();
}

std::string CopyMounts::own_mount_point(const SnapshotId& snapshot) const {
  return options_.run_dir + "/mnt/" + snapshot.to_string();
}

bool CopyMounts::is_own(const std::string& mount_point) const {
  return mount_point.starts_with(options_.run_dir + "/mnt/");
}

// Loop devices over a file of the copy, with where they are mounted.
std::vector<CopyMounts::Mounted> CopyMounts::mounted(const SnapshotId& snapshot) const {
  const std::string file = file_of(snapshot);
  std::vector<Mounted> found;
  for (LoopEntry& loop : read_loops()) {
    if (loop.backing_file != file && !loop.backing_file.starts_with(file + ".")) continue;
    found.push_back({std::move(loop.backing_file), loop.path, mount_points_of(loop.device)});
  }
  return found;
}

std::vector<std::string> CopyMounts::targets(const SnapshotId& snapshot) const {
  std::vector<std::string> all;
  for (Mounted& one : mounted(snapshot)) {
    for (std::string& target : one.targets) all.push_back(std::move(target));
  }
  return all;
}

std::map<SnapshotId, std::string> CopyMounts::all() const {
  const std::string directory = options_.run_dir + kCopies;
  std::map<SnapshotId, std::string> all;
  for (const LoopEntry& loop : read_loops()) {
    if (!loop.backing_file.starts_with(directory)) continue;
    const std::string name = loop.backing_file.substr(directory.size());
    const auto copy = SnapshotId::parse(name.substr(0, name.find('.')));
    if (!copy) continue;
    const auto targets = mount_points_of(loop.device);
    if (!targets.empty()) all.emplace(*copy, targets.front());
  }
  return all;
}

Result<rpc::MountedSnapshot> CopyMounts::mount(const rpc::MountSnapshot& request,
                                               const std::shared_ptr<block::Device>& copy) {
  const std::string name = "copy " + request.snapshot_id.to_string();
  if (!request.directory.empty() && request.directory.front() != '/') {
    return fail(Errc::invalid_argument,
                "the directory must be an absolute path: " + printable(request.directory));
  }
  drop_unused_overlays();
  const auto facts = look_at_copy(*copy);
  if (!facts) return fail(facts.error(), name);
  const std::string kind = overlay_for(request, *facts);
  const std::string file = file_of(request.snapshot_id) + kind;
  for (const Mounted& one : mounted(request.snapshot_id)) {
    if (one.targets.empty()) continue;
    const std::string& there = one.targets.front();
    if (one.file == file && (request.directory.empty() || request.directory == there)) {
      return rpc::MountedSnapshot{there, one.device_path, {}};
    }
    return fail(Errc::volume_in_use, name + " is mounted at " + printable(there) +
                                         " already; unmount it to mount it elsewhere or in "
                                         "another way");
  }
  const std::string file_name = request.snapshot_id.to_string() + kind;
  if (!kind.empty()) {
    const bool new_identity = facts->file_system == FileSystem::btrfs;
    const Status made = make_overlay(file_name, copy, new_identity);
    if (!made) return fail(made.error(), name);
  }
  auto reply = mount_file(file, request);
  if (!reply) {
    if (!kind.empty()) drop_overlay(file_name, true);
    return fail(reply.error(), name);
  }
  const bool replayed = request.recover || request.write;
  if (facts->journal_in_use && !replayed) {
    reply->notes.push_back(journal_note(facts->file_system));
  }
  log_.info("copy mounted", {{"snapshot", request.snapshot_id.to_string()},
                             {"path", reply->path},
                             {"manner", manner_of(request)}});
  return reply;
}

Result<rpc::MountedSnapshot> CopyMounts::mount_file(const std::string& file,
                                                    const rpc::MountSnapshot& request) {
  const bool ours = request.directory.empty();
  rpc::MountedSnapshot reply;
  reply.path = ours ? own_mount_point(request.snapshot_id) : request.directory;
  if (ours && ::mkdir(reply.path.c_str(), 0755) != 0 && errno != EEXIST) {
    return fail(Errc::io_error, reply.path + ": " + std::generic_category().message(errno));
  }
  auto device = run_helper({"mount", file, reply.path, manner_of(request)});
  if (!device) {
    if (ours) (void)::rmdir(reply.path.c_str());
    return fail(device.error());
  }
  reply.device_path = std::move(*device);
  return reply;
}

Status CopyMounts::unmount(const SnapshotId& snapshot) {
  const std::string name = "copy " + snapshot.to_string();
  if (targets(snapshot).empty()) {
    (void)end(snapshot, false);  // What somebody's own umount left.
    return fail(Errc::bad_state, name + " is not mounted");
  }
  if (const Status unmounted = end(snapshot, false); !unmounted) {
    return fail(unmounted.error(), name);
  }
  log_.info("copy unmounted", {{"snapshot", snapshot.to_string()}});
  return {};
}

Status CopyMounts::end(const SnapshotId& snapshot, bool lazily) {
  for (Mounted& one : mounted(snapshot)) {
    std::reverse(one.targets.begin(), one.targets.end());
    for (const std::string& target : one.targets) {
      auto done = run_helper({"unmount", target, one.file});
      if (!done && lazily) done = run_helper({"detach-mount", target});
      if (!done) return fail(done.error());
      if (is_own(target)) (void)::rmdir(target.c_str());
    }
    const auto detached = run_helper({"detach-loop", one.file, "0"});
    if (!detached && !lazily) return fail(detached.error());
  }
  for (const char* kind : {kView, kRecovered, kWritable}) {
    drop_overlay(snapshot.to_string() + kind, lazily);
  }
  drop_unused_overlays();
  return {};
}

// --- overlays -----------------------------------------------------------------------------------

bool CopyMounts::is_overlay(std::string_view kept_name) {
  return kept_name.starts_with(kKeptOverlay);
}

SnapshotId CopyMounts::copy_of(std::string_view kept_name) {
  if (!is_overlay(kept_name)) return {};
  kept_name.remove_prefix(kKeptOverlay.size());
  return SnapshotId::parse(kept_name.substr(0, kept_name.find('.'))).value_or(SnapshotId{});
}

bool CopyMounts::has_overlay(std::string_view file_name) const {
  const std::lock_guard lock(mutex_);
  return overlays_.find(file_name) != overlays_.end();
}

Status CopyMounts::serve(const std::string& name, std::shared_ptr<block::Device> overlay) {
  const Status added = session_->add(name, overlay, {.mode = 0600});
  if (!added) return fail(added.error());
  const std::lock_guard lock(mutex_);
  overlays_[name] = std::move(overlay);
  return {};
}

Status CopyMounts::make_overlay(const std::string& name, const std::shared_ptr<block::Device>& copy,
                                bool new_identity) {
  drop_overlay(name, true);  // It has no loop device, or its mount would have been found.
  auto file = CopyOverlay::make_file(options_.state_dir);
  if (!file) return fail(file.error());
  auto overlay = CopyOverlay::open({.copy = copy, .file = std::move(*file)});
  if (!overlay) return fail(overlay.error());
  if (new_identity) {
    // Before anybody sees it: whoever scans it would take it for a device of the live volume.
    const Status given = give_btrfs_identity(**overlay, Guid::random());
    if (!given) return fail(given.error());
  }
  const int descriptor = (*overlay)->descriptor();
  if (const Status served = serve(name, std::move(*overlay)); !served) return fail(served.error());
  if (options_.guardian == nullptr) return {};
  const Status kept = options_.guardian->keep(std::string(kKeptOverlay) + name, descriptor, {});
  if (kept) return {};
  drop_overlay(name, true);
  return fail(kept.error(), "keeping the overlay");
}

void CopyMounts::serve_kept(guardian::KeptDescriptor kept,
                            const std::shared_ptr<block::Device>& copy) {
  const std::string name = kept.name.substr(kKeptOverlay.size());
  auto overlay = CopyOverlay::open({.copy = copy, .file = std::move(kept.fd)});
  const Status served = overlay ? serve(name, std::move(*overlay)) : fail(overlay.error());
  if (served) return;
  log_.error("a mount of a copy is dead: what was written to it cannot be had",
             {{"file", name}, {"reason", served.error().context}});
}

// A loop device that was detached lets go of its file a little later.
void CopyMounts::drop_overlay(const std::string& name, bool force) {
  if (!has_overlay(name)) return;
  Status removed;
  (void)wait_until(kReleaseLimit, [&] {
    removed = session_->remove(name, false);
    return removed || removed.error().code != Errc::volume_in_use;
  });
  if (!removed && force) removed = session_->remove(name, true);
  if (!removed) {
    log_.warning("an overlay stays", {{"file", name}, {"reason", removed.error().context}});
    return;
  }
  if (options_.guardian != nullptr) {
    (void)options_.guardian->drop(std::string(kKeptOverlay) + name);
  }
  const std::lock_guard lock(mutex_);
  overlays_.erase(name);
}

// Those whose mount somebody unmounted by hand.
void CopyMounts::drop_unused_overlays() {
  std::vector<std::string> unused;
  const std::vector<LoopEntry> loops = read_loops();
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [name, device] : overlays_) {
      const std::string file = options_.run_dir + kCopies + name;
      const bool used = std::any_of(loops.begin(), loops.end(), [&](const LoopEntry& loop) {
        return loop.backing_file == file;
      });
      if (!used) unused.push_back(name);
    }
  }
  for (const std::string& name : unused) drop_overlay(name, true);
}

void CopyMounts::close() {
  std::map<std::string, std::shared_ptr<block::Device>, std::less<>> overlays;
  {
    const std::lock_guard lock(mutex_);
    overlays = overlays_;
  }
  for (const auto& [name, device] : overlays) drop_overlay(name, true);
  session_ = nullptr;
}

}  // namespace umbra::cowd
