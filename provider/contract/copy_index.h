// SPDX-License-Identifier: Apache-2.0
//
// Which sets and sessions may have copies, so that "none" is known without looking at tens of
// thousands of copies. Pure.
//
// It says "none" only if that is so; what it says may be there has to be looked for, since copies
// also go without anybody telling: evicted, or with their volume. It is counted anew when it has
// become much larger than what there is.

#pragma once

#include <cstddef>
#include <unordered_set>
#include <vector>

#include "provider/cow/volume.h"
#include "umbra/ids.h"

namespace umbra::contract {

class CopyIndex {
 public:
  void add(const SnapshotSetId& set, const SessionId& session, bool auto_release);
  void add(const cow::SnapshotRecord& record);
  /// Only these from now on.
  void count_anew(const std::vector<cow::SnapshotRecord>& records);
  [[nodiscard]] bool is_worn(std::size_t copies) const noexcept;

  [[nodiscard]] bool may_have_set(const SnapshotSetId& set) const { return sets_.count(set) != 0; }
  /// Copies that go with this session.
  [[nodiscard]] bool may_release(const SessionId& session) const {
    return sessions_.count(session) != 0;
  }

 private:
  std::unordered_set<SnapshotSetId> sets_;
  std::unordered_set<SessionId> sessions_;
};

}  // namespace umbra::contract
