// SPDX-License-Identifier: Apache-2.0
//
// Live volumes as devices of the kernel's NBD client, over the lives of umbra-cowd.
//
// What outlives this process: the kernel keeps each device, the guardian its number and our end of
// the connection, under the name "nbd/volumes/ID". A device that nobody keeps, but whose identifier
// names this run directory, is left of a crash of both: take_dead_apart() ends it. Others' devices
// are not touched.
//
// Nothing here opens a block device, or does to it what may wait for it; see helper_linux.h.

#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "engine/platform/log.h"
#include "provider/daemon/ports.h"
#include "provider/frontend/nbd_device/device.h"
#include "provider/guardian/client.h"

namespace umbra::cowd {

inline constexpr const char* kKeptNbd = "nbd/";
inline constexpr const char* kKeptNbdVolume = "nbd/volumes/";  // And the volume's id.

/// Threads: one call at a time, except keeps() and why_not() after begin().
class NbdFront {
 public:
  /// All outlive the object; no guardian: devices do not survive.
  NbdFront(std::string run_dir, guardian::GuardianClient* guardian, Log& log);

  /// First of all. `kept`: what the guardian has whose names start with kKeptNbd. `load`: the
  /// kernel is asked for the module, which brings a row of unused devices.
  void begin(std::map<std::string, guardian::KeptDescriptor> kept, bool load);
  /// Whatever nobody took over is ended, in use or not.
  void finish_start();

  /// Why no devices can be made, or nothing.
  [[nodiscard]] const std::string& why_not() const noexcept { return why_not_; }
  [[nodiscard]] bool keeps(const VolumeId& volume) const;

  /// The device that is kept for this volume, or a new one: also where the kept one cannot be taken
  /// over, whose users get errors. On failure there is none. Blocks: seconds. Errors: those of
  /// nbd_device::Device.
  [[nodiscard]] Result<Exposed> serve(const VolumeId& volume,
                                      const std::shared_ptr<block::Device>& device);
  /// Takes it away; one that is not served is no error. Blocks: up to kHelperLimit. Errors:
  /// volume_in_use (served as before); io_error.
  [[nodiscard]] Status conceal(const VolumeId& volume);
  /// The same from whoever uses it.
  void end(const VolumeId& volume);

 private:
  [[nodiscard]] std::string identifier(const VolumeId& volume) const;
  [[nodiscard]] Result<std::unique_ptr<nbd_device::Device>> take_over(
      const VolumeId& volume, const std::shared_ptr<block::Device>& device);
  [[nodiscard]] Result<std::unique_ptr<nbd_device::Device>> make(
      const VolumeId& volume, const std::shared_ptr<block::Device>& device);
  [[nodiscard]] nbd_device::Owner owner_of(const VolumeId& volume) const;
  void drop(const std::string& name);
  void remove(std::uint32_t id, const std::string& identifier);
  void give_up(const VolumeId& volume, std::unique_ptr<nbd_device::Device>& device);
  void take_dead_apart();

  const std::string run_dir_;
  guardian::GuardianClient* const guardian_;
  Log& sink_;
  Logger log_;
  std::string why_not_ = "the kernel's NBD client was not looked for";
  mutable std::mutex mutex_;  // Guards what follows; not held while anything blocks.
  std::map<std::string, guardian::KeptDescriptor> kept_;  // Not taken over yet.
  std::map<VolumeId, std::unique_ptr<nbd_device::Device>> devices_;
};

}  // namespace umbra::cowd
