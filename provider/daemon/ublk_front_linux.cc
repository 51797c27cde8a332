// SPDX-License-Identifier: Apache-2.0
#include "provider/daemon/ublk_front_linux.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <set>
#include <system_error>
#include <utility>

#include "provider/daemon/helper_linux.h"
#include "provider/daemon/system_view_linux.h"

namespace umbra::cowd {
namespace {

std::string kept_name(const VolumeId& volume) { return kKeptUblkVolume + volume.to_string(); }

}  // namespace

UblkFront::UblkFront(std::string run_dir, guardian::GuardianClient* guardian, Log& log)
    : mark_(ublk::owner_mark(run_dir)), guardian_(guardian), sink_(log), log_(log, "ublk") {}

void UblkFront::begin(std::map<std::string, guardian::KeptDescriptor> kept) {
  {
    const std::lock_guard lock(mutex_);
    kept_ = std::move(kept);
  }
  if (::geteuid() != 0) {
    why_not_ = "umbra-cowd does not run as root";
    return;
  }
  auto control = ublk::Control::open();
  if (!control && control.error().code == Errc::missing_kernel_feature) {
    (void)run_helper(
        {"load-module", "ublk_drv"});  // Many kernels have it as a module that nobody asks for.
    control = ublk::Control::open();
  }
  if (!control) {
    why_not_ = control.error().context;
    return;
  }
  control_.emplace(std::move(*control));
  // A kernel that does not tell its features (before 6.5) says it of the first device.
  const ublk::Offer& offer = control_->offer();
  why_not_ = offer.features != 0 ? ublk::why_no_recovery(offer.features) : std::string();
  take_dead_apart();
}

bool UblkFront::keeps(const VolumeId& volume) const {
  const std::lock_guard lock(mutex_);
  return kept_.contains(kept_name(volume));
}

bool UblkFront::serves(const VolumeId& volume) const {
  const std::lock_guard lock(mutex_);
  return devices_.contains(volume);
}

void UblkFront::keep(const std::string& name, std::uint32_t id) {
  if (guardian_ == nullptr) return;
  const Status kept = guardian_->keep(name, control_->descriptor(), ublk::saved_state(id));
  if (!kept) {
    log_.error("a device is not kept: it would not survive a crash of umbra-cowd",
               {{"device", ublk::block_path(id)}, {"reason", kept.error().context}});
  }
}

void UblkFront::drop(const std::string& name) {
  if (guardian_ != nullptr) (void)guardian_->drop(name);
}

void UblkFront::remove(std::uint32_t id) {
  const auto removed = run_helper({"remove-ublk", std::to_string(id)});
  if (!removed && removed.error().code != Errc::object_not_found) {
    log_.error("a dead device stays",
               {{"device", ublk::block_path(id)}, {"reason", removed.error().context}});
  }
}

void UblkFront::finish_start() {
  std::map<std::string, guardian::KeptDescriptor> left;
  {
    const std::lock_guard lock(mutex_);
    left.swap(kept_);
  }
  for (const auto& [name, descriptor] : left) {
    log_.error("a device of the last process has no volume any more; it is removed",
               {{"kept", name}});
    drop(name);
  }
  take_dead_apart();
}

// Ours by the mark, and neither served nor to be served.
void UblkFront::take_dead_apart() {
  if (!control_) return;
  std::set<std::uint32_t> alive;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [name, descriptor] : kept_) {
      if (const auto id = ublk::parse_state(descriptor.payload)) alive.insert(*id);
    }
    for (const auto& [volume, device] : devices_) alive.insert(device->id());
  }
  for (const std::uint32_t id : control_->list()) {
    const auto info = control_->info(id);
    if (!info || info->mark != mark_ || alive.contains(id)) continue;
    if (const auto number = block_device_at(ublk::block_path(id))) {
      for (const std::string& target : mount_points_of(*number)) {
        log_.error("a file system is mounted from a device that has died; unmount it",
                   {{"path", target}, {"device", ublk::block_path(id)}});
      }
    }
    log_.warning("removing a dead ublk device", {{"device", ublk::block_path(id)}});
    remove(id);
  }
}

Result<std::unique_ptr<ublk::Device>> UblkFront::open(const VolumeId& volume,
                                                      std::shared_ptr<block::Device> device,
                                                      bool& taken_over) {
  std::map<std::string, guardian::KeptDescriptor>::node_type kept;
  {
    const std::lock_guard lock(mutex_);
    kept = kept_.extract(kept_name(volume));
  }
  taken_over = !kept.empty();
  if (!taken_over) return ublk::Device::create(*control_, mark_, std::move(device), sink_);
  return ublk::Device::take_over(*control_, mark_, kept.mapped().payload, std::move(device), sink_);
}

Result<Exposed> UblkFront::serve(const VolumeId& volume, std::shared_ptr<block::Device> device) {
  if (!control_) return fail(Errc::missing_kernel_feature, why_not_);
  const std::string name = kept_name(volume);
  bool taken_over = false;
  auto opened = open(volume, device, taken_over);
  const std::uint32_t id = opened ? (*opened)->id() : 0;
  const auto give_up = [&] {
    opened->reset();
    drop(name);
    remove(id);
  };
  Status started = opened ? (*opened)->start() : fail(opened.error());
  if (!started) {
    if (opened) give_up();
    if (!taken_over) return fail(started.error());
    log_.error("a device cannot be taken over: its users get errors, the volume gets a new one",
               {{"kept", name}, {"reason", started.error().context}});
    drop(name);  // What it was is found by its mark, when all volumes are there.
    return serve(volume, std::move(device));
  }
  Exposed exposed;
  exposed.device_path = ublk::block_path(id);
  struct stat status {};
  if (::stat(exposed.device_path.c_str(), &status) != 0) {
    const int error = errno;
    give_up();
    return fail(Errc::io_error,
                exposed.device_path + ": " + std::generic_category().message(error));
  }
  exposed.device = status.st_rdev;
  keep(name, id);
  if (taken_over) log_.info("device taken over", {{"device", exposed.device_path}});
  const std::lock_guard lock(mutex_);
  devices_[volume] = std::move(*opened);
  return exposed;
}

Status UblkFront::conceal(const VolumeId& volume) {
  std::uint32_t id = 0;
  {
    const std::lock_guard lock(mutex_);
    const auto found = devices_.find(volume);
    if (found == devices_.end()) return {};
    id = found->second->id();
  }
  // We go on serving: its former users' writes are flushed.
  if (const auto stopped = run_helper({"stop-ublk", std::to_string(id)}); !stopped) {
    return fail(stopped.error());
  }
  end(volume);
  return {};
}

void UblkFront::end(const VolumeId& volume) {
  std::map<VolumeId, std::unique_ptr<ublk::Device>>::node_type device;
  {
    const std::lock_guard lock(mutex_);
    device = devices_.extract(volume);
  }
  if (device.empty()) return;
  const std::uint32_t id = device.mapped()->id();
  device.mapped().reset();
  drop(kept_name(volume));
  remove(id);
}

}  // namespace umbra::cowd
