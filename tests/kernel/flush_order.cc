// SPDX-License-Identifier: Apache-2.0
#include "tests/kernel/flush_order.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <utility>

namespace umbra::test {
namespace {

constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();
constexpr std::size_t kInFlightMax = 64;  // Flushes between which one may be overtaken.

struct Flush {
  std::vector<LogEntry> stay;   // Before it in the log, at their place.
  std::vector<LogEntry> taken;  // Writes, and the flush.
  std::int64_t last_issued_ns = 0;
  std::int64_t first_completed_ns = kNever;
  std::vector<std::size_t> overtaken;  // Flushes that come before it.
};

void append(std::vector<LogEntry>& to, std::vector<LogEntry>& from) {
  to.insert(to.end(), std::move_iterator(from.begin()), std::move_iterator(from.end()));
}

}  // namespace

std::size_t order_flushes(std::vector<LogEntry>& entries,
                          const std::function<std::optional<WriteTimes>(const LogEntry&)>& times) {
  std::vector<Flush> flushes(1);
  for (LogEntry& entry : entries) {
    Flush& flush = flushes.back();
    const bool ends = entry.flush;
    if (!entry.mark.empty() || (entry.fua && !entry.flush)) {
      flush.stay.push_back(std::move(entry));
    } else {
      if (const auto known = times(entry)) {
        flush.last_issued_ns = std::max(flush.last_issued_ns, known->issued_ns);
        if (known->completed_ns != 0) {
          flush.first_completed_ns = std::min(flush.first_completed_ns, known->completed_ns);
        }
      }
      flush.taken.push_back(std::move(entry));
    }
    if (ends) flushes.emplace_back();
  }
  std::size_t moved = 0;
  std::vector<bool> is_moved(flushes.size());
  // The last one has no flush: what it has was never asked to be durable.
  for (std::size_t i = 1; i + 1 < flushes.size(); ++i) {
    for (std::size_t j = i - std::min(i, kInFlightMax); j < i; ++j) {
      if (is_moved[j] || flushes[j].last_issued_ns <= flushes[i].first_completed_ns) continue;
      flushes[j].overtaken.push_back(i);
      is_moved[i] = true;
      ++moved;
      break;
    }
  }
  entries.clear();
  for (std::size_t i = 0; i < flushes.size(); ++i) {
    append(entries, flushes[i].stay);
    for (const std::size_t before : flushes[i].overtaken) append(entries, flushes[before].taken);
    if (!is_moved[i]) append(entries, flushes[i].taken);
  }
  return moved;
}

}  // namespace umbra::test
