// SPDX-License-Identifier: Apache-2.0
//
// RecoverSet: copies on LUNs are written back over LUNs, by the arrays. First everything is
// checked, for every provider: nobody else writes over one of the LUNs (resync_in_progress), no
// volume on them was left out (unselected_volume, unless kNoVolumeCheck), this machine sees them
// (missing_disk). Only then, provider by provider: word that the LUNs change, the copying, word
// that they have changed, also if it failed; and each volume must be there again (missing_volume).
//
// The first failure ends it, and what has not begun does not begin. The copying goes on in the
// provider when the requester goes, and its LUNs stay taken until it has ended: half of a LUN is no
// place to stop.

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/daemon/provider_link.h"
#include "umbra/hardware_provider.h"

namespace umbra::daemon {

/// One copy that is to be written back.
struct RecoveryTarget {
  SnapshotId snapshot;
  ProviderId provider;
  VolumeId volume;               // That lies on the LUNs which are written over.
  std::vector<LunMapping> luns;  // From the copy's LUN to the one that is written over.
};

/// Coordinator's thread. `done` is called once.
class LunRecovery final : public std::enable_shared_from_this<LunRecovery> {
 public:
  using Done = std::function<void(Errc code, std::string context)>;

  LunRecovery(Server& server, std::vector<RecoveryTarget> targets, std::uint32_t options,
              Done done);
  void start();

 private:
  void check_volumes();
  void check_disks();
  void write_over();
  void watch(const OperationId& operation);
  void written(Errc code, const std::string& context);
  void look_for_volumes(std::size_t i);  // From this target on.
  void next(void (LunRecovery::*step)());
  void finish(Errc code, const std::string& context);
  /// Of the provider whose turn it is; false: it is away, and that was the end.
  [[nodiscard]] bool reach();
  [[nodiscard]] std::vector<LunMapping> mappings() const;
  [[nodiscard]] std::vector<LunInformation> written_over() const;

  Server& server_;
  std::vector<RecoveryTarget> targets_;
  std::uint32_t options_;
  Done done_;
  std::vector<ProviderId> providers_;
  std::size_t at_ = 0;
  std::shared_ptr<ProviderLink> link_;
  bool took_luns_ = false;
};

}  // namespace umbra::daemon
