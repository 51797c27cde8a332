// SPDX-License-Identifier: Apache-2.0
//
// Reading the index of a diff area's segments, as open() and check() do: which groups are there, in
// which of their two places, and where some are missing. Changes nothing, decides nothing.

#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/platform/aligned.h"
#include "engine/platform/block.h"
#include "provider/format/diff_area.h"

namespace umbra::cow {

inline constexpr std::size_t kBatchesMax = 8;  // Groups of copies in flight per volume.
/// And one that no live write waits for (own_group.cc).
inline constexpr std::size_t kGroupsInFlightMax = kBatchesMax + 1;
/// Each may say as well that the use of a segment before it is over.
inline constexpr std::size_t kNumbersInFlightMax = 2 * kGroupsInFlightMax;
inline constexpr std::uint32_t kBatchChunksMax = 64;  // Records in a group.
inline constexpr std::uint32_t kBatchBytesMax = 512U << 10U;
inline constexpr std::uint64_t kRecoveryReadBytes = 256U << 10U;

/// The most records that a group has.
[[nodiscard]] std::uint32_t batch_chunks_of(std::uint32_t chunk_bytes) noexcept;

/// Reads all of `out`. `what`: for the error, io_error. Blocks.
[[nodiscard]] Status read_at(block::Device& device, std::uint64_t offset_bytes,
                             std::span<std::byte> out, const char* what);

/// What is needed to make sense of an area's bytes.
struct AreaView {
  block::Device& diff;
  const format::Layout& layout;
  std::uint64_t area = 0;
  std::uint64_t chunk_count = 0;
  std::uint32_t batch_chunks = 0;
};

/// Units between groups, or behind the last one, in which there is none, in both places.
struct IndexGap {
  std::uint32_t segment = 0;
  std::uint32_t unit = 0;
  std::uint32_t units = 0;
  std::uint64_t generation = 0;
  std::uint64_t sequence = 0;   // Of the first group missing here, as far as known.
  std::uint64_t epoch_max = 0;  // Of records that may have been here.
  bool dropped = false;         // Nobody misses it.
  bool tail = false;            // Behind the last group of a use that nothing says is over.
};
struct FoundGroup {
  format::Group group;
  std::uint8_t missing = 0;  // Bit 0, 1: it is not in that place, as far as that was looked at.
  bool mend = false;         // Write it again: it is not in both places, or nobody knows.
};
struct IndexScan {
  std::vector<FoundGroup> groups;
  std::vector<IndexGap> gaps;
};

/// The two places of a segment's index, read in pieces as they are asked for. What cannot be read
/// in one place is sought in the other.
class IndexReader {
 public:
  explicit IndexReader(const AreaView& view);
  void begin(std::uint32_t segment);
  /// The group at `unit` in one place, if it is of `generation` or a later one. Errors: io_error
  /// (neither place can be read).
  [[nodiscard]] Result<bool> decode(std::uint32_t copy, std::uint32_t unit,
                                    std::uint64_t generation, format::Group& out);

 private:
  enum class State : std::uint8_t { unknown, read, unreadable };
  // Little of the second place is wanted at a time.
  static constexpr std::array<std::uint64_t, 2> kPieceBytes = {kRecoveryReadBytes, 16U << 10U};
  static_assert(kRecoveryReadBytes % (16U << 10U) == 0);
  struct Place {
    AlignedBuffer buffer;
    std::vector<State> state;  // Of each piece.
  };

  [[nodiscard]] Status load(std::uint32_t copy, std::uint64_t piece);

  AreaView view_;
  std::uint32_t segment_ = 0;
  std::array<Place, 2> places_;
};

/// Once all segments are there: finds out about each tail which snapshots it may concern. A tail
/// whose number is trusted is damage: a use ends with a group that says so, or with its index.
/// `dropped` is set where nothing but that last group can be missing.
void judge_tails(const AreaView& view, IndexScan& scan);

/// Adds what a segment's newest use has. `both`: looks at both places of everything, else at the
/// second one only where the first shows nothing or a newer use may have begun.
[[nodiscard]] Status scan_segment(const AreaView& view, std::uint32_t segment, IndexReader& reader,
                                  bool both, IndexScan& scan);

}  // namespace umbra::cow
