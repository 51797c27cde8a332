// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// What the engines of file devices share. Private to file_device_*.cc.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include "engine/platform/file_device.h"
#include "engine/platform/unique_fd.h"

namespace umbra::file_device {

struct OpenFile {
  UniqueFd fd;
  std::string path;
  FileIdentity identity;
  block::Geometry geometry;
  bool direct = false;           // O_DIRECT.
  bool apart = false;            // See FileDeviceOptions.
  FileFaults* faults = nullptr;  // See FileDeviceOptions.
  std::string engine_note{};     // Why it is not the engine that would be preferred.
};

/// Everything but the way in which requests get to the kernel.
class Base : public FileDevice {
 public:
  explicit Base(OpenFile file);

  [[nodiscard]] block::Geometry geometry() const noexcept final;
  [[nodiscard]] Status resize(std::uint64_t size_bytes) override;
  [[nodiscard]] Status allocate(std::uint64_t offset_bytes, std::uint64_t size_bytes) override;
  [[nodiscard]] std::size_t extents(std::uint64_t offset_bytes, std::uint64_t size_bytes,
                                    std::span<block::Extent> out) const noexcept override;
  [[nodiscard]] Result<std::uint32_t> share_unit(block::Device& source) override;
  [[nodiscard]] std::uint64_t shared_bytes(std::uint64_t offset_bytes,
                                           std::uint64_t size_bytes) const noexcept override;
  [[nodiscard]] const std::string& path() const noexcept final { return file_.path; }
  [[nodiscard]] FileIdentity identity() const noexcept final { return file_.identity; }
  [[nodiscard]] std::array<std::byte, 32> lasting_identity() const noexcept final;
  [[nodiscard]] std::int64_t settled_change_time() noexcept final;
  [[nodiscard]] std::string io_text() const final;
  [[nodiscard]] Result<UniqueFd> open_for_reader() const final;

 protected:
  [[nodiscard]] int fd() const noexcept { return file_.fd.get(); }
  [[nodiscard]] bool is_block_device() const noexcept { return file_.identity.block_device; }
  [[nodiscard]] bool is_direct() const noexcept { return file_.direct; }
  [[nodiscard]] FileFaults* faults() const noexcept { return file_.faults; }
  /// What need not wait for storage is done here and now, and completed: reads that the page cache
  /// can answer, and everything of moderate length in a file that lies in memory; handing that to a
  /// thread costs more than the work itself. A callback that submits the next request gets deeper
  /// only so far. False: it was left alone.
  [[nodiscard]] bool finish_here(block::Request& request) noexcept;
  /// The whole request by blocking calls. 0 or errno.
  [[nodiscard]] int perform(const block::Request& request) noexcept;
  /// Waits for the one that is under way.
  [[nodiscard]] int flush() noexcept;
  /// After a failed flush: every flush fails.
  [[nodiscard]] bool flush_failed() const noexcept { return flush_failed_.load(); }
  void note_flush(int error) noexcept {
    if (error != 0) flush_failed_.store(true);
  }
  /// The engine takes block::Op::share.
  [[nodiscard]] virtual bool shares() const noexcept { return true; }
  /// Leaves nothing but a husk to be destroyed.
  [[nodiscard]] OpenFile take_file() noexcept { return std::move(file_); }

 private:
  [[nodiscard]] int transfer(const block::Request& request) noexcept;
  [[nodiscard]] int write_zeroes(const block::Request& request) noexcept;
  [[nodiscard]] int share(const block::Request& request) noexcept;

  OpenFile file_;
  const bool in_memory_;
  std::atomic<std::uint64_t> size_bytes_;
  std::mutex flush_mutex_;
  std::atomic<bool> flush_failed_ = false;
};

/// Zeroes to write from, as often as needed; aligned for O_DIRECT.
[[nodiscard]] std::span<const std::byte> zeroes() noexcept;
[[nodiscard]] std::string error_text(int error);

// --- what differs between systems (file_device_linux.cc) --------------------------------------

/// Flags for open(2): O_DIRECT.
[[nodiscard]] int direct_flag() noexcept;
/// Size and sector size of a block device. Errors: io_error.
[[nodiscard]] Status describe_block_device(OpenFile& file);
/// What O_DIRECT asks of offsets and of memory; 0: not to be found out.
struct DirectAlignment {
  std::uint32_t offset_bytes = 0;
  std::uint32_t memory_bytes = 0;
};
[[nodiscard]] DirectAlignment direct_alignment(int fd) noexcept;
/// Of the inode: another file that gets its number has another one. 0: the file system has none.
[[nodiscard]] std::uint32_t file_generation(int fd) noexcept;
/// Makes the range read as zeroes without writing it. 0, or errno (EOPNOTSUPP: write zeroes).
[[nodiscard]] int zero_range(int fd, const block::Request& request) noexcept;
/// 0, or errno; EOPNOTSUPP is no failure of a hint.
[[nodiscard]] int discard_range(int fd, bool block_device, const block::Request& request) noexcept;
/// Makes the request's range share the blocks of its source range. 0 or errno.
[[nodiscard]] int share_range(int fd, int source_fd, const block::Request& request) noexcept;
/// Tries it out on a nameless file beside `path`: the unit of it. Errors: not_supported.
[[nodiscard]] Result<std::uint32_t> try_sharing(int fd, const std::string& path, int source_fd);
/// How much of a range is shared; all of it if that cannot be found out.
[[nodiscard]] std::uint64_t shared_in_range(int fd, std::uint64_t offset_bytes,
                                            std::uint64_t size_bytes) noexcept;
/// A read that is served from the page cache, or not at all. Bytes read; 0: not at hand.
[[nodiscard]] std::uint64_t read_cached(int fd, const block::Request& request) noexcept;
/// The file system keeps its files in memory: no request waits for storage.
[[nodiscard]] bool lies_in_memory(int fd) noexcept;
/// The calling thread has a descriptor table of its own from now on, with `fd` in it and nothing
/// else.
void keep_only(int fd) noexcept;
/// Null: this kernel offers no io_uring, or not to us: `why_not` says so, and `file` is as before.
[[nodiscard]] std::unique_ptr<FileDevice> make_uring_device(OpenFile& file, std::string& why_not);

}  // namespace umbra::file_device
