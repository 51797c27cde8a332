// SPDX-License-Identifier: Apache-2.0
#include "provider/daemon/front_ends_linux.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <set>
#include <system_error>
#include <utility>

#include "engine/platform/fuse_session.h"
#include "engine/platform/run_dir.h"
#include "engine/platform/unique_fd.h"
#include "provider/daemon/helper_linux.h"
#include "provider/daemon/leftovers_linux.h"
#include "provider/daemon/patience.h"
#include "provider/daemon/system_view_linux.h"

namespace umbra::cowd {
namespace {

constexpr std::chrono::seconds kReleaseLimit{2};
// A client that has just closed its connection is counted until the server has seen the end of it.
constexpr std::chrono::milliseconds kGoodbyeLimit{500};
constexpr const char* kKeptCopies = "fuse/snapshots";
constexpr const char* kKeptVolume = "fuse/volumes/";  // And the volume's id.

bool starts_with(const std::string& text, const std::string& start) {
  return text.compare(0, start.size(), start) == 0;
}

std::string clients(std::size_t count) {
  return "open by " + std::to_string(count) + (count == 1 ? " NBD client" : " NBD clients");
}

std::vector<std::string> mounted(const std::vector<std::string>& targets) {
  std::vector<std::string> facts;
  for (const std::string& target : targets) facts.push_back("mounted at " + printable(target));
  return facts;
}

// For the helper: finds the loop device although somebody has unmounted what it lies on.
std::string number_of(const fuse::Session& session) {
  return std::to_string(fuse_session_number(session.descriptor()));
}

// Runs what was pushed, newest first, unless dismissed.
struct Rollback {
  std::vector<std::function<void()>> steps;
  Rollback() = default;
  Rollback(const Rollback&) = delete;
  Rollback& operator=(const Rollback&) = delete;
  ~Rollback() {
    for (; !steps.empty(); steps.pop_back()) steps.back()();
  }
};

std::string missing_for_block_devices() {
  if (::geteuid() != 0) return "umbra-cowd does not run as root";
  for (const char* path : {"/dev/fuse", "/dev/loop-control"}) {
    if (::access(path, R_OK | W_OK) != 0) return "there is no usable " + std::string(path);
  }
  return {};
}

}  // namespace

SystemFrontEnds::SystemFrontEnds(const Options& options)
    : options_(options),
      log_(*options.log, "frontend"),
      mounts_({options.run_dir, options.state_dir, options.guardian, options.log}),
      names_(options.run_dir),
      ublk_(options.run_dir, options.guardian, *options.log),
      nbd_(options.run_dir, options.guardian, *options.log) {}

SystemFrontEnds::~SystemFrontEnds() { shut_down(); }

std::string SystemFrontEnds::volume_file(const VolumeId& volume) const {
  return options_.run_dir + "/fuse/volumes/" + volume.to_string();
}

// --- start and end ------------------------------------------------------------------------------

Status SystemFrontEnds::begin() {
  KeptDevices kept = fetch_kept();
  ublk_.begin(std::move(kept.ublk));
  take_dead_apart();
  const Status fuse = begin_fuse();
  const bool has_others = ublk_.why_not().empty() || no_block_device_.empty();
  nbd_.begin(std::move(kept.nbd), !has_others);
  return fuse;
}

Status SystemFrontEnds::begin_fuse() {
  no_block_device_ = missing_for_block_devices();
  if (!no_block_device_.empty()) return {};
  if (const Status made = make_directories(); !made) return fail(made.error());
  if (const Status opened = open_copies(); !opened) {
    copies_.reset();
    no_block_device_ = opened.error().context;
    log_.warning("no block devices can be made", {{"reason", no_block_device_}});
  }
  return {};
}

Status SystemFrontEnds::make_directories() const {
  for (const char* name : {"/fuse", "/fuse/volumes", "/mnt"}) {
    const std::string directory = options_.run_dir + name;
    if (::mkdir(directory.c_str(), 0755) != 0 && errno != EEXIST) {
      return fail(Errc::io_error,
                  "cannot make " + directory + ": " + std::generic_category().message(errno));
    }
  }
  const std::string copies = options_.run_dir + "/fuse/snapshots";
  // It may be a mount of ours that is alive: then it must not be looked at, only taken over.
  if (is_kept(copies) || ::mkdir(copies.c_str(), 0755) == 0 || errno == EEXIST) return {};
  return fail(Errc::io_error,
              "cannot make " + copies + ": " + std::generic_category().message(errno));
}

SystemFrontEnds::KeptDevices SystemFrontEnds::fetch_kept() {
  KeptDevices devices;
  if (options_.guardian == nullptr) return devices;
  auto kept = options_.guardian->kept();
  if (!kept) {
    log_.error("what the guardian keeps cannot be had", {{"reason", kept.error().context}});
    return devices;
  }
  for (auto& descriptor : *kept) {
    std::string name = descriptor.name;
    const bool ours = starts_with(name, "fuse/") || CopyMounts::is_overlay(name);
    if (ours) kept_.emplace(name, std::move(descriptor));
    if (starts_with(name, kKeptUblk)) devices.ublk.emplace(name, std::move(descriptor));
    if (starts_with(name, kKeptNbd)) devices.nbd.emplace(name, std::move(descriptor));
  }
  return devices;
}

// Kept names are the mount points, from the run directory.
bool SystemFrontEnds::is_kept(const std::string& mount_point) const {
  const std::string start = options_.run_dir + "/";
  return starts_with(mount_point, start) && kept_.count(mount_point.substr(start.size())) != 0;
}

// Whether nobody serves, or will serve, this file or mount of RUN/fuse.
bool SystemFrontEnds::is_dead(const std::string& file) const {
  const std::string top = options_.run_dir + "/fuse/";
  if (!starts_with(file, top) || is_kept(file)) return false;
  const std::string copies = top + "snapshots";
  const std::lock_guard lock(mutex_);
  if (file == copies) return copies_ == nullptr;
  const auto id = Guid::parse(file.substr(file.rfind('/') + 1));
  if (starts_with(file, copies + "/")) {
    if (!copies_started_) return !is_kept(copies) && copies_ == nullptr;
    if (mounts_.has_overlay(file.substr(copies.size() + 1))) return false;
    return !id || surfaced_.count(SnapshotId{*id}) == 0;
  }
  return !id || live_.count(VolumeId{*id}) == 0;
}

// FUSE mounts whose session nobody has, loop devices over them, and mounts of copies over those.
void SystemFrontEnds::take_dead_apart() {
  const auto dead = [&](const std::string& file) { return is_dead(file); };
  for (const Leftover& leftover : find_leftovers(options_.run_dir, dead)) {
    if (leftover.kind == Leftover::Kind::foreign_mount) {
      log_.error("a file system is mounted from a device that has died; unmount it",
                 {{"path", leftover.path}, {"device", leftover.device}});
      continue;
    }
    if (const Status removed = remove_leftover(leftover); !removed) {
      log_.error("what a dead umbra-cowd left could not be removed",
                 {{"path", leftover.path}, {"reason", removed.error().context}});
      continue;
    }
    log_.warning("removed what a dead umbra-cowd left",
                 {{"what", text_of(leftover.kind)}, {"path", leftover.path}});
  }
}

Result<std::unique_ptr<fuse::Session>> SystemFrontEnds::open_session(const std::string& kept_name,
                                                                     const std::string& mount_point,
                                                                     fuse::Shape shape,
                                                                     bool& taken_over) {
  const auto kept = kept_.find(kept_name);
  taken_over = kept != kept_.end();
  if (taken_over) {
    guardian::KeptDescriptor descriptor = std::move(kept->second);
    kept_.erase(kept);
    auto session =
        fuse::Session::take_over(std::move(descriptor.fd), descriptor.payload, *options_.log);
    if (!session) drop_kept(kept_name);
    return session;
  }
  fuse::SessionOptions options;
  options.mount_point = mount_point;
  options.shape = shape;
  return fuse::Session::create(options, *options_.log);
}

Status SystemFrontEnds::open_copies() {
  bool taken_over = false;
  auto session = open_session(kKeptCopies, options_.run_dir + "/fuse/snapshots",
                              fuse::Shape::directory, taken_over);
  if (!session) return fail(session.error());
  copies_ = std::move(*session);
  mounts_.use(*copies_);
  if (taken_over) return {};  // Started once every copy is there again.
  if (const Status started = copies_->start(); !started) return fail(started.error());
  copies_started_ = true;
  keep(kKeptCopies, *copies_);
  return {};
}

void SystemFrontEnds::keep(const std::string& name, const fuse::Session& session) {
  if (options_.guardian == nullptr) return;
  const Status kept = options_.guardian->keep(name, session.descriptor(), session.saved_state());
  if (!kept) {
    log_.error("a session is not kept: it would not survive a crash of umbra-cowd",
               {{"session", name}, {"reason", kept.error().context}});
  }
}

void SystemFrontEnds::drop_kept(const std::string& name) {
  if (options_.guardian != nullptr) (void)options_.guardian->drop(name);
}

void SystemFrontEnds::give_up(const std::string& kept_name) {
  log_.error("a session of the last process has no volume any more; it is ended",
             {{"session", kept_name}});
  drop_kept(kept_name);
  kept_.erase(kept_name);  // The last descriptor: the kernel aborts the session.
}

void SystemFrontEnds::finish_start() {
  take_over_overlays();
  if (copies_ && !copies_started_) {
    copies_started_ = true;
    if (const Status started = copies_->start(); !started) {
      log_.error("copies cannot be served", {{"reason", started.error().context}});
    } else {
      keep(kKeptCopies, *copies_);
    }
  }
  while (!kept_.empty()) give_up(kept_.begin()->first);
  forget_old_names();
  ublk_.finish_start();
  nbd_.finish_start();
  take_dead_apart();
}

void SystemFrontEnds::forget_old_names() {
  std::set<std::string> names;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [id, live] : live_) {
      if (!live.device_path.empty()) names.insert(live.name);
    }
  }
  names_.keep_only(names);
}

