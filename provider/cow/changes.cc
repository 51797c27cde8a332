// SPDX-License-Identifier: Apache-2.0
//
// Changed blocks, and checkpoints that outlive their snapshots.
//
// Between two snapshots, or a snapshot and now, the records say what changed: a chunk was written
// between the points in time of epochs a and b if it has a record of an epoch in [a, b). Records go
// only where an older one of the chunk stays that is not older than any living snapshot. So the
// ends have to live until the answer is complete; whether they did is asked at the end.
//
// Since a checkpoint, the change log says it (change_log.h): records go with their snapshots. Its
// order of writes: "something in this region has changed" is durable before the first write to a
// chunk of it is issued, and while a checkpoint is made, the chunks that changed before.
#include <algorithm>
#include <array>
#include <bit>
#include <optional>

#include "engine/platform/assert.h"
#include "provider/cow/blobs.h"
#include "provider/cow/revert.h"

namespace umbra::cow {
namespace {

constexpr std::size_t kRangesAtATime = 1024;
constexpr std::uint64_t kNoEnd = ~std::uint64_t{0};
constexpr Guid kNoteKey{};  // There is one note for all checkpoints.

// Chunks in ascending order become ranges, which go to the sink many at a time.
class RangeWriter {
 public:
  RangeWriter(const ChangedSink& sink, std::uint64_t chunk_bytes, std::uint64_t end_bytes)
      : sink_(sink), chunk_bytes_(chunk_bytes), end_bytes_(end_bytes) {
    ranges_.reserve(kRangesAtATime);
  }
  /// False: the sink wants no more.
  [[nodiscard]] bool add(std::uint64_t first, std::uint64_t count) {
    const std::uint64_t begin = first * chunk_bytes_;
    const std::uint64_t size = std::min(count * chunk_bytes_, end_bytes_ - begin);
    if (!ranges_.empty() && ranges_.back().offset_bytes + ranges_.back().size_bytes == begin) {
      ranges_.back().size_bytes += size;
      return true;
    }
    // The last range is kept until it is known to be complete.
    if (ranges_.size() == kRangesAtATime && !flush()) return false;
    ranges_.push_back({begin, size});
    return true;
  }
  [[nodiscard]] bool flush() {
    const bool more = ranges_.empty() || sink_(ranges_);
    ranges_.clear();
    return more;
  }

 private:
  const ChangedSink& sink_;
  const std::uint64_t chunk_bytes_;
  const std::uint64_t end_bytes_;
  std::vector<ChangedRange> ranges_;
};

[[nodiscard]] Status check_name(const std::string& name) {
  const bool plain = std::none_of(name.begin(), name.end(),
                                  [](char c) { return static_cast<unsigned char>(c) < 0x20; });
  if (!name.empty() && name.size() <= kCheckpointNameBytesMax && plain) return {};
  return fail(Errc::invalid_argument, "a checkpoint's name has 1 to " +
                                          std::to_string(kCheckpointNameBytesMax) +
                                          " bytes and no control characters");
}

}  // namespace

// --- what changed ----------------------------------------------------------------------------

struct Volume::Impl::Comparison {
  std::uint64_t begin_chunk = 0;  // What is asked for.
  std::uint64_t end_chunk = 0;
  std::shared_ptr<Snapshot> from;
  std::shared_ptr<Snapshot> to;
  std::uint64_t first = 0;  // Epochs.
  std::uint64_t end = kNoEnd;
  bool records = true;  // The map knows; else only `others`.
  bool everything = false;
  ChunkSet others;                           // Chunks of which no record says that they changed.
  std::array<const Exemption*, 2> exempt{};  // Of the two ends.

