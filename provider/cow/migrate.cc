// SPDX-License-Identifier: Apache-2.0
//
// One move of a diff area, step by step:
//
//   look at the target; its superblocks say "arriving"; what must not look like ours is cleared
//   track what is written (movable_device.h)
//   copy the snapshot table and every segment in use, and verify what has checksums
//   copy again what was written meanwhile, until little is left
//   let writes wait; copy the rest; flush; superblocks: target "arriving" with today's content,
//   source "moved", target in force; from now on the volume uses the target
//
// Each step of the background counts as busy, and waits while writes are held for a commit: so
// quiesce() waits for it, and nothing is written between a hold and its release.
//
// Locks: the switch takes table_mutex_ and grow_mutex_ as everybody does who changes superblock or
// size; the background takes none but mutex_, for moments.
#include "provider/cow/migrate.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "engine/platform/assert.h"
#include "engine/platform/crc32c.h"
#include "provider/cow/core.h"
#include "provider/cow/superblocks.h"

namespace umbra::cow {
namespace {

constexpr std::uint64_t kPieceBytes = 256U << 10U;  // One step: a hold waits for no more.
constexpr std::uint64_t kFirstPart = format::kTableOffset / MovableDevice::kPartBytes;
static_assert(format::kTableOffset % MovableDevice::kPartBytes == 0,
              "superblocks are never copied, but written");
constexpr std::uint64_t kRestBytesMin = 1U << 20U;  // So much may always be left for the switch.
constexpr std::uint32_t kPassesMax = 64;
constexpr Duration kHoldWaitMax = std::chrono::seconds(30);  // More than a lease.
constexpr Duration kPaceSlice = std::chrono::milliseconds(100);
constexpr Duration kSourceWaitMax = std::chrono::seconds(30);
/// Room to grow in while the area is moved.
constexpr std::uint64_t kGrowthBytesMin = std::uint64_t{64} << 30U;

}  // namespace

// Lives as long as one call of migrate(), on its thread.
class Volume::Impl::Mover {
 public:
  Mover(Impl& impl, block::ResizableDevice& target, const MigrateOptions& options,
        const OnMigrateProgress& on_progress)
      : impl_(impl),
        layout_(impl.layout_),
        target_(target),
        options_(options),
        on_progress_(on_progress),
        move_id_(Guid::random()),
        buffer_(make_aligned(kPieceBytes)) {}

  [[nodiscard]] Result<MigrateReport> run() {
    if (Status begun = begin(); !begun) return fail(begun.error());
    Status moved = copy_all();
    for (std::uint32_t attempt = 0; moved && !switched_; ++attempt) moved = switch_over(attempt);
    impl_.movable_.stop_tracking();
    if (doubtful_) lose_everything();
    if (!moved) {
      // Worth nothing; who finds it need not wonder.
      if (!doubtful_) (void)erase_superblocks(target_);
      return fail(moved.error());
    }
    report_.source_left = impl_.movable_.left(kSourceWaitMax);
    return report_;
  }

 private:
  // --- before the first byte ---------------------------------------------------------------------

  [[nodiscard]] Status begin() {
    const block::Geometry geometry = target_.geometry();
    if (geometry.read_only) return fail(Errc::invalid_argument, "the target is read-only");
    if (geometry.block_bytes > layout_.unit_bytes ||
        geometry.alignment_bytes > format::kBlockBytes) {
      return fail(Errc::invalid_argument, "the target has larger sectors than the diff area");
    }
    if (impl_.diff_flush_failed_.load()) {
      return fail(Errc::bad_state, "the diff area's device has failed: what it holds is not known");
    }
    if (!impl_.movable_.left(Duration::zero())) {
      return fail(Errc::bad_state, "reads of the last move's device are still in flight");
    }
    if (Status unlocked = impl_.check_retention({}); !unlocked) return unlocked;
    if (!options_.force) {
      if (Status free = refuse_to_overwrite(target_); !free) return free;
    }
    const bool fresh = geometry.size_bytes == 0;
    if (Status fits = fit_target(); !fits) return fits;
    format::Superblock arriving;
    {
      const std::lock_guard table(impl_.table_mutex_);
      arriving = impl_.superblock_;
    }
    arriving.move = {format::MoveState::arriving, move_id_, options_.from_path};
    if (Status written = write_superblocks(target_, arriving); !written) return written;
    if (!fresh) {
      if (Status cleared = clear_indexes(); !cleared) return cleared;
    }
    if (!impl_.movable_.park(options_.hold_max)) {
      return fail(Errc::bad_state, "the diff area's device does not answer");
    }
    const std::uint64_t size = impl_.movable_.geometry().size_bytes;
    impl_.movable_.start_tracking(std::max(2 * size, size + kGrowthBytesMin));
    impl_.movable_.unpark();
    return {};
  }

