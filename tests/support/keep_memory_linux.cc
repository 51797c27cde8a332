// SPDX-License-Identifier: Apache-2.0
#include <malloc.h>

#include "tests/support/keep_memory.h"

namespace umbra::test {

void keep_freed_memory() noexcept {
  constexpr int kBytes = 1 << 30;
  constexpr int kAheadBytes = 64 << 20;
  (void)mallopt(M_MMAP_THRESHOLD, kBytes);
  (void)mallopt(M_TRIM_THRESHOLD, kBytes);
  (void)mallopt(M_TOP_PAD, kAheadBytes);
}

}  // namespace umbra::test
