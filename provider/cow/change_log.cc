// SPDX-License-Identifier: Apache-2.0
#include "provider/cow/change_log.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <tuple>
#include <utility>

#include "engine/platform/assert.h"

namespace umbra::cow {
namespace {

constexpr std::uint32_t kLayout = 1;  // Of both durable forms.
constexpr std::uint32_t kFlagEverything = 1;

void put(std::vector<std::byte>& out, std::uint64_t value, unsigned size_bytes) {
  for (unsigned i = 0; i < size_bytes; ++i) out.push_back(static_cast<std::byte>(value >> (8 * i)));
}
void put(std::vector<std::byte>& out, const Guid& id) {
  for (const std::uint8_t byte : id.bytes) out.push_back(static_cast<std::byte>(byte));
}

// Reads past the end give zeroes and are remembered.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) noexcept : bytes_(bytes) {}

  [[nodiscard]] bool good() const noexcept { return good_; }
  [[nodiscard]] std::span<const std::byte> rest() const noexcept { return bytes_; }
  [[nodiscard]] std::span<const std::byte> take(std::uint64_t count) noexcept {
    if (count > bytes_.size()) {
      good_ = false;
      return {};
    }
    const auto taken = bytes_.first(count);
    bytes_ = bytes_.subspan(count);
    return taken;
  }
  [[nodiscard]] std::uint64_t number(unsigned size_bytes) noexcept {
    std::uint64_t value = 0;
    unsigned shift = 0;
    for (const std::byte byte : take(size_bytes)) {
      value |= std::to_integer<std::uint64_t>(byte) << shift;
      shift += 8;
    }
    return value;
  }
  [[nodiscard]] Guid guid() noexcept {
    Guid id;
    const auto bytes = take(id.bytes.size());
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      id.bytes[i] = std::to_integer<std::uint8_t>(bytes[i]);
    }
    return id;
  }

 private:
  std::span<const std::byte> bytes_;
  bool good_ = true;
};

}  // namespace

ChangeLog::ChangeLog(std::uint64_t chunk_count) : chunk_count_(chunk_count) {
  while ((chunk_count_ + region_chunks_ - 1) / region_chunks_ > kRegionsMax) region_chunks_ *= 2;
}

const ChangeLog::Checkpoint* ChangeLog::find(const Guid& id) const noexcept {
  const auto it = std::find_if(checkpoints_.begin(), checkpoints_.end(),
                               [&](const Checkpoint& checkpoint) { return checkpoint.id == id; });
  return it != checkpoints_.end() ? &*it : nullptr;
}

bool ChangeLog::has_checkpoint(std::uint64_t epoch) const noexcept {
  return std::any_of(checkpoints_.begin(), checkpoints_.end(),
                     [&](const Checkpoint& checkpoint) { return checkpoint.epoch == epoch; });
}

// --- writes ----------------------------------------------------------------------------------

void ChangeLog::touch(std::uint64_t chunk) {
  if (!tracking()) return;
  if (log_.rbegin()->second.chunks.insert(chunk)) unsaved_ = true;
}

bool ChangeLog::noted(std::uint64_t chunk) const noexcept {
  return !tracking() || gave_up_ || noted_.contains(region_of(chunk));
}

void ChangeLog::want(std::uint64_t chunk) { (void)wanted_.insert(region_of(chunk)); }

ChangeLog::Note ChangeLog::make_note() const {
  Note note;
  note.wanted = wanted_;
  ChunkSet all = noted_;
  all.merge(wanted_);
  put(note.bytes, kLayout, 4);
  put(note.bytes, region_chunks_, 8);
  put(note.bytes, noted_since_, 8);
  all.encode(note.bytes);
  return note;
}

void ChangeLog::note_is_durable(const Note& note) {
  noted_.merge(note.wanted);
  note.wanted.for_each([&](std::uint64_t region) { wanted_.erase(region); });
}

void ChangeLog::everything_changed() {
  for (Checkpoint& checkpoint : checkpoints_) checkpoint.everything = true;
  unsaved_ = true;
}

void ChangeLog::give_up() {
  everything_changed();
  gave_up_ = true;
  wanted_.clear();
}

// --- points in time --------------------------------------------------------------------------

void ChangeLog::prepare(std::uint64_t epoch) {
  prepared_.clear();
  prepared_[epoch].at_snapshot = true;
}