  // As large as the old one, so that the same segments exist.
  [[nodiscard]] Status fit_target() {
    const std::uint64_t wanted = impl_.movable_.geometry().size_bytes;
    if (target_.geometry().size_bytes < wanted) {
      const Status grown = target_.resize(wanted);
      if (!grown && grown.error().code != Errc::not_supported) return grown;
    }
    if (layout_.segments_in(target_.geometry().size_bytes) >= layout_.segments_in(wanted)) {
      return {};
    }
    return fail(Errc::insufficient_storage, "the target has " +
                                                std::to_string(target_.geometry().size_bytes) +
                                                " bytes, the diff area " + std::to_string(wanted));
  }

  // A device may hold groups of this very area, from before an earlier move.
  [[nodiscard]] Status clear_indexes() {
    const std::uint64_t count = layout_.segments_in(target_.geometry().size_bytes);
    for (std::uint64_t segment = 0; segment < count; ++segment) {
      if (Status go = go_on(); !go) return go;
      block::Request zeroes;
      zeroes.op = block::Op::write_zeroes;
      zeroes.no_hole = true;
      zeroes.offset_bytes = layout_.unit_offset(static_cast<std::uint32_t>(segment), 0, 0);
      zeroes.size_bytes = layout_.data_offset;
      const Status cleared = step([&] {
        const int error = block::run(target_, zeroes);
        if (error == 0) return Status{};
        return Status(fail(Errc::io_error, "clearing the target: errno " + std::to_string(error)));
      });
      if (!cleared) return cleared;
    }
    return {};
  }

  // --- the background ----------------------------------------------------------------------------

  [[nodiscard]] Status go_on() {
    if (on_progress_ && !on_progress_(report_.done)) {
      return fail(Errc::bad_state, "the move was given up");
    }
    return {};
  }

  // One piece of work that a hold has to wait for.
  template <class Work>
  [[nodiscard]] Status step(const Work& work) {
    if (Status begun = begin_busy(); !begun) return begun;
    Status done = work();
    impl_.end_busy();
    return done;
  }
  [[nodiscard]] Status begin_busy() {
    std::unique_lock lock(impl_.mutex_);
    // Asked again now and then: nobody tells when a hold ends, so that a release costs nothing.
    constexpr Duration kAskAgain = std::chrono::milliseconds(5);
    for (Duration waited{}; impl_.holds_ > 0 && !impl_.closed_.load(); waited += kAskAgain) {
      if (waited >= kHoldWaitMax) return fail(Errc::bad_state, "writes are held for too long");
      (void)impl_.idle_.wait_for(lock, kAskAgain, [this] { return impl_.holds_ == 0; });
    }
    if (impl_.closed_.load()) return fail(Errc::bad_state, "the volume is being closed");
    ++impl_.busy_;
    return {};
  }

  [[nodiscard]] Status copy_all() {
    std::vector<std::uint32_t> used;
    {
      const std::lock_guard lock(impl_.mutex_);
      for (std::uint64_t i = 0; i < impl_.segments_.count(); ++i) {
        const auto segment = static_cast<std::uint32_t>(i);
        if (impl_.segments_.in_use(segment)) used.push_back(segment);
      }
    }
    report_.done.bytes_total =
        format::kSegmentsOffset - format::kTableOffset + used.size() * layout_.segment_bytes;
    report_.done.passes = 1;
    begun_ = system_clock().now();
    if (Status copied = copy_range(format::kTableOffset, format::kSegmentsOffset); !copied) {
      return copied;
    }
    segment_ = make_aligned(layout_.segment_bytes);
    for (const std::uint32_t segment : used) {
      if (Status copied = copy_segment(segment); !copied) return copied;
    }
    segment_.reset();
    return catch_up();
  }

