// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "provider-sdk/examples/file_provider.h"

#include <algorithm>
#include <utility>

namespace example {

using namespace umbra;
using namespace std::chrono_literals;

namespace {

constexpr std::size_t kEndedMax = 256;
constexpr auto kGateRetry = 1ms;  // A writer holds its lock for one write.

std::int64_t filetime_now() {
  constexpr std::int64_t kFrom1601To1970 = 116'444'736'000'000'000;
  const auto since = std::chrono::system_clock::now().time_since_epoch();
  return kFrom1601To1970 +
         std::chrono::duration_cast<std::chrono::nanoseconds>(since).count() / 100;
}

std::chrono::microseconds since(Clock::time_point begin) {
  return std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - begin);
}

}  // namespace

// --- the gate -----------------------------------------------------------------------------------

void FileProvider::end_leases() {
  Lock lock(mutex_);
  while (!ending_) {
    auto next = Clock::now() + 1h;
    for (auto& [id, set] : sets_) {
      if (set.gates.empty()) continue;
      if (set.lease_end <= Clock::now())
        set.gates.clear();
      else
        next = std::min(next, set.lease_end);
    }
    changed_.wait_until(lock, next);
  }
}

// The mutex is free while somebody writes, so that abort_snapshots passes.
Status FileProvider::hold(Lock& lock, const SnapshotSetId& id, const HoldLimits& limits) {
  const auto until = Clock::now() + limits.flush;
  std::vector<std::string> paths;
  for (const auto& copy : sets_.at(id).copies) paths.push_back(volumes_.at(copy.volume).path);
  std::vector<Gate> gates;
  const auto begin = Clock::now();
  while (gates.size() < paths.size()) {
    auto gate = Gate::try_shut(paths[gates.size()]);
    if (!gate) return fail_set(id, gate.error());
    if (*gate) {
      gates.push_back(std::move(**gate));
      continue;
    }
    if (Clock::now() >= until)
      return fail_set(id, {Errc::flush_writes_timeout,
                           paths[gates.size()] + ": somebody does not stop writing to it"});
    changed_.wait_for(lock, kGateRetry);
    const auto found = sets_.find(id);
    if (found == sets_.end() || found->second.step != Step::precommitted)
      return fail(Errc::provider_veto, "the set was aborted");
  }
  Set& set = sets_.at(id);
  set.gates = std::move(gates);
  set.hold_begin = begin;
  set.lease_end = Clock::now() + limits.hold;
  set.step = Step::holding;
  changed_.notify_all();
  return {};
}

Status FileProvider::commit(const SnapshotSetId& id, Set& set) {
  if (Clock::now() >= set.lease_end)
    return fail_set(id, {Errc::hold_writes_timeout, "the lease ended before the commit"});
  const auto filetime = filetime_now();
  for (auto& copy : set.copies) {
    copy.filetime = filetime;
    if (const auto copied = copy_file(volumes_.at(copy.volume).path, image(copy.id), set.lease_end);
        !copied)
      return fail_set(id, copied.error());
  }
  set.step = Step::committed;
  return {};
}

HoldReport FileProvider::open_gates(Set& set) {
  set.gates.clear();
  changed_.notify_all();
  HoldReport report;
  report.gate = since(set.hold_begin);
  return report;
}

// --- the calls of a set, in their order ---------------------------------------------------------

Status FileProvider::begin_prepare_snapshot(const PrepareSnapshot& request) {
  const Lock lock(mutex_);
  if (has_ended(request.set_id) || has_ended(request.session_id))
    return fail(Errc::provider_veto, "the set or its session has ended");
  const auto volume = locate(request.volume);
  if (!volume) return fail(volume.error());
  if ((request.attributes & kAttributesNotOffered) != 0)
    return fail(Errc::unsupported_context, "only plain copies on this machine are offered");
  // A new set says that an older one, which is not finished, never will be.
  for (auto it = sets_.begin(); it != sets_.end();) {
    const auto id = (it++)->first;
    if (id != request.set_id && sets_.at(id).step < Step::postfinal) discard(id);
  }
  for (const auto& [id, set] : sets_)
    for (const auto& copy : set.copies)
      if (copy.id == request.snapshot_id)
        return fail(Errc::object_already_exists, "there is a copy of this id");
  const auto found = sets_.find(request.set_id);
  if (found != sets_.end()) {
    const Set& set = found->second;
    if (set.step != Step::preparing)
      return fail_set(request.set_id, {Errc::provider_veto, "the set is prepared already"});
    for (const auto& copy : set.copies)
      if (copy.volume == *volume)
        return fail(Errc::object_already_exists, "the volume is in the set");
    if (set.copies.size() >= kVolumesPerSetMax)
      return fail(Errc::maximum_number_of_volumes_reached, "64 volumes");
  }
  if (copies_of(*volume, false) >= kSnapshotsPerVolumeMax)
    return fail(Errc::maximum_number_of_snapshots_reached, "512 copies");
  Set& set = sets_[request.set_id];
  set.session = request.session_id;
  set.copies.push_back({request.snapshot_id, *volume, request.attributes, 0});
  return {};
}

