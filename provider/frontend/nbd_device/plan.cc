// SPDX-License-Identifier: Apache-2.0
#include "provider/frontend/nbd_device/plan.h"

#include <bit>
#include <utility>

namespace umbra::nbd_device {
namespace {

constexpr std::uint32_t kSectorBytes = 512;
constexpr std::uint32_t kPageBytes = 4096;
// What queue/max_sectors_kb of such a device can be set to; it is 128 KiB at first.
constexpr std::uint64_t kKernelRequestBytesMax = 32U << 20U;

}  // namespace

Result<Parameters> parameters_for(const block::Geometry& geometry) {
  const std::uint32_t block = geometry.block_bytes;
  if (block < kSectorBytes || block > kPageBytes || !std::has_single_bit(block)) {
    return fail(Errc::invalid_argument,
                "an NBD device cannot have blocks of " + std::to_string(block) + " bytes");
  }
  if (geometry.request_bytes_max < kKernelRequestBytesMax) {
    return fail(Errc::invalid_argument, "an NBD device asks for up to 32 MiB at once");
  }
  Parameters out;
  out.size_bytes = geometry.size_bytes / block * block;
  out.block_bytes = block;
  out.server_flags = nbd::transmission_flags(geometry);
  if (out.size_bytes == 0) {
    return fail(Errc::invalid_argument, "a device without a single block cannot be served");
  }
  return out;
}

nbd::Agreement agreement_for(const Parameters& parameters, std::string name) {
  nbd::Agreement agreement;
  agreement.export_name = std::move(name);
  agreement.size_bytes = parameters.size_bytes;
  agreement.block_bytes = parameters.block_bytes;
  agreement.transmission_flags = parameters.server_flags;
  return agreement;
}

}  // namespace umbra::nbd_device
