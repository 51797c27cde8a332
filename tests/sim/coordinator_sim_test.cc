// SPDX-License-Identifier: Apache-2.0
//
// Thousands of short lives of a machine: production umbrad, SDK and documents on simulated time.
// Writers stall, lie, die and answer twice; requesters vanish, fall silent for an hour and queue;
// providers fail, hang, and lose their connection; umbrad is killed. Whatever happens:
//
//   - each writer that was frozen is thawed or aborted in its window, by umbrad or by its SDK;
//   - a set that was reported created was committed while every writer that is reported good was
//     frozen, and each of them was thawed after; with a policy, all of them are good;
//   - every end of a set is told once, and what the requester was told is what the providers have:
//     a whole set or nothing of it, on all of them;
//   - in the end nothing is held: no slot, no frozen writer, no unfinished set; and the next set
//     comes about.
//
// A seed replays a life exactly.

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "tests/sim/provider.h"
#include "tests/sim/requester.h"
#include "tests/sim/world.h"
#include "tests/sim/writers.h"
#include "tests/support/catch.h"
#include "tests/support/seed.h"

namespace {

using namespace umbra;
using namespace umbra::sim;
using namespace std::chrono_literals;

constexpr int kLivesShort = 1'000;
constexpr int kLivesLong = 100'000;

struct Tally {
  int created = 0;
  int failed = 0;
  int commits = 0;
  int kills = 0;
};

/// One life. Declared in the order in which things may be destroyed.
class Life {
 public:
  explicit Life(std::uint64_t seed) : world_(seed) {
    static constexpr std::array<int, 4> kChaos{0, 3, 8, 20};
    chaos_ = kChaos[world_.prng.below(kChaos.size())];
    world_.start_umbrad();
    make_providers();
    make_writers();
    make_requesters();
    if (chaos_ > 0 && world_.prng.chance(1, 2)) plan_kills();
  }

  ~Life() {
    // Whoever still waits hears that umbrad is gone, and ends.
    if (world_.umbrad_runs()) world_.kill_umbrad();
    ended_ = true;
    world_.run(world_.now() + 48h, [this] { return all_over(); });
  }
  Life(const Life&) = delete;
  Life& operator=(const Life&) = delete;

  /// Empty: every promise was kept.
  std::string live() {
    world_.run(world_.now() + 24h, [this] { return all_over(); });
    if (!all_over()) return "a requester never ended";
    ended_ = true;  // No more kills; but the one that began ends.
    if (!world_.umbrad_runs()) world_.start_umbrad();
    for (auto& writer : writers_) writer->calm();
    for (auto& provider : providers_) provider->calm();
    // The longest of what may still run is a deletion, and the look at what is in doubt.
    world_.run(world_.now() + 5min);
    check_end();
    if (problem_.empty()) check_next_set();
    return problem_;
  }
  [[nodiscard]] std::uint64_t sum() const { return world_.sum(); }
  [[nodiscard]] std::string last_events() const { return world_.last_events(); }
  [[nodiscard]] const Tally& tally() const { return tally_; }

 private:
  [[nodiscard]] bool all_over() const {
    return std::all_of(requesters_.begin(), requesters_.end(),
                       [](const auto& one) { return one->is_over(); });
  }
  void make_providers();
  void make_writers();
  void make_requesters();
  void plan_kills();
  void committed(const SnapshotSetId& set);
  void created(const SimRequester& requester);
  void check_end();
  void check_requester(const SimRequester& requester);
  void check_copies();
  void check_next_set();
  void broken(const std::string& what) {
    if (problem_.empty()) problem_ = what;
  }
  [[nodiscard]] const SimRequester* maker(const SnapshotSetId& set) const;
  [[nodiscard]] std::size_t copies_of(const SnapshotSetId& set);

