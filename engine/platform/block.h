// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// The seam to storage, and the one interface of everything that can be read and written by offset:
// files, block devices, the simulated disk of the tests, live volumes and snapshots. Front ends
// serve a block::Device; the copy-on-write store is a block::Device that stands on two others.
//
// Submit and complete: a request is a caller-owned state machine that no layer allocates for. The
// caller fills it, submits it, and leaves it alone until `complete` is called, once, from any
// thread, possibly before submit() returns. After that call the device never touches the request
// again, so the callback may reuse or free it.
//
// Durability: a completed write is in memory that outlives this process (the kernel's page cache or
// the device's own cache). It is on stable storage once a flush that was submitted after the write
// completed has itself completed without error, or at once if the write asked for `fua`. After a
// failed flush nothing is known about any write since the last good one; a device reports the
// failure to every later flush as well (a retry never turns it into success).
//
// Order: requests in flight at the same time may take effect in any order. Two overlapping ones, of
// which one writes, are the caller's mistake; the outcome is a mix.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "umbra/result.h"

namespace umbra::block {

enum class Op : std::uint8_t {
  read,
  write,
  write_zeroes,  ///< Afterwards the range reads as zeroes. `buffer` is unused.
  discard,       ///< A hint that the content is not needed; may do nothing. `buffer` is unused.
  flush,         ///< Offset, size and buffer are unused.
  /// Afterwards the range reads as that of `source` did at some moment between submit() and
  /// completion, without being copied: both share the space until one of them is written. `buffer`
  /// is unused. Like any write it is on stable storage after a flush of this device. Only of a
  /// source and in the units that share_unit() has told; EOPNOTSUPP, EXDEV or EINVAL where it
  /// cannot be done. Writes to shared parts, of either device, take space anew: they may meet
  /// ENOSPC where space had been allocated.
  share,
};

class Device;

struct Request {
  Op op = Op::read;
  bool fua = false;      // write, write_zeroes: durable on completion.
  bool no_hole = false;  // write_zeroes: allocate the space, do not punch it.
  int error = 0;         // Set before complete(): 0, or an errno value (EIO, ENOSPC, EINVAL, ...).
  std::uint64_t offset_bytes = 0;
  std::uint64_t size_bytes = 0;
  std::byte* buffer = nullptr;            // size_bytes long; written by read, only read by write.
  Device* source = nullptr;               // share: outlives the request.
  std::uint64_t source_offset_bytes = 0;  // share.

  void (*complete)(Request& request) noexcept = nullptr;
  void* owner = nullptr;  // The submitter's; devices do not look at it.

  // While submitted it belongs to the device (its queue link). At submit(), it chains a batch.
  Request* next = nullptr;

  // For one layer that passes a request on to the device below instead of making one of its own
  // (the copy-on-write volume): what it needs back on completion. Nobody else looks at it.
  struct Passed {
    void (*complete)(Request& request) noexcept = nullptr;
    void* owner = nullptr;
    std::uint64_t word = 0;
  } passed;
};

struct Geometry {
  std::uint64_t size_bytes = 0;
  std::uint32_t block_bytes = 512;    // Every offset and size is a multiple; a power of two.
  std::uint32_t alignment_bytes = 1;  // Of `buffer`; more than 1 only with O_DIRECT underneath.
  std::uint64_t request_bytes_max = 32U << 20U;
  bool read_only = false;
  bool can_discard = false;
};

/// What a range holds, for "base:allocation" of NBD. Always safe: both false.
struct Extent {
  std::uint64_t size_bytes = 0;
  bool hole = false;  // No space is allocated for it.
  bool zero = false;  // Reads as zeroes.
};

/// Threads: every member may be called from any thread at any time until destruction; destroy only
/// when nothing is in flight.
class Device {
 public:
  virtual ~Device() = default;

  /// Constant during the life of the object, except that size_bytes may grow.
  [[nodiscard]] virtual Geometry geometry() const noexcept = 0;

  /// Accepts `first` and all requests chained to it by `next`. Never blocks for storage and never
  /// fails: a request that is out of range, misaligned, or a write to a read-only device completes
  /// with EINVAL, ENOSPC or EROFS.
  virtual void submit(Request& first) noexcept = 0;

  /// Describes [offset, offset + size), which lies in the device and is not empty, from its start:
  /// fills at most out.size() (at least one) extents, multiples of block_bytes, and returns how
  /// many. They may cover less than the range, never more, and a write in flight may make them
  /// outdated at once. May block for a metadata read; never fails: what is not known is data. The
  /// base class reports one extent of data.
  [[nodiscard]] virtual std::size_t extents(std::uint64_t offset_bytes, std::uint64_t size_bytes,
                                            std::span<Extent> out) const noexcept;

  /// Whether `share` from `source` works, tried out: offsets and sizes are multiples of this.
  /// Blocks. Errors: not_supported, with what to do. The base class cannot.
  [[nodiscard]] virtual Result<std::uint32_t> share_unit(Device& source);
  /// At most how many bytes of a range share their space with something else: those whose
  /// counterpart takes space when it is written. May block for a metadata read; what is not known
  /// is shared. The base class shares nothing.
  [[nodiscard]] virtual std::uint64_t shared_bytes(std::uint64_t offset_bytes,
                                                   std::uint64_t size_bytes) const noexcept;
};

/// A device whose size can be changed: a diff area's file.
class ResizableDevice : public Device {
 public:
  /// Grows (allocating the space, so that later writes below the new end cannot meet ENOSPC) or
  /// shrinks. Blocks; the new size is durable afterwards. On failure the size is unchanged.
  /// Errors: insufficient_storage; io_error; not_supported (a block device).
  [[nodiscard]] virtual Status resize(std::uint64_t size_bytes) = 0;
  /// Takes space for a range that lies in the device and may have been discarded, so that later
  /// writes to it cannot meet ENOSPC. What it holds is unchanged. Blocks. The base class has
  /// nothing to do: a device whose space is its own. Errors: insufficient_storage; io_error.
  [[nodiscard]] virtual Status allocate(std::uint64_t offset_bytes, std::uint64_t size_bytes);
};

/// What is wrong with a request's kind, range, size or alignment: 0, or EINVAL, ENOSPC (a write
/// past the end) or EROFS. Every device answers this way. Threads: any.
[[nodiscard]] int check(const Geometry& geometry, const Request& request) noexcept;

/// Sets the error and calls complete(). The request may be gone afterwards.
inline void finish(Request& request, int error) noexcept {
  request.error = error;
  request.complete(request);
}

/// Submits and waits; for control paths and tests, never for the hot path. Returns 0 or errno.
[[nodiscard]] int run(Device& device, Request& request) noexcept;

/// The same for several at once; each has its own error afterwards.
void run_all(Device& device, std::span<Request> requests) noexcept;

}  // namespace umbra::block
