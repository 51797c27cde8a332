// SPDX-License-Identifier: Apache-2.0
//
// A copy that can be written without changing it: what is written goes to a file of its own, which
// has no name and goes with its last descriptor. So a journal can be replayed, or a copy be used
// for writing, and nothing of it is left: neither in the copy nor, after any failure, on disk.
//
// The file: a place for every chunk (holes where nothing was written), then a bitmap of those that
// were. A write is answered when data and bit are in the page cache, so that both survive kill -9:
// a successor opens the same descriptor. A flush does nothing, since nothing of this is to survive
// more than that.
//
// Reads of chunks that were never written go to the copy as they are. Everything else is done by
// one thread, one request after the other: this is for recovering a journal, not for speed.

#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "engine/platform/block.h"
#include "engine/platform/unique_fd.h"
#include "umbra/result.h"

namespace umbra::cowd {

inline constexpr std::uint64_t kOverlayChunkBytes = 16U << 10U;
/// What may be written to one; a write beyond it gets ENOSPC.
inline constexpr std::uint64_t kOverlayBytesMax = std::uint64_t{1} << 30U;

class CopyOverlay final : public block::Device {
 public:
  struct Options {
    std::shared_ptr<block::Device> copy;
    UniqueFd file;  // Of make_file().
    std::uint64_t bytes_max = kOverlayBytesMax;
  };
  /// A file without a name in `directory`. Errors: io_error.
  [[nodiscard]] static Result<UniqueFd> make_file(const std::string& directory);
  /// An empty file, or one with which a predecessor over the same copy ended in any way. Errors:
  /// insufficient_storage, io_error (the file).
  [[nodiscard]] static Result<std::shared_ptr<CopyOverlay>> open(Options options);
  /// Nothing is in flight.
  ~CopyOverlay() override;
  CopyOverlay(const CopyOverlay&) = delete;
  CopyOverlay& operator=(const CopyOverlay&) = delete;

  [[nodiscard]] int descriptor() const noexcept { return file_.get(); }

  // block::Device
  [[nodiscard]] block::Geometry geometry() const noexcept override;
  void submit(block::Request& first) noexcept override;

 private:
  struct FreeMemory {
    void operator()(std::byte* memory) const noexcept;
  };

  explicit CopyOverlay(Options options);
  [[nodiscard]] Status load();
  [[nodiscard]] bool is_written(std::uint64_t chunk) const noexcept;
  [[nodiscard]] bool all_unwritten(const block::Request& request) const noexcept;
  void work() noexcept;
  [[nodiscard]] int carry_out(const block::Request& request) noexcept;
  [[nodiscard]] int read(std::uint64_t offset, std::uint64_t size, std::byte* into) noexcept;
  [[nodiscard]] int write(std::uint64_t offset, std::uint64_t size, const std::byte* from) noexcept;
  [[nodiscard]] int read_copy(std::uint64_t offset, std::uint64_t size, std::byte* into) noexcept;
  [[nodiscard]] int mark_written(std::uint64_t chunk) noexcept;

  const std::shared_ptr<block::Device> copy_;
  const UniqueFd file_;
  const std::uint64_t chunks_max_;
  const std::uint64_t size_bytes_;
  const std::uint64_t bitmap_offset_;
  std::vector<std::atomic<std::uint64_t>> written_;  // Changed by the thread only.
  std::uint64_t chunks_written_ = 0;                 // The thread's.
  std::unique_ptr<std::byte, FreeMemory> buffer_;    // The thread's: one chunk.

  std::mutex mutex_;
  std::condition_variable queued_;
  block::Request* first_ = nullptr;  // Guarded by mutex_, with last_ and ending_.
  block::Request* last_ = nullptr;
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace umbra::cowd