  World world_;
  int chaos_ = 0;
  bool killed_ = false;
  bool ended_ = false;
  std::vector<std::unique_ptr<SimProvider>> providers_;
  std::vector<std::unique_ptr<Writer>> writers_;
  std::vector<std::unique_ptr<SimRequester>> requesters_;
  // Of each set: at each commit of it, which writers were frozen.
  std::map<SnapshotSetId, std::vector<std::set<WriterInstanceId>>> frozen_at_commit_;
  std::string problem_;
  Tally tally_;
};

void Life::make_providers() {
  const int count = world_.prng.chance(1, 3) ? 2 : 1;
  for (int i = 0; i < count; ++i) {
    providers_.push_back(std::make_unique<SimProvider>(
        world_, std::string(1, static_cast<char>('p' + i)), chaos_ / 2,
        [this](const SnapshotSetId& set) { committed(set); }));
    providers_.back()->connect();
  }
}

void Life::make_writers() {
  static constexpr std::array kLevels{ApplicationLevel::front_end, ApplicationLevel::back_end,
                                      ApplicationLevel::system};
  const auto count = world_.prng.below(5);
  for (std::uint64_t i = 0; i < count; ++i) {
    WriterPlan plan;
    plan.name = "w" + std::to_string(i);
    plan.level = kLevels[world_.prng.below(kLevels.size())];
    plan.window = 1'500ms + world_.random_upto(4'500ms);
    plan.class_id = WriterClassId::random();
    plan.chaos = chaos_;
    writers_.push_back(world_.prng.chance(2, 3) ? make_sdk_writer(world_, plan)
                                                : make_wild_writer(world_, plan));
    writers_.back()->connect();
  }
}

void Life::make_requesters() {
  static constexpr std::array kContexts{context::kBackup, context::kAppRollback,
                                        context::kNasRollback, context::kClientAccessibleWriters};
  static constexpr std::array kPolicies{WriterPolicy::none, WriterPolicy::involved,
                                        WriterPolicy::all};
  const auto count = 1 + world_.prng.below(3);
  for (std::uint64_t i = 0; i < count; ++i) {
    RequesterPlan plan;
    for (const auto& provider : providers_)
      for (const auto& volume : provider->volumes())
        if (plan.volumes.empty() || world_.prng.chance(1, 2)) plan.volumes.push_back(volume);
    plan.context = kContexts[world_.prng.below(kContexts.size())];
    plan.policy = kPolicies[world_.prng.below(kPolicies.size())];
    plan.component_mode = world_.prng.chance(3, 4);
    plan.chaos = chaos_;
    plan.queue = world_.random_upto(30s);
    requesters_.push_back(std::make_unique<SimRequester>(world_, plan));
    requesters_.back()->on_created = [this](const SimRequester& one) { created(one); };
    world_.after(500ms + world_.random_upto(10s),
                 [one = requesters_.back().get()] { one->start(); });
  }
}

void Life::plan_kills() {
  const auto count = 1 + world_.prng.below(2);
  for (std::uint64_t i = 0; i < count; ++i) {
    world_.after(world_.random_upto(40s), [this] {
      if (!world_.umbrad_runs() || ended_) return;
      killed_ = true;
      ++tally_.kills;
      world_.kill_umbrad();
      world_.after(100ms + world_.random_upto(3s), [this] {
        if (!ended_) world_.start_umbrad();
      });
    });
  }
}

const SimRequester* Life::maker(const SnapshotSetId& set) const {
  for (const auto& one : requesters_)
    if (one->end().set == set) return one.get();
  return nullptr;
}

void Life::committed(const SnapshotSetId& set) {
  ++tally_.commits;
  const auto* requester = maker(set);
  auto& frozen = frozen_at_commit_[set].emplace_back();
  for (const auto& writer : writers_)
    if (requester != nullptr && writer->truth(requester->end().session).frozen)
      frozen.insert(writer->instance());
}

void Life::created(const SimRequester& requester) {
  const auto& end = requester.end();
  for (const auto& status : end.writers) {
    // Who failed after it had done its part, or has none, binds nobody.
    if (is_failed(status.state) && requester.plan().policy != WriterPolicy::none)
      broken("created, although the policy binds writer '" + status.name + "', which failed");
    const bool good =
        status.failure == Errc::ok && status.state == WriterState::waiting_for_backup_complete;
    if (!good) continue;
    for (const auto& frozen : frozen_at_commit_[end.set])
      if (frozen.count(status.instance_id) == 0)
        broken("committed while writer '" + status.name + "', reported good, was not frozen");
    for (const auto& writer : writers_) {
      if (writer->instance() != status.instance_id || !writer->is_registered()) continue;
      if (!writer->truth(end.session).thawed || writer->truth(end.session).frozen)
        broken("created, and writer '" + status.name + "', reported good, was not thawed");
    }
  }
}

void Life::check_end() {
  for (const auto& writer : writers_) {
    if (!writer->broken().empty()) broken(writer->broken());
    if (writer->is_frozen()) broken("writer '" + writer->plan().name + "' is frozen for ever");
    if (!writer->is_registered()) broken("writer '" + writer->plan().name + "' never came back");
  }
  if (world_.umbrad().slot.holder()) broken("the slot is leaked");
  for (auto& provider : providers_) {
    if (!provider->is_registered()) broken("a provider never came back");
    if (provider->memory().unfinished_sets() != 0) broken("an unfinished set is left");
  }
  for (const auto& [set, times] : world_.story.outcomes)
    if (times != 1) broken("the end of a set was told " + std::to_string(times) + " times");
  for (const auto& requester : requesters_) check_requester(*requester);
  check_copies();
}

