// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// The provider's side of hardware.* without any transport: decodes, calls, encodes; the resync
// becomes an operation.

#pragma once

#include <string>
#include <string_view>

#include "engine/rpc/codec.h"
#include "engine/rpc/operation_table.h"
#include "umbra/provider.h"

namespace umbra::rpc {

inline constexpr std::string_view kHardwarePrefix = "hardware.";

/// `provider` outlives the operations. Errors: those of the call; not_implemented (no such method,
/// or the provider's copies are no LUNs); invalid_argument (bad params).
[[nodiscard]] Result<Json> serve_hardware_call(Provider& provider, OperationTable& operations,
                                               const std::string& method, const Json& params);

}  // namespace umbra::rpc
