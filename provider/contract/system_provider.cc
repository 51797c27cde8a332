// SPDX-License-Identifier: Apache-2.0
//
// The making of a set. Its hold is in system_provider_hold.cc; the registry, queries, deletion and
// recovery are in system_provider_copies.cc.

#include "provider/contract/system_provider.h"

#include <algorithm>
#include <array>
#include <string>

#include "engine/platform/assert.h"
#include "provider/contract/management.h"
#include "provider/contract/set_recovery.h"
#include "provider/contract/system_provider_state.h"

namespace umbra::contract {

namespace {

constexpr std::size_t kVolumesPerSetMax = cow::kMembersMax;
// Of the flush before writers freeze: everything that is dirty. Less than the coordinator waits.
constexpr std::chrono::minutes kLongFlushLimit{10};

// What a caller may ask for. The copies are differential whether asked or not; only what was asked
// for is shown.
constexpr std::uint32_t kAttributesOffered =
    attribute::kPersistent | attribute::kNoAutorecovery | attribute::kClientAccessible |
    attribute::kNoAutoRelease | attribute::kNoWriters | attribute::kNotSurfaced |
    attribute::kDifferential | attribute::kAutorecover | attribute::kRollbackRecovery |
    attribute::kTxfRecovery;
// Each of them asks for a copy that writers may change before it is read-only for ever. Which kind
// of recovery they do is their affair.
constexpr std::uint32_t kRecoveries =
    attribute::kAutorecover | attribute::kRollbackRecovery | attribute::kTxfRecovery;

constexpr std::array<std::uint32_t, 6> kContexts = {
    context::kBackup,      context::kFileShareBackup,  context::kNasRollback,
    context::kAppRollback, context::kClientAccessible, context::kClientAccessibleWriters};

Status check_attributes(std::uint32_t attributes) {
  const std::uint32_t base = attributes & context::kMask;
  if (std::find(kContexts.begin(), kContexts.end(), base) == kContexts.end()) {
    return fail(Errc::unsupported_context, "the attributes are those of no context");
  }
  if ((attributes & ~kAttributesOffered) != 0) {
    return fail(Errc::unsupported_context, "transport and clones are not offered by this provider");
  }
  if ((attributes & attribute::kNoAutorecovery) != 0 && (attributes & kRecoveries) != 0) {
    return fail(Errc::unsupported_context, "recovery of the copy is asked for and ruled out");
  }
  return {};
}

// A copy that nobody can reach cannot be recovered by anybody.
bool has_recovery_window(std::uint32_t attributes) {
  return (attributes & kRecoveries) != 0 && (attributes & attribute::kNotSurfaced) == 0;
}

}  // namespace

tl::unexpected<Error> provider_error(const Error& error) {
  switch (error.code) {
    case Errc::out_of_memory:
    case Errc::invalid_argument:
    case Errc::access_denied:
    case Errc::bad_state:
    case Errc::object_not_found:
    case Errc::object_already_exists:
    case Errc::insufficient_storage:
    case Errc::maximum_number_of_snapshots_reached:
    case Errc::flush_writes_timeout:
    case Errc::hold_writes_timeout:
    case Errc::writererror_timeout:
    case Errc::freeze_failed:
    case Errc::nested_volume_limit:
    case Errc::snapshot_lost:
    case Errc::volume_in_use:
    case Errc::autorecovery_failed:
    case Errc::revert_in_progress:
    case Errc::provider_veto: return fail(error);
    default: return fail(Errc::provider_veto, error.to_string());
  }
}

SystemProvider::SystemProvider(Freezer& freezer, Surfaces& surfaces, Log& log, const Clock& clock,
                               SystemProviderOptions options)
    : freezer_(freezer),
      surfaces_(surfaces),
      log_(log, "provider"),
      clock_(clock),
      options_(std::move(options)),
      management_(std::make_unique<Management>(*this)) {}

DiffAreaManagement* SystemProvider::management() noexcept { return management_.get(); }

SystemProvider::~SystemProvider() {
  if (current_ != nullptr) give_up(current_, aborted_error());
}

const char* SystemProvider::state_name(State state) {
  switch (state) {
    case State::preparing: return "preparing";
    case State::prepared: return "prepared";
    case State::precommitted: return "precommitted";
    case State::held: return "held";
    case State::committed: return "committed";
    case State::released: return "released";
    case State::postcommitted: return "postcommitted";
    case State::prefinal: return "prefinal";
    case State::final: return "final";
    case State::created: return "created";
    case State::aborted: return "aborted";
    case State::parked: return "waiting to be settled";
  }
  UMBRA_UNREACHABLE();
}

// --- turns, and entering and leaving a call -----------------------------------------------------

bool SystemProvider::none_busy(const std::vector<EntryPtr>& entries) {
  return std::none_of(entries.begin(), entries.end(), [](const auto& e) { return e->busy; });
}

SystemProvider::Turn SystemProvider::occupy(std::vector<EntryPtr> entries) {
  for (const auto& entry : entries) entry->busy = true;
  return {*this, std::move(entries)};
}

SystemProvider::Turn SystemProvider::take_turn(std::vector<EntryPtr> entries) {
  Lock lock(mutex_);
  changed_.wait(lock, [&] { return none_busy(entries); });
  return occupy(std::move(entries));
}

bool SystemProvider::is_aborted(const Set& set) const {
  const std::lock_guard lock(mutex_);
  return set.state == State::aborted;
}

Result<SystemProvider::SetPtr> SystemProvider::enter(const SnapshotSetId& id, State from,
                                                     std::string_view call) {
  Lock lock(mutex_);
  if (current_ == nullptr || current_->id != id) {
    return fail(Errc::object_not_found, "no such set: " + id.to_string());
  }
  const SetPtr set = current_;
  if (set->running && set->state != State::aborted) {
    return fail(Errc::bad_state, "another call of the set is running");
  }
  if (set->state == from) {
    set->running = true;
    return set;
  }
  const Error veto{Errc::provider_veto,
                   std::string(call) + " is out of order: the set is " + state_name(set->state)};
  if (!set->is_unfinished()) return fail(veto);
  lock.unlock();
  abort_set(set, veto);
  return fail(veto);
}

Status SystemProvider::leave(const SetPtr& set, Status status, State to) {
  {
    const std::lock_guard lock(mutex_);
    set->running = false;
    changed_.notify_all();
    if (set->state == State::aborted) return fail(aborted_error());
    if (status) {
      set->state = to;
      return {};
    }
    if (set->in_doubt()) return provider_error(status.error());
  }
  const auto answer = provider_error(status.error());
  abort_set(set, answer.value());
  return answer;
}

Status SystemProvider::for_each_member(const SetPtr& set, const Step& step) {
  for (const auto& member : set->members) {
    const Turn turn = take_turn({member.entry});
    // With the turn: an abort that comes now waits for it, and removes what the step makes.
    if (is_aborted(*set)) return fail(aborted_error());
    const Status status = step(*member.entry->volume, member.request);
    if (!status) return fail(status.error(), "volume '" + member.entry->description.name + "'");
  }
  return {};
}

// --- prepare
// --------------------------------------------------------------------------------------

Result<bool> SystemProvider::is_volume_supported(const VolumeRef& volume,
                                                 std::uint32_t attributes) {
  const std::lock_guard lock(mutex_);
  const auto entry = find_entry(volume);
  if (!entry) return fail(entry.error());
  return check_attributes(attributes).has_value();
}

Status SystemProvider::check_new_member(const PrepareSnapshot& request, const EntryPtr& entry,
                                        const Set* set) const {
  if (const auto supported = check_attributes(request.attributes); !supported) return supported;
  for (const auto& [id, other] : entries_) {
    if (other->volume->find(request.snapshot_id)) {
      return fail(Errc::object_already_exists, "a copy with this id exists");
    }
  }
  if (set == nullptr && has_set(request.set_id)) {
    return fail(Errc::object_already_exists, "a set with this id exists");
  }
  if (const auto revert = entry->volume->revert_status(); revert.under_way) {
    return fail(Errc::revert_in_progress,
                "volume '" + entry->description.name + "' to " + revert.snapshot.to_string());
  }
  if (entry->volume->count() >= cow::kSnapshotsMax) {
    return fail(Errc::maximum_number_of_snapshots_reached,
                "volume '" + entry->description.name + "'");
  }
  std::vector<EntryPtr> members = set != nullptr ? set->entries() : std::vector<EntryPtr>{};
  if (members.size() >= kVolumesPerSetMax) {
    return fail(Errc::maximum_number_of_volumes_reached, "");
  }
  if (std::find(members.begin(), members.end(), entry) != members.end()) {
    return fail(Errc::object_already_exists,
                "volume '" + entry->description.name + "' is in the set");
  }
  members.push_back(entry);
  if (const auto layers = layers_of(members); !layers) return fail(layers.error());
  if (set == nullptr) return {};
  for (const auto& member : set->members) {
    if (member.request.snapshot_id == request.snapshot_id) {
      return fail(Errc::object_already_exists, "another copy of the set has this id");
    }
  }
  return {};
}

bool SystemProvider::has_set(const SnapshotSetId& set) const {
  if (!index_.may_have_set(set)) return false;
  for (const auto& [id, entry] : entries_) {
    for (const auto& record : entry->volume->list()) {
      if (record.set_id == set) return true;
    }
  }
  return false;
}

void SystemProvider::index_member(const PrepareSnapshot& request) {
  std::size_t copies = 0;
  for (const auto& [id, entry] : entries_) copies += entry->volume->count();
  if (index_.is_worn(copies)) {
    std::vector<cow::SnapshotRecord> all;
    for (const auto& [id, entry] : entries_) {
      for (auto& record : entry->volume->list()) all.push_back(std::move(record));
    }
    index_.count_anew(all);
  }
  index_.add(request.set_id, request.session_id, is_auto_release(request.attributes));
}

Status SystemProvider::check_begins(const PrepareSnapshot& request) const {
  if (ended_.has(request.set_id))
    return fail(Errc::provider_veto, "begin_prepare_snapshot of a set that was discarded");
  if (ended_.has(request.session_id))
    return fail(Errc::provider_veto, "begin_prepare_snapshot of a session that has ended");
  return {};
}

Status SystemProvider::begin_prepare_snapshot(const PrepareSnapshot& request) {
  if (request.set_id.is_nil() || request.snapshot_id.is_nil()) {
    return fail(Errc::invalid_argument, "a set and a copy need ids");
  }
  Lock lock(mutex_);
  if (Status begins = check_begins(request); !begins) return begins;
  if (current_ != nullptr && current_->is_unfinished()) {
    const SetPtr older = current_;
    const bool same = older->id == request.set_id;
    if (older->running && (same || older->in_doubt())) {
      return fail(Errc::bad_state, same ? "another call of the set is running"
                                        : "confirm_set of the last set is running");
    }
    if (!same || older->state != State::preparing) {
      const Error cause{Errc::provider_veto,
                        same ? std::string("begin_prepare_snapshot is out of order: the set is ") +
                                   state_name(older->state)
                             : "a newer set was begun"};
      lock.unlock();
      if (same) {
        abort_set(older, cause);
        return fail(cause);
      }
      give_up(older, cause);
      lock.lock();
      if (Status begins = check_begins(request); !begins) return begins;  // Ended meanwhile.
    }
  }
  const auto entry = find_entry(request.volume);
  if (!entry) return fail(entry.error());
  const bool joins =
      current_ != nullptr && current_->id == request.set_id && current_->state == State::preparing;
  const auto status = check_new_member(request, *entry, joins ? current_.get() : nullptr);
  if (!status) return status;
  if (!joins) {
    current_ = std::make_shared<Set>();
    current_->id = request.set_id;
    current_->session = request.session_id;
  }
  index_member(request);
  current_->members.push_back({*entry, request});
  return {};
}

Status SystemProvider::flush_file_systems(const Set& set, std::chrono::milliseconds limit) {
  const TimePoint end = clock_.now() + limit;
  const auto layers = [&] {
    const std::lock_guard lock(mutex_);
    return layers_of(set.entries());
  }();
  if (!layers) return fail(layers.error());
  for (const auto& layer : *layers) {  // A dependant's flush makes its host dirty.
    const auto devices = set.hold_layer(layer).devices;
    if (devices.empty()) continue;
    const auto rest = std::chrono::ceil<std::chrono::milliseconds>(end - clock_.now());
    const Status flushed =
        freezer_.flush(devices, std::max(rest, std::chrono::milliseconds{0}), set.stop.get_token());
    if (!flushed) return flushed;
  }
  return {};
}

Status SystemProvider::end_prepare_snapshots(const SnapshotSetId& id) {
  const auto set = enter(id, State::preparing, "end_prepare_snapshots");
  if (!set) return fail(set.error());
  Status status = for_each_member(*set, [](cow::Volume& volume, const PrepareSnapshot& request) {
    cow::PrepareRequest prepare;
    prepare.id = request.snapshot_id;
    prepare.set_id = request.set_id;
    prepare.session_id = request.session_id;
    prepare.attributes = request.attributes;
    prepare.persistent = is_persistent(request.attributes);
    return volume.prepare(prepare);
  });
  if (status) status = flush_file_systems(**set, kLongFlushLimit);
  return leave(*set, std::move(status), State::prepared);
}

Status SystemProvider::pre_commit_snapshots(const SnapshotSetId& id) {
  const auto set = enter(id, State::prepared, "pre_commit_snapshots");
  if (!set) return fail(set.error());
  return leave(*set, {}, State::precommitted);
}

// --- after the hold
// -------------------------------------------------------------------------------

Status SystemProvider::post_commit_snapshots(const SnapshotSetId& id,
                                             const std::vector<SnapshotId>& members) {
  const auto set = enter(id, State::released, "post_commit_snapshots");
  if (!set) return fail(set.error());
  const auto is_member = [&](const SnapshotId& snapshot) {
    return std::find(members.begin(), members.end(), snapshot) != members.end();
  };
  Status status;
  if (members.size() > cow::kMembersMax) {
    status = fail(Errc::invalid_argument, "more members than a set may have");
  }
  for (const auto& member : (*set)->members) {
    if (!is_member(member.request.snapshot_id)) {
      status = fail(Errc::invalid_argument, "the member list lacks a copy of this provider");
    }
  }
  const bool foreign = members.size() > (*set)->members.size();
  {
    const std::lock_guard lock(mutex_);
    (*set)->foreign = foreign;
  }
  if (status) {
    status = for_each_member(*set, [&](cow::Volume& volume, const PrepareSnapshot& request) {
      const auto& self = request.snapshot_id;
      return volume.post_commit(self, encode_members(self, members, foreign));
    });
  }
  return leave(*set, std::move(status), State::postcommitted);
}

Status SystemProvider::pre_final_commit_snapshots(const SnapshotSetId& id) {
  const auto set = enter(id, State::postcommitted, "pre_final_commit_snapshots");
  if (!set) return fail(set.error());
  Status status = exempt_free_blocks(*set);
  if (!status) return leave(*set, std::move(status), State::prefinal);
  status = for_each_member(*set, [this](cow::Volume& volume, const PrepareSnapshot& copy) {
    const SnapshotId& snapshot = copy.snapshot_id;
    if ((copy.attributes & attribute::kNotSurfaced) != 0) return Status{};
    if (!has_recovery_window(copy.attributes)) return surface(volume, snapshot);
    if (Status begun = volume.begin_recovery(snapshot); !begun) return begun;
    return surface(snapshot, volume.open_for_recovery(snapshot));
  });
  return leave(*set, std::move(status), State::prefinal);
}

Status SystemProvider::post_final_commit_snapshots(const SnapshotSetId& id) {
  const auto set = enter(id, State::prefinal, "post_final_commit_snapshots");
  if (!set) return fail(set.error());
  Status status = for_each_member(*set, [this](cow::Volume& volume, const PrepareSnapshot& copy) {
    if (!has_recovery_window(copy.attributes)) return Status{};
    // Taken away first: what a mount or a client still has to write would be lost.
    if (const Status closed = withdraw(copy.snapshot_id, false); !closed) {
      return Status(fail(closed.error(), "a writer still uses the copy that it recovered"));
    }
    if (Status ended = volume.end_recovery(copy.snapshot_id); !ended) return ended;
    return surface(volume, copy.snapshot_id);
  });
  return leave(*set, std::move(status), State::final);
}

Status SystemProvider::confirm_set(const SnapshotSetId& id) {
  const auto set = enter(id, State::final, "confirm_set");
  if (!set) return fail(set.error());
  Status status = for_each_member(*set, [](cow::Volume& volume, const PrepareSnapshot& copy) {
    return volume.confirm(copy.snapshot_id);
  });
  auto left = leave(*set, std::move(status), State::created);
  if (left) trim_client_accessible(**set);
  return left;
}

// --- abort
// ----------------------------------------------------------------------------------------

void SystemProvider::abort_snapshots(const SnapshotSetId& id) noexcept {
  SetPtr set;
  {
    const std::lock_guard lock(mutex_);
    ended_.add(id);
    if (current_ != nullptr && current_->id == id) set = current_;
  }
  if (set != nullptr) abort_set(set, aborted_error());
}

void SystemProvider::abort_set(const SetPtr& set, const Error& cause) noexcept {
  std::shared_ptr<Hold> hold;
  {
    const std::lock_guard lock(mutex_);
    if (set->state == State::created) return;
    set->state = State::aborted;
    ended_.add(set->id);
    hold = set->hold;
  }
  (void)set->stop.request_stop();
  if (hold != nullptr) hold->cancel();
  discard(set, cause);
}

void SystemProvider::give_up(const SetPtr& set, const Error& cause) noexcept {
  {
    const std::lock_guard lock(mutex_);
    if (!set->is_unfinished()) return;
    if (set->in_doubt()) {
      if (!set->running) set->state = State::parked;  // Else the confirm_set that runs decides.
      return;
    }
  }
  abort_set(set, cause);
}

void SystemProvider::discard(const SetPtr& set, const Error& cause) noexcept {
  // In the order of confirm_set: if that failed half way, the created ones go first, so that a
  // crash in the middle leaves no created copy that would roll forward what is left.
  std::uint32_t removed = 0;
  for (const auto& member : set->members) {
    const Turn turn = take_turn({member.entry});
    if (member.entry->volume == nullptr) continue;
    const auto& snapshot = member.request.snapshot_id;
    Status status = withdraw(snapshot, true);
    if (status)
      status = member.entry->volume->remove(snapshot, true, {cow::Removal::set_failed, asked_by()});
    if (status) {
      ++removed;
    } else if (status.error().code != Errc::object_not_found) {
      log_.error("a copy of an aborted set could not be deleted",
                 {{"set", set->id.to_string()},
                  {"volume", member.entry->description.name},
                  {"snapshot", snapshot.to_string()},
                  {"error", status.error().to_string()}});
    }
  }
  log_.info("snapshot set was discarded",
            {{"set", set->id.to_string()}, {"copies", removed}, {"cause", cause.to_string()}});
}

}  // namespace umbra::contract