void Life::check_requester(const SimRequester& requester) {
  const auto& end = requester.end();
  const auto set = end.set.to_string();
  // Who completed a backup without a copy ended its set by that.
  if (!end.set.is_nil() && !end.without_copy && !killed_ && world_.story.outcomes[set] != 1)
    broken("the end of a set was never told");
  if (!end.asked) return;
  ++(end.created ? tally_.created : tally_.failed);
  const auto copies = copies_of(end.set);
  const bool persistent = !is_auto_release(requester.plan().context);
  if (end.created && persistent && copies == 0 && !frozen_at_commit_[end.set].empty())
    broken("a set that was reported created is not there");
  // Whoever lost umbrad, or was told of the doubt, was told nothing.
  const bool unknown = end.error.code == Errc::coordinator_lost ||
                       end.error.context.find("in doubt") != std::string::npos;
  if (!end.created && !unknown && copies != 0)
    broken("a set that was reported failed is there: " + end.error.to_string());
}

std::size_t Life::copies_of(const SnapshotSetId& set) {
  std::size_t count = 0;
  for (auto& provider : providers_) {
    const auto list = provider->memory().query_snapshots(true);
    for (std::size_t i = 0; list && i < list->size(); ++i)
      if ((*list)[i].set_id == set) ++count;
  }
  return count;
}

// No half sets, and no auto-release copy outlives its session.
void Life::check_copies() {
  for (auto& provider : providers_) {
    const auto list = provider->memory().query_snapshots(true);
    for (std::size_t i = 0; list && i < list->size(); ++i) {
      const auto& copy = (*list)[i];
      if (copy.state != SnapshotState::created) broken("a copy is in doubt for ever");
      if (copy.snapshots_count != copies_of(copy.set_id)) broken("half of a set is there");
      if (is_auto_release(copy.attributes)) broken("an auto-release copy outlived its session");
    }
  }
}

void Life::check_next_set() {
  RequesterPlan plan;
  plan.volumes = providers_.front()->volumes();
  plan.context = context::kNasRollback;
  SimRequester next(world_, plan);
  next.start();
  world_.run(world_.now() + 10min, [&] { return next.is_over(); });
  if (!next.is_over()) {
    world_.kill_umbrad();
    world_.run(world_.now() + 1h, [&] { return next.is_over(); });
    return broken("the next set never ended");
  }
  if (!next.end().created) broken("the next set failed: " + next.end().error.to_string());
}

TEST_CASE("whatever writers, requesters, providers and umbrad's end do, nothing is broken",
          "[sim][vss:rule.lock-ends-with-its-holder][vss:rule.no-partial-commit]"
          "[vss:rule.one-creation-at-a-time]") {
  const int lives = test::long_run() ? kLivesLong : kLivesShort;
  Prng seeds(test::seed());
  Tally total;
  for (int i = 0; i < lives; ++i) {
    const auto seed = seeds.next();
    Life life(seed);
    const auto problem = life.live();
    INFO("life " << i << ", seed " << seed << ": " << problem << "\n"
                 << (problem.empty() ? std::string() : life.last_events()));
    REQUIRE(problem.empty());
    total.created += life.tally().created;
    total.failed += life.tally().failed;
    total.commits += life.tally().commits;
    total.kills += life.tally().kills;
  }
  // That all of it is reached at all.
  CHECK(total.created > lives / 10);
  CHECK(total.failed > lives / 20);
  CHECK(total.commits > total.created);
  CHECK(total.kills > lives / 10);
  if (!test::long_run()) return;
  WARN(lives << " lives: " << total.created << " sets created, " << total.failed << " failed, "
             << total.commits << " commits, umbrad killed " << total.kills << " times");
}

TEST_CASE("the same seed lives the same life", "[sim]") {
  Prng seeds(test::seed() + 1);
  for (int i = 0; i < 20; ++i) {
    const auto seed = seeds.next();
    // One after the other: ids come from the world that lives.
    std::uint64_t first = 0;
    {
      Life life(seed);
      static_cast<void>(life.live());
      first = life.sum();
    }
    Life again(seed);
    static_cast<void>(again.live());
    CHECK(again.sum() == first);
  }
}

}  // namespace
