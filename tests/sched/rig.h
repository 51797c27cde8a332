// SPDX-License-Identifier: Apache-2.0
//
// A volume of the store under the scheduler: two disks in memory that let others go on before and
// after a request takes effect, an executor whose jobs a thread of the story runs, and an oracle. A
// snapshot shows what the origin held when commit() was called, since no write may be on its way
// then: whatever reaches the origin between there and the end of the hold makes the copy differ.
#pragma once

#include <cstring>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "provider/cow/volume.h"
#include "tests/sched/scheduler.h"
#include "tests/support/catch.h"
#include "tests/support/paged_disk.h"

namespace umbra::test::sched {

/// Its jobs are run by a thread of the story, or by drain() when the story has ended.
class StoryExecutor final : public cow::Executor {
 public:
  void post(std::function<void()> job) override { jobs_.push_back(std::move(job)); }
  void post_after(Duration /*delay*/, std::function<void()> /*job*/) override {}  // No time passes.
  /// A thread's body: runs jobs until `workers` calls of leave() were made and none is left.
  void serve(std::size_t workers) {
    for (;;) {
      wait_until([&]() noexcept { return !jobs_.empty() || left_ >= workers; });
      if (jobs_.empty()) return;
      run_one();
    }
  }
  void leave() noexcept { ++left_; }
  void drain() {
    while (!jobs_.empty()) run_one();
  }

 private:
  void run_one() {
    const std::function<void()> job = std::move(jobs_.front());
    jobs_.pop_front();
    job();
  }
  std::deque<std::function<void()>> jobs_;
  std::size_t left_ = 0;
};

using Image = std::vector<std::byte>;

inline constexpr std::uint32_t kChunk = 4096;
inline constexpr std::uint64_t kChunks = 4;

struct RigOptions {
  std::uint64_t segments = 4;
  std::uint64_t segments_max = 4;
  bool shares = false;  // Old content is shared, not copied.
};

/// A volume with the records of `before` made, opened. Images are made once for all runs.
class Rig {
 public:
  explicit Rig(const RigOptions& options);
  ~Rig();
  Rig(const Rig&) = delete;
  Rig& operator=(const Rig&) = delete;

  // --- by threads of a story, or before it ---

  /// Writes the whole chunk with words that name it and the write. Returns when it has completed.
  void write(std::uint64_t chunk, std::uint64_t value);
  void zero(std::uint64_t chunk);
  SnapshotId prepare(bool persistent);
  /// hold, drain, commit, release: the point in time.
  void commit(const SnapshotId& id);
  void finish(const SnapshotId& id);
  SnapshotId take(bool persistent) {
    const SnapshotId id = prepare(persistent);
    commit(id);
    finish(id);
    return id;
  }
  void remove(const SnapshotId& id, bool force = false);
  /// Reads the snapshot and compares it with the oracle at once.
  void read_back(const SnapshotId& id);

  // --- after it ---

  /// All copies are right, now and after reopening; the origin holds the last write to each chunk.
  void check();

  PagedDisk origin;  // Others may go on before and after each effect.
  PagedDisk diff;
  StoryExecutor executor;
  std::unique_ptr<cow::Volume> volume;
  std::map<SnapshotId, Image> images;
  std::string trouble;  // The first thing that a thread found wrong.

 private:
  void submit(block::Request& request);
  void open();
  void compare(const SnapshotId& id, const char* when);
  void complain(const std::string& what);

  bool shares_ = false;
  std::uint64_t ids_ = 0;
  std::set<SnapshotId> unfinished_;                           // check() finishes them.
  std::map<std::uint64_t, std::vector<std::uint64_t>> last_;  // By chunk: values it may hold.
};

/// The first word of each sector of the chunk; 0 for zeroes.
[[nodiscard]] std::uint64_t value_of(const Image& image, std::uint64_t chunk);

}  // namespace umbra::test::sched
