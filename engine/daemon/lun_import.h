// SPDX-License-Identifier: Apache-2.0
//
// ImportSnapshots: the copies of a kept document become copies of this machine. Provider by
// provider: it is asked to let this machine see the LUNs, then asked again and again which of them
// it sees, until all have arrived or Limits::lun_arrival has passed; copies all of whose LUNs are
// there, described to the letter as in the document, are taken in together.
//
// A copy that cannot be had does not keep others from being had; what came of it is told at the
// end:
//   async_finished                     all of them
//   some_snapshots_not_imported        LUNs of some did not arrive, or not as described
//   error_some_snapshots_not_imported  a provider failed or is away, others had theirs
//   no_snapshots_imported              not one
// LUNs that were let in for copies that were not are the array's administrator's to take away, as
// in VSS.

#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/daemon/provider_link.h"
#include "engine/platform/clock.h"
#include "umbra/hardware_provider.h"

namespace umbra::daemon {

/// Coordinator's thread. `done` is called once, unless it is abandoned.
class LunImport final : public std::enable_shared_from_this<LunImport> {
 public:
  using Done = std::function<void(Errc code, std::string context)>;

  LunImport(Server& server, ImportedSet wanted, Done done);
  void start();
  /// Its session is over: nothing more is asked, and `done` is not called.
  void abandon() { done_ = nullptr; }

  void tick(TimePoint now);
  [[nodiscard]] std::optional<TimePoint> next_deadline() const { return look_again_; }

 private:
  void begin_provider();
  void look();
  void look_at(const std::vector<LunInformation>& seen);
  void take_in(std::vector<TransportedSnapshot> arrived);
  void failed(const std::string& why);
  void next_provider();
  void finish();
  [[nodiscard]] std::vector<TransportedSnapshot> of_provider() const;

  Server& server_;
  ImportedSet wanted_;
  Done done_;
  std::vector<ProviderId> providers_;
  std::size_t at_ = 0;
  std::shared_ptr<ProviderLink> link_;
  TimePoint until_;  // LUNs that arrive later are not waited for.
  std::optional<TimePoint> look_again_;
  std::size_t imported_ = 0;
  bool provider_failed_ = false;
  std::string trouble_;  // Of all providers.
};

}  // namespace umbra::daemon