void SystemFrontEnds::end_copies() {
  std::map<SnapshotId, std::shared_ptr<block::Device>> copies;
  {
    const std::lock_guard lock(mutex_);
    copies.swap(surfaced_);
  }
  for (const auto& [id, device] : copies) {
    const Status unmounted = mounts_.end(id, true);
    if (!unmounted) {
      log_.warning("a copy stays mounted, but is dead",
                   {{"snapshot", id.to_string()}, {"reason", unmounted.error().context}});
    }
  }
  if (copies_) {
    mounts_.close();
    copies_.reset();
    drop_kept(kKeptCopies);
  }
}

void SystemFrontEnds::shut_down() {
  end_copies();
  std::map<VolumeId, Live> live;
  {
    const std::lock_guard lock(mutex_);
    live.swap(live_);
  }
  for (auto& [id, volume] : live) end_live(id, volume);
}

// --- live volumes -------------------------------------------------------------------------------

FrontEndOffer SystemFrontEnds::offer() const {
  return {ublk_.why_not(), no_block_device_, nbd_.why_not()};
}

std::optional<FrontEnd> SystemFrontEnds::kept(const VolumeId& volume) const {
  if (ublk_.keeps(volume)) return FrontEnd::ublk;
  if (nbd_.keeps(volume)) return FrontEnd::nbd;
  if (kept_.contains(kKeptVolume + volume.to_string())) return FrontEnd::fuse;
  return {};
}

