// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// The provider's side of management.* without any transport: decodes, calls, encodes; long calls
// become operations. And which of them only look, for whoever checks roles.

#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "engine/rpc/codec.h"
#include "engine/rpc/operation_table.h"
#include "umbra/provider.h"

namespace umbra::rpc {

inline constexpr std::string_view kManagementPrefix = "management.";
/// Longest wait of one management.wait_operation.
inline constexpr std::chrono::milliseconds kOperationWaitMax{60'000};

/// Whether a management method changes nothing. Nothing: there is no such method. Pure.
[[nodiscard]] std::optional<bool> is_management_query(std::string_view method) noexcept;

/// Serves every method but management.wait_operation with a time limit, which it answers at once.
/// `provider` outlives the operations. Errors: those of the call; not_implemented (no such method,
/// or the provider offers no management); invalid_argument (bad params).
[[nodiscard]] Result<Json> serve_management_call(Provider& provider, OperationTable& operations,
                                                 const std::string& method, const Json& params);

}  // namespace umbra::rpc
