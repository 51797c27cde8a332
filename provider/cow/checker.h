// SPDX-License-Identifier: Apache-2.0
//
// The inside of check(). Private to provider/cow. One class in two files: check.cc (superblocks,
// table, blobs), check_records.cc (index, preserved data).

#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <vector>

#include "provider/cow/check.h"
#include "provider/cow/chunk_map.h"
#include "provider/cow/index_scan.h"
#include "provider/format/diff_area.h"

namespace umbra::cow {

/// Reads the data of a group's records that `wanted` takes, run by run, and calls `bad` for each
/// that does not match its checksums. `before_read(bytes)`: false: stop. Errors: io_error; then the
/// rest was not looked at. Returns false if it was stopped.
[[nodiscard]] Result<bool> verify_group(
    block::Device& diff, const format::Layout& layout, const format::Group& group,
    const std::function<bool(std::uint32_t record)>& wanted,
    const std::function<bool(std::uint64_t bytes)>& before_read,
    const std::function<void(std::uint32_t record, std::uint64_t offset_bytes)>& bad);

/// Both places of a group, in the index. Errors: io_error; both are tried.
[[nodiscard]] Status write_group_at(block::Device& diff, const format::Layout& layout,
                                    std::uint64_t area, const format::Group& group,
                                    std::span<const std::uint32_t> places);

class Checker {
 public:
  Checker(block::Device& diff, const CheckOptions& options) : diff_(diff), options_(options) {}
  [[nodiscard]] Result<CheckReport> run();

 private:
  using Kind = Finding::Kind;

  // check.cc
  [[nodiscard]] Status check_superblocks();
  [[nodiscard]] bool check_table_segments();
  [[nodiscard]] Status check_table();
  [[nodiscard]] Status check_slot(std::uint32_t index, std::span<const std::byte> both);
  void take_slot(format::SnapshotSlot slot, std::uint64_t offset_bytes);
  [[nodiscard]] Status check_blobs();
  [[nodiscard]] bool claim_extents(const format::SnapshotSlot& slot);
  [[nodiscard]] Status check_blob(const format::SnapshotSlot& slot);
  [[nodiscard]] Status write(std::uint64_t offset_bytes, std::span<std::byte> bytes);
  /// Something that exists twice: `mend` writes the damaged one, if repair is asked for.
  [[nodiscard]] Status found_one_of_two(Kind kind, std::uint64_t offset_bytes, std::string what,
                                        const std::function<Status()>& mend);
  void found(Kind kind, std::uint64_t offset_bytes, std::string what,
             std::vector<SnapshotId> snapshots = {});
  [[nodiscard]] std::uint64_t blob_slots(std::uint64_t size_bytes) const noexcept {
    return (size_bytes + layout_->chunk_bytes - 1) / layout_->chunk_bytes;
  }

  // check_records.cc
  [[nodiscard]] Status check_index();
  void note_numbers(const IndexScan& scan);
  [[nodiscard]] Status check_groups();
  void check_gaps();
  void check_uses(const format::Uses& found_uses);
  void check_slots();
  [[nodiscard]] Status check_data();
  void load_records();
  [[nodiscard]] bool is_current(const format::Group& group, std::uint32_t record) const;
  [[nodiscard]] std::vector<SnapshotId> who_needs(const format::Group& group,
                                                  std::uint32_t record) const;
  [[nodiscard]] std::vector<SnapshotId> up_to(std::uint64_t epoch) const;

  block::Device& diff_;
  const CheckOptions& options_;
  CheckReport report_;
  format::Superblock superblock_;
  std::optional<format::Layout> layout_;
  std::uint64_t area_ = 0;
  std::uint64_t chunk_count_ = 0;
  std::uint64_t segments_ = 0;
  std::set<std::uint32_t> table_segments_;
  std::map<std::uint64_t, SnapshotId> living_;  // By epoch.
  std::set<std::uint64_t> epochs_;              // Of all.
  std::set<SnapshotId> ids_;
  std::vector<format::SnapshotSlot> blobs_;
  std::map<std::uint32_t, std::vector<bool>> blob_segments_;
  IndexScan scan_;
  std::uint64_t trusted_ = 0;
  std::unique_ptr<ChunkMap> map_;
  std::map<std::uint64_t, std::map<std::uint64_t, Home>> overlays_;
};

}  // namespace umbra::cow