Result<Exposed> SystemFrontEnds::expose(const VolumeId& volume, const std::string& name,
                                        std::shared_ptr<block::Device> device, FrontEnd front_end) {
  Live live;
  live.name = name;
  live.device = device;
  Exposed exposed;
  const Status added = options_.nbd->add(name, "live volume", device);
  if (!added) return fail(added.error(), "the NBD export " + name);
  Status made;
  if (front_end == FrontEnd::fuse) made = expose_fuse(volume, live, exposed);
  if (front_end == FrontEnd::ublk || front_end == FrontEnd::nbd) {
    auto served =
        front_end == FrontEnd::ublk ? ublk_.serve(volume, device) : nbd_.serve(volume, device);
    if (served) {
      exposed = std::move(*served);
    } else {
      made = fail(served.error());
    }
  }
  if (!made) {
    (void)options_.nbd->remove(name, true);
    return fail(made.error(), "making a block device");
  }
  exposed.nbd_uri = options_.nbd->uri(name);
  live.number = exposed.device;
  live.device_path = exposed.device_path;
  if (!live.device_path.empty()) {
    const Status named = names_.set(name, live.device_path);
    if (!named) log_.warning("a volume has no name", {{"reason", named.error().context}});
    // Only now udev's rules can tell what it is (device_role.h).
    if (front_end != FrontEnd::fuse) announce_device(live.number);
  }
  const std::lock_guard lock(mutex_);
  live_[volume] = std::move(live);
  return exposed;
}

