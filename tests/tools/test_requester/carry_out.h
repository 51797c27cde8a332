// SPDX-License-Identifier: Apache-2.0
//
// Carries a plan out on the requester SDK, step by step. Between two steps it says "at STEP" and
// asks whether to go on.
#pragma once

#include <functional>
#include <string>

#include "tests/tools/test_requester/judge.h"

namespace umbra::test_requester {

struct Hooks {
  std::function<void(const std::string& line)> say;
  std::function<bool(const std::string& step)> go_on;  ///< False: end here, as if killed.
};

/// Whatever happens, what is known of it is in the outcome. Nothing: hooks.go_on() said so.
[[nodiscard]] std::optional<Outcome> carry_out(const Plan& plan,
                                               const requester::ConnectOptions& connect,
                                               const Hooks& hooks);

}  // namespace umbra::test_requester
