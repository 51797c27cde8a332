// SPDX-License-Identifier: Apache-2.0
//
// A volume of the store under the scheduler: two disks in memory that let others go on before and
// after a request takes effect, an executor whose jobs a thread of the story runs, and an oracle. A
// snapshot shows what the origin held when commit() was called, since no write may be on its way
// then: whatever reaches the origin between there and the end of the hold makes the copy differ.
#pragma once

#include <array>
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

namespace umbra::test::sched {

using Image = std::vector<std::byte>;

/// Starts as a copy of an image, of which only changed pages take memory. Completes in submit().
class PagedDisk final : public block::ResizableDevice {
 public:
  explicit PagedDisk(std::shared_ptr<const Image> base)
      : base_(std::move(base)),
        pages_((base_->size() + kPageBytes - 1) / kPageBytes),
        size_bytes_(base_->size()) {}

  std::uint64_t size_bytes_max = 0;

  [[nodiscard]] block::Geometry geometry() const noexcept override {
    block::Geometry geometry;
    geometry.size_bytes = size_bytes_;
    geometry.can_discard = true;
    return geometry;
  }
  void submit(block::Request& first) noexcept override {
    for (block::Request* request = &first; request != nullptr;) {
      block::Request* const next = std::exchange(request->next, nullptr);
      int error = block::check(geometry(), *request);
      if (error == 0) {
        point();
        effect(*request);
        point();
      }
      block::finish(*request, error);
      request = next;
    }
  }
  [[nodiscard]] Status resize(std::uint64_t size_bytes) override {
    if (size_bytes > size_bytes_max) return fail(Errc::insufficient_storage, "test disk");
    point();
    size_bytes_ = size_bytes;
    pages_.resize((size_bytes + kPageBytes - 1) / kPageBytes);
    point();
    return {};
  }
  [[nodiscard]] Image bytes() const {
    Image out(size_bytes_);
    copy_out(0, out.data(), out.size());
    return out;
  }

 private:
  static constexpr std::uint64_t kPageBytes = 4096;
  using Page = std::array<std::byte, kPageBytes>;

  void effect(block::Request& request) noexcept {
    switch (request.op) {
      case block::Op::read:
        copy_out(request.offset_bytes, request.buffer, request.size_bytes);
        break;
      case block::Op::write:
      case block::Op::write_zeroes: copy_in(request); break;
      case block::Op::discard:
      case block::Op::flush: break;
    }
  }
  void copy_out(std::uint64_t from, std::byte* to, std::uint64_t size) const noexcept {
    while (size > 0) {
      const std::uint64_t in_page = from % kPageBytes;
      const std::uint64_t piece = std::min(kPageBytes - in_page, size);
      if (const auto& page = pages_[from / kPageBytes]) {
        std::memcpy(to, page->data() + in_page, piece);
      } else if (from < base_->size()) {
        std::memcpy(to, base_->data() + from, piece);
      } else {
        std::memset(to, 0, piece);
      }
      from += piece;
      to += piece;
      size -= piece;
    }
  }
  void copy_in(const block::Request& request) {
    for (std::uint64_t done = 0; done < request.size_bytes;) {
      const std::uint64_t at = request.offset_bytes + done;
      const std::uint64_t in_page = at % kPageBytes;
      const std::uint64_t piece = std::min(kPageBytes - in_page, request.size_bytes - done);
      auto& page = pages_[at / kPageBytes];
      if (!page) {
        auto fresh = std::make_unique<Page>();
        copy_out(at - in_page, fresh->data(), kPageBytes);
        page = std::move(fresh);
      }
      if (request.op == block::Op::write) {
        std::memcpy(page->data() + in_page, request.buffer + done, piece);
      } else {
        std::memset(page->data() + in_page, 0, piece);
      }
      done += piece;
    }
  }

  std::shared_ptr<const Image> base_;
  std::vector<std::unique_ptr<Page>> pages_;
  std::uint64_t size_bytes_;
};

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

inline constexpr std::uint32_t kChunk = 4096;
inline constexpr std::uint64_t kChunks = 4;

struct RigOptions {
  std::uint64_t segments = 4;
  std::uint64_t segments_max = 4;
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

  PagedDisk origin;
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

  std::uint64_t ids_ = 0;
  std::set<SnapshotId> unfinished_;                           // check() finishes them.
  std::map<std::uint64_t, std::vector<std::uint64_t>> last_;  // By chunk: values it may hold.
};

/// The first word of each sector of the chunk; 0 for zeroes.
[[nodiscard]] std::uint64_t value_of(const Image& image, std::uint64_t chunk);

}  // namespace umbra::test::sched