  [[nodiscard]] Status catch_up() {
    for (std::uint64_t left = impl_.movable_.marked_bytes(); left > rest_bytes_max();) {
      if (report_.done.passes == kPassesMax) {
        return fail(Errc::limit_reached,
                    "the diff area is written faster than it can be copied; move it when the "
                    "volume is used less");
      }
      ++report_.done.passes;
      if (Status copied = copy_marked(std::nullopt); !copied) return copied;
      left = impl_.movable_.marked_bytes();
    }
    return {};
  }

  // What can be copied in half of the time that writes may wait.
  [[nodiscard]] std::uint64_t rest_bytes_max() const {
    const double seconds = std::chrono::duration<double>(system_clock().now() - begun_).count();
    if (seconds <= 0) return kRestBytesMin;
    const double rate = static_cast<double>(report_.done.bytes_copied) / seconds;
    const double hold = std::chrono::duration<double>(options_.hold_max).count();
    return std::max(kRestBytesMin, static_cast<std::uint64_t>(rate * hold / 2));
  }

  [[nodiscard]] Status copy_range(std::uint64_t begin, std::uint64_t end) {
    for (std::uint64_t at = begin; at < end; at += kPieceBytes) {
      if (Status go = go_on(); !go) return go;
      const std::span<std::byte> bytes(buffer_.get(), std::min(kPieceBytes, end - at));
      if (Status copied = step([&] { return copy_piece(at, bytes); }); !copied) return copied;
    }
    return {};
  }
  [[nodiscard]] Status copy_piece(std::uint64_t at, std::span<std::byte> bytes) {
    if (Status read = transfer(impl_.movable_.current(), block::Op::read, at, bytes, "reading");
        !read) {
      return read;
    }
    return write_piece(at, bytes);
  }
  [[nodiscard]] Status write_piece(std::uint64_t at, std::span<std::byte> bytes) {
    Status written = transfer(target_, block::Op::write, at, bytes, "writing to the target");
    if (written) report_.done.bytes_copied += bytes.size();
    return written;
  }

  // All marked parts, once. `give_up`: no later than this.
  [[nodiscard]] Status copy_marked(std::optional<TimePoint> give_up) {
    constexpr std::uint64_t kParts = kPieceBytes / MovableDevice::kPartBytes;
    std::uint64_t part = kFirstPart;
    while (const auto run = impl_.movable_.take_marked(part, kParts)) {
      part = run->first + run->count;
      const std::uint64_t at = run->first * MovableDevice::kPartBytes;
      const std::uint64_t end = std::min(part * MovableDevice::kPartBytes,
                                         impl_.movable_.current().geometry().size_bytes);
      if (at >= end) continue;
      const std::span<std::byte> bytes(buffer_.get(), end - at);
      Status copied;
      if (give_up) {
        copied = system_clock().now() < *give_up ? copy_piece(at, bytes) : Status(too_slow());
      } else {
        if (Status go = go_on(); !go) return go;
        copied = step([&] { return copy_piece(at, bytes); });
      }
      if (copied) continue;
      impl_.movable_.mark(at, bytes.size());
      return copied;
    }
    return {};
  }
  [[nodiscard]] static tl::unexpected<Error> too_slow() {
    return fail(Errc::flush_writes_timeout, "the last part could not be copied in time");
  }

  // --- one segment, with its checksums -----------------------------------------------------------