Status SystemFrontEnds::expose_fuse(const VolumeId& volume, Live& live, Exposed& exposed) {
  const std::string file = volume_file(volume);
  const std::string kept_name = kKeptVolume + volume.to_string();
  Rollback rollback;
  if (kept_.count(kept_name) == 0) {
    const UniqueFd mount_point(::open(file.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    if (!mount_point) {
      return fail(Errc::io_error, file + ": " + std::generic_category().message(errno));
    }
  }
  rollback.steps.emplace_back([&] { (void)::unlink(file.c_str()); });
  bool taken_over = false;
  auto session = open_session(kept_name, file, fuse::Shape::one_file, taken_over);
  if (!session) return fail(session.error());
  live.session = std::move(*session);
  rollback.steps.emplace_back([&] {
    live.session.reset();
    drop_kept(kept_name);
  });
  const Status added = live.session->add("", live.device, {.mode = 0600});
  if (!added) return fail(added.error());
  if (const Status started = live.session->start(); !started) return fail(started.error());
  keep(kept_name, *live.session);
  const std::uint32_t block_bytes = std::max(512U, live.device->geometry().block_bytes);
  const std::string session_number = number_of(*live.session);
  rollback.steps.emplace_back([&] { (void)run_helper({"detach-loop", file, session_number}); });
  const auto path = run_helper({"attach-loop", file, std::to_string(block_bytes), session_number});
  if (!path) return fail(path.error());
  struct stat status {};
  if (::stat(path->c_str(), &status) != 0) {
    return fail(Errc::io_error, *path + ": " + std::generic_category().message(errno));
  }
  exposed.device_path = *path;
  exposed.device = status.st_rdev;
  rollback.steps.clear();
  return {};
}

std::vector<std::string> SystemFrontEnds::users(const VolumeId& volume) const {
  std::string name;
  std::uint64_t device = 0;
  {
    const std::lock_guard lock(mutex_);
    const auto found = live_.find(volume);
    if (found == live_.end()) return {};
    name = found->second.name;
    device = found->second.number;
  }
  std::vector<std::string> facts;
  if (device != 0) facts = mounted(mount_points_of(device));
  if (const std::size_t count = lasting_clients(name); count > 0) facts.push_back(clients(count));
  return facts;
}

Status SystemFrontEnds::conceal(const VolumeId& volume) {
  Live live;
  {
    const std::lock_guard lock(mutex_);
    const auto found = live_.find(volume);
    if (found == live_.end()) return {};
    live = std::move(found->second);
    live_.erase(found);
  }
  const auto put_back = [&] {
    const std::lock_guard lock(mutex_);
    live_[volume] = std::move(live);
  };
  if (const Status removed = options_.nbd->remove(live.name, false); !removed) {
    put_back();
    return fail(removed.error(), "the NBD export " + live.name);
  }
  Status detached = ublk_.conceal(volume);
  if (detached) detached = nbd_.conceal(volume);
  if (live.session) {
    const auto done = run_helper({"detach-loop", volume_file(volume), number_of(*live.session)});
    if (!done) detached = fail(done.error());
  }
  if (!detached) {
    const Status added = options_.nbd->add(live.name, "live volume", live.device);
    if (!added) log_.error("an NBD export was lost", {{"volume", live.name}});
    put_back();
    return fail(detached.error());
  }
  end_live(volume, live);
  return {};
}

void SystemFrontEnds::cut_off(const VolumeId& volume) {
  std::map<VolumeId, Live>::node_type live;
  {
    const std::lock_guard lock(mutex_);
    live = live_.extract(volume);
  }
  if (!live.empty()) end_live(volume, live.mapped());
}

// The kernel's device, or loop device, session and mount point; whoever uses them is cut off.
void SystemFrontEnds::end_live(const VolumeId& volume, Live& live) {
  (void)options_.nbd->remove(live.name, true);  // Gone already if it was concealed.
  names_.remove(live.name);
  ublk_.end(volume);
  nbd_.end(volume);
  if (!live.session) return;
  const std::string file = volume_file(volume);
  const auto cleared = run_helper({"clear-loop", file, number_of(*live.session)});
  if (!cleared) {
    log_.error("a loop device stays", {{"volume", live.name}, {"reason", cleared.error().context}});
  }
  live.session.reset();
  drop_kept(kKeptVolume + volume.to_string());
  (void)::unlink(file.c_str());
}

// --- copies -------------------------------------------------------------------------------------

std::shared_ptr<block::Device> SystemFrontEnds::surfaced(const SnapshotId& snapshot) const {
  const std::lock_guard lock(mutex_);
  const auto found = surfaced_.find(snapshot);
  return found != surfaced_.end() ? found->second : nullptr;
}

std::vector<std::string> SystemFrontEnds::users(const SnapshotId& snapshot) const {
  std::vector<std::string> facts = mounted(mounts_.targets(snapshot));
  const std::size_t count = lasting_clients(snapshot.to_string());
  if (count > 0) facts.push_back(clients(count));
  return facts;
}

std::size_t SystemFrontEnds::lasting_clients(const std::string& name) const {
  std::size_t count = 0;
  (void)wait_until(kGoodbyeLimit, [&] {
    count = options_.nbd->connection_count(name);
    return count == 0;
  });
  return count;
}

Result<contract::Surfaced> SystemFrontEnds::surface(const SnapshotId& snapshot,
                                                    std::shared_ptr<block::Device> device) {
  const std::string name = snapshot.to_string();
  const Status exported = options_.nbd->add(name, "copy", device);
  if (!exported) return fail(exported.error(), "the NBD export " + name);
  contract::Surfaced surfaced;
  surfaced.nbd_uri = options_.nbd->uri(name);
  if (copies_) {
    if (const Status added = copies_->add(name, device, {.mode = 0440}); !added) {
      (void)options_.nbd->remove(name, true);
      return fail(added.error(), "the file of copy " + name);
    }
    surfaced.device_object = mounts_.file_of(snapshot);
  }
  const std::lock_guard lock(mutex_);
  surfaced_[snapshot] = std::move(device);
  return surfaced;
}

Status SystemFrontEnds::withdraw(const SnapshotId& snapshot, bool force) {
  const std::lock_guard mounting(mounting_);
  std::shared_ptr<block::Device> device;
  {
    const std::lock_guard lock(mutex_);
    const auto found = surfaced_.find(snapshot);
    if (found == surfaced_.end()) return {};
    device = found->second;
  }
  const std::string name = snapshot.to_string();
  if (!force) {
    if (const auto who = users(snapshot); !who.empty()) {
      return fail(Errc::volume_in_use, "copy " + name + " is " + who.front());
    }
  }
  if (const Status unmounted = mounts_.end(snapshot, force); !unmounted && !force) {
    return fail(unmounted.error(), "copy " + name);
  }
  if (const Status removed = options_.nbd->remove(name, force); !removed) {
    return fail(removed.error(), "copy " + name);
  }
  if (copies_) {
    if (const Status removed = remove_file_of(name, force); !removed) {
      const Status added = options_.nbd->add(name, "copy", device);
      if (!added) log_.error("an NBD export was lost", {{"snapshot", name}});
      return fail(removed.error(), "copy " + name);
    }
  }
  const std::lock_guard lock(mutex_);
  surfaced_.erase(snapshot);
  return {};
}

// A loop device that was detached lets go of its file a little later.
Status SystemFrontEnds::remove_file_of(const std::string& name, bool force) {
  Status removed;
  (void)wait_until(kReleaseLimit, [&] {
    removed = copies_->remove(name, force);
    return removed || removed.error().code != Errc::volume_in_use;
  });
  return removed;
}

contract::Surfaces::MountPoints SystemFrontEnds::mount_points() const {
  return copies_ ? mounts_.all() : MountPoints{};
}

// Nobody serves them before all of them are there: the session of copies is not started yet.
void SystemFrontEnds::take_over_overlays() {
  for (auto kept = kept_.begin(); kept != kept_.end();) {
    const auto copy =
        CopyMounts::is_overlay(kept->first) ? surfaced(mounts_.copy_of(kept->first)) : nullptr;
    if (!copy || !copies_) {
      ++kept;
      continue;
    }
    mounts_.serve_kept(std::move(kept->second), copy);
    kept = kept_.erase(kept);
  }
}

Result<rpc::MountedSnapshot> SystemFrontEnds::mount_copy(const rpc::MountSnapshot& request) {
  const std::lock_guard mounting(mounting_);
  const std::string name = "copy " + request.snapshot_id.to_string();
  const auto copy = surfaced(request.snapshot_id);
  if (!copy) {
    return fail(Errc::object_not_found, "there is no " + name + " here; see umbra list shadows");
  }
  if (!copies_) {
    return fail(Errc::not_supported,
                name + " cannot be mounted: " + no_block_device_ + "; read it over NBD");
  }
  return mounts_.mount(request, copy);
}

Status SystemFrontEnds::unmount_copy(const SnapshotId& snapshot) {
  const std::lock_guard mounting(mounting_);
  if (!surfaced(snapshot)) {
    return fail(Errc::object_not_found,
                "there is no copy " + snapshot.to_string() + " here; see umbra list shadows");
  }
  return mounts_.unmount(snapshot);
}

}  // namespace umbra::cowd
