// SPDX-License-Identifier: Apache-2.0
//
// What the store's threads meet at: its locks, condition variables and the atomics that decide
// something. Here they are the standard library's own types under another name, so the shipped code
// is what it would be without this file. The build of the store that tests/sched explores names a
// header of its own in UMBRA_COW_SYNC, whose types let a scheduler choose who goes on before each
// of their operations.
//
// Every lock and every wait in provider/cow is one of these: a thread that waits at another one
// would wait there for ever, since the scheduler runs one thread at a time and does not know of it.
// Atomics that only count (statistics) may be the standard's.
#pragma once

#ifdef UMBRA_COW_SYNC
#include UMBRA_COW_SYNC
#else

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <mutex>

namespace umbra::cow::sync {

template <class T>
using Atomic = std::atomic<T>;
using Mutex = std::mutex;
using ConditionVariable = std::condition_variable;

/// Over how many counters the writes in flight are spread.
inline constexpr std::size_t kShards = 16;

}  // namespace umbra::cow::sync

#endif