  /// Of the 64 chunks from `chunk` on: those that an end shows nothing of.
  [[nodiscard]] std::uint64_t exempt_at(std::size_t which, std::uint64_t chunk) const noexcept {
    if (exempt[which] == nullptr) return 0;
    const ChunkSet::Page* const page = exempt[which]->free.page(chunk / ChunkSet::kPageChunks);
    return page != nullptr ? (*page)[chunk % ChunkSet::kPageChunks / 64] : 0;
  }
};

Result<std::shared_ptr<Snapshot>> Volume::Impl::end_of_comparison(const SnapshotId& id) const {
  auto snapshot = find_snapshot(id);
  if (!snapshot) return fail(Errc::object_not_found, "snapshot " + id.to_string());
  if (snapshot->slot.state == format::SlotState::prepared) {
    return fail(Errc::bad_state, "snapshot " + id.to_string() + " has no point in time yet");
  }
  if (snapshot->slot.lost) {
    return fail(Errc::snapshot_lost,
                "snapshot " + id.to_string() + "; what changed since it is not known any more");
  }
  return snapshot;
}

Result<Volume::Impl::Comparison> Volume::Impl::compare(const Guid& from,
                                                       const std::optional<SnapshotId>& to,
                                                       std::uint64_t begin_chunk,
                                                       std::uint64_t end_chunk) const {
  Comparison comparison;
  comparison.begin_chunk = begin_chunk;
  comparison.end_chunk = end_chunk;
  const std::lock_guard lock(mutex_);
  if (closed_.load()) return fail(Errc::bad_state, "the volume is closed");
  if (to) {
    auto end = end_of_comparison(*to);
    if (!end) return fail(end.error());
    comparison.to = std::move(*end);
    comparison.end = comparison.to->epoch;
  }
  if (const ChangeLog::Checkpoint* checkpoint = changes_.find(from); checkpoint != nullptr) {
    comparison.first = checkpoint->epoch;
    comparison.everything = checkpoint->everything;
    comparison.records = false;
  } else {
    auto begin = end_of_comparison(SnapshotId{from});
    if (!begin) return fail(begin.error(), "neither a checkpoint nor a living snapshot");
    comparison.from = std::move(*begin);
    comparison.first = comparison.from->epoch;
  }
  if (comparison.first > comparison.end) {
    return fail(Errc::invalid_argument,
                "the first point in time is the younger one; name them the other way round");
  }
  // While it is reverted the live volume shows what was written to the target, long before the
  // chunks are copied back and have records.
  const auto shown = revert_ != nullptr && !to ? revert_->target : nullptr;
  for (const auto& end : {comparison.from, comparison.to, shown}) {
    const Overlay* const overlay = end ? end->overlay() : nullptr;
    if (overlay == nullptr) continue;
    overlay->for_each([&](std::uint64_t chunk, Home) {
      if (chunk >= begin_chunk && chunk < end_chunk) (void)comparison.others.insert(chunk);
    });
  }
  if (comparison.from) comparison.exempt[0] = comparison.from->exemption();
  if (comparison.to) comparison.exempt[1] = comparison.to->exemption();
  // What is not copied back yet reads as the snapshot already, but is not entered in the log.
  if (revert_ != nullptr && !comparison.records && !to) comparison.everything = true;
  return comparison;
}

// The checkpoint cannot go meanwhile, nor intervals be joined: both take table_mutex_.
Status Volume::Impl::add_logged_changes(const Guid& from, Comparison& comparison) {
  const std::lock_guard table(table_mutex_);
  std::vector<std::uint64_t> intervals;
  {
    const std::lock_guard lock(mutex_);
    if (changes_.find(from) == nullptr) {
      return fail(Errc::object_not_found, "checkpoint " + from.to_string());
    }
    intervals = changes_.intervals(comparison.first, comparison.end);
  }
  for (const std::uint64_t interval : intervals) {
    const std::lock_guard lock(mutex_);
    comparison.others.merge(changes_.changed(interval), comparison.begin_chunk,
                            comparison.end_chunk);
  }
  return {};
}

bool Volume::Impl::report(const Comparison& comparison, const ChangedSink& sink) const {
  RangeWriter out(sink, layout_.chunk_bytes, superblock_.origin_bytes);
  const std::uint64_t first_chunk = comparison.begin_chunk;
  const std::uint64_t end_chunk = comparison.end_chunk;
  if (first_chunk >= end_chunk) return true;
  if (comparison.everything) return out.add(first_chunk, end_chunk - first_chunk) && out.flush();
  constexpr std::uint64_t kWords = ChunkMap::kPageChunks / 64;
  for (std::uint64_t page = first_chunk / ChunkMap::kPageChunks;
       page * ChunkMap::kPageChunks < end_chunk; ++page) {
    ChunkMap::PageMask mask{};
    if (comparison.records) mask = map_.changed(page, comparison.first, comparison.end);
    const std::uint64_t chunk = page * ChunkMap::kPageChunks;
    const ChunkSet::Page* const others = comparison.others.page(chunk / ChunkSet::kPageChunks);
    for (std::uint64_t i = 0; i < kWords; ++i) {
      // What both ends show nothing of has not changed, and what one of them does may have.
      const std::uint64_t exempt_from = comparison.exempt_at(0, chunk + i * 64);
      const std::uint64_t exempt_to = comparison.exempt_at(1, chunk + i * 64);
      std::uint64_t word = mask[i] & ~(exempt_from & exempt_to);
      word |= exempt_from ^ exempt_to;
      if (others != nullptr) word |= (*others)[chunk % ChunkSet::kPageChunks / 64 + i];
      const std::uint64_t word_begin = chunk + i * 64;
      if (word_begin + 64 <= first_chunk || word_begin >= end_chunk) continue;
      if (word_begin < first_chunk) word &= ~std::uint64_t{0} << (first_chunk - word_begin);
      if (word_begin + 64 > end_chunk) word &= ~(~std::uint64_t{0} << (end_chunk - word_begin));
      for (std::uint64_t at = 0; word >> at != 0;) {
        at += static_cast<std::uint64_t>(std::countr_zero(word >> at));
        const auto run = static_cast<std::uint64_t>(std::countr_one(word >> at));
        if (!out.add(word_begin + at, run)) return false;
        at += run;
        if (at >= 64) break;
      }
    }
  }
  return out.flush();
}

Status Volume::Impl::changed_blocks(const Guid& from, const std::optional<SnapshotId>& to,
                                    const ChangedSink& sink, std::uint64_t begin_bytes,
                                    std::uint64_t end_bytes) {
  const std::uint64_t chunk_bytes = layout_.chunk_bytes;
  const std::uint64_t past_end = end_bytes / chunk_bytes + (end_bytes % chunk_bytes != 0 ? 1 : 0);
  auto comparison = compare(from, to, begin_bytes / chunk_bytes, std::min(past_end, chunk_count_));
  if (!comparison) return fail(comparison.error());
  if (comparison->first == comparison->end && comparison->others.empty()) return {};
  if (!comparison->records) {
    if (Status added = add_logged_changes(from, *comparison); !added) return added;
  }
  (void)report(*comparison, sink);
  // Records of a snapshot that went meanwhile may have gone with it, unseen.
  for (const auto& end : {comparison->from, comparison->to}) {
    if (!end || end->readable.load() == Snapshot::Readable::yes) continue;
    return fail(Errc::object_not_found, "snapshot " + end->slot.id.to_string() +
                                            " went while its changes were listed; what was "
                                            "listed is not complete");
  }
  return {};
}

// --- checkpoints -----------------------------------------------------------------------------

Status Volume::Impl::check_checkpoint(const CheckpointRequest& request,
                                      const Snapshot& snapshot) const {
  if (snapshot.slot.state != format::SlotState::created) {
    return fail(Errc::bad_state, "the snapshot is not confirmed yet");
  }
  const auto& known = changes_.checkpoints();
  for (const ChangeLog::Checkpoint& checkpoint : known) {
    if (checkpoint.id != request.id && checkpoint.name != request.name) continue;
    return fail(Errc::object_already_exists, "checkpoint " + checkpoint.id.to_string() + " '" +
                                                 checkpoint.name + "'; delete it first");
  }
  if (known.size() >= kCheckpointsMax) {
    return fail(Errc::limit_reached, "a volume has at most " + std::to_string(kCheckpointsMax) +
                                         " checkpoints; delete one first");
  }
  return {};
}

Status Volume::Impl::create_checkpoint(const CheckpointRequest& request) {
  if (Status good = check_name(request.name); !good) return good;
  if (request.id.is_nil()) return fail(Errc::invalid_argument, "a checkpoint needs an id");
  // The snapshot stays while this is held: neither removing nor losing it goes without.
  const std::lock_guard table(table_mutex_);
  std::uint64_t epoch = 0;
  {
    const std::lock_guard lock(mutex_);
    if (closed_.load()) return fail(Errc::bad_state, "the volume is closed");
    const auto snapshot = end_of_comparison(request.snapshot);
    if (!snapshot) return fail(snapshot.error());
    if (Status good = check_checkpoint(request, **snapshot); !good) return good;
    epoch = (*snapshot)->epoch;
    ChangeLog::Checkpoint checkpoint;
    checkpoint.id = request.id;
    checkpoint.snapshot = request.snapshot;
    checkpoint.name = request.name;
    checkpoint.filetime = (*snapshot)->slot.creation_filetime;
    checkpoint.epoch = epoch;
    // What is written from here on is entered; the bits that are set stand for records that
    // enter_records() finds.
    changes_.add(std::move(checkpoint), points_in_time());
    if (const Overlay* const overlay = (*snapshot)->overlay(); overlay != nullptr) {
      overlay->for_each([&](std::uint64_t chunk, Home) { changes_.enter(chunk, epoch); });
    }
    // Nothing is recorded of them, and what comes after the snapshot may show what they hold.
    if (const Exemption* const exempt = (*snapshot)->exemption(); exempt != nullptr) {
      changes_.enter(exempt->free, epoch);
    }
  }
  enter_records(epoch);
  // What was written before the point in time is no change, so it must not go back to what it was.
  Status saved = flush_origin();
  if (saved) saved = save_changes();
  if (saved) return saved;
  const std::lock_guard lock(mutex_);
  changes_.remove(request.id);
  use_bits();
  return fail(saved.error(), "the checkpoint was not made");
}

std::vector<std::uint64_t> Volume::Impl::points_in_time() const {
  std::vector<std::uint64_t> epochs;
  for (const auto& [epoch, snapshot] : snapshots_) {
    if (snapshot != prepared_) epochs.push_back(epoch);
  }
  return epochs;
}

void Volume::Impl::enter_records(std::uint64_t since) {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> records;
  for (std::uint64_t page = 0; page < map_.page_count(); ++page) {
    records.clear();
    map_.for_each_record(page, since, [&](std::uint64_t chunk, std::uint64_t epoch) {
      records.emplace_back(chunk, epoch);
    });
    if (records.empty()) continue;
    const std::lock_guard lock(mutex_);
    for (const auto& [chunk, epoch] : records) changes_.enter(chunk, epoch);
  }
}

std::vector<CheckpointRecord> Volume::Impl::list_checkpoints() const {
  std::vector<CheckpointRecord> records;
  const std::lock_guard lock(mutex_);
  for (const ChangeLog::Checkpoint& checkpoint : changes_.checkpoints()) {
    CheckpointRecord record;
    record.id = CheckpointId{checkpoint.id};
    record.snapshot = checkpoint.snapshot;
    record.name = checkpoint.name;
    record.creation_filetime = checkpoint.filetime;
    record.epoch = checkpoint.epoch;
    record.everything = checkpoint.everything;
    records.push_back(std::move(record));
  }
  return records;
}

Status Volume::Impl::remove_checkpoint(const CheckpointId& id) {
  const std::lock_guard table(table_mutex_);
  std::optional<ChangeLog> log;
  {
    const std::lock_guard lock(mutex_);
    if (closed_.load()) return fail(Errc::bad_state, "the volume is closed");
    if (changes_.find(id) == nullptr) {
      return fail(Errc::object_not_found, "checkpoint " + id.to_string());
    }
    log.emplace(changes_);
  }
  // Who comes before it counts its chunks from now on.
  if (const ChangeLog::Checkpoint* heir = log->heir_of(id); heir != nullptr) {
    const auto bytes = log->encode(heir->id, id);
    if (Status put = blobs_->put(BlobKind::change_checkpoint, heir->id, bytes); !put) return put;
  }
  if (Status removed = blobs_->remove(BlobKind::change_checkpoint, id); !removed) return removed;
  const std::lock_guard lock(mutex_);
  changes_.remove(id);
  use_bits();
  return {};
}

// --- making it durable -----------------------------------------------------------------------

// What is noted from the moment of the copy on is noted anew, so that the old note may go when the
// copy is durable.
Status Volume::Impl::save_changes() {
  std::optional<ChangeLog> log;
  ChunkSet notes;
  {
    const std::lock_guard lock(mutex_);
    log.emplace(changes_);
    notes = changes_.take_notes();
  }
  // The youngest first: the part of a new one is there before the one before it gives it away.
  const auto& all = log->checkpoints();
  for (auto checkpoint = all.rbegin(); checkpoint != all.rend(); ++checkpoint) {
    const auto bytes = log->encode(checkpoint->id);
    if (Status put = blobs_->put(BlobKind::change_checkpoint, checkpoint->id, bytes); !put) {
      const std::lock_guard lock(mutex_);
      changes_.give_back_notes(notes);
      return put;
    }
  }
  {
    const std::lock_guard lock(mutex_);
    if (changes_.tracking()) changes_.notes_are_obsolete();
  }
  // The old note would only say more than has changed.
  if (const Status noted = write_note(); !noted) {
    log_.warning("the note of changed regions could not be renewed",
                 {{"volume", id().to_string()}, {"error", noted.error().to_string()}});
  }
  return {};
}

Status Volume::Impl::write_note() {
  ChangeLog::Note note;
  {
    const std::lock_guard lock(mutex_);
    note = changes_.make_note();
  }
  Status put = blobs_->put(BlobKind::noted_changes, kNoteKey, note.bytes);
  if (!put) return put;
  const std::lock_guard lock(mutex_);
  changes_.note_is_durable(note);
  return put;
}

void Volume::Impl::want_note(std::uint64_t chunk) noexcept {
  changes_.want(chunk);
  if (noting_) return;
  noting_ = true;
  post(&Impl::write_notes);
}

void Volume::Impl::write_notes() {
  RequestQueue waiters;
  bool held = false;
  for (bool more = true; more;) {
    Status written;
    {
      const std::lock_guard table(table_mutex_);
      written = write_note();
      if (!written) written = give_up_noting(written.error());
    }
    const std::lock_guard lock(mutex_);
    more = written && changes_.wanting();
    if (more) continue;
    held = !written;
    notes_held_ = held;
    noting_ = false;
    if (!held) waiters.append(unnoted_);
  }
  if (held) return;  // Tried again with the next write that needs it.
  resume(waiters);
}

// Nothing is written unnoted: that everything counts as changed is durable first.
Status Volume::Impl::give_up_noting(const Error& cause) {
  std::vector<SnapshotId> ids;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& checkpoint : changes_.checkpoints()) ids.push_back(SnapshotId{checkpoint.id});
  }
  Status recorded = fail(cause);
  if (ids.empty()) recorded = {};
  if (!ids.empty() && options_.lost_store != nullptr)
    recorded = options_.lost_store->add(id(), ids);
  if (!recorded) {
    log_.error("a change cannot be noted for checkpoints; writes to unchanged regions are held",
               {{"volume", id().to_string()}, {"error", recorded.error().to_string()}});
    return recorded;
  }
  log_.error("changes cannot be noted; for every checkpoint all of the volume counts as changed",
             {{"volume", id().to_string()}, {"error", cause.to_string()}});
  const std::lock_guard lock(mutex_);
  changes_.give_up();
  return {};
}

