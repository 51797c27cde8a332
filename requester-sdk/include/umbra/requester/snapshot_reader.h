// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Reads a copy of Umbra's own provider without a round trip for each read: from the origin and the
// diff area themselves, by a map that umbra-cowd keeps in shared memory. The way of least cost for
// a backup program on the same machine; any other reads the copy's device, or NBD.
//
//   auto reader = umbra::requester::SnapshotReader::open(snapshot_id);
//   auto status = reader->read(offset, buffer);
//
// VSS has nothing like it: its requesters read the copy's device.

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "umbra/ids.h"
#include "umbra/requester/export.h"
#include "umbra/result.h"

namespace umbra::requester {

struct SnapshotReaderOptions {
  /// umbra-cowd's socket for readers. Empty: reader.sock beside umbrad's socket as ConnectOptions
  /// finds it.
  std::string socket_path{};
};

/// A copy that is open for reading. As long as it is, the copy counts as open: it is deleted only
/// by force. After fork() both processes may read.
/// Threads: read() from any, at the same time.
class UMBRA_REQUESTER_EXPORT SnapshotReader {
 public:
  /// Only root, and the user that umbra-cowd runs as, may: reading so shows the volume's whole
  /// history. Blocks at most kOpenSecondsMax. Errors: access_denied; coordinator_lost (umbra-cowd
  /// does not run, or another provider made the copy); object_not_found (no such copy of this
  /// provider); snapshot_lost; bad_state (the copy is not complete yet); limit_reached (readers or
  /// memory; says what to do); volume_in_use (the diff area is being moved); not_supported (the
  /// volume lies on another one of Umbra); version_mismatch; missing_kernel_feature. On any of them
  /// the copy's device can still be read.
  [[nodiscard]] static Result<SnapshotReader> open(const SnapshotId& snapshot,
                                                   const SnapshotReaderOptions& options = {});
  static constexpr int kOpenSecondsMax = 60;

  SnapshotReader(SnapshotReader&&) noexcept;
  SnapshotReader& operator=(SnapshotReader&&) noexcept;
  ~SnapshotReader();

  [[nodiscard]] std::uint64_t size_bytes() const noexcept;
  /// What is kept as a whole: reads of its multiples cost least.
  [[nodiscard]] std::uint32_t chunk_bytes() const noexcept;

  /// Fills `out` with what the copy shows from `offset_bytes` on; preserved data is verified by its
  /// checksums. Any offset and size within size_bytes(). Errors: invalid_argument (beyond the end);
  /// snapshot_lost (what was opened has ended: the copy was deleted or lost, the volume detached,
  /// its diff area moved, or umbra-cowd restarted; open it again to see which); diff_area_corrupt
  /// (preserved data is damaged); io_error. On failure `out` holds anything.
  [[nodiscard]] Status read(std::uint64_t offset_bytes, std::span<std::byte> out) const;

 private:
  class Impl;
  explicit SnapshotReader(std::unique_ptr<Impl> impl) noexcept;
  std::unique_ptr<Impl> impl_;
};

}  // namespace umbra::requester
