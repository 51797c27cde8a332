// SPDX-License-Identifier: Apache-2.0
//
// What a volume looks like as a device of the kernel's NBD client, to the kernel and to the server
// of its connection. Pure.

#pragma once

#include "engine/platform/block.h"
#include "provider/frontend/nbd/negotiation.h"
#include "provider/frontend/nbd_device/control.h"
#include "umbra/result.h"

namespace umbra::nbd_device {

/// The last part of a block, if the size is no multiple of it, is left out. Errors:
/// invalid_argument (blocks that no device of this kernel can have: smaller than a sector, larger
/// than a page, or no power of two; requests that are shorter than the kernel's; nothing to serve).
[[nodiscard]] Result<Parameters> parameters_for(const block::Geometry& geometry);

/// What a negotiation would have ended with.
[[nodiscard]] nbd::Agreement agreement_for(const Parameters& parameters, std::string name);

}  // namespace umbra::nbd_device
