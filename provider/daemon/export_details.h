// SPDX-License-Identifier: Apache-2.0
//
// What NBD clients are told of volumes and copies beside their bytes: whose they are, and what
// changed.

#pragma once

#include <memory>
#include <string>

#include "provider/contract/system_provider.h"
#include "provider/frontend/nbd/server.h"

namespace umbra::cowd {

/// Threads: any. The provider outlives it.
class ExportDetails final : public nbd::Details {
 public:
  explicit ExportDetails(const contract::SystemProvider& provider) : provider_(provider) {}

  [[nodiscard]] std::string describe(const std::string& export_name) const override;
  [[nodiscard]] std::shared_ptr<nbd::Contexts> contexts(
      const std::string& export_name) const override;

 private:
  const contract::SystemProvider& provider_;
};

}  // namespace umbra::cowd
