// SPDX-License-Identifier: Apache-2.0
//
// The lines that `umbra-bench run --json` wrote as one page that a person can look at.
#pragma once

#include <istream>
#include <memory>
#include <string>

#include "umbra/result.h"

namespace umbra::bench {

/// What was read: the last line of each key counts, and all machine cards.
class Page {
 public:
  /// Adds a file's lines. Errors: invalid_argument (names the line).
  [[nodiscard]] Status add(std::istream& in, const std::string& name);
  /// One self-contained HTML document: no scripts, nothing loaded from elsewhere. Errors:
  /// invalid_argument (there is no key in what was read).
  [[nodiscard]] Result<std::string> html() const;

  Page();
  ~Page();
  Page(const Page&) = delete;
  Page& operator=(const Page&) = delete;

 private:
  struct Lines;
  std::unique_ptr<Lines> lines_;
};

}  // namespace umbra::bench
