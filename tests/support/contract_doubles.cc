// SPDX-License-Identifier: Apache-2.0

#include "tests/support/contract_doubles.h"

#include <algorithm>
#include <utility>

namespace umbra::test {

namespace {
constexpr auto kNever = std::chrono::seconds{20};  // Bound of waits for what must happen.
}

void Events::add(std::string event) {
  const std::lock_guard lock(mutex_);
  events_.push_back(std::move(event));
}

std::vector<std::string> Events::all() const {
  const std::lock_guard lock(mutex_);
  return events_;
}

bool Events::contains(const std::string& event) const {
  const auto events = all();
  return std::find(events.begin(), events.end(), event) != events.end();
}

void Events::clear() {
  const std::lock_guard lock(mutex_);
  events_.clear();
}

bool FakeFreezer::is_frozen() const {
  const std::lock_guard lock(mutex_);
  return !frozen_.empty();
}

std::vector<std::vector<std::uint64_t>> FakeFreezer::freezes() const {
  const std::lock_guard lock(mutex_);
  return freezes_;
}

void FakeFreezer::block() {
  const std::lock_guard lock(mutex_);
  blocking_ = true;
}

bool FakeFreezer::wait_blocked() {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, kNever, [this] { return blocked_ > 0; });
}

void FakeFreezer::let() {
  const std::lock_guard lock(mutex_);
  blocking_ = false;
  changed_.notify_all();
}

std::chrono::milliseconds FakeFreezer::flush_limit() const {
  const std::lock_guard lock(mutex_);
  return flush_limit_;
}

Status FakeFreezer::flush(const std::vector<std::uint64_t>&, std::chrono::milliseconds limit,
                          std::stop_token stop) {
  events_.add("flush");
  std::unique_lock lock(mutex_);
  flush_limit_ = limit;
  ++blocked_;
  changed_.notify_all();
  const bool let = changed_.wait(lock, stop, [this] { return !blocking_; });
  --blocked_;
  lock.unlock();
  if (!let) return fail(Errc::bad_state, "stopped");
  return on_flush ? on_flush() : Status{};
}

Status FakeFreezer::freeze(const SnapshotSetId& set, const std::vector<std::uint64_t>& devices,
                           std::chrono::milliseconds, std::chrono::milliseconds lease,
                           std::stop_token) {
  events_.add("freeze");
  if (on_lease) on_lease(lease);
  if (on_freeze) {
    if (auto status = on_freeze(); !status) return status;
  }
  const std::lock_guard lock(mutex_);
  if (!frozen_.emplace(set, devices).second) return fail(Errc::freeze_failed, "the id is in use");
  freezes_.push_back(devices);
  return {};
}

Result<contract::Thawed> FakeFreezer::thaw(const SnapshotSetId& set) {
  events_.add("thaw");
  {
    const std::lock_guard lock(mutex_);
    frozen_.erase(set);
  }
  const auto held = on_thaw ? on_thaw() : true;
  if (!held) return fail(held.error());
  if (!*held) return contract::Thawed{.held_throughout = false, .why = "somebody thawed it"};
  return contract::Thawed{.free = free};
}

void FakeSurfaces::set_mounted(const SnapshotId& snapshot, bool mounted) {
  const std::lock_guard lock(mutex_);
  if (mounted) {
    mounted_.insert(snapshot);
  } else {
    mounted_.erase(snapshot);
  }
}

std::size_t FakeSurfaces::count() const {
  const std::lock_guard lock(mutex_);
  return devices_.size();
}

bool FakeSurfaces::has(const SnapshotId& snapshot) const {
  const std::lock_guard lock(mutex_);
  return devices_.count(snapshot) != 0;
}

void FakeSurfaces::forget() {
  const std::lock_guard lock(mutex_);
  devices_.clear();
  mounted_.clear();
}

Result<std::string> FakeSurfaces::read(const SnapshotId& snapshot, std::size_t offset,
                                       std::size_t size) const {
  std::shared_ptr<block::Device> device;
  {
    const std::lock_guard lock(mutex_);
    const auto found = devices_.find(snapshot);
    if (found == devices_.end()) return fail(Errc::object_not_found, "not surfaced");
    device = found->second;
  }
  std::vector<std::byte> bytes(size);
  block::Request request;
  request.op = block::Op::read;
  request.offset_bytes = offset;
  request.size_bytes = size;
  request.buffer = bytes.data();
  if (block::run(*device, request) != 0) return fail(Errc::io_error, "reading the copy");
  std::string text(size, '\0');
  std::transform(bytes.begin(), bytes.end(), text.begin(),
                 [](std::byte byte) { return static_cast<char>(byte); });
  return text;
}

Result<contract::Surfaced> FakeSurfaces::surface(const SnapshotId& snapshot,
                                                 std::shared_ptr<block::Device> device) {
  events_.add("surface");
  if (on_surface) {
    if (auto status = on_surface(snapshot); !status) return fail(status.error());
  }
  const std::lock_guard lock(mutex_);
  devices_[snapshot] = std::move(device);
  return contract::Surfaced{"/run/snapshots/" + snapshot.to_string(),
                            "nbd:" + snapshot.to_string()};
}

Status FakeSurfaces::withdraw(const SnapshotId& snapshot, bool force) {
  events_.add("withdraw");
  const std::lock_guard lock(mutex_);
  if (!force && mounted_.count(snapshot) != 0) return fail(Errc::volume_in_use, "mounted");
  devices_.erase(snapshot);
  mounted_.erase(snapshot);
  return {};
}

contract::Surfaces::MountPoints FakeSurfaces::mount_points() const {
  const std::lock_guard lock(mutex_);
  MountPoints all;
  for (const SnapshotId& snapshot : mounted_) all.emplace(snapshot, "/mnt/copy");
  return all;
}

void EventLog::write(LogLevel, std::string_view, std::string_view message,
                     std::span<const LogField> fields) noexcept {
  events_.add("log " + std::string(message));
  const std::lock_guard lock(mutex_);
  auto& record = records_[std::string(message)];
  record.clear();
  for (const auto& field : fields) record[std::string(field.key)] = field.value;
}

std::string EventLog::field(const std::string& message, const std::string& key) const {
  const std::lock_guard lock(mutex_);
  const auto record = records_.find(message);
  if (record == records_.end()) return "";
  const auto found = record->second.find(key);
  return found == record->second.end() ? "" : found->second;
}

}  // namespace umbra::test