// A provider with slow work to do would do it here, and look now and then whether the set is gone.
Status FileProvider::end_prepare_snapshots(const SnapshotSetId& id) {
  const Lock lock(mutex_);
  const auto set = expect(id, Step::preparing, "end_prepare_snapshots");
  if (!set) return fail(set.error());
  (*set)->step = Step::prepared;
  return {};
}

Status FileProvider::pre_commit_snapshots(const SnapshotSetId& id) {
  const Lock lock(mutex_);
  const auto set = expect(id, Step::prepared, "pre_commit_snapshots");
  if (!set) return fail(set.error());
  (*set)->step = Step::precommitted;
  return {};
}

Status FileProvider::flush_and_hold(const SnapshotSetId& id, const HoldLimits& limits) {
  Lock lock(mutex_);
  if (const auto set = expect(id, Step::precommitted, "flush_and_hold"); !set)
    return fail(set.error());
  return hold(lock, id, limits);
}

Status FileProvider::commit_snapshots(const SnapshotSetId& id) {
  const Lock lock(mutex_);
  const auto set = expect(id, Step::holding, "commit_snapshots");
  if (!set) return fail(set.error());
  return commit(id, **set);
}

Result<HoldReport> FileProvider::release_hold(const SnapshotSetId& id) {
  const Lock lock(mutex_);
  const auto found = sets_.find(id);
  if (found == sets_.end() || found->second.step >= Step::released) return HoldReport{};
  Set& set = found->second;
  if (set.step < Step::holding) return fail(Errc::provider_veto, "release_hold: nothing is held");
  const bool throughout = Clock::now() < set.lease_end;
  const bool committed = set.step == Step::committed;
  const auto report = open_gates(set);
  if (committed && throughout) {
    set.step = Step::released;
    return report;
  }
  discard(id);
  if (!throughout) return fail(Errc::hold_writes_timeout, "the lease ended before the release");
  return report;
}

Result<HoldReport> FileProvider::flush_commit_release(const SnapshotSetId& id,
                                                      const HoldLimits& limits) {
  Lock lock(mutex_);
  const auto arrival = Clock::now();
  if (const auto expected = expect(id, Step::precommitted, "flush_commit_release"); !expected)
    return fail(expected.error());
  if (const auto held = hold(lock, id, limits); !held) return fail(held.error());
  Set& set = sets_.at(id);
  HoldReport report;
  report.flush = since(arrival);
  if (Clock::now() - arrival >= limits.window) {
    const auto late = fail_set(id, {Errc::writererror_timeout, "the freeze window has passed"});
    return fail(late.error());
  }
  if (const auto done = commit(id, set); !done) return fail(done.error());
  const bool throughout = Clock::now() < set.lease_end;
  report.gate = open_gates(set).gate;
  if (!throughout) {
    discard(id);
    return fail(Errc::hold_writes_timeout, "the lease ended before the release");
  }
  set.step = Step::released;
  return report;
}

Status FileProvider::post_commit_snapshots(const SnapshotSetId& id,
                                           const std::vector<SnapshotId>& members) {
  const Lock lock(mutex_);
  const auto expected = expect(id, Step::released, "post_commit_snapshots");
  if (!expected) return fail(expected.error());
  Set& set = **expected;
  for (const auto& copy : set.copies) {
    if (std::find(members.begin(), members.end(), copy.id) == members.end())
      return fail_set(id, {Errc::invalid_argument, "the members lack a copy of the set"});
    if (const auto durable = make_durable(image(copy.id)); !durable)
      return fail_set(id, durable.error());
  }
  set.members = members;
  return advance(id, set, Step::postcommitted);
}

Status FileProvider::pre_final_commit_snapshots(const SnapshotSetId& id) {
  const Lock lock(mutex_);
  const auto set = expect(id, Step::postcommitted, "pre_final_commit_snapshots");
  if (!set) return fail(set.error());
  for (const auto& copy : (*set)->copies) {
    const bool recovered = (copy.attributes & attribute::kAutorecover) != 0;
    if (const auto surfaced = set_writable(image(copy.id), recovered); !surfaced)
      return fail_set(id, surfaced.error());
  }
  (*set)->step = Step::prefinal;
  return {};
}

