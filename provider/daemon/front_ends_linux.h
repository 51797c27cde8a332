// SPDX-License-Identifier: Apache-2.0
//
// What the system sees of volumes and copies, joined from the NBD server, ublk, the kernel's NBD
// client, FUSE and loop devices:
//
//   RUN/nbd.sock            NBD: live volumes by name, copies by id
//   /dev/ublkbN             a live volume by way of ublk (ublk_front_linux.h)
//   /dev/nbdN               or by way of the kernel's NBD client (nbd_front_linux.h)
//   RUN/fuse/volumes/ID     or as a file, a FUSE session of its own; /dev/loopN over it
//   RUN/fuse/snapshots/ID   a copy as a file; all in one session
//   RUN/dev/NAME            a link to the live volume's block device
//   RUN/mnt/ID              a copy mounted by mount_copy()
//
// The sessions survive this process: their descriptors are kept by the guardian, a successor takes
// them over under the same names, and loop devices and mounts above them see a pause. What no
// session is kept for (the guardian went as well, or gave up) is dead: begin() takes it apart.
//
// Nothing here waits inside a mount of ours; see helper_linux.h.

#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/platform/log.h"
#include "engine/rpc/messages.h"
#include "provider/contract/ports.h"
#include "provider/daemon/copy_mounts_linux.h"
#include "provider/daemon/device_names_posix.h"
#include "provider/daemon/nbd_front_linux.h"
#include "provider/daemon/ports.h"
#include "provider/daemon/ublk_front_linux.h"
#include "provider/frontend/fuse/session.h"
#include "provider/frontend/nbd/server.h"
#include "provider/guardian/client.h"

namespace umbra::cowd {

/// Threads: as FrontEnds and contract::Surfaces say; mounts one call at a time, done here.
class SystemFrontEnds final : public FrontEnds, public contract::Surfaces {
 public:
  struct Options {
    std::string run_dir;  // Real path, without links.
    std::string state_dir;
    nbd::Server* nbd = nullptr;
    guardian::GuardianClient* guardian = nullptr;  // Null: sessions do not survive.
    Log* log = nullptr;
  };
  /// What `options` points to outlives the object.
  explicit SystemFrontEnds(const Options& options);
  /// As shut_down().
  ~SystemFrontEnds() override;

  /// First of all: fetches what the guardian keeps, takes apart what is dead, makes or takes over
  /// the session of copies. Blocks: seconds. Without FUSE copies are reached over NBD only. Errors:
  /// io_error, access_denied (the directories).
  [[nodiscard]] Status begin();
  /// When everything recorded is attached and every copy surfaced: requests for copies that wait
  /// since the last process are answered now; what nobody took over is given up.
  void finish_start();
  /// Ends the copies, in use or not; unmounts them first. Nobody surfaces any more.
  void end_copies();
  /// Ends everything that is left, in use or not.
  void shut_down();

  // FrontEnds
  [[nodiscard]] FrontEndOffer offer() const override;
  [[nodiscard]] std::optional<FrontEnd> kept(const VolumeId& volume) const override;
  [[nodiscard]] Result<Exposed> expose(const VolumeId& volume, const std::string& name,
                                       std::shared_ptr<block::Device> device,
                                       FrontEnd front_end) override;
  [[nodiscard]] std::vector<std::string> users(const VolumeId& volume) const override;
  [[nodiscard]] std::vector<std::string> users(const SnapshotId& snapshot) const override;
  [[nodiscard]] Status conceal(const VolumeId& volume) override;
  void cut_off(const VolumeId& volume) override;

  /// Makes the live volume's block device ours as long as the answer lives: nobody can mount it, in
  /// whatever namespace, and the kernel's cache of it is empty now and at the end. `dismount`:
  /// unmounts it first, and disconnects its NBD clients. Blocks: up to kHelperLimit, the answer's
  /// end as well. What was unmounted before a failure stays so. Errors: volume_in_use (says who has
  /// it); io_error. Threads: any.
  [[nodiscard]] Result<std::shared_ptr<void>> claim(const VolumeId& volume, bool dismount);

  // contract::Surfaces
  [[nodiscard]] Result<contract::Surfaced> surface(const SnapshotId& snapshot,
                                                   std::shared_ptr<block::Device> device) override;
  [[nodiscard]] Status withdraw(const SnapshotId& snapshot, bool force) override;
  [[nodiscard]] MountPoints mount_points() const override;

  /// As CopyMounts::mount(). Errors also: object_not_found (no such copy); not_supported (no block
  /// devices here).
  [[nodiscard]] Result<rpc::MountedSnapshot> mount_copy(const rpc::MountSnapshot& request);
  /// As CopyMounts::unmount(). Errors also: object_not_found (no such copy).
  [[nodiscard]] Status unmount_copy(const SnapshotId& snapshot);

 private:
  struct Live {
    std::string name;
    std::shared_ptr<block::Device> device;
    std::unique_ptr<fuse::Session> session;  // Null: another front end.
    std::uint64_t number = 0;
    std::string device_path;  // Empty without a block device.
  };

  [[nodiscard]] std::string volume_file(const VolumeId& volume) const;
  [[nodiscard]] Status begin_fuse();
  [[nodiscard]] Status make_directories() const;
  struct KeptDevices {
    std::map<std::string, guardian::KeptDescriptor> ublk;
    std::map<std::string, guardian::KeptDescriptor> nbd;
  };
  [[nodiscard]] KeptDevices fetch_kept();
  [[nodiscard]] bool is_kept(const std::string& mount_point) const;
  [[nodiscard]] bool is_dead(const std::string& file) const;
  void take_dead_apart();
  void give_up(const std::string& kept_name);
  [[nodiscard]] Result<std::unique_ptr<fuse::Session>> open_session(const std::string& kept_name,
                                                                    const std::string& mount_point,
                                                                    fuse::Shape shape,
                                                                    bool& taken_over);
  [[nodiscard]] Status open_copies();
  void keep(const std::string& name, const fuse::Session& session);
  void drop_kept(const std::string& name);
  [[nodiscard]] Status expose_fuse(const VolumeId& volume, Live& live, Exposed& exposed);
  /// Null: not surfaced.
  [[nodiscard]] std::shared_ptr<block::Device> surfaced(const SnapshotId& snapshot) const;
  void take_over_overlays();
  void forget_old_names();
  [[nodiscard]] std::size_t lasting_clients(const std::string& name) const;
  [[nodiscard]] Status remove_file_of(const std::string& name, bool force);
  void end_live(const VolumeId& volume, Live& live);
  [[nodiscard]] Status dismount(const std::string& name,
                                const std::shared_ptr<block::Device>& device, std::uint64_t number);

  Options options_;
  Logger log_;
  CopyMounts mounts_;
  DeviceNames names_;
  UblkFront ublk_;
  NbdFront nbd_;
  std::string no_block_device_;                           // By way of FUSE; set by begin().
  std::map<std::string, guardian::KeptDescriptor> kept_;  // Not taken over yet.
  std::unique_ptr<fuse::Session> copies_;                 // Null: NBD only.
  bool copies_started_ = false;

  mutable std::mutex mutex_;  // Guards what follows; not held while anything blocks.
  std::map<VolumeId, Live> live_;
  std::map<SnapshotId, std::shared_ptr<block::Device>> surfaced_;
  std::mutex mounting_;  // Held while mounts_ mounts and unmounts.
};

}  // namespace umbra::cowd
