// SPDX-License-Identifier: Apache-2.0
//
// Method: every order of events over a small world. From each state of the machine the explorer
// makes every move that the world can make: each writer that owes an answer says ok, vetoes,
// reports a failure, ends its window or vanishes; each provider that owes an answer succeeds, fails
// or vanishes; time moves to the next deadline (that is silence); the requester cancels or dies.
// The machine is a value, so a move is made on a copy; states are told apart by fingerprint(),
// which keeps the walk finite. A monitor beside the machine sees only what went in and out and
// knows the promises at the top of snapshot_set.h; it checks them after every event.

#include <algorithm>
#include <optional>
#include <set>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "engine/coordinator/snapshot_set.h"
#include "engine/platform/prng.h"
#include "tests/support/catch.h"
#include "tests/support/seed.h"

namespace {

using namespace umbra;
using namespace umbra::coord;

constexpr Errc kVetoCode = Errc::writererror_retryable;

struct World {
  std::vector<ApplicationLevel> levels;
  std::size_t providers = 1;
  WriterPolicy policy = WriterPolicy::none;
  bool stops = true;          // cancel and requester_gone are moves.
  bool provider_ends = true;  // Providers fail and vanish.
  bool all_report = false;    // Every writer may report a failure or an ended window, not just one.
};

// What the outside has seen. Knows nothing of the machine's inside.
struct Monitor {
  struct Writer {
    bool freeze_sent = false, freeze_ok = false, closed = false, lost = false, failed = false,
         aborted = false;
    TimePoint window_end;
  };
  std::vector<Writer> writers;
  std::vector<int> last_call;  // Per provider: the last ProviderCall, -1 before.
  std::vector<bool> aborted, provider_lost;
  std::vector<bool> may_be_created;  // From ConfirmSet on, until it is refused or deleted.
  int outcomes = 0, slots = 0;
  std::vector<std::string> broken;