Status FileProvider::post_final_commit_snapshots(const SnapshotSetId& id) {
  const Lock lock(mutex_);
  const auto set = expect(id, Step::prefinal, "post_final_commit_snapshots");
  if (!set) return fail(set.error());
  for (const auto& copy : (*set)->copies) {
    auto settled = set_writable(image(copy.id), false);
    if (settled) settled = make_durable(image(copy.id));  // What writers recovered in it.
    if (!settled) return fail_set(id, settled.error());
  }
  return advance(id, **set, Step::postfinal);
}

Status FileProvider::confirm_set(const SnapshotSetId& id) {
  const Lock lock(mutex_);
  const auto set = expect(id, Step::postfinal, "confirm_set");
  if (!set) return fail(set.error());
  return advance(id, **set, Step::created);
}

void FileProvider::abort_snapshots(const SnapshotSetId& id) noexcept {
  const Lock lock(mutex_);
  note_ended(id);  // Its begin may come after this.
  const auto found = sets_.find(id);
  if (found != sets_.end() && found->second.step != Step::created) discard(id);
}

// --- what was left in doubt ---------------------------------------------------------------------

Result<SetFate> FileProvider::query_set(const SnapshotSetId& id) {
  const Lock lock(mutex_);
  const auto found = sets_.find(id);
  if (found == sets_.end()) return SetFate::none;
  switch (found->second.step) {
    case Step::created: return SetFate::created;
    case Step::postfinal: return SetFate::prepared;
    default: return SetFate::undecided;
  }
}

Status FileProvider::complete_set(const SnapshotSetId& id) {
  const Lock lock(mutex_);
  const auto found = sets_.find(id);
  if (found == sets_.end()) return fail(Errc::object_not_found, "no such set");
  Set& set = found->second;
  if (set.step == Step::created) return {};
  if (set.step != Step::postfinal) return fail(Errc::bad_state, "it is not prepared for good");
  set.step = Step::created;
  auto stored = store(id, set);
  if (!stored) set.step = Step::postfinal;
  return stored;
}

// --- steps and their failures -------------------------------------------------------------------

Result<FileProvider::Set*> FileProvider::expect(const SnapshotSetId& id, Step expected,
                                                const char* call) {
  const auto found = sets_.find(id);
  if (found == sets_.end()) return fail(Errc::provider_veto, std::string(call) + ": no such set");
  if (found->second.step == expected) return &found->second;
  const auto failed =
      fail_set(id, {Errc::provider_veto, std::string(call) + " comes out of order"});
  return fail(failed.error());
}

Status FileProvider::advance(const SnapshotSetId& id, Set& set, Step step) {
  const auto before = std::exchange(set.step, step);
  const auto stored = store(id, set);
  if (stored) return {};
  set.step = before;
  return fail_set(id, stored.error());
}

Status FileProvider::fail_set(const SnapshotSetId& id, Error error) {
  const auto found = sets_.find(id);
  if (found != sets_.end() && found->second.step != Step::created && !found->second.in_doubt())
    discard(id);
  return tl::unexpected<Error>(std::move(error));
}

void FileProvider::discard(const SnapshotSetId& id) {
  note_ended(id);
  const auto found = sets_.find(id);
  if (found == sets_.end()) return;
  Set set = std::move(found->second);
  sets_.erase(found);
  set.gates.clear();
  changed_.notify_all();
  // The record first. What cannot be removed now is removed at the next start.
  if (!remove_file(record(id))) return;
  for (const auto& copy : set.copies) static_cast<void>(remove_file(image(copy.id)));
}

void FileProvider::note_ended(const Guid& id) {
  if (has_ended(id)) return;
  ended_.push_back(id);
  if (ended_.size() > kEndedMax) ended_.pop_front();
}

bool FileProvider::has_ended(const Guid& id) const {
  return !id.is_nil() && std::find(ended_.begin(), ended_.end(), id) != ended_.end();
}

// --- sessions -----------------------------------------------------------------------------------

void FileProvider::end_locked(const SessionId& session) {
  note_ended(session);
  for (auto it = sets_.begin(); it != sets_.end();) {
    const auto& [id, set] = *it++;
    if (set.session != session) continue;
    const bool stays = set.step == Step::created || set.in_doubt();
    if (!stays || is_auto_release(set.copies.front().attributes)) discard(SnapshotSetId{id});
  }
}

void FileProvider::end_session(const SessionId& session) noexcept {
  const Lock lock(mutex_);
  end_locked(session);
}

void FileProvider::retain_sessions(const std::vector<SessionId>& alive) noexcept {
  const Lock lock(mutex_);
  std::vector<SessionId> over;
  for (const auto& [id, set] : sets_)
    if (std::find(alive.begin(), alive.end(), set.session) == alive.end())
      over.push_back(set.session);
  for (const auto& session : over) end_locked(session);
}

}  // namespace example
