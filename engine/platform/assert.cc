// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "engine/platform/assert.h"

#include <cstdio>
#include <cstdlib>

namespace umbra {

void assertion_failed(const char* expression, const char* file, int line) noexcept {
  (void)std::fprintf(stderr, "umbra: %s:%d: broken invariant: %s\n", file, line, expression);
  std::abort();
}

}  // namespace umbra
