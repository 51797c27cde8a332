// SPDX-License-Identifier: Apache-2.0
//
// Puts a log of writes in the order in which things happened, where it is known to differ.
//
// dm-log-writes takes what has completed when a flush is asked for, and logs it with the flush when
// that has completed. Of two flushes in flight the second may complete first: then what was written
// later is logged before what was written earlier, and who replays the log writes the old over the
// new. A device does nothing of the kind: whatever had completed when the second flush was asked
// for is durable with it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "tests/kernel/log_writes.h"

namespace umbra::test {

/// When whoever wrote asked for it, and had the answer.
struct WriteTimes {
  std::int64_t issued_ns = 0;
  std::int64_t completed_ns = 0;  // 0: never.
};

/// Moves a flush, with the writes that it took, before another one that has a write which was
/// issued when one of these had completed: that one was asked for later. Marks and writes that say
/// FUA stay, since they are logged at once. `times`: of a write, nothing if it is not known; of a
/// completed one only if it had reached the device by then. How many flushes were moved.
std::size_t order_flushes(std::vector<LogEntry>& entries,
                          const std::function<std::optional<WriteTimes>(const LogEntry&)>& times);

}  // namespace umbra::test