  [[nodiscard]] Status copy_segment(std::uint32_t segment) {
    bool closed = false;
    {
      const std::lock_guard lock(impl_.mutex_);
      closed = impl_.segments_.is_closed(segment);
    }
    const std::uint64_t generation = impl_.segments_.generation(segment);
    const std::uint64_t begin = layout_.unit_offset(segment, 0, 0);
    unreadable_.assign(layout_.segment_bytes / format::kBlockBytes, false);
    any_unreadable_ = false;
    for (std::uint64_t at = 0; at < layout_.segment_bytes; at += kPieceBytes) {
      if (Status go = go_on(); !go) return go;
      const std::span<std::byte> bytes(segment_.get() + at,
                                       std::min(kPieceBytes, layout_.segment_bytes - at));
      if (Status read = step([&] { return read_piece(begin, at, bytes); }); !read) return read;
    }
    if (any_unreadable_ && !closed) return unreadable(segment);
    if (closed) {
      const auto damaged = count_damage(segment, generation);
      if (!damaged) return unreadable(segment);
      // Else it was taken into use again meanwhile, and will be copied again.
      if (impl_.segments_.generation(segment) == generation) note_damage(segment, *damaged);
    }
    for (std::uint64_t at = 0; at < layout_.segment_bytes; at += kPieceBytes) {
      const std::span<std::byte> bytes(segment_.get() + at,
                                       std::min(kPieceBytes, layout_.segment_bytes - at));
      if (Status written = step([&] { return write_piece(begin + at, bytes); }); !written) {
        return written;
      }
      if (Status due = pace(); !due) return due;
    }
    return {};
  }
  [[nodiscard]] static tl::unexpected<Error> unreadable(std::uint32_t segment) {
    return fail(Errc::io_error, "segment " + std::to_string(segment) +
                                    " of the diff area cannot be read where nothing would tell "
                                    "what is missing");
  }

  // What cannot be read becomes zeroes, block by block, and is remembered.
  [[nodiscard]] Status read_piece(std::uint64_t segment_begin, std::uint64_t at,
                                  std::span<std::byte> bytes) {
    block::Device& source = impl_.movable_.current();
    if (transfer(source, block::Op::read, segment_begin + at, bytes, "reading")) return {};
    for (std::uint64_t done = 0; done < bytes.size(); done += format::kBlockBytes) {
      const auto block = bytes.subspan(done, format::kBlockBytes);
      if (transfer(source, block::Op::read, segment_begin + at + done, block, "reading")) continue;
      std::fill(block.begin(), block.end(), std::byte{0});
      unreadable_[(at + done) / format::kBlockBytes] = true;
      any_unreadable_ = true;
    }
    return {};
  }

  // Nothing: something could not be read that no checksum would miss.
  [[nodiscard]] std::optional<std::uint64_t> count_damage(std::uint32_t segment,
                                                          std::uint64_t generation) {
    const std::uint64_t blocks = layout_.index_bytes / format::kBlockBytes;
    for (std::uint64_t block = 0; block < blocks; ++block) {
      if (unreadable_[block] && unreadable_[blocks + block]) return std::nullopt;
    }
    std::uint64_t damaged = 0;
    format::Group group;
    for (std::uint32_t unit = 0; unit < layout_.index_units;) {
      if (!decode(segment, unit, generation, group)) {
        ++unit;
        continue;
      }
      unit += group.header.units;
      const auto found = count_damage(group);
      if (!found) return std::nullopt;
      damaged += *found;
    }
    return damaged;
  }
  [[nodiscard]] bool decode(std::uint32_t segment, std::uint32_t unit, std::uint64_t generation,
                            format::Group& out) const {
    for (std::uint64_t copy = 0; copy < 2; ++copy) {
      const std::uint64_t at = std::uint64_t{unit} * layout_.unit_bytes;
      const std::span<const std::byte> bytes(
          segment_.get() + copy * layout_.index_bytes + at,
          std::uint64_t{layout_.index_units} * layout_.unit_bytes - at);
      if (format::decode_group(layout_, impl_.area_, segment, unit, impl_.chunk_count_, bytes,
                               out) &&
          out.header.generation == generation) {
        return true;
      }
    }
    return false;
  }
  [[nodiscard]] std::optional<std::uint64_t> count_damage(const format::Group& group) const {
    std::uint64_t damaged = 0;
    std::uint64_t slot = group.header.first_slot;
    const std::uint32_t sums = layout_.checksums_per_chunk;
    for (std::size_t i = 0; i < group.chunks.size(); ++i) {
      if (!format::has_data(group.flags[i])) continue;
      const std::uint64_t begin = layout_.data_offset + slot++ * layout_.chunk_bytes;
      for (std::uint32_t k = 0; k < sums; ++k) {
        const std::uint64_t at = begin + std::uint64_t{k} * format::kBlockBytes;
        if ((group.flags[i] & format::kEntryUnchecked) != 0) {
          if (unreadable_[at / format::kBlockBytes]) return std::nullopt;
          continue;
        }
        const std::span<const std::byte> block(segment_.get() + at, format::kBlockBytes);
        if (crc32c(block) != group.checksums[i * sums + k]) damaged += block.size();
      }
    }
    return damaged;
  }
  void note_damage(std::uint32_t segment, std::uint64_t bytes) {
    if (bytes == 0) return;
    report_.done.bytes_damaged += bytes;
    impl_.log_.error("preserved data is damaged, and is moved as it is",
                     {{"volume", impl_.id().to_string()}, {"segment", segment}, {"bytes", bytes}});
  }

