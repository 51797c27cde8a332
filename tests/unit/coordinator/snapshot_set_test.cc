// SPDX-License-Identifier: Apache-2.0
//
// The order, the limits and the words of the machine, as stories; its promises under every order of
// events are tests/model/snapshot_set_model_test.cc.

#include "engine/coordinator/snapshot_set.h"

#include <string>
#include <utility>
#include <vector>

#include "tests/support/catch.h"

namespace {

using namespace umbra;
using namespace umbra::coord;
using std::chrono::seconds;
using Lines = std::vector<std::string>;

struct Story {
  explicit Story(SetPlan plan) : set(std::move(plan), Limits{}) { set.start(now); }

  // What was asked for since the last time, in words.
  Lines asked() {
    Lines lines;
    for (const auto& action : set.take_actions()) {
      if (const auto* send = std::get_if<SendToWriter>(&action))
        lines.push_back("w" + std::to_string(send->writer) + " " + std::string(name(send->event)));
      else if (const auto* call = std::get_if<CallProvider>(&action)) {
        lines.push_back("p" + std::to_string(call->provider) + " " + std::string(name(call->call)));
        limits = call->limits;
      } else
        lines.push_back(std::holds_alternative<ReportOutcome>(action) ? "outcome" : "slot");
    }
    return lines;
  }
  void good(std::size_t w, WriterEvent event) { CHECK(set.writer_replied(now, w, event, {})); }
  void provider(std::size_t p, ProviderCall call, HoldReport report = {}) {
    CHECK(set.provider_replied(now, p, call, Result<HoldReport>{report}));
  }
  void pass(Duration time) {
    now += time;
    set.deadline_passed(now);
  }