void ChangeLog::commit() noexcept {
  if (tracking()) log_.merge(prepared_);
  prepared_.clear();
}

void ChangeLog::forget_snapshot(std::uint64_t epoch) {
  const auto interval = log_.find(epoch);
  if (interval == log_.end()) return;
  interval->second.at_snapshot = false;
  fold(interval);
}

// Becomes a part of the one before, if nothing is left where it begins.
void ChangeLog::fold(Intervals::iterator interval) {
  if (interval->second.at_snapshot || has_checkpoint(interval->first)) return;
  UMBRA_ASSERT(interval != log_.begin());
  ChunkSet& before = std::prev(interval)->second.chunks;
  if (before.empty()) {
    before = std::move(interval->second.chunks);
  } else {
    before.merge(interval->second.chunks);
  }
  log_.erase(interval);
}

// --- checkpoints -----------------------------------------------------------------------------

void ChangeLog::insert(Checkpoint checkpoint) {
  const auto at = std::upper_bound(checkpoints_.begin(), checkpoints_.end(), checkpoint,
                                   [](const Checkpoint& a, const Checkpoint& b) {
                                     return std::tie(a.epoch, a.id) < std::tie(b.epoch, b.id);
                                   });
  checkpoints_.insert(at, std::move(checkpoint));
}

void ChangeLog::add(Checkpoint checkpoint, std::span<const std::uint64_t> snapshots) {
  const std::uint64_t epoch = checkpoint.epoch;
  (void)log_[epoch];
  for (const std::uint64_t snapshot : snapshots) {
    if (snapshot >= epoch) log_[snapshot].at_snapshot = true;
  }
  insert(std::move(checkpoint));
  gave_up_ = false;
  unsaved_ = true;
}

void ChangeLog::enter(std::uint64_t chunk, std::uint64_t epoch) {
  const auto after = log_.upper_bound(epoch);
  if (after == log_.begin()) return;
  (void)std::prev(after)->second.chunks.insert(chunk);
  unsaved_ = true;
}

void ChangeLog::enter(const ChunkSet& chunks, std::uint64_t epoch) {
  const auto after = log_.upper_bound(epoch);
  if (after == log_.begin()) return;
  std::prev(after)->second.chunks.merge(chunks);
  unsaved_ = true;
}

void ChangeLog::drop_before_first() {
  while (!log_.empty() && log_.begin()->first < checkpoints_.front().epoch) {
    log_.erase(log_.begin());
  }
}

void ChangeLog::remove(const Guid& id) {
  const auto it = std::find_if(checkpoints_.begin(), checkpoints_.end(),
                               [&](const Checkpoint& checkpoint) { return checkpoint.id == id; });
  if (it == checkpoints_.end()) return;
  const std::uint64_t epoch = it->epoch;
  checkpoints_.erase(it);
  if (checkpoints_.empty()) {
    log_.clear();
    noted_.clear();
    wanted_.clear();
    gave_up_ = unsaved_ = false;
    return;
  }
  drop_before_first();
  if (const auto interval = log_.find(epoch); interval != log_.end()) fold(interval);
}

const ChangeLog::Checkpoint* ChangeLog::heir_of(const Guid& id) const noexcept {
  const Checkpoint* const checkpoint = find(id);
  return checkpoint == nullptr || checkpoint == checkpoints_.data() ? nullptr : checkpoint - 1;
}

std::vector<std::uint64_t> ChangeLog::intervals(std::uint64_t first, std::uint64_t end) const {
  std::vector<std::uint64_t> begins;
  for (auto it = log_.lower_bound(first); it != log_.end() && it->first < end; ++it) {
    begins.push_back(it->first);
  }
  return begins;
}

// --- durable forms ---------------------------------------------------------------------------

