// SPDX-License-Identifier: Apache-2.0
//
// Holds several databases at one moment, or none of them.
//
// Locks are always taken in the order of the paths, so two groups cannot wait for each other. An
// application that writes to several databases in one transaction (ATTACH) has an order of its own:
// so a group that already holds something waits only a moment for the next, then lets everything go
// and starts again, which lets such a transaction through. All of it ends with the patience.

#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "writer-sdk/writers/sqlite/database_hold.h"

namespace umbra::sqlite {

/// Errors: as DatabaseHold; the context names the first file that failed.
/// Threads: one call at a time, from any thread.
class HoldGroup {
 public:
  /// Absolute paths, in any order; one that occurs twice is held once.
  explicit HoldGroup(std::vector<std::string> paths);

  [[nodiscard]] std::vector<std::string> paths() const;
  /// Whether anything is held; it is all or nothing.
  [[nodiscard]] bool is_held() const noexcept;

  /// DatabaseHold::prepare() on each; stops at the first failure. Blocks up to `patience`.
  [[nodiscard]] Status prepare(const Patience& patience);
  /// On failure nothing is held. Held already: ok. Blocks up to `patience`.
  [[nodiscard]] Status acquire(const Patience& patience);
  /// Releases everything, in any case; then the first failure. Nothing held: ok.
  [[nodiscard]] Status release() noexcept;

 private:
  [[nodiscard]] Status acquire_once(const Patience& patience);

  std::vector<DatabaseHold> holds_;  // By path.
};

}  // namespace umbra::sqlite
