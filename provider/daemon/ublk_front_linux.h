// SPDX-License-Identifier: Apache-2.0
//
// Live volumes as ublk devices, over the lives of umbra-cowd.
//
// What outlives this process: the kernel keeps each device, the guardian its number (beside a
// descriptor of /dev/ublk-control, with which it stops the devices if it gives up), under the name
// "ublk/volumes/ID". A device that nobody keeps, but that carries the mark of this run directory,
// is left of a crash of both: take_dead_apart() removes it. Others' devices are not touched.
//
// Nothing here opens a block device; see helper_linux.h.

#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "engine/platform/log.h"
#include "provider/daemon/ports.h"
#include "provider/frontend/ublk/device.h"
#include "provider/guardian/client.h"

namespace umbra::cowd {

inline constexpr const char* kKeptUblk = "ublk/";
inline constexpr const char* kKeptUblkVolume = "ublk/volumes/";  // And the volume's id.

/// Threads: one call at a time, except kept() and offer text after begin().
class UblkFront {
 public:
  /// All outlive the object; no guardian: devices do not survive.
  UblkFront(std::string run_dir, guardian::GuardianClient* guardian, Log& log);

  /// First of all. `kept`: what the guardian has whose names start with kKeptUblk.
  void begin(std::map<std::string, guardian::KeptDescriptor> kept);
  /// Whatever nobody took over is removed, in use or not; then what is dead.
  void finish_start();

  /// Why no devices can be made, or nothing.
  [[nodiscard]] const std::string& why_not() const noexcept { return why_not_; }
  [[nodiscard]] bool keeps(const VolumeId& volume) const;

  /// The device that is kept for this volume, or a new one: also where the kept one cannot be taken
  /// over, whose users get errors. On failure there is none. Blocks: seconds. Errors: those of
  /// ublk::Device.
  [[nodiscard]] Result<Exposed> serve(const VolumeId& volume,
                                      std::shared_ptr<block::Device> device);
  [[nodiscard]] bool serves(const VolumeId& volume) const;
  /// Takes it away. Blocks: up to kHelperLimit. Errors: volume_in_use (served as before); io_error.
  [[nodiscard]] Status conceal(const VolumeId& volume);
  /// The same from whoever uses it.
  void end(const VolumeId& volume);

 private:
  void take_dead_apart();
  void keep(const std::string& name, std::uint32_t id);
  void drop(const std::string& name);
  void remove(std::uint32_t id);
  [[nodiscard]] Result<std::unique_ptr<ublk::Device>> open(const VolumeId& volume,
                                                           std::shared_ptr<block::Device> device,
                                                           bool& taken_over);

  const std::uint64_t mark_;
  guardian::GuardianClient* const guardian_;
  Log& sink_;
  Logger log_;
  std::optional<ublk::Control> control_;
  std::string why_not_ = "ublk was not looked for";
  mutable std::mutex mutex_;  // Guards what follows; not held while anything blocks.
  std::map<std::string, guardian::KeptDescriptor> kept_;  // Not taken over yet.
  std::map<VolumeId, std::unique_ptr<ublk::Device>> devices_;
};

}  // namespace umbra::cowd
