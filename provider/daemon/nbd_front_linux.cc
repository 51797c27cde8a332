// SPDX-License-Identifier: Apache-2.0
#include "provider/daemon/nbd_front_linux.h"

#include <unistd.h>

#include <set>
#include <utility>

#include "provider/daemon/helper_linux.h"
#include "provider/daemon/system_view_linux.h"

namespace umbra::cowd {
namespace {

std::string kept_name(const VolumeId& volume) { return kKeptNbdVolume + volume.to_string(); }

}  // namespace

NbdFront::NbdFront(std::string run_dir, guardian::GuardianClient* guardian, Log& log)
    : run_dir_(std::move(run_dir)), guardian_(guardian), sink_(log), log_(log, "nbd") {}

std::string NbdFront::identifier(const VolumeId& volume) const {
  return nbd_device::identifier_for(run_dir_, volume);
}

void NbdFront::begin(std::map<std::string, guardian::KeptDescriptor> kept, bool load) {
  {
    const std::lock_guard lock(mutex_);
    kept_ = std::move(kept);
  }
  if (::geteuid() != 0) {
    why_not_ = "umbra-cowd does not run as root";
    return;
  }
  Status found = nbd_device::find_client();
  if (!found && load) {
    (void)run_helper({"load-module", "nbd"});
    found = nbd_device::find_client();
  }
  why_not_ = found ? std::string() : found.error().context;
  take_dead_apart();
}

bool NbdFront::keeps(const VolumeId& volume) const {
  const std::lock_guard lock(mutex_);
  return kept_.contains(kept_name(volume));
}

nbd_device::Owner NbdFront::owner_of(const VolumeId& volume) const {
  nbd_device::Owner owner;
  owner.identifier = identifier(volume);
  owner.keep = [this, volume, text = owner.identifier](std::uint32_t id, int server_end) {
    if (guardian_ == nullptr) return;
    const Status kept =
        guardian_->keep(kept_name(volume), server_end, nbd_device::to_text({id, text}));
    if (!kept) {
      log_.error("a device is not kept: it would not survive a crash of umbra-cowd",
                 {{"device", nbd_device::block_path(id)}, {"reason", kept.error().context}});
    }
  };
  return owner;
}

void NbdFront::drop(const std::string& name) {
  if (guardian_ != nullptr) (void)guardian_->drop(name);
}

void NbdFront::remove(std::uint32_t id, const std::string& identifier) {
  const auto removed = run_helper({"remove-nbd", std::to_string(id), identifier});
  if (!removed) {
    log_.error("a dead device stays",
               {{"device", nbd_device::block_path(id)}, {"reason", removed.error().context}});
  }
}

void NbdFront::finish_start() {
  std::map<std::string, guardian::KeptDescriptor> left;
  {
    const std::lock_guard lock(mutex_);
    left.swap(kept_);
  }
  for (const auto& [name, descriptor] : left) {
    log_.error("a device of the last process has no volume any more; it is ended",
               {{"kept", name}});
    drop(name);
  }
  left.clear();  // The last descriptors: ending the devices waits for nobody.
  take_dead_apart();
}

// Ours by the identifier, and neither served nor to be served.
void NbdFront::take_dead_apart() {
  std::set<std::uint32_t> alive;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [name, descriptor] : kept_) {
      if (const auto state = nbd_device::parse_state(descriptor.payload)) alive.insert(state->id);
    }
    for (const auto& [volume, device] : devices_) alive.insert(device->id());
  }
  for (const nbd_device::Found& found : nbd_device::list()) {
    if (!nbd_device::volume_of(found.identifier, run_dir_) || alive.contains(found.id)) continue;
    const std::string path = nbd_device::block_path(found.id);
    if (const auto number = block_device_at(path)) {
      for (const std::string& target : mount_points_of(*number)) {
        log_.error("a file system is mounted from a device that has died; unmount it",
                   {{"path", target}, {"device", path}});
      }
    }
    log_.warning("ending a dead NBD device", {{"device", path}});
    remove(found.id, found.identifier);
  }
}

Result<std::unique_ptr<nbd_device::Device>> NbdFront::take_over(
    const VolumeId& volume, const std::shared_ptr<block::Device>& device) {
  std::map<std::string, guardian::KeptDescriptor>::node_type kept;
  {
    const std::lock_guard lock(mutex_);
    kept = kept_.extract(kept_name(volume));
  }
  if (kept.empty()) return nullptr;
  const guardian::KeptDescriptor& former = kept.mapped();
  auto taken = nbd_device::Device::take_over(owner_of(volume), {former.payload, former.fd.get()},
                                             device, sink_);
  if (taken) {
    log_.info("device taken over", {{"device", nbd_device::block_path((*taken)->id())}});
    return taken;
  }
  log_.error("a device cannot be taken over: its users get errors, the volume gets a new one",
             {{"kept", former.name}, {"reason", taken.error().context}});
  drop(former.name);  // The device itself is ended when all volumes are there.
  return nullptr;
}

Result<std::unique_ptr<nbd_device::Device>> NbdFront::make(
    const VolumeId& volume, const std::shared_ptr<block::Device>& device) {
  auto made = nbd_device::Device::create(owner_of(volume), device, sink_);
  if (!made) return made;
  const std::uint32_t id = (*made)->id();
  const auto set = run_helper(
      {"nbd-ask-again", std::to_string(id), std::to_string(nbd_device::kAskAgain.count())});
  if (set) return made;
  give_up(volume, *made);
  return fail(set.error());
}

Result<Exposed> NbdFront::serve(const VolumeId& volume,
                                const std::shared_ptr<block::Device>& device) {
  auto served = take_over(volume, device);
  if (served && *served == nullptr) served = make(volume, device);
  if (!served) return fail(served.error());
  const std::uint32_t id = (*served)->id();
  Exposed exposed;
  exposed.device_path = nbd_device::block_path(id);
  const auto number = block_device_at(exposed.device_path);
  if (!number) {
    give_up(volume, *served);
    return fail(Errc::io_error, "there is no " + exposed.device_path);
  }
  exposed.device = *number;
  const std::lock_guard lock(mutex_);
  devices_[volume] = std::move(*served);
  return exposed;
}

Status NbdFront::conceal(const VolumeId& volume) {
  std::uint32_t id = 0;
  {
    const std::lock_guard lock(mutex_);
    const auto found = devices_.find(volume);
    if (found == devices_.end()) return {};
    id = found->second->id();
  }
  // We go on serving: its former users' writes are flushed.
  const auto stopped = run_helper({"stop-nbd", std::to_string(id), identifier(volume)});
  if (!stopped) return fail(stopped.error());
  end(volume);
  return {};
}

void NbdFront::end(const VolumeId& volume) {
  std::map<VolumeId, std::unique_ptr<nbd_device::Device>>::node_type device;
  {
    const std::lock_guard lock(mutex_);
    device = devices_.extract(volume);
  }
  if (device.empty()) return;
  give_up(volume, device.mapped());
}

void NbdFront::give_up(const VolumeId& volume, std::unique_ptr<nbd_device::Device>& device) {
  const std::uint32_t id = device->id();
  device.reset();
  drop(kept_name(volume));
  remove(id, identifier(volume));
}

}  // namespace umbra::cowd