  void check(bool good, const std::string& what) {
    if (!good) broken.push_back(what);
  }
};

struct State {
  SnapshotSet set;
  Monitor monitor;
  TimePoint now;
  std::vector<std::optional<WriterEvent>> asked;  // Last event sent and not yet answered.
  std::vector<std::optional<ProviderCall>> called;
  bool stopped = false;
};

bool legal_next(int before, ProviderCall call, std::size_t providers) {
  using enum ProviderCall;
  if (call == abort_snapshots) return true;
  const auto after = [&](ProviderCall one) { return before == static_cast<int>(one); };
  if (call == delete_set)
    return after(abort_snapshots) || after(confirm_set) || after(complete_set);
  if (call == complete_set) return after(confirm_set) || after(complete_set);
  const std::vector<ProviderCall> fused{end_prepare_snapshots,
                                        pre_commit_snapshots,
                                        flush_commit_release,
                                        post_commit_snapshots,
                                        pre_final_commit_snapshots,
                                        post_final_commit_snapshots,
                                        confirm_set};
  const std::vector<ProviderCall> split{end_prepare_snapshots,
                                        pre_commit_snapshots,
                                        flush_and_hold,
                                        commit_snapshots,
                                        release_hold,
                                        post_commit_snapshots,
                                        pre_final_commit_snapshots,
                                        post_final_commit_snapshots,
                                        confirm_set};
  const auto& order = providers > 1 ? split : fused;
  for (std::size_t i = 0; i < order.size(); ++i)
    if (order[i] == call) return i == 0 ? before == -1 : before == static_cast<int>(order[i - 1]);
  return false;
}

void see(State& state, const SendToWriter& action) {
  auto& writer = state.monitor.writers[action.writer];
  auto& m = state.monitor;
  m.check(!writer.lost, "an event went to a writer that is gone");
  m.check(action.limit.count() > 0, "an event without a time limit");
  switch (action.event) {
    case WriterEvent::freeze:
      m.check(!writer.failed, "Freeze to a failed writer");
      writer.freeze_sent = true;
      writer.window_end = state.now + action.limit;
      break;
    case WriterEvent::thaw:
      m.check(writer.freeze_ok && !writer.failed, "Thaw to a writer that is not frozen");
      writer.closed = true;
      break;
    case WriterEvent::abort: writer.closed = writer.aborted = true; break;
    default: m.check(!writer.failed, "a phase event to a failed writer");
  }
  state.asked[action.writer] = action.event;
}

void see(State& state, const CallProvider& action) {
  auto& m = state.monitor;
  const auto p = action.provider;
  m.check(!m.provider_lost[p], "a call to a provider that is gone");
  m.check(legal_next(m.last_call[p], action.call, m.last_call.size()),
          "provider call out of order: " + std::string(name(action.call)));
  m.check(!m.aborted[p] || action.call == ProviderCall::delete_set, "a call after abort");
  if (action.call == ProviderCall::abort_snapshots) {
    m.aborted[p] = true;
    // What if umbrad dies now? A created member beside one that is gone is half a set.
    for (std::size_t q = 0; q < m.may_be_created.size(); ++q)
      m.check(q == p || !m.may_be_created[q], "a part goes while another may be created");
  }
  if (action.call == ProviderCall::confirm_set || action.call == ProviderCall::complete_set)
    m.may_be_created[p] = true;
  if (action.call == ProviderCall::flush_commit_release ||
      action.call == ProviderCall::flush_and_hold ||
      action.call == ProviderCall::commit_snapshots) {
    for (const auto& writer : m.writers) {
      if (!writer.freeze_ok || writer.failed || writer.lost) continue;
      m.check(state.now < writer.window_end, "commit asked for after a window's end");
      if (action.call != ProviderCall::commit_snapshots)
        m.check(state.now + action.limits.window < writer.window_end,
                "the window that travels is longer than what is left");
      m.check(action.limits.window.count() >= 0, "a hold without a window");
    }
  }
  m.last_call[p] = static_cast<int>(action.call);
  state.called[p] = action.call;
}

void see(State& state, const ReportOutcome&) {
  ++state.monitor.outcomes;
  state.monitor.check(state.monitor.slots == 0, "slot released before the outcome");
}

void see(State& state, const ReleaseSlot&) { ++state.monitor.slots; }

void check_end(State& state, const World& world) {
  auto& m = state.monitor;
  const auto& outcome = state.set.outcome();
  m.check(m.outcomes == 1 && m.slots == 1, "not exactly one outcome and one slot release");
  for (const auto& writer : m.writers)
    m.check(!writer.freeze_sent || writer.closed || writer.lost,
            "a frozen writer got neither Thaw nor Abort");
  const bool good = outcome.code == Errc::async_finished;
  for (std::size_t p = 0; p < m.last_call.size(); ++p) {
    const auto last = static_cast<ProviderCall>(m.last_call[p]);
    if (good)
      m.check((last == ProviderCall::confirm_set || last == ProviderCall::complete_set) &&
                  !m.aborted[p],
              "success without confirm_set at every provider");
    else
      m.check(m.aborted[p] || m.provider_lost[p] || state.set.in_doubt() ||
                  (m.last_call[p] >= 0 && last == ProviderCall::delete_set),
              "failure without abort at every provider");
  }
  if (!good) m.check(!outcome.context.empty(), "a failure without a context");
  for (std::size_t w = 0; w < m.writers.size(); ++w) {
    const auto& writer = state.set.writers()[w];
    if (!good && !writer.lost && writer.state != WriterState::waiting_for_backup_complete)
      m.check(m.writers[w].aborted, "failure without Abort to a writer that had prepared");
    if (good && !writer.lost)
      m.check(is_failed(writer.state) || writer.state == WriterState::waiting_for_backup_complete,
              "success left a writer in between");
    if (good && world.policy == WriterPolicy::all)
      m.check(!is_failed(writer.state), "success in spite of the policy");
    if (good && world.policy == WriterPolicy::involved && w == 0)
      m.check(!is_failed(writer.state), "success in spite of the policy");
  }
}

// Everything that must hold after any event.
void settle(State& state, const World& world) {
  for (const auto& action : state.set.take_actions())
    std::visit([&](const auto& one) { see(state, one); }, action);
  for (std::size_t w = 0; w < state.monitor.writers.size(); ++w) {
    auto& writer = state.monitor.writers[w];
    writer.failed = is_failed(state.set.writers()[w].state);
    state.monitor.check(
        !writer.freeze_sent || writer.closed || writer.lost || state.now < writer.window_end,
        "a writer is left frozen after its window");
    if (writer.failed || writer.lost)
      state.monitor.check(state.set.writers()[w].failure != Errc::ok, "failed without a code");
  }
  if (state.set.done()) {
    check_end(state, world);
    state.monitor.check(!state.set.next_deadline(), "a deadline after the end");
  } else {
    state.monitor.check(state.set.next_deadline().has_value(), "a wait without a bound");
    state.monitor.check(state.monitor.outcomes == 0, "an outcome before the end");
  }
}

State initial(const World& world) {
  SetPlan plan;
  plan.policy = world.policy;
  for (std::size_t w = 0; w < world.levels.size(); ++w) {
    SessionWriter writer;
    writer.name = "writer " + std::to_string(w);
    writer.level = world.levels[w];
    writer.involved = w == 0;
    writer.prepare_sent = true;
    writer.freeze_window = milliseconds{w == 1 ? 20'000 : 60'000};
    plan.writers.push_back(writer);
  }
  for (std::size_t p = 0; p < world.providers; ++p) plan.providers.push_back({{}, "provider"});
  State state{SnapshotSet{plan, Limits{}}, {}, {}, {}, {}, false};
  state.monitor.writers.resize(world.levels.size());
  state.monitor.last_call.assign(world.providers, -1);
  state.monitor.aborted.assign(world.providers, false);
  state.monitor.provider_lost.assign(world.providers, false);
  state.monitor.may_be_created.assign(world.providers, false);
  state.asked.resize(world.levels.size());
  state.called.resize(world.providers);
  state.set.start(state.now);
  settle(state, world);
  return state;
}

// --- moves --------------------------------------------------------------------------------------

enum class MoveKind {
  ok,
  veto,
  report,
  expire,
  vanish,
  p_ok,
  p_fail,
  p_vanish,
  p_return,
  time,
  cancel,
  gone
};
struct Move {
  MoveKind kind;
  std::size_t index = 0;
};

std::vector<Move> moves(const State& state, const World& world) {
  std::vector<Move> list;
  for (std::size_t w = 0; w < state.asked.size(); ++w) {
    const auto& writer = state.monitor.writers[w];
    if (writer.lost) continue;
    if (state.asked[w]) {
      list.push_back({MoveKind::ok, w});
      if (*state.asked[w] != WriterEvent::abort) {
        list.push_back({MoveKind::veto, w});
        if (world.all_report || w == 0) list.push_back({MoveKind::report, w});
      }
    }
    list.push_back({MoveKind::vanish, w});
    if (writer.freeze_sent && !writer.closed && (world.all_report || w == 0))
      list.push_back({MoveKind::expire, w});
  }
  for (std::size_t p = 0; p < state.called.size(); ++p) {
    if (state.monitor.provider_lost[p]) {
      if (state.set.phase() == Phase::confirm) list.push_back({MoveKind::p_return, p});
      continue;
    }
    if (state.called[p]) {
      list.push_back({MoveKind::p_ok, p});
      if (world.provider_ends && *state.called[p] != ProviderCall::abort_snapshots)
        list.push_back({MoveKind::p_fail, p});
    }
    if (world.provider_ends) list.push_back({MoveKind::p_vanish, p});
  }
  list.push_back({MoveKind::time});
  if (world.stops && !state.stopped) {
    list.push_back({MoveKind::cancel});
    list.push_back({MoveKind::gone});
  }
  return list;
}

void writer_move(State& state, const Move& move) {
  const auto w = move.index;
  auto& writer = state.monitor.writers[w];
  if (move.kind == MoveKind::vanish) {
    writer.lost = true;
    state.asked[w].reset();
    state.set.writer_lost(state.now, w);
    return;
  }
  if (move.kind == MoveKind::expire) {
    state.set.writer_window_expired(state.now, w);
    return;
  }
  const auto event = *std::exchange(state.asked[w], std::nullopt);
  WriterAnswer answer;
  answer.ok = move.kind != MoveKind::veto;
  if (move.kind != MoveKind::ok) answer.failure = kVetoCode;
  if (event == WriterEvent::freeze && answer.ok) writer.freeze_ok = true;
  state.set.writer_replied(state.now, w, event, answer);
}

void make(State& state, const Move& move, const World& world) {
  switch (move.kind) {
    case MoveKind::p_ok:
    case MoveKind::p_fail: {
      const auto call = *std::exchange(state.called[move.index], std::nullopt);
      const Result<HoldReport> good{HoldReport{}};
      // "Not found" is what a provider that is back says of a set that it never created.
      const bool gone = call == ProviderCall::complete_set;
      const Result<HoldReport> bad =
          fail(gone ? Errc::object_not_found : Errc::provider_veto, "no");
      const bool good_one = move.kind == MoveKind::p_ok;
      if (good_one == (call == ProviderCall::delete_set))
        state.monitor.may_be_created[move.index] = false;
      state.set.provider_replied(state.now, move.index, call,
                                 move.kind == MoveKind::p_ok ? good : bad);
      break;
    }
    case MoveKind::p_vanish:
      state.monitor.provider_lost[move.index] = true;
      state.called[move.index].reset();
      state.set.provider_lost(state.now, move.index);
      break;
    case MoveKind::p_return:
      state.monitor.provider_lost[move.index] = false;
      state.set.provider_returned(state.now, move.index);
      break;
    case MoveKind::time:
      state.now = std::max(state.now, *state.set.next_deadline());
      state.set.deadline_passed(state.now);
      break;
    case MoveKind::cancel:
    case MoveKind::gone:
      state.stopped = true;
      state.set.stop(state.now,
                     move.kind == MoveKind::cancel ? StopCause::cancel : StopCause::requester_gone,
                     "");
      break;
    default: writer_move(state, move);
  }
  settle(state, world);
}

// Answers that nobody asked for change nothing.
void check_unasked(State& state) {
  const auto before = state.set.fingerprint(state.now);
  for (std::size_t w = 0; w < state.asked.size(); ++w)
    for (const auto event : {WriterEvent::freeze, WriterEvent::thaw, WriterEvent::abort})
      if (state.asked[w] != event)
        state.monitor.check(!state.set.writer_replied(state.now, w, event, {}),
                            "an unasked writer's answer was taken");
  for (std::size_t p = 0; p < state.called.size(); ++p)
    for (const auto call : {ProviderCall::commit_snapshots, ProviderCall::abort_snapshots})
      if (state.called[p] != call)
        state.monitor.check(
            !state.set.provider_replied(state.now, p, call, Result<HoldReport>{HoldReport{}}),
            "an unasked provider's answer was taken");
  state.monitor.check(before == state.set.fingerprint(state.now), "an unasked answer had effect");
  state.monitor.check(state.set.take_actions().empty(), "an unasked answer caused an action");
}

std::string key(const State& state) {
  std::string text = state.set.fingerprint(state.now);
  for (std::size_t w = 0; w < state.asked.size(); ++w) {
    const auto& m = state.monitor.writers[w];
    text += state.asked[w] ? static_cast<char>('a' + static_cast<int>(*state.asked[w])) : '-';
    text += static_cast<char>('0' + (m.freeze_sent ? 1 : 0) + (m.freeze_ok ? 2 : 0) +
                              (m.closed ? 4 : 0) + (m.lost ? 8 : 0));
  }
  for (std::size_t p = 0; p < state.called.size(); ++p) {
    text += state.called[p] ? static_cast<char>('a' + static_cast<int>(*state.called[p])) : '-';
    text += state.monitor.may_be_created[p] ? '+' : '-';
  }
  return text + (state.stopped ? 's' : '.');
}

struct Explored {
  std::size_t states = 0, ends = 0;
  std::set<Errc> codes;
};

Explored explore(const World& world) {
  Explored result;
  std::unordered_set<std::size_t> seen;  // Hashes of 64 bits: a collision would only skip a state.
  const std::hash<std::string> hash;
  std::vector<State> stack{initial(world)};
  seen.insert(hash(key(stack.back())));
  while (!stack.empty()) {
    State state = std::move(stack.back());
    stack.pop_back();
    ++result.states;
    check_unasked(state);
    if (!state.monitor.broken.empty()) FAIL(state.monitor.broken.front() + " in " + key(state));
    if (state.set.done()) {
      ++result.ends;
      result.codes.insert(state.set.outcome().code);
      continue;
    }
    for (const auto& move : moves(state, world)) {
      State next = state;
      make(next, move, world);
      if (!next.monitor.broken.empty())
        FAIL(next.monitor.broken.front() + " after move " +
             std::to_string(static_cast<int>(move.kind)) + " of " + std::to_string(move.index) +
             " in " + key(state));
      if (seen.insert(hash(key(next))).second) stack.push_back(std::move(next));
    }
  }
  return result;
}

using enum ApplicationLevel;

// The budget of the quick form is seconds; the long form has every policy, level and report.
TEST_CASE("every order of 3 writers' answers and every stop keeps the promises",
          "[coordinator][model][exhaustive]") {
  auto policy = WriterPolicy::involved;
  auto levels = std::vector{front_end, back_end, system};
  if (test::long_run()) {
    policy = GENERATE(WriterPolicy::none, WriterPolicy::involved, WriterPolicy::all);
    levels = GENERATE(std::vector{front_end, back_end, system},
                      std::vector{front_end, front_end, system});
  }
  const auto explored = explore({levels, 1, policy, true, false, test::long_run()});
  INFO("states " << explored.states << ", ends " << explored.ends);
  CHECK(explored.states > 10'000);
  CHECK(explored.codes.count(Errc::async_finished) == 1);
  CHECK(explored.codes.count(Errc::async_cancelled) == 1);
  CHECK(explored.codes.count(Errc::writererror_timeout) == 1);
  if (policy != WriterPolicy::none) CHECK(explored.codes.count(kVetoCode) == 1);
}

TEST_CASE("without a policy no order of 3 writers' failures breaks a promise",
          "[coordinator][model][exhaustive]") {
  const auto explored =
      explore({{front_end, front_end, system}, 1, WriterPolicy::none, false, false, false});
  CHECK(explored.states > 10'000);
  CHECK(explored.codes.count(Errc::async_finished) == 1);
  CHECK(explored.codes.count(kVetoCode) == 0);
}

TEST_CASE("a provider's failure or end at every step, with stops, keeps the promises",
          "[coordinator][model][exhaustive]") {
  const std::size_t providers = GENERATE(std::size_t{0}, std::size_t{1}, std::size_t{2});
  const auto policy = GENERATE(WriterPolicy::none, WriterPolicy::all);
  const auto explored = explore({{front_end, system}, providers, policy, true, true, false});
  INFO("states " << explored.states << ", ends " << explored.ends);
  CHECK(explored.codes.count(Errc::async_finished) == 1);
  if (providers > 0) {
    CHECK(explored.codes.count(Errc::provider_veto) == 1);
    CHECK(explored.codes.count(Errc::unexpected_provider_error) == 1);
  }
  // With frozen writers, the window of 20 s ends before a silent hold's own time is over; only a
  // silent release, after the commit, is quicker.
  const bool silent_hold = policy == WriterPolicy::none;
  CHECK(explored.codes.count(Errc::hold_writes_timeout) ==
        (providers > 1 || (silent_hold && providers > 0) ? 1 : 0));
  CHECK(explored.codes.count(Errc::flush_writes_timeout) == (silent_hold && providers > 1 ? 1 : 0));
}

TEST_CASE("random worlds of up to 12 writers and 5 providers keep the promises",
          "[coordinator][model][random]") {
  Prng random{test::seed()};
  const int runs = test::long_run() ? 200'000 : 4'000;
  for (int run = 0; run < runs; ++run) {
    World world;
    for (std::uint64_t w = random.below(13); w > 0; --w)
      world.levels.push_back(static_cast<ApplicationLevel>(random.below(4)));
    world.providers = random.below(6);
    world.policy = static_cast<WriterPolicy>(random.below(4));
    world.all_report = true;
    // Most moves are good ones, or no run would get far; how many differs per run.
    const auto mostly = random.below(60) + 1;
    State state = initial(world);
    int steps = 0;
    while (!state.set.done()) {
      REQUIRE(++steps < 10'000);
      auto list = moves(state, world);
      const auto good = std::partition(list.begin(), list.end(), [](const Move& move) {
        return move.kind == MoveKind::ok || move.kind == MoveKind::p_ok;
      });
      const auto goods = static_cast<std::size_t>(good - list.begin());
      const bool take_good = goods > 0 && !random.chance(1, mostly);
      const auto pick = take_good ? random.below(goods) : random.below(list.size());
      // Sometimes just before a deadline, where the margins are.
      const auto last = *state.set.next_deadline() - milliseconds{1};
      const auto later = state.now + milliseconds{random.below(50)};
      state.now = std::max(state.now, random.chance(1, 10) ? last : std::min(later, last));
      if (list[pick].kind == MoveKind::time)
        state.now = std::max(state.now, *state.set.next_deadline());
      make(state, list[pick], world);
      check_unasked(state);
      if (!state.monitor.broken.empty())
        FAIL(state.monitor.broken.front() + " in run " + std::to_string(run) + ", " + key(state));
    }
  }
}

}  // namespace
