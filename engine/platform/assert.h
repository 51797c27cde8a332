// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// UMBRA_ASSERT: always compiled in. It guards our own invariants, never a peer's bytes, and is not
// used in code that runs inside a customer's process on the customer's input.

#pragma once

namespace umbra {

/// Writes one line to standard error and aborts. Never returns.
[[noreturn]] void assertion_failed(const char* expression, const char* file, int line) noexcept;

}  // namespace umbra

#define UMBRA_ASSERT(expression) \
  ((expression) ? void() : ::umbra::assertion_failed(#expression, __FILE__, __LINE__))
#define UMBRA_UNREACHABLE() ::umbra::assertion_failed("unreachable", __FILE__, __LINE__)
