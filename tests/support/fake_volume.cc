// SPDX-License-Identifier: Apache-2.0

#include "tests/support/fake_volume.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "engine/platform/assert.h"

namespace umbra::test {

namespace {

// The bytes of a copy, as they were.
class FixedDevice final : public block::Device {
 public:
  FixedDevice(std::string bytes, std::shared_ptr<void> open)
      : bytes_(std::move(bytes)), open_(std::move(open)) {}
  block::Geometry geometry() const noexcept override {
    block::Geometry geometry;
    geometry.size_bytes = bytes_.size();
    geometry.read_only = true;
    return geometry;
  }
  void submit(block::Request& first) noexcept override {
    for (block::Request* request = &first; request != nullptr;) {
      block::Request* next = std::exchange(request->next, nullptr);
      const int error = block::check(geometry(), *request);
      if (error == 0 && request->op == block::Op::read) {
        std::memcpy(request->buffer, bytes_.data() + request->offset_bytes, request->size_bytes);
      }
      block::finish(*request, error);
      request = next;
    }
  }

 private:
  std::string bytes_;
  std::shared_ptr<void> open_;
};

}  // namespace

FakeDisk::FakeDisk(std::string name_, Events* events) : name(std::move(name_)), events_(events) {}

void FakeDisk::fail_next(const std::string& step, Errc code) {
  const std::lock_guard lock(mutex_);
  failures_[step] = code;
}

int FakeDisk::gates_shut() const {
  const std::lock_guard lock(mutex_);
  return gates_;
}

bool FakeDisk::wait_gate_shut() {
  std::unique_lock lock(mutex_);
  return gate_changed_.wait_for(lock, std::chrono::seconds{20}, [this] { return gates_ > 0; });
}

void FakeDisk::write(std::size_t offset, std::string_view bytes) {
  std::unique_lock lock(mutex_);
  gate_changed_.wait(lock, [this] { return gates_ == 0; });
  bytes_.replace(offset, bytes.size(), bytes);
}

block::Geometry FakeDisk::geometry() const noexcept {
  block::Geometry geometry;
  geometry.size_bytes = kBytes;
  return geometry;
}
void FakeDisk::submit(block::Request& first) noexcept { block::finish(first, 5 /* EIO */); }
void FakeDisk::set_revert(const cow::RevertStatus& status) {
  const std::lock_guard lock(mutex_);
  revert = status;
}
Status FakeDisk::resize(std::uint64_t) { return fail(Errc::not_supported, "a double"); }

// What a test hangs on a step may call back into the provider: not under our lock.
Status FakeDisk::step(const std::string& step_name) {
  if (events_ != nullptr) events_->add(name + "." + step_name);
  if (power && !power()) return fail(Errc::io_error, "the machine died");
  const std::lock_guard lock(mutex_);
  const auto failure = failures_.find(step_name);
  if (failure == failures_.end()) return {};
  const Errc code = failure->second;
  failures_.erase(failure);
  return fail(code, "as told");
}

void FakeDisk::set_lost(const SnapshotId& snapshot) {
  const std::lock_guard lock(mutex_);
  find(snapshot)->record.lost = true;
}

FakeDisk::Stored* FakeDisk::find(const SnapshotId& snapshot) {
  const auto found = std::find_if(table_.begin(), table_.end(),
                                  [&](const auto& stored) { return stored.record.id == snapshot; });
  return found == table_.end() ? nullptr : &*found;
}

}  // namespace umbra::test

