// SPDX-License-Identifier: Apache-2.0
//
// Is this a provider of hardware copies? What umbra/hardware_provider.h promises, on two machines
// that the same array serves. Such a provider passes the facts of provider_suite.h as well.

#pragma once

#include <span>
#include <string>
#include <string_view>

#include "tests/conformance/provider_suite.h"
#include "umbra/hardware_provider.h"

namespace umbra::test {

/// provider() is that of the first machine, where the volumes are.
class HardwareWorld : public ProviderWorld {
 public:
  /// The same provider on the second machine.
  [[nodiscard]] virtual Provider& other() = 0;
  [[nodiscard]] virtual Result<std::string> read_other(const SnapshotId& snapshot,
                                                       std::size_t offset, std::size_t size) = 0;
  [[nodiscard]] virtual std::string read_volume(const VolumeRef& volume, std::size_t offset,
                                                std::size_t size) = 0;
};

struct HardwareFact {
  std::string_view name;
  void (*check)(HardwareWorld& world);
};

[[nodiscard]] std::span<const HardwareFact> hardware_facts();

}  // namespace umbra::test