// --- open ------------------------------------------------------------------------------------

Status Volume::Impl::load_changes() {
  std::vector<std::vector<std::byte>> bytes;
  std::vector<ChangeLog::Loaded> loaded;
  const std::vector<Guid> ids = blobs_->list(BlobKind::change_checkpoint);
  if (ids.empty()) return {};
  bytes.reserve(ids.size());
  for (const Guid& checkpoint : ids) {
    auto read = blobs_->get(BlobKind::change_checkpoint, checkpoint);
    if (!read && read.error().code == Errc::io_error) return fail(read.error());
    bytes.push_back(read ? std::move(*read) : std::vector<std::byte>());
    loaded.push_back({checkpoint, bytes.back()});
  }
  auto note = blobs_->get(BlobKind::noted_changes, kNoteKey);
  if (!note && note.error().code == Errc::io_error) return fail(note.error());
  bool unknown = !note && note.error().code != Errc::object_not_found;
  const std::lock_guard lock(mutex_);
  changes_.load(loaded, note ? *note : std::vector<std::byte>(), points_in_time());
  if (options_.lost_store != nullptr) {
    const auto lost = options_.lost_store->list(id());
    if (!lost) return fail(lost.error());
    for (const Guid& lost_id : *lost) unknown = unknown || changes_.find(lost_id) != nullptr;
  }
  if (unknown) changes_.everything_changed();
  return {};
}

}  // namespace umbra::cow
