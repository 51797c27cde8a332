// SPDX-License-Identifier: Apache-2.0
//
// From words to exit status.

#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "requester-sdk/cli/output.h"
#include "requester-sdk/cli/service.h"

namespace umbra::cli {

using MakeService = std::function<std::unique_ptr<Service>(const std::string& socket_path)>;

/// `words` without the program's name.
[[nodiscard]] int run(const std::vector<std::string>& words, Output& output,
                      const MakeService& make_service);

}  // namespace umbra::cli
