// SPDX-License-Identifier: Apache-2.0
//
// One pass of scrub. Private to scrub*.cc: scrub.cc has the index and preserved data,
// scrub_tables.cc what lies before them.

#pragma once

#include <functional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "provider/cow/blobs.h"
#include "provider/cow/checker.h"
#include "provider/cow/core.h"

namespace umbra::cow {

// A read that shut_down() waits for. Threads: the caller's.
class Volume::Impl::ScrubPass {
 public:
  ScrubPass(Impl& impl, const ScrubProgress& progress, std::uint64_t bytes_per_second);
  ~ScrubPass();
  ScrubPass(const ScrubPass&) = delete;
  ScrubPass& operator=(const ScrubPass&) = delete;

  [[nodiscard]] Result<CheckReport> run();

 private:
  /// Before so many bytes are read. False: no more.
  [[nodiscard]] bool go_on(std::uint64_t bytes);
  void pace();
  /// False: not now. True: end_busy() has to follow.
  [[nodiscard]] bool begin_mending();
  /// Reports it, and writes it if that may be.
  void mend(std::uint64_t offset_bytes, std::string what, const std::function<Status()>& write);

  // scrub_tables.cc
  [[nodiscard]] Status look_at_tables();
  void look_at_superblocks();                                               // table_mutex_
  void look_at_slot(std::uint32_t index, std::span<const std::byte> both);  // table_mutex_
  void write_known_slot(std::uint32_t index, std::uint64_t offset_bytes);   // table_mutex_
  void look_at_blobs();
  void write_known_blob(const Blobs::Name& name, std::uint64_t offset_bytes);  // table_mutex_

  // scrub.cc
  [[nodiscard]] bool pin(std::uint32_t segment);
  void unpin(std::uint32_t segment);
  [[nodiscard]] Status look_at(std::uint32_t segment);
  void found_gap(const IndexGap& gap);
  void mend_group(const FoundGroup& found);
  void judge_missing_ends();
  [[nodiscard]] std::vector<SnapshotId> living_up_to(std::uint64_t epoch) const;
  /// Null: nothing that counts was written to a snapshot of this epoch.
  [[nodiscard]] std::shared_ptr<Snapshot> written_to(std::uint64_t epoch) const;
  [[nodiscard]] bool is_current(const format::Group& group, std::uint32_t record,
                                std::uint32_t slot) const;
  void found_damage(const format::Group& group, std::uint32_t record, std::uint64_t offset_bytes);
  [[nodiscard]] Status verify(const format::Group& group);

  Impl& impl_;
  AreaView view_;
  IndexReader reader_;
  const ScrubProgress& progress_;
  const std::uint64_t rate_;  // 0: as fast as it goes.
  const TimePoint begun_;
  CheckReport report_;
  std::uint64_t done_ = 0;
  std::uint64_t completed_ = 0;  // Groups up to here.
  std::vector<IndexGap> missing_ends_;
  std::set<std::uint64_t> first_sequences_;  // Of uses.
};

}  // namespace umbra::cow
