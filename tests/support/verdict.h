// SPDX-License-Identifier: Apache-2.0
//
// What the completions of requests find wrong. They run in the midst of the store and must not
// throw, as an assertion would: the program would end, and with it the other cases and the line
// that says how to replay. So what they see is kept, and whoever may throw asks for it. Threads:
// one.
#pragma once

#include <string>

#include "tests/support/catch.h"

namespace umbra::test {

class Verdict {
 public:
  /// The first one counts: what follows is often of its making.
  void wrong(std::string what) {
    if (wrong_.empty()) wrong_ = std::move(what);
  }
  void require(bool holds, const char* what) {
    if (!holds) wrong(what);
  }
  /// Empty: nothing was wrong so far.
  [[nodiscard]] const std::string& text() const noexcept { return wrong_; }
  /// Fails the test if something was. Never in a completion.
  void check() const {
    if (!wrong_.empty()) FAIL(wrong_);
  }

 private:
  std::string wrong_;
};

}  // namespace umbra::test