std::vector<std::byte> ChangeLog::encode(const Guid& id, const Guid& without) const {
  const Checkpoint* const checkpoint = find(id);
  UMBRA_ASSERT(checkpoint != nullptr);
  const Checkpoint* next = checkpoint + 1;
  const Checkpoint* const last = checkpoints_.data() + checkpoints_.size();
  if (next != last && next->id == without) ++next;
  const auto begin = log_.lower_bound(checkpoint->epoch);
  const auto end = next != last ? log_.lower_bound(next->epoch) : log_.end();

  std::vector<std::byte> out;
  put(out, kLayout, 4);
  put(out, checkpoint->everything ? kFlagEverything : 0, 4);
  put(out, checkpoint->snapshot);
  put(out, static_cast<std::uint64_t>(checkpoint->filetime), 8);
  put(out, checkpoint->epoch, 8);
  put(out, checkpoint->name.size(), 4);
  for (const char c : checkpoint->name) out.push_back(static_cast<std::byte>(c));
  put(out, static_cast<std::uint64_t>(std::distance(begin, end)), 4);
  std::vector<std::byte> chunks;
  for (auto it = begin; it != end; ++it) {
    chunks.clear();
    it->second.chunks.encode(chunks);
    put(out, it->first, 8);
    put(out, chunks.size(), 4);
    out.insert(out.end(), chunks.begin(), chunks.end());
  }
  return out;
}

ChunkSet ChangeLog::take_notes() {
  unsaved_ = false;
  return std::exchange(noted_, {});
}

void ChangeLog::give_back_notes(const ChunkSet& notes) {
  unsaved_ = true;
  noted_.merge(notes);
}

// What cannot be read still is a checkpoint: one that says that everything has changed since ever.
void ChangeLog::decode(const Loaded& loaded) {
  Reader in(loaded.bytes);
  Checkpoint checkpoint;
  Intervals intervals;
  checkpoint.id = loaded.id;
  bool good = in.number(4) == kLayout;
  checkpoint.everything = (in.number(4) & kFlagEverything) != 0;
  checkpoint.snapshot = SnapshotId{in.guid()};
  checkpoint.filetime = static_cast<std::int64_t>(in.number(8));
  checkpoint.epoch = in.number(8);
  for (const std::byte byte : in.take(in.number(4))) {
    checkpoint.name.push_back(std::to_integer<char>(byte));
  }
  for (std::uint64_t left = in.number(4); good && left > 0; --left) {
    const std::uint64_t epoch = in.number(8);
    const auto bytes = in.take(in.number(4));
    auto chunks = ChunkSet::decode(bytes, chunk_count_);
    good = in.good() && chunks && epoch >= checkpoint.epoch;
    if (good) intervals[epoch].chunks = std::move(*chunks);
  }
  if (!good || !in.good() || !in.rest().empty()) {
    checkpoint = {};
    checkpoint.id = loaded.id;
    checkpoint.everything = true;
    intervals.clear();
  }
  (void)log_[checkpoint.epoch];
  for (auto& [epoch, interval] : intervals) log_[epoch].chunks.merge(interval.chunks);
  insert(std::move(checkpoint));
}

// A change that was noted may belong to any interval since everything was saved. That is not always
// the newest checkpoint: its bytes come before those of the others.
void ChangeLog::apply_note(std::span<const std::byte> note) {
  Reader in(note);
  const bool good = in.number(4) == kLayout && in.number(8) == region_chunks_;
  noted_since_ = in.number(8);
  const auto regions = ChunkSet::decode(in.rest(), (chunk_count_ - 1) / region_chunks_ + 1);
  if (!good || !in.good() || !regions) {
    everything_changed();
    return;
  }
  noted_ = *regions;
  auto it = log_.upper_bound(noted_since_);
  if (it != log_.begin()) --it;  // The interval in which that epoch lies.
  for (; it != log_.end(); ++it) {
    regions->for_each([&](std::uint64_t region) {
      const std::uint64_t first = region * region_chunks_;
      it->second.chunks.insert_range(first, std::min(region_chunks_, chunk_count_ - first));
    });
  }
}

void ChangeLog::load(std::span<const Loaded> checkpoints, std::span<const std::byte> note,
                     std::span<const std::uint64_t> snapshots) {
  if (checkpoints.empty()) return;
  for (const Loaded& loaded : checkpoints) decode(loaded);
  drop_before_first();
  for (const std::uint64_t epoch : snapshots) {
    if (epoch >= checkpoints_.front().epoch) log_[epoch].at_snapshot = true;
  }
  for (auto it = log_.begin(); it != log_.end();) fold(it++);
  if (!note.empty()) apply_note(note);
  unsaved_ = unsaved_ || !noted_.empty();
}

}  // namespace umbra::cow
