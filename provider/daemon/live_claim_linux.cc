// SPDX-License-Identifier: Apache-2.0
//
// A live volume's block device made ours for a moment: before its content changes under everybody.
// An exclusive opener is what keeps a mount away, also one in another mount namespace, LUKS, LVM
// and swap. Who has it open otherwise (a program that reads the device) is not kept away and not
// seen.
#include "provider/daemon/front_ends_linux.h"
#include "provider/daemon/helper_linux.h"
#include "provider/daemon/system_view_linux.h"

namespace umbra::cowd {

Status SystemFrontEnds::dismount(const std::string& name,
                                 const std::shared_ptr<block::Device>& device,
                                 std::uint64_t number) {
  if (number != 0) {
    std::vector<std::string> targets = mount_points_of(number);
    for (auto target = targets.rbegin(); target != targets.rend(); ++target) {
      if (const auto unmounted = run_helper({"dismount", *target}); !unmounted) {
        return fail(unmounted.error());
      }
      log_.warning("a volume was unmounted by force", {{"volume", name}, {"path", *target}});
    }
  }
  if (const Status removed = options_.nbd->remove(name, true); !removed) {
    return fail(removed.error(), "the NBD export " + name);
  }
  const Status added = options_.nbd->add(name, "live volume", device);
  if (!added) return fail(added.error(), "the NBD export " + name);
  return {};
}

Result<std::shared_ptr<void>> SystemFrontEnds::claim(const VolumeId& volume, bool dismount_first) {
  std::string name;
  std::string device_path;
  std::shared_ptr<block::Device> device;
  std::uint64_t number = 0;
  {
    const std::lock_guard lock(mutex_);
    const auto found = live_.find(volume);
    if (found == live_.end()) return std::shared_ptr<void>();
    name = found->second.name;
    device_path = found->second.device_path;
    device = found->second.device;
    number = found->second.number;
  }
  if (dismount_first) {
    if (const Status done = dismount(name, device, number); !done) return fail(done.error());
  }
  if (device_path.empty()) return std::shared_ptr<void>();
  auto claimed = HelperClaim::take({"claim", device_path});
  if (!claimed) return fail(claimed.error());
  return std::shared_ptr<void>(std::shared_ptr<HelperClaim>(std::move(*claimed)));
}

}  // namespace umbra::cowd
