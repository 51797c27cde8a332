// SPDX-License-Identifier: Apache-2.0
//
// Text to Guid and back: whatever is accepted prints as the canonical form of itself.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "engine/platform/assert.h"
#include "umbra/ids.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto guid = umbra::Guid::parse(text)) {
    UMBRA_ASSERT(umbra::Guid::parse(guid->to_string()).value() == *guid);
  }
  return 0;
}