  // Waits until the bytes so far are due, and asks now and then whether it is to be given up.
  [[nodiscard]] Status pace() {
    if (options_.bytes_per_second_max == 0) return {};
    constexpr double kDueSecondsMax = 1e9;  // What a Duration holds.
    const double due =
        std::min(kDueSecondsMax, static_cast<double>(report_.done.bytes_copied) /
                                     static_cast<double>(options_.bytes_per_second_max));
    const TimePoint until =
        begun_ + std::chrono::duration_cast<Duration>(std::chrono::duration<double>(due));
    for (;;) {
      {
        std::unique_lock lock(impl_.mutex_);
        const Duration rest = until - system_clock().now();
        if (rest <= Duration::zero() || impl_.closed_.load()) return {};
        (void)impl_.idle_.wait_for(lock, std::min(rest, kPaceSlice),
                                   [&] { return impl_.closed_.load(); });
      }
      if (Status go = go_on(); !go) return go;
    }
  }

  // --- the switch --------------------------------------------------------------------------------

  [[nodiscard]] Status switch_over(std::uint32_t attempt) {
    constexpr std::uint32_t kAttemptsMax = 8;
    if (attempt == kAttemptsMax) return too_slow();
    if (Status go = go_on(); !go) return go;
    if (Status fits = fit_target(); !fits) return fits;
    if (attempt > 0) {
      if (Status caught_up = catch_up(); !caught_up) return caught_up;
    }
    const std::lock_guard table(impl_.table_mutex_);
    const std::lock_guard grow(impl_.grow_mutex_);
    if (impl_.movable_.geometry().size_bytes > target_.geometry().size_bytes &&
        layout_.segments_in(impl_.movable_.geometry().size_bytes) >
            layout_.segments_in(target_.geometry().size_bytes)) {
      return {};  // Grown meanwhile: once more.
    }
    return step([this] { return switch_parked(); });
  }

  [[nodiscard]] Status switch_parked() {
    const TimePoint begin = system_clock().now();
    if (!impl_.movable_.park(options_.hold_max)) return {};
    Status switched = copy_marked(begin + options_.hold_max);
    const bool again = !switched && switched.error().code == Errc::flush_writes_timeout;
    if (switched && impl_.diff_flush_failed_.load()) {
      switched = fail(Errc::bad_state, "the diff area's device has failed meanwhile");
    }
    if (switched) switched = change_superblocks();
    report_.held = std::max(report_.held, Duration(system_clock().now() - begin));
    impl_.movable_.unpark();
    if (switched) switched_ = true;
    return again ? Status{} : switched;
  }

  // With writes waiting. Afterwards exactly one of the two can be opened, or settled.
  [[nodiscard]] Status change_superblocks() {
    format::Superblock arriving = impl_.superblock_;
    arriving.clean = false;
    {
      const std::lock_guard lock(impl_.mutex_);
      arriving.trusted_sequence = std::max(arriving.trusted_sequence, impl_.completed_sequence_);
    }
    arriving.move = {format::MoveState::arriving, move_id_, options_.from_path};
    // The flush of the first of them covers all that was copied.
    if (Status written = write_superblocks(target_, arriving); !written) return written;
    format::Superblock moved = impl_.superblock_;
    moved.move = {format::MoveState::moved, move_id_, options_.to_path};
    format::Superblock in_force = arriving;
    in_force.move = {};
    if (const Status said = write_superblocks(impl_.movable_.current(), moved); !said) {
      // Nobody knows what the old one says now. It is made to say that it is in force, else the new
      // one is.
      impl_.superblock_.sequence = moved.sequence;
      if (write_superblocks(impl_.movable_.current(), impl_.superblock_)) return said;
      if (Status written = write_superblocks(target_, in_force); !written) {
        doubtful_ = true;
        return said;
      }
    } else if (const Status written = write_superblocks(target_, in_force); !written) {
      report_.settled = false;
      impl_.log_.error(
          "the new diff area is in force, but could not be told so",
          {{"volume", impl_.id().to_string()}, {"error", written.error().to_string()}});
    }
    impl_.superblock_ = in_force;
    impl_.movable_.stop_tracking();
    impl_.movable_.replace(target_);
    forget_source();
    return {};
  }

