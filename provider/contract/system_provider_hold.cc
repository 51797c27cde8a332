// SPDX-License-Identifier: Apache-2.0
//
// The hold of a set: which volumes are held in which order, the freeze and the gates (hold.h), the
// flip in between, and the end.

#include <algorithm>
#include <numeric>
#include <string>

#include "provider/contract/stacking.h"
#include "provider/contract/system_provider_state.h"

namespace umbra::contract {

// `members` and all that lie on them, dependants first: while a host is frozen, nobody who lies on
// it may write to it, in the set or not.
Result<SystemProvider::Layers> SystemProvider::layers_of(
    const std::vector<EntryPtr>& members) const {
  std::vector<EntryPtr> entries = members;
  for (const auto& [id, entry] : entries_) {
    if (std::find(members.begin(), members.end(), entry) == members.end()) {
      entries.push_back(entry);
    }
  }
  std::vector<StackedVolume> volumes;
  for (const auto& entry : entries) {
    const auto& description = entry->description;
    volumes.push_back({description.name, description.device, description.host_devices});
  }
  Positions wanted(members.size());
  std::iota(wanted.begin(), wanted.end(), 0);
  const auto layers = in_layers(volumes, with_dependants(volumes, wanted));
  if (!layers) return fail(layers.error());
  Layers result;
  for (const auto& layer : *layers) {
    auto& row = result.emplace_back();
    for (const std::size_t position : layer) row.push_back(entries[position]);
  }
  return result;
}

Result<std::pair<SystemProvider::Layers, SystemProvider::Turn>> SystemProvider::take_layers(
    const Set& set) {
  Lock lock(mutex_);
  Result<Layers> layers;
  std::vector<EntryPtr> all;
  changed_.wait(lock, [&] {
    // Each time anew: what was attached meanwhile may lie on them as well.
    layers = layers_of(set.entries());
    all.clear();
    if (!layers) return true;
    for (const auto& layer : *layers) all.insert(all.end(), layer.begin(), layer.end());
    return none_busy(all);
  });
  if (!layers) return fail(layers.error());
  return std::pair{std::move(*layers), occupy(std::move(all))};
}

Status SystemProvider::start_hold(const SetPtr& set, const HoldLimits& limits) {
  const TimePoint called = clock_.now();
  if (const auto flushed = flush_file_systems(*set, limits.flush); !flushed) return flushed;
  auto taken = take_layers(*set);
  if (!taken) return fail(taken.error());
  // Shared with the hold, which ends the turn when the gates are open.
  auto turn = std::make_shared<Turn>(std::move(taken->second));
  Hold::Setup setup;
  setup.set = set->id;
  for (const auto& layer : taken->first) setup.layers.push_back(set->hold_layer(layer));
  setup.limits = limits;
  setup.called = called;
  setup.before_freeze = options_.before_freeze;
  setup.on_gates_open = [turn = std::move(turn)]() mutable { turn.reset(); };
  setup.after_thaw = [this, id = set->id, volumes = set->members.size()](const GateTimes& gates) {
    if (options_.after_thaw) options_.after_thaw();
    log_hold(id, volumes, gates);
  };
  auto hold = std::make_shared<Hold>(freezer_, clock_, std::move(setup));
  {
    const std::lock_guard lock(mutex_);
    if (set->state == State::aborted) return fail(aborted_error());
    set->hold = hold;
  }
  return hold->begin();
}

Status SystemProvider::flush_and_hold(const SnapshotSetId& id, const HoldLimits& limits) {
  const auto set = enter(id, State::precommitted, "flush_and_hold");
  if (!set) return fail(set.error());
  return leave(*set, start_hold(*set, limits), State::held);
}

Status SystemProvider::commit_snapshots(const SnapshotSetId& id) {
  const auto set = enter(id, State::held, "commit_snapshots");
  if (!set) return fail(set.error());
  Status status = (*set)->hold->commit(clock_.wall_filetime());
  if (status && options_.drill_hold.count() > 0) (*set)->hold->linger(options_.drill_hold);
  return leave(*set, std::move(status), State::committed);
}

Result<HoldReport> SystemProvider::release_hold(const SnapshotSetId& id) {
  SetPtr set;
  {
    const std::lock_guard lock(mutex_);
    // Of a set that is not known, nothing is held.
    if (current_ == nullptr || current_->id != id || current_->hold == nullptr) {
      return HoldReport{};
    }
    set = current_;
  }
  const auto report = set->hold->end();
  if (!report) {
    const auto answer = provider_error(report.error());
    abort_set(set, answer.value());
    return answer;
  }
  auto free = set->hold->take_free();
  const std::lock_guard lock(mutex_);
  if (set->state == State::committed) {
    set->state = State::released;
    set->free = std::move(free);
  }
  return report;
}

Result<HoldReport> SystemProvider::flush_commit_release(const SnapshotSetId& id,
                                                        const HoldLimits& limits) {
  const auto set = enter(id, State::precommitted, "flush_commit_release");
  if (!set) return fail(set.error());
  Result<HoldReport> report;
  Status status = start_hold(*set, limits);
  if (status) {
    const auto& hold = (*set)->hold;
    status = hold->commit(clock_.wall_filetime());
    if (status && options_.drill_hold.count() > 0) hold->linger(options_.drill_hold);
    // Also after a refused commit: the hold ends here, and the refusal is the better story.
    report = hold->end();
    if (status && !report) status = fail(report.error());
    if (status) (*set)->free = hold->take_free();
  }
  if (const auto left = leave(*set, std::move(status), State::released); !left) {
    return fail(left.error());
  }
  return report;
}

void SystemProvider::log_hold(const SnapshotSetId& set, std::size_t volumes,
                              const GateTimes& gates) const {
  if (gates.end == TimePoint{}) return;
  log_.info("writes were held", {{"set", set.to_string()},
                                 {"begin_ns", gates.begin.time_since_epoch().count()},
                                 {"end_ns", gates.end.time_since_epoch().count()},
                                 {"volumes", volumes}});
}

}  // namespace umbra::contract
