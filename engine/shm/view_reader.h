// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Reads a snapshot by its view: look up, read, look again, without asking anybody.
//
// Why it is never a torn mix. Of a chunk in the origin: umbra-cowd tells its new home before it
// writes to it. A read that was over before the home was found unchanged was over before that
// write; if the home has changed, the chunk is read again where it is now. Of a chunk in the diff
// area: its place is used for nothing else before the view has ended, and the view is looked at
// after the read. Of a process that has died: its successor ends the page of life before its first
// write, and without a successor the connection has ended.

#pragma once

#include <cstdint>
#include <span>

#include "engine/shm/layout.h"
#include "umbra/result.h"

namespace umbra::shm {

/// What a reader reads from. Threads: as many as read.
class Storage {
 public:
  virtual ~Storage() = default;
  /// All of `out`. 0 or errno; a file that ends before is EIO.
  [[nodiscard]] virtual int read_origin(std::uint64_t offset_bytes,
                                        std::span<std::byte> out) noexcept = 0;
  [[nodiscard]] virtual int read_diff_area(std::uint64_t offset_bytes,
                                           std::span<std::byte> out) noexcept = 0;
  /// Who writes the view is alive. Looked at after each read.
  [[nodiscard]] virtual bool is_alive() noexcept = 0;
};

/// Errors: invalid_argument (beyond the end of the volume); snapshot_lost (the view has ended: the
/// snapshot was deleted or lost, the volume detached, its diff area moved, or umbra-cowd has gone;
/// open it again to see which); diff_area_corrupt (preserved data is damaged); io_error. On failure
/// `out` holds anything. Threads: any.
[[nodiscard]] Status read_view(const View& view, Storage& storage, std::uint64_t offset_bytes,
                               std::span<std::byte> out);

}  // namespace umbra::shm