  // What was learned about the space of the device before says nothing of this one. grow_mutex_
  void forget_source() {
    impl_.host_space_ = options_.host_space;
    const block::Geometry geometry = target_.geometry();
    const std::lock_guard lock(impl_.mutex_);
    impl_.end_watches();
    SpaceState& space = impl_.space_;
    space.fixed_size = false;
    space.no_punching = !geometry.can_discard;
    space.host_limit.reset();
    space.growth.reset();
    space.eviction_failed = false;
    impl_.uses_unknown_ = true;       // What is not in use was not copied.
    impl_.segments_.forget_shared();  // It was copied; what is shared next is tried anew.
    impl_.segments_.grow_to(layout_.segments_in(geometry.size_bytes));  // A device may be larger.
  }

  // Neither device took the last word: after a restart either may be taken for the one in force,
  // and what it shows may be of now or of then. So nobody may believe any of it.
  void lose_everything() {
    std::vector<std::shared_ptr<Snapshot>> victims;
    std::vector<SnapshotId> ids;
    {
      const std::lock_guard lock(impl_.mutex_);
      for (const auto& [epoch, snapshot] : impl_.snapshots_) {
        victims.push_back(snapshot);
        ids.push_back(snapshot->slot.id);
      }
    }
    Status recorded;
    if (impl_.options_.lost_store != nullptr && !ids.empty()) {
      recorded = impl_.options_.lost_store->add(impl_.id(), ids);
    }
    const Status marked = impl_.mark_lost(victims);
    impl_.log_.error(
        "a diff area could not be moved and is not to be trusted: its snapshots are "
        "lost",
        {{"volume", impl_.id().to_string()},
         {"recorded", recorded.has_value() && marked.has_value()}});
  }

  Impl& impl_;
  const format::Layout& layout_;
  block::ResizableDevice& target_;
  const MigrateOptions& options_;
  const OnMigrateProgress& on_progress_;
  const Guid move_id_;
  MigrateReport report_;
  TimePoint begun_;
  bool switched_ = false;
  bool doubtful_ = false;
  AlignedBuffer buffer_;
  AlignedBuffer segment_;         // One whole segment.
  std::vector<bool> unreadable_;  // Of its blocks.
  bool any_unreadable_ = false;
};

Result<MigrateReport> Volume::Impl::migrate(block::ResizableDevice& target,
                                            const MigrateOptions& options,
                                            const OnMigrateProgress& on_progress) {
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(migrating_, true)) {
      return fail(Errc::bad_state, "the diff area is being moved already");
    }
  }
  auto report = Mover(*this, target, options, on_progress).run();
  const std::lock_guard lock(mutex_);
  migrating_ = false;
  return report;
}

Result<MoveSide> settle_move(block::ResizableDevice& source, block::ResizableDevice& target) {
  const auto from = read_superblock(source);
  const auto to = read_superblock(target);
  if (!from) return fail(from.error());
  if (!to && to.error().code == Errc::io_error) return fail(to.error());
  if (!to || from->area_id != to->area_id) return MoveSide::source;  // Not begun, or given up.
  switch (to->move.state) {
    case format::MoveState::none: return MoveSide::target;
    case format::MoveState::moved: return MoveSide::source;  // Of an earlier one, the other way.
    case format::MoveState::arriving: break;
  }
  const bool switched =
      from->move.state == format::MoveState::moved && from->move.id == to->move.id;
  if (!switched) {
    (void)erase_superblocks(target);
    return MoveSide::source;
  }
  format::Superblock in_force = *to;
  in_force.move = {};
  if (Status written = write_superblocks(target, in_force); !written) return fail(written.error());
  return MoveSide::target;
}

}  // namespace umbra::cow
