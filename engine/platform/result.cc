// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "umbra/result.h"

#include <array>
#include <cstdio>

namespace umbra {

std::string Error::to_string() const {
  std::array<char, 16> number{};
  // The buffer holds any 32-bit number in this form, so truncation cannot happen.
  (void)std::snprintf(number.data(), number.size(), "0x%08X", static_cast<unsigned>(code));
  std::string text;
  text.append(code_name(code)).append(" (").append(number.data()).append("): ");
  text.append(describe(code));
  if (!context.empty()) text.append(": ").append(context);
  return text;
}

tl::unexpected<Error> fail(Error cause, std::string_view fact) {
  std::string context(fact);
  if (!cause.context.empty()) context.append(": ").append(cause.context);
  cause.context = std::move(context);
  return tl::unexpected<Error>(std::move(cause));
}

}  // namespace umbra