namespace umbra::cow {

using test::FakeDisk;

std::uint64_t diff_bytes_min(std::uint32_t chunk_bytes) noexcept { return 4 * chunk_bytes; }

class Volume::Impl {
 public:
  explicit Impl(FakeDisk& disk_) : disk(disk_) {}
  FakeDisk& disk;
};

Volume::Volume(std::shared_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
Volume::~Volume() = default;

Result<std::unique_ptr<Volume>> Volume::open(block::Device&, block::ResizableDevice& diff,
                                             const OpenOptions&) {
  auto& disk = dynamic_cast<FakeDisk&>(diff);
  const std::lock_guard lock(disk.mutex_);
  disk.gates_ = 0;
  auto& table = disk.table_;
  table.erase(
      std::remove_if(table.begin(), table.end(),
                     [](const auto& stored) { return stored.record.stage == Stage::prepared; }),
      table.end());
  // A commit that was not made durable is as if it had not been: its member list is missing.
  table.erase(std::remove_if(table.begin(), table.end(),
                             [](const auto& stored) { return stored.record.members.empty(); }),
              table.end());
  return std::unique_ptr<Volume>(new Volume(std::make_shared<Impl>(disk)));
}

block::Device& Volume::live() noexcept { return impl_->disk; }
VolumeId Volume::id() const noexcept { return impl_->disk.id; }

Status Volume::prepare(const PrepareRequest& request) {
  auto& disk = impl_->disk;
  if (auto status = disk.step("prepare"); !status) return status;
  const std::lock_guard lock(disk.mutex_);
  for (const auto& stored : disk.table_) {
    if (stored.record.stage == Stage::prepared) return fail(Errc::bad_state, "one at a time");
  }
  SnapshotRecord record;
  record.id = request.id;
  record.set_id = request.set_id;
  record.session_id = request.session_id;
  record.attributes = request.attributes;
  record.persistent = request.persistent;
  disk.table_.push_back({record, {}, std::make_shared<int>()});
  return {};
}

void Volume::hold() noexcept {
  auto& disk = impl_->disk;
  const std::lock_guard lock(disk.mutex_);
  if (disk.events_ != nullptr) disk.events_->add(disk.name + ".hold");
  ++disk.gates_;
  disk.gate_changed_.notify_all();
}

bool Volume::drain(Duration) noexcept {
  auto& disk = impl_->disk;
  const std::lock_guard lock(disk.mutex_);
  if (disk.events_ != nullptr) disk.events_->add(disk.name + ".drain");
  return disk.failures_.erase("drain") == 0;
}

bool Volume::quiesce(Duration) noexcept {
  auto& disk = impl_->disk;
  const std::lock_guard lock(disk.mutex_);
  if (disk.events_ != nullptr) disk.events_->add(disk.name + ".quiesce");
  return disk.failures_.erase("quiesce") == 0;
}

void Volume::commit(const SnapshotId& snapshot, std::int64_t creation_filetime) noexcept {
  auto& disk = impl_->disk;
  const std::lock_guard lock(disk.mutex_);
  if (disk.events_ != nullptr) disk.events_->add(disk.name + ".commit");
  auto* stored = disk.find(snapshot);
  UMBRA_ASSERT(disk.gates_ > 0);
  UMBRA_ASSERT(stored != nullptr && stored->record.stage == Stage::prepared);
  stored->record.stage = Stage::committed;
  stored->record.creation_filetime = creation_filetime;
  stored->record.epoch = ++disk.epoch_;
  stored->bytes = disk.bytes_;
}

void Volume::release() noexcept {
  auto& disk = impl_->disk;
  const std::lock_guard lock(disk.mutex_);
  if (disk.events_ != nullptr) disk.events_->add(disk.name + ".release");
  UMBRA_ASSERT(disk.gates_ > 0);
  --disk.gates_;
  disk.gate_changed_.notify_all();
}

Status Volume::post_commit(const SnapshotId& snapshot, const std::vector<SnapshotId>& members) {
  auto& disk = impl_->disk;
  if (auto status = disk.step("post_commit"); !status) return status;
  const std::lock_guard lock(disk.mutex_);
  auto* stored = disk.find(snapshot);
  if (stored == nullptr) return fail(Errc::object_not_found, "");
  if (stored->record.stage != Stage::committed) return fail(Errc::bad_state, "");
  stored->record.members = members;
  return {};
}

Status Volume::confirm(const SnapshotId& snapshot) {
  auto& disk = impl_->disk;
  if (auto status = disk.step("confirm"); !status) return status;
  const std::lock_guard lock(disk.mutex_);
  auto* stored = disk.find(snapshot);
  if (stored == nullptr) return fail(Errc::object_not_found, "");
  if (stored->record.members.empty()) return fail(Errc::bad_state, "");
  stored->record.stage = Stage::created;
  return {};
}

Status Volume::remove(const SnapshotId& snapshot, bool force, const RemovalCause& cause) {
  auto& disk = impl_->disk;
  if (auto status = disk.step("remove"); !status) return status;
  const std::lock_guard lock(disk.mutex_);
  auto* stored = disk.find(snapshot);
  if (stored == nullptr) return fail(Errc::object_not_found, "");
  if (!force && stored->open.use_count() > 1) return fail(Errc::volume_in_use, "open");
  disk.table_.erase(disk.table_.begin() + (stored - disk.table_.data()));
  disk.removed_for = cause;
  return {};
}

Result<std::shared_ptr<block::Device>> Volume::open_snapshot(const SnapshotId& snapshot) {
  auto& disk = impl_->disk;
  if (auto status = disk.step("open_snapshot"); !status) return fail(status.error());
  const std::lock_guard lock(disk.mutex_);
  auto* stored = disk.find(snapshot);
  if (stored == nullptr) return fail(Errc::object_not_found, "");
  if (stored->record.stage == Stage::prepared) return fail(Errc::bad_state, "");
  return std::make_shared<test::FixedDevice>(stored->bytes, stored->open);
}

Status Volume::exempt_free(const SnapshotId& snapshot, std::span<const ChangedRange> free) {
  auto& disk = impl_->disk;
  if (auto status = disk.step("exempt_free"); !status) return status;
  const std::lock_guard lock(disk.mutex_);
  auto* stored = disk.find(snapshot);
  if (stored == nullptr) return fail(Errc::object_not_found, "");
  for (const ChangedRange& range : free) {
    stored->bytes.replace(range.offset_bytes, range.size_bytes, range.size_bytes, '\0');
    stored->record.exempt_bytes += range.size_bytes;
  }
  return {};
}

Status Volume::begin_recovery(const SnapshotId& snapshot) {
  auto& disk = impl_->disk;
  if (auto status = disk.step("begin_recovery"); !status) return status;
  const std::lock_guard lock(disk.mutex_);
  return disk.find(snapshot) != nullptr ? Status{} : Status(fail(Errc::object_not_found, ""));
}

Result<std::shared_ptr<block::Device>> Volume::open_for_recovery(const SnapshotId& snapshot) {
  return open_snapshot(snapshot);
}

Status Volume::end_recovery(const SnapshotId&) { return impl_->disk.step("end_recovery"); }

std::vector<SnapshotRecord> Volume::list() const {
  auto& disk = impl_->disk;
  const std::lock_guard lock(disk.mutex_);
  std::vector<SnapshotRecord> records;
  for (const auto& stored : disk.table_) records.push_back(stored.record);
  return records;
}

std::optional<SnapshotRecord> Volume::find(const SnapshotId& snapshot) const {
  auto& disk = impl_->disk;
  const std::lock_guard lock(disk.mutex_);
  const auto* stored = disk.find(snapshot);
  if (stored == nullptr) return std::nullopt;
  return stored->record;
}

std::size_t Volume::count() const {
  auto& disk = impl_->disk;
  const std::lock_guard lock(disk.mutex_);
  return disk.table_.size();
}

Result<MaximumChange> Volume::set_diff_maximum(std::uint64_t bytes, const std::string& who) {
  auto& disk = impl_->disk;
  if (auto status = disk.step("set_diff_maximum"); !status) return fail(status.error());
  MaximumChange change;
  while (bytes != 0 && count() * disk.copy_bytes > bytes) {
    const auto oldest = list().front();
    if (oldest.stage != Stage::created) return fail(Errc::insufficient_storage, "a double");
    const auto removed = remove(oldest.id, true, {Removal::shrunk, who});
    if (!removed) return fail(removed.error());
    change.deleted.push_back(oldest.id);
  }
  const std::lock_guard lock(disk.mutex_);
  disk.maximum_ = bytes;
  disk.kept_.maximum_bytes = bytes;
  return change;
}

Status Volume::keep_association(const Association& association) {
  auto& disk = impl_->disk;
  if (auto status = disk.step("keep_association"); !status) return status;
  const std::lock_guard lock(disk.mutex_);
  disk.kept_ = association;
  return {};
}

Association Volume::kept_association() const {
  const std::lock_guard lock(impl_->disk.mutex_);
  return impl_->disk.kept_;
}

Protection Volume::protection() const {
  const std::lock_guard lock(impl_->disk.mutex_);
  return impl_->disk.protection;
}

Status Volume::set_protection_level(ProtectionLevel level) {
  auto& disk = impl_->disk;
  if (auto status = disk.step("set_protection_level"); !status) return status;
  const std::lock_guard lock(disk.mutex_);
  disk.protection.level = level;
  return {};
}

Status Volume::clear_protection_fault() {
  auto& disk = impl_->disk;
  if (auto status = disk.step("clear_protection_fault"); !status) return status;
  const std::lock_guard lock(disk.mutex_);
  disk.protection = {disk.protection.level, Fault::none, 0, false};
  return {};
}

Status Volume::set_retention(const RetentionPolicy& policy) {
  const std::lock_guard lock(impl_->disk.mutex_);
  impl_->disk.longest_retention_seconds = policy.longest_seconds;
  return {};
}

Status Volume::retain(const SnapshotId& snapshot, std::int64_t until_filetime) {
  auto& disk = impl_->disk;
  if (auto status = disk.step("retain"); !status) return status;
  const std::lock_guard lock(disk.mutex_);
  auto* stored = disk.find(snapshot);
  if (stored == nullptr) return fail(Errc::object_not_found, "");
  stored->record.retain_until_filetime = until_filetime;
  return {};
}

// A lock never ends here.
Status Volume::check_retention(const std::optional<SnapshotId>& newer_than) const {
  std::uint64_t epoch = 0;
  if (newer_than) {
    const auto target = find(*newer_than);
    if (!target) return fail(Errc::object_not_found, "");
    epoch = target->epoch;
  }
  for (const auto& record : list()) {
    if (record.epoch <= epoch && newer_than) continue;
    if (record.retain_until_filetime == 0) continue;
    return fail(Errc::access_denied,
                "snapshot " + record.id.to_string() + " is under retention lock");
  }
  return {};
}

// A younger copy goes as it does in the store; the bytes stay as they are.
Status Volume::begin_revert(const SnapshotId& snapshot, const std::string& /*who*/) {
  auto& disk = impl_->disk;
  if (auto status = disk.step("begin_revert"); !status) return status;
  const std::lock_guard lock(disk.mutex_);
  const auto* target = disk.find(snapshot);
  if (target == nullptr) return fail(Errc::object_not_found, "");
  const std::uint64_t epoch = target->record.epoch;
  std::erase_if(disk.table_, [&](const auto& stored) { return stored.record.epoch > epoch; });
  disk.revert = {};
  disk.revert.under_way = true;
  disk.revert.snapshot = snapshot;
  disk.revert.bytes_total = 100;
  return {};
}

RevertStatus Volume::revert_status() const {
  const std::lock_guard lock(impl_->disk.mutex_);
  return impl_->disk.revert;
}

Status Volume::abandon_revert() {
  auto& disk = impl_->disk;
  if (auto status = disk.step("abandon_revert"); !status) return status;
  const std::lock_guard lock(disk.mutex_);
  disk.revert = {};
  return {};
}

Status Volume::create_checkpoint(const CheckpointRequest& request) {
  auto& disk = impl_->disk;
  if (auto status = disk.step("create_checkpoint"); !status) return status;
  const std::lock_guard lock(disk.mutex_);
  CheckpointRecord record;
  record.id = request.id;
  record.snapshot = request.snapshot;
  record.name = request.name;
  disk.checkpoints.push_back(record);
  return {};
}

std::vector<CheckpointRecord> Volume::list_checkpoints() const {
  const std::lock_guard lock(impl_->disk.mutex_);
  return impl_->disk.checkpoints;
}

Status Volume::remove_checkpoint(const CheckpointId& id) {
  auto& disk = impl_->disk;
  if (auto status = disk.step("remove_checkpoint"); !status) return status;
  const std::lock_guard lock(disk.mutex_);
  std::erase_if(disk.checkpoints, [&](const auto& record) { return record.id == id; });
  return {};
}

Status Volume::changed_blocks(const Guid& from, const std::optional<SnapshotId>& to,
                              const ChangedSink& sink, std::uint64_t begin_bytes,
                              std::uint64_t end_bytes) {
  if (auto status = impl_->disk.step("changed_blocks"); !status) return status;
  impl_->disk.changes_from = from;
  impl_->disk.changes_to = to;
  std::vector<ChangedRange> wanted;
  for (const ChangedRange& range : impl_->disk.changed) {
    const bool overlaps =
        range.offset_bytes + range.size_bytes > begin_bytes && range.offset_bytes < end_bytes;
    if (overlaps) wanted.push_back(range);
  }
  (void)sink(wanted);
  return {};
}

Result<CheckReport> Volume::scrub(const ScrubProgress& progress, std::uint64_t bytes_per_second) {
  impl_->disk.scrub_rate = bytes_per_second;
  CheckReport report = impl_->disk.scrub_report;
  report.complete = progress(1, 2);
  return report;
}

Statistics Volume::statistics() const {
  Statistics statistics;
  {
    auto& disk = impl_->disk;
    const std::lock_guard lock(disk.mutex_);
    statistics.diff_bytes_max = disk.maximum_;
    statistics.diff_used_bytes = disk.table_.size() * disk.copy_bytes;
    statistics.diff_allocated_bytes = statistics.diff_used_bytes;
  }
  statistics.chunk_bytes = kChunkBytesDefault;
  statistics.state = "ok";
  for (const auto& record : list()) {
    if (record.stage == Stage::created) ++statistics.snapshots;
  }
  return statistics;
}

Status Volume::close() { return {}; }

}  // namespace umbra::cow

namespace umbra::test {

std::unique_ptr<cow::Volume> FakeDisk::open() {
  auto volume = cow::Volume::open(*this, *this, {});
  UMBRA_ASSERT(volume);
  return std::move(*volume);
}

}  // namespace umbra::test