  TimePoint now;
  SnapshotSet set;
  HoldLimits limits;
};

SetPlan plan(std::vector<ApplicationLevel> levels, std::size_t providers = 1,
             WriterPolicy policy = WriterPolicy::none) {
  SetPlan result;
  result.policy = policy;
  for (std::size_t w = 0; w < levels.size(); ++w) {
    SessionWriter writer;
    writer.name = "w" + std::to_string(w);
    writer.class_id = WriterClassId::random();
    writer.level = levels[w];
    writer.prepare_sent = true;
    result.writers.push_back(writer);
  }
  for (std::size_t p = 0; p < providers; ++p)
    result.providers.push_back({ProviderId::random(), "p" + std::to_string(p)});
  return result;
}

using enum ApplicationLevel;

Story frozen(SetPlan plan) {
  Story story(std::move(plan));
  for (std::size_t p = 0; story.set.phase() == Phase::end_prepare; ++p)
    story.provider(p, ProviderCall::end_prepare_snapshots);
  for (std::size_t w = 0; story.set.phase() == Phase::prepare_for_snapshot; ++w)
    story.good(w, WriterEvent::prepare_for_snapshot);
  for (std::size_t w = 0; story.set.phase() == Phase::freeze; ++w)
    story.good(w, WriterEvent::freeze);
  static_cast<void>(story.asked());
  return story;
}

TEST_CASE("one set goes through every phase in VSS's order",
          "[coordinator]"
          "[vss:rule.freeze-by-levels][vss:rule.thaw-in-reverse][vss:VSS_APP.FRONT_END]"
          "[vss:VSS_APP.BACK_END][vss:VSS_APP.SYSTEM]"
          "[vss:IVssProviderCreateSnapshotSet.EndPrepareSnapshots]"
          "[vss:IVssProviderCreateSnapshotSet.PreCommitSnapshots]"
          "[vss:IVssProviderCreateSnapshotSet.CommitSnapshots]"
          "[vss:IVssProviderCreateSnapshotSet.PostCommitSnapshots]"
          "[vss:IVssProviderCreateSnapshotSet.PreFinalCommitSnapshots]"
          "[vss:IVssProviderCreateSnapshotSet.PostFinalCommitSnapshots]") {
  Story story(plan({front_end, back_end, system}));
  CHECK(story.asked() == Lines{"p0 end_prepare_snapshots"});
  story.provider(0, ProviderCall::end_prepare_snapshots);
  CHECK(story.asked() ==
        Lines{"w0 prepare_for_snapshot", "w1 prepare_for_snapshot", "w2 prepare_for_snapshot"});
  for (std::size_t w = 0; w < 3; ++w) story.good(w, WriterEvent::prepare_for_snapshot);
  CHECK(story.asked() == Lines{"w0 freeze"});
  story.good(0, WriterEvent::freeze);
  CHECK(story.asked() == Lines{"w1 freeze"});
  story.good(1, WriterEvent::freeze);
  CHECK(story.asked() == Lines{"w2 freeze"});
  story.good(2, WriterEvent::freeze);
  CHECK(story.asked() == Lines{"p0 pre_commit_snapshots"});
  story.provider(0, ProviderCall::pre_commit_snapshots);
  CHECK(story.asked() == Lines{"p0 flush_commit_release"});
  story.provider(0, ProviderCall::flush_commit_release,
                 {std::chrono::microseconds{7}, {}, std::chrono::microseconds{3}});
  CHECK(story.asked() == Lines{"p0 post_commit_snapshots"});
  story.provider(0, ProviderCall::post_commit_snapshots);
  CHECK(story.asked() == Lines{"w2 thaw"});
  story.good(2, WriterEvent::thaw);
  CHECK(story.asked() == Lines{"w1 thaw"});
  story.good(1, WriterEvent::thaw);
  CHECK(story.asked() == Lines{"w0 thaw"});
  story.good(0, WriterEvent::thaw);
  CHECK(story.asked() == Lines{"p0 pre_final_commit_snapshots"});
  story.provider(0, ProviderCall::pre_final_commit_snapshots);
  CHECK(story.asked() == Lines{"w0 post_snapshot", "w1 post_snapshot", "w2 post_snapshot"});
  for (std::size_t w = 0; w < 3; ++w) story.good(w, WriterEvent::post_snapshot);
  CHECK(story.asked() == Lines{"p0 post_final_commit_snapshots"});
  story.provider(0, ProviderCall::post_final_commit_snapshots);
  CHECK(story.asked() == Lines{"p0 confirm_set"});
  story.provider(0, ProviderCall::confirm_set);
  CHECK(story.asked() == Lines{"outcome", "slot"});
  CHECK(story.set.outcome().code == Errc::async_finished);
  CHECK(story.set.hold().gate.count() == 3);
  CHECK(story.set.timeline().size() == 11);
  CHECK(story.set.writers()[0].state == WriterState::waiting_for_backup_complete);
}

TEST_CASE("resource managers freeze after system services and thaw before them",
          "[coordinator][vss:VSS_APP.SYSTEM_RM]") {
  Story story(plan({system_rm, system, front_end, back_end}));
  story.provider(0, ProviderCall::end_prepare_snapshots);
  for (std::size_t w = 0; w < 4; ++w) story.good(w, WriterEvent::prepare_for_snapshot);
  static_cast<void>(story.asked());
  story.good(2, WriterEvent::freeze);
  story.good(3, WriterEvent::freeze);
  CHECK(story.asked() == Lines{"w3 freeze", "w1 freeze"});
  story.good(1, WriterEvent::freeze);
  CHECK(story.asked() == Lines{"w0 freeze"});
  story.good(0, WriterEvent::freeze);
  story.provider(0, ProviderCall::pre_commit_snapshots);
  story.provider(0, ProviderCall::flush_commit_release);
  static_cast<void>(story.asked());
  story.provider(0, ProviderCall::post_commit_snapshots);
  CHECK(story.asked() == Lines{"w0 thaw"});
  story.good(0, WriterEvent::thaw);
  CHECK(story.asked() == Lines{"w1 thaw"});
}

TEST_CASE("several providers are held, committed and released together", "[coordinator]") {
  auto story = frozen(plan({}, 2));
  for (const auto call : {ProviderCall::pre_commit_snapshots, ProviderCall::flush_and_hold,
                          ProviderCall::commit_snapshots, ProviderCall::release_hold}) {
    story.provider(1, call);
    CHECK(story.asked().empty());
    story.provider(0, call);
    CHECK(story.asked().size() == 2);
  }
  CHECK(story.set.phase() == Phase::post_commit);
}

TEST_CASE("a set without volumes still runs the writers", "[coordinator]") {
  auto story = frozen(plan({front_end}, 0));
  CHECK(story.set.phase() == Phase::thaw);
  story.good(0, WriterEvent::thaw);
  story.good(0, WriterEvent::post_snapshot);
  CHECK(story.set.done());
  CHECK(story.set.outcome().code == Errc::async_finished);
}

TEST_CASE("the smallest freeze window left travels with the hold",
          "[coordinator]"
          "[vss:limit.freeze-to-thaw-60s][vss:limit.hold-of-writes-10s]") {
  auto two = plan({front_end, front_end});
  two.writers[1].freeze_window = seconds{20};
  auto story = frozen(two);
  story.pass(seconds{5});
  story.provider(0, ProviderCall::pre_commit_snapshots);
  CHECK(story.asked() == Lines{"p0 flush_commit_release"});
  CHECK(story.limits.window == seconds{15} - Limits{}.hand_over);
  CHECK(story.limits.flush == story.limits.window);
  CHECK(story.limits.hold == seconds{10});
}

TEST_CASE("a window that ends before the commit fails the set under every policy",
          "[coordinator]"
          "[vss:limit.freeze-to-thaw-60s]") {
  auto one = plan({front_end});
  one.writers[0].freeze_window = seconds{8};
  auto story = frozen(one);
  story.pass(seconds{8} - Limits{}.hand_over);
  story.provider(0, ProviderCall::pre_commit_snapshots);
  CHECK(story.asked() == Lines{"w0 abort", "p0 abort_snapshots"});
  CHECK(story.set.outcome().code == Errc::writererror_timeout);
  CHECK(story.set.writers()[0].state == WriterState::failed_at_freeze);
  CHECK(story.set.outcome().context ==
        "writer 'w0', phase freeze: the freeze window of 8000 ms ended in phase hold");
}

TEST_CASE("a window that ends after the commit is the writer's failure alone",
          "[coordinator]"
          "[vss:rule.late-thaw]") {
  auto story = frozen(plan({front_end}));
  story.provider(0, ProviderCall::pre_commit_snapshots);
  story.provider(0, ProviderCall::flush_commit_release);
  story.provider(0, ProviderCall::post_commit_snapshots);
  story.pass(seconds{60});
  CHECK(story.set.writers()[0].state == WriterState::failed_at_freeze);
  CHECK(story.set.writers()[0].failure == Errc::writererror_timeout);
  // A late Thaw does not make it good again.
  CHECK(!story.set.writer_replied(story.now, 0, WriterEvent::thaw, {}));
  CHECK(story.set.writers()[0].state == WriterState::failed_at_freeze);
  CHECK(story.set.phase() == Phase::pre_final_commit);
}

TEST_CASE("a stalled Thaw keeps the next level frozen for five seconds at most", "[coordinator]") {
  auto story = frozen(plan({front_end, system}));
  story.provider(0, ProviderCall::pre_commit_snapshots);
  story.provider(0, ProviderCall::flush_commit_release);
  story.provider(0, ProviderCall::post_commit_snapshots);
  static_cast<void>(story.asked());
  CHECK(story.set.next_deadline() == story.now + seconds{5});
  story.pass(seconds{5});
  CHECK(story.asked() == Lines{"w0 thaw"});
}

TEST_CASE("the policy decides whose veto fails the set", "[coordinator]") {
  const auto policy =
      GENERATE(WriterPolicy::none, WriterPolicy::involved, WriterPolicy::all, WriterPolicy::list);
  const bool bound = GENERATE(false, true);
  auto one = plan({front_end}, 1, policy);
  one.writers[0].involved = bound;
  if (bound) one.policy_list = {one.writers[0].class_id};
  Story story(one);
  story.provider(0, ProviderCall::end_prepare_snapshots);
  static_cast<void>(story.asked());
  CHECK(story.set.writer_replied(story.now, 0, WriterEvent::prepare_for_snapshot,
                                 {false, Errc::writererror_retryable, 0, "busy"}));
  const bool fails = policy == WriterPolicy::all || (policy != WriterPolicy::none && bound);
  CHECK(story.asked() ==
        (fails ? Lines{"p0 abort_snapshots", "w0 abort"} : Lines{"p0 pre_commit_snapshots"}));
  if (fails) {
    CHECK(story.set.outcome().code == Errc::writererror_retryable);
    CHECK(story.set.outcome().context == "writer 'w0', phase prepare_for_snapshot: busy");
    CHECK(story.set.outcome().writer == std::size_t{0});
  }
}

TEST_CASE("a writer that failed at PrepareForBackup fails a bound set before any provider works",
          "[coordinator]") {
  auto one = plan({front_end}, 1, WriterPolicy::all);
  apply_answer(one.writers[0], WriterEvent::prepare_for_backup, {false, Errc::ok, 0, "no"});
  Story story(one);
  CHECK(story.asked() == Lines{"p0 abort_snapshots", "w0 abort"});
  CHECK(story.set.outcome().context == "writer 'w0', phase prepare_for_backup: no");
}

TEST_CASE("a cancel waits for the end of the hold, a lost requester does not",
          "[coordinator]"
          "[vss:IVssAsync.Cancel]") {
  auto story = frozen(plan({front_end}));
  story.provider(0, ProviderCall::pre_commit_snapshots);
  static_cast<void>(story.asked());
  story.set.stop(story.now, StopCause::cancel, "");
  CHECK(story.asked().empty());
  SECTION("cancelled") { story.provider(0, ProviderCall::flush_commit_release); }
  SECTION("gone") { story.set.stop(story.now, StopCause::requester_gone, ""); }
  CHECK(story.asked() == Lines{"p0 abort_snapshots", "w0 abort"});
  story.provider(0, ProviderCall::abort_snapshots);
  story.good(0, WriterEvent::abort);
  CHECK(story.asked() == Lines{"outcome", "slot"});
  CHECK(story.set.outcome().code == Errc::async_cancelled);
  CHECK(story.set.writers()[0].state == WriterState::stable);
}

// A set of `providers` that has just been asked to confirm.
auto confirming(std::size_t providers) {
  auto story = frozen(plan({}, providers));
  while (story.set.phase() != Phase::confirm) {
    for (int call = 0; call <= static_cast<int>(ProviderCall::confirm_set); ++call)
      for (std::size_t p = 0; p < providers && story.set.phase() != Phase::confirm; ++p)
        static_cast<void>(story.set.provider_replied(story.now, p, static_cast<ProviderCall>(call),
                                                     Result<HoldReport>{HoldReport{}}));
  }
  static_cast<void>(story.asked());
  return story;
}

const Error kDisk = map_provider_error("p1", "confirm_set", {Errc::provider_veto, "disk"});

TEST_CASE("a failure in ConfirmSet deletes what was confirmed, and only then the rest",
          "[coordinator]") {
  auto story = confirming(3);
  story.set.stop(story.now, StopCause::cancel, "");  // Too late.
  CHECK(story.asked().empty());
  story.provider(0, ProviderCall::confirm_set);
  CHECK(story.set.provider_replied(story.now, 1, ProviderCall::confirm_set, fail(kDisk)));
  CHECK(story.asked().empty());  // p2 may be about to create its part.
  story.provider(2, ProviderCall::confirm_set);
  CHECK(story.asked() == Lines{"p0 delete_snapshots", "p2 delete_snapshots"});
  story.provider(0, ProviderCall::delete_set);
  CHECK(story.asked().empty());
  story.provider(2, ProviderCall::delete_set);
  CHECK(story.asked() == Lines{"p1 abort_snapshots"});
  story.set.provider_lost(story.now, 1);
  CHECK(story.set.done());
  CHECK(!story.set.in_doubt());
  CHECK(story.set.untold() == std::vector<std::size_t>{1});
  CHECK(story.set.outcome().context == "provider 'p1', confirm_set: disk, phase confirm");
}

TEST_CASE("what was confirmed and cannot be deleted keeps the rest", "[coordinator]") {
  auto story = confirming(2);
  story.provider(0, ProviderCall::confirm_set);
  CHECK(story.set.provider_replied(story.now, 1, ProviderCall::confirm_set, fail(kDisk)));
  CHECK(story.asked() == Lines{"p0 delete_snapshots"});
  SECTION("its provider is lost") { story.set.provider_lost(story.now, 0); }
  SECTION("its provider refuses") {
    CHECK(story.set.provider_replied(story.now, 0, ProviderCall::delete_set, fail(kDisk)));
  }
  SECTION("its provider is silent") { story.pass(*story.set.next_deadline() - story.now); }
  CHECK(story.set.done());
  CHECK(story.asked() == Lines{"outcome", "slot"});
  CHECK(story.set.in_doubt());
  CHECK(story.set.untold().empty());
}

TEST_CASE("a provider that is lost in ConfirmSet may come back and say what it did",
          "[coordinator]") {
  auto story = confirming(2);
  story.provider(1, ProviderCall::confirm_set);
  story.set.provider_lost(story.now, 0);
  CHECK(!story.set.done());
  story.pass(seconds{10});
  story.set.provider_returned(story.now, 0);
  CHECK(story.asked() == Lines{"p0 complete_set"});
  SECTION("created") {
    story.provider(0, ProviderCall::complete_set);
    CHECK(story.asked() == Lines{"outcome", "slot"});
    CHECK(story.set.outcome().code == Errc::async_finished);
  }
  SECTION("gone") {
    CHECK(story.set.provider_replied(story.now, 0, ProviderCall::complete_set,
                                     fail(Errc::object_not_found, "no such set")));
    CHECK(story.asked() == Lines{"p1 delete_snapshots"});
    story.provider(1, ProviderCall::delete_set);
    CHECK(story.asked() == Lines{"p0 abort_snapshots"});
  }
  SECTION("it cannot say") {
    CHECK(story.set.provider_replied(story.now, 0, ProviderCall::complete_set,
                                     fail(Errc::bad_state, "a volume is missing")));
    CHECK(story.asked() == Lines{"outcome", "slot"});
    CHECK(story.set.in_doubt());
  }
}

TEST_CASE("a provider that stays away in ConfirmSet leaves the set in doubt, and nothing is undone",
          "[coordinator]") {
  auto story = confirming(2);
  story.provider(1, ProviderCall::confirm_set);
  SECTION("away") { story.set.provider_lost(story.now, 0); }
  SECTION("silent") {}
  story.pass(seconds{60} - milliseconds{1});
  CHECK(!story.set.done());
  story.pass(milliseconds{1});
  CHECK(story.asked() == Lines{"outcome", "slot"});
  CHECK(story.set.in_doubt());
  CHECK(story.set.untold().empty());
  CHECK(story.set.outcome().code == Errc::unexpected_provider_error);
  CHECK(story.set.outcome().context.find("umbra list shadows --incomplete") != std::string::npos);
}

TEST_CASE("the end of an aborted set waits ten seconds for the silent", "[coordinator]") {
  auto story = frozen(plan({front_end}));
  story.set.stop(story.now, StopCause::administrator, "stuck");
  static_cast<void>(story.asked());
  story.pass(seconds{10} - milliseconds{1});
  CHECK(!story.set.done());
  story.pass(milliseconds{1});
  CHECK(story.asked() == Lines{"outcome", "slot"});
  CHECK(story.set.outcome().context == "aborted by an administrator, phase pre_commit: stuck");
  CHECK(story.set.untold() == std::vector<std::size_t>{0});
}

TEST_CASE("codes that the contract does not allow are unexpected provider errors",
          "[coordinator]"
          "[vss:rule.provider-codes-mapped][vss:VSS_E_UNEXPECTED_PROVIDER_ERROR]"
          "[vss:VSS_E_PROVIDER_VETO][vss:VSS_E_AUTORECOVERY_FAILED]") {
  const auto veto = map_provider_error("cow", "confirm_set", {Errc::provider_veto, "full"});
  CHECK(veto.code == Errc::provider_veto);
  CHECK(veto.context == "provider 'cow', confirm_set: full");
  // A requester waits for it and tries again, which it would not after a failure of the provider.
  const auto reverting =
      map_provider_error("cow", "begin_prepare_snapshot", {Errc::revert_in_progress, "to x"});
  CHECK(reverting.code == Errc::revert_in_progress);
  CHECK(map_provider_error("cow", "post_final_commit", {Errc::autorecovery_failed, ""}).code ==
        Errc::autorecovery_failed);
  const auto strange = map_provider_error("cow", "confirm_set", {Errc::async_finished, ""});
  CHECK(strange.code == Errc::unexpected_provider_error);
  CHECK(strange.context.find("VSS_S_ASYNC_FINISHED") != std::string::npos);
}

TEST_CASE("codes that the contract allows arrive as they are",
          "[coordinator][vss:E_OUTOFMEMORY][vss:VSS_E_MAXIMUM_DIFFAREA_ASSOCIATIONS_REACHED]"
          "[vss:VSS_E_REVERT_VOLUME_LOST][vss:VSS_E_REBOOT_REQUIRED]") {
  for (const Errc code :
       {Errc::out_of_memory, Errc::invalid_argument, Errc::access_denied, Errc::object_not_found,
        Errc::insufficient_storage, Errc::volume_not_supported, Errc::flush_writes_timeout,
        Errc::maximum_number_of_snapshots_reached, Errc::nested_volume_limit,
        Errc::maximum_diffarea_associations_reached, Errc::revert_volume_lost,
        Errc::reboot_required}) {
    CAPTURE(code_name(code));
    CHECK(map_provider_error("cow", "end_prepare_snapshots", {code, "why"}).code == code);
  }
}

}  // namespace
