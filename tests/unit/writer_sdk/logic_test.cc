// SPDX-License-Identifier: Apache-2.0
#include "writer-sdk/src/logic.h"

#include <algorithm>
#include <set>

#include "engine/platform/prng.h"
#include "tests/support/catch.h"
#include "tests/support/seed.h"

namespace {

using namespace umbra;
using namespace umbra::writer;
using namespace std::chrono_literals;

const SessionId kSession{Guid{{7}}};

// A writer whose callbacks return when the test says so; time is the test's.
struct Writer {
  // Sends a request; its number is how the test asks for the answer.
  int send(Event event, std::chrono::milliseconds limit = 0ms, SessionId session = kSession) {
    rpc::WriterEvent params;
    params.session_id = session;
    params.time_limit_ms = static_cast<std::uint32_t>(limit.count());
    const int number = ++last;
    logic.request({std::to_string(number)}, method_of(event), rpc::encode(params), now);
    collect();
    return number;
  }
  void finish(bool ok = true, SessionId session = kSession) {
    rpc::WriterReply reply;
    reply.ok = ok;
    if (!ok) reply.failure = Errc::writererror_nonretryable;
    running.erase(session);
    logic.finished(session, reply, now);
    collect();
  }
  void pass(std::chrono::milliseconds time) {
    now += time;
    logic.time_passed(now);
    collect();
  }
  void lose() {
    logic.disconnected(now);
    collect();
  }
  void collect() {
    for (Action& action : logic.take_actions()) {
      if (auto* start = std::get_if<Start>(&action)) {
        CHECK_FALSE(running.contains(start->session));
        running[start->session] = start->event;
        started.push_back(start->event);
      } else if (auto* answer = std::get_if<Answer>(&action)) {
        const bool first = answers.emplace(std::stoi(answer->request.text), answer->reply).second;
        CHECK(first);
      } else if (std::holds_alternative<ReportExpiry>(action)) {
        ++expiries;
      } else if (std::holds_alternative<AskToStop>(action)) {
        ++asked_to_stop;
      } else {
        ++ended;
      }
    }
  }
  // Runs an event to its end.
  void run(Event event) {
    const int number = send(event);
    finish();
    REQUIRE(answers.contains(number));
    REQUIRE(answers.at(number));
    CHECK(answers.at(number)->ok);
  }
  void freeze() {
    run(Event::prepare_for_backup);
    run(Event::prepare_for_snapshot);
    run(Event::freeze);
  }
  [[nodiscard]] Errc failure(int number) const {
    if (!answers.contains(number)) return Errc::async_pending;
    const auto& reply = answers.at(number);
    if (!reply) return reply.error().code;
    return reply->ok ? Errc::ok : reply->failure;
  }

  Logic logic{60s};
  TimePoint now{1h};
  int last = 0;
  std::map<SessionId, Event> running;
  std::vector<Event> started;
  std::map<int, Result<rpc::WriterReply>> answers;
  int expiries = 0;
  int asked_to_stop = 0;
  int ended = 0;
};

using Events = std::vector<Event>;

TEST_CASE("a restore is PreRestore and PostRestore, and then forgotten",
          "[vss:CVssWriter.OnPreRestore][vss:CVssWriter.OnPostRestore]") {
  Writer writer;
  writer.run(Event::pre_restore);
  CHECK_FALSE(writer.logic.is_idle());
  writer.run(Event::post_restore);
  CHECK(writer.started == Events{Event::pre_restore, Event::post_restore});
  CHECK(writer.ended == 1);
  CHECK(writer.logic.is_idle());
  CHECK(writer.failure(writer.send(Event::post_restore)) == Errc::bad_state);
}

TEST_CASE("after a refused PreRestore there is no PostRestore") {
  Writer writer;
  const int refused = writer.send(Event::pre_restore);
  writer.finish(false);
  CHECK(writer.failure(refused) == Errc::writererror_nonretryable);
  CHECK(writer.logic.is_idle());
  writer.lose();
  CHECK(writer.started == Events{Event::pre_restore});
}

TEST_CASE("events of backups and restores do not mix in a session") {
  Writer writer;
  writer.run(Event::pre_restore);
  for (const Event event : {Event::prepare_for_backup, Event::freeze, Event::thaw, Event::abort,
                            Event::backup_complete, Event::backup_shutdown, Event::pre_restore}) {
    CHECK(writer.failure(writer.send(event)) == Errc::bad_state);
  }
  const int post = writer.send(Event::post_restore);
  CHECK(writer.failure(writer.send(Event::post_restore)) == Errc::bad_state);
  writer.finish();
  CHECK(writer.failure(post) == Errc::ok);

  Writer backup;
  backup.run(Event::prepare_for_backup);
  for (const Event event : {Event::pre_restore, Event::post_restore, Event::restore_end}) {
    CHECK(backup.failure(backup.send(event)) == Errc::bad_state);
  }
  CHECK(backup.started == Events{Event::prepare_for_backup});
}

TEST_CASE("a PostRestore that comes while PreRestore runs waits for it") {
  const bool succeeds = GENERATE(true, false);
  Writer writer;
  writer.send(Event::pre_restore);
  const int post = writer.send(Event::post_restore);
  CHECK(writer.failure(writer.send(Event::post_restore)) == Errc::bad_state);
  CHECK(writer.failure(writer.send(Event::restore_end)) == Errc::bad_state);
  writer.finish(succeeds);
  if (succeeds) {
    CHECK(writer.running.at(kSession) == Event::post_restore);
    writer.finish();
  }
  CHECK(writer.failure(post) == (succeeds ? Errc::ok : Errc::bad_state));
  CHECK(writer.logic.is_idle());
}

TEST_CASE("restore_end forgets a restore without a callback") {
  Writer writer;
  CHECK(writer.failure(writer.send(Event::restore_end)) == Errc::ok);
  writer.run(Event::pre_restore);
  CHECK(writer.failure(writer.send(Event::restore_end)) == Errc::ok);
  CHECK(writer.started == Events{Event::pre_restore});
  CHECK(writer.logic.is_idle());
  CHECK(writer.ended == 1);
}

TEST_CASE("when umbrad is lost in a restore, PostRestore follows at once") {
  Writer writer;
  writer.run(Event::pre_restore);
  writer.lose();
  CHECK(writer.running.at(kSession) == Event::post_restore);
  writer.lose();  // Nothing is repeated.
  writer.finish();
  CHECK(writer.started == Events{Event::pre_restore, Event::post_restore});
  CHECK(writer.logic.is_idle());
}

TEST_CASE("when umbrad is lost while PreRestore runs, PostRestore follows what succeeds") {
  const bool succeeds = GENERATE(true, false);
  Writer writer;
  writer.send(Event::pre_restore);
  writer.lose();
  CHECK(writer.asked_to_stop == 1);
  writer.finish(succeeds);
  if (succeeds) writer.finish();
  CHECK(writer.started ==
        (succeeds ? Events{Event::pre_restore, Event::post_restore} : Events{Event::pre_restore}));
  CHECK(writer.logic.is_idle());
}

TEST_CASE("when umbrad is lost while PostRestore runs, it is not repeated") {
  Writer writer;
  writer.run(Event::pre_restore);
  const int post = writer.send(Event::post_restore);
  writer.lose();
  writer.finish();
  CHECK_FALSE(writer.answers.contains(post));
  CHECK(writer.started == Events{Event::pre_restore, Event::post_restore});
  CHECK(writer.logic.is_idle());
}

TEST_CASE("a whole backup runs its callbacks in order and ends its queue",
          "[vss:event.PrepareForBackup][vss:event.PrepareForSnapshot][vss:event.Freeze]"
          "[vss:event.Thaw][vss:event.PostSnapshot][vss:event.BackupComplete]"
          "[vss:event.BackupShutdown]") {
  Writer writer;
  writer.freeze();
  writer.run(Event::thaw);
  writer.run(Event::post_snapshot);
  writer.run(Event::backup_complete);
  writer.run(Event::backup_shutdown);
  CHECK(writer.started == Events{Event::prepare_for_backup, Event::prepare_for_snapshot,
                                 Event::freeze, Event::thaw, Event::post_snapshot,
                                 Event::backup_complete, Event::backup_shutdown});
  CHECK(writer.ended == 1);
  CHECK(writer.logic.is_idle());
  CHECK_FALSE(writer.logic.next_deadline());
}

TEST_CASE("when the window ends the expiry is reported at once and the writer thaws itself",
          "[vss:limit.freeze-to-thaw-60s][vss:rule.late-thaw][vss:VSS_E_WRITERERROR_TIMEOUT]") {
  Writer writer;
  writer.freeze();
  CHECK(writer.logic.next_deadline() == writer.now + 60s);
  writer.pass(60s - 1ms);
  CHECK(writer.expiries == 0);
  writer.pass(1ms);
  CHECK(writer.expiries == 1);
  CHECK(writer.started.back() == Event::abort);
  const int thaw = writer.send(Event::thaw);
  CHECK(writer.failure(thaw) == Errc::writererror_timeout);
  writer.finish();
  CHECK(writer.failure(writer.send(Event::post_snapshot)) == Errc::writererror_timeout);
  writer.pass(1h);
  CHECK(writer.expiries == 1);
  const int abort = writer.send(Event::abort);
  CHECK(writer.failure(abort) == Errc::ok);
  CHECK(std::count(writer.started.begin(), writer.started.end(), Event::abort) == 1);
  CHECK(std::count(writer.started.begin(), writer.started.end(), Event::thaw) == 0);
}

TEST_CASE("a freeze that is still running at the end of its window is aborted when it returns") {
  Writer writer;
  writer.run(Event::prepare_for_snapshot);
  const int freeze = writer.send(Event::freeze, 5s);
  writer.pass(5s);
  CHECK(writer.failure(freeze) == Errc::writererror_timeout);
  CHECK(writer.expiries == 1);
  CHECK(writer.asked_to_stop == 1);
  CHECK(writer.started.back() == Event::freeze);
  writer.finish();
  CHECK(writer.started.back() == Event::abort);
}

TEST_CASE("a thaw in time disarms the window for good") {
  Writer writer;
  writer.freeze();
  writer.pass(60s - 1ms);
  const int thaw = writer.send(Event::thaw);
  writer.pass(1h);
  writer.finish();
  CHECK(writer.failure(thaw) == Errc::ok);
  CHECK(writer.expiries == 0);
}

TEST_CASE("a repeated thaw is answered with the first and does not touch a later freeze") {
  Writer writer;
  writer.freeze();
  const int first = writer.send(Event::thaw);
  const int second = writer.send(Event::thaw);
  const int third = writer.send(Event::thaw);
  writer.finish();
  CHECK(writer.failure(first) == Errc::ok);
  CHECK(writer.failure(second) == Errc::ok);
  CHECK(writer.failure(third) == Errc::ok);
  CHECK(std::count(writer.started.begin(), writer.started.end(), Event::thaw) == 1);

  writer.run(Event::prepare_for_snapshot);
  writer.run(Event::freeze);
  const int shutdown = writer.send(Event::backup_shutdown);
  REQUIRE(writer.started.back() == Event::abort);
  writer.finish();
  CHECK(writer.started.back() == Event::backup_shutdown);
  writer.finish();
  CHECK(writer.failure(shutdown) == Errc::ok);
}

TEST_CASE("a repeated thaw leaves the window of a later freeze in force") {
  Writer writer;
  writer.freeze();
  writer.send(Event::thaw);
  writer.send(Event::thaw);
  writer.finish();
  writer.run(Event::prepare_for_snapshot);
  writer.run(Event::freeze);
  writer.pass(60s);
  CHECK(writer.expiries == 1);
  CHECK(writer.started.back() == Event::abort);
}

TEST_CASE("losing umbrad thaws a frozen writer and ends its backups") {
  Writer writer;
  writer.freeze();
  writer.lose();
  CHECK(writer.started.back() == Event::abort);
  writer.finish();
  CHECK(writer.started.back() == Event::backup_shutdown);
  writer.finish();
  CHECK(writer.logic.is_idle());
}

TEST_CASE("losing umbrad during a callback waits for it and answers nobody") {
  Writer writer;
  const int prepare = writer.send(Event::prepare_for_backup);
  writer.lose();
  CHECK(writer.asked_to_stop == 1);
  CHECK(writer.started == Events{Event::prepare_for_backup});
  writer.finish();
  writer.finish();
  writer.finish();
  CHECK(writer.started == Events{Event::prepare_for_backup, Event::abort, Event::backup_shutdown});
  CHECK_FALSE(writer.answers.contains(prepare));
  CHECK(writer.logic.is_idle());
}

TEST_CASE("losing umbrad after PostSnapshot needs no abort") {
  Writer writer;
  writer.freeze();
  writer.run(Event::thaw);
  writer.run(Event::post_snapshot);
  writer.lose();
  CHECK(writer.started.back() == Event::backup_shutdown);
}

TEST_CASE("abort runs once, after the callback that runs, and may repeat",
          "[vss:rule.abort-idempotent][vss:event.Abort]") {
  Writer writer;
  writer.run(Event::prepare_for_snapshot);
  const int freeze = writer.send(Event::freeze);
  const int first = writer.send(Event::abort);
  const int second = writer.send(Event::abort);
  CHECK(writer.asked_to_stop == 1);
  CHECK(writer.failure(first) == Errc::async_pending);
  writer.finish(false);
  CHECK(writer.failure(freeze) != Errc::ok);
  writer.finish();
  CHECK(writer.failure(first) == Errc::ok);
  CHECK(writer.failure(second) == Errc::ok);
  CHECK(writer.failure(writer.send(Event::abort)) == Errc::ok);
  CHECK(writer.started == Events{Event::prepare_for_snapshot, Event::freeze, Event::abort});
  CHECK_FALSE(writer.logic.next_deadline());
  CHECK(writer.failure(writer.send(Event::prepare_for_snapshot)) == Errc::bad_state);
  writer.run(Event::backup_shutdown);
}

TEST_CASE("a vetoed freeze stays under its window until the abort comes") {
  Writer writer;
  writer.run(Event::prepare_for_snapshot);
  writer.send(Event::freeze);
  writer.finish(false);
  REQUIRE(writer.logic.next_deadline());
  writer.pass(60s);
  CHECK(writer.started.back() == Event::abort);
}

TEST_CASE("events out of order are refused or done already") {
  Writer writer;
  CHECK(writer.failure(writer.send(Event::thaw)) == Errc::ok);
  CHECK(writer.failure(writer.send(Event::abort)) == Errc::ok);
  CHECK(writer.failure(writer.send(Event::backup_shutdown)) == Errc::ok);
  CHECK(writer.failure(writer.send(Event::freeze)) == Errc::bad_state);
  CHECK(writer.failure(writer.send(Event::post_snapshot)) == Errc::bad_state);
  CHECK(writer.started.empty());
  writer.run(Event::prepare_for_backup);
  CHECK(writer.failure(writer.send(Event::freeze)) == Errc::bad_state);
  writer.run(Event::prepare_for_snapshot);
  writer.run(Event::freeze);
  CHECK(writer.failure(writer.send(Event::freeze)) == Errc::bad_state);
  CHECK(writer.failure(writer.send(Event::post_snapshot)) == Errc::bad_state);
  writer.run(Event::thaw);
  CHECK(writer.failure(writer.send(Event::thaw)) == Errc::ok);
}

TEST_CASE("what is not an event is refused by name", "[vss:E_NOTIMPL]") {
  Writer writer;
  writer.logic.request({"1"}, "writer.explode", {}, writer.now);
  writer.logic.request({"2"}, "writer.freeze", rpc::Json(5), writer.now);
  writer.logic.request({"3"}, "writer.freeze", {}, writer.now);
  writer.collect();
  CHECK(writer.failure(1) == Errc::not_implemented);
  CHECK(writer.failure(2) == Errc::invalid_argument);
  CHECK(writer.failure(3) == Errc::invalid_argument);
}

TEST_CASE("Identify runs beside a frozen backup and two of them one after the other",
          "[vss:rule.identify-during-freeze]") {
  Writer writer;
  writer.freeze();
  const int first = writer.send(Event::identify);
  const int second = writer.send(Event::identify);
  CHECK(writer.running.at(SessionId{}) == Event::identify);
  writer.finish(true, SessionId{});
  CHECK(writer.failure(first) == Errc::ok);
  CHECK(writer.failure(second) == Errc::async_pending);
  writer.finish(true, SessionId{});
  CHECK(writer.failure(second) == Errc::ok);
}

TEST_CASE("too many backups at a time are refused",
          "[vss:limit.writer-sessions-64][vss:VSS_E_WRITER_STATUS_NOT_AVAILABLE]") {
  Writer writer;
  for (std::uint8_t i = 0; i <= kBackupsMax; ++i) {
    writer.send(Event::prepare_for_backup, 0ms, SessionId{Guid{{1, i}}});
  }
  CHECK(writer.failure(writer.send(Event::prepare_for_backup)) ==
        Errc::writer_status_not_available);
}

TEST_CASE("a stopping writer refuses requests") {
  Writer writer;
  writer.logic.refuse_requests();
  CHECK(writer.failure(writer.send(Event::identify)) == Errc::bad_state);
}

// Whatever umbrad sends in whatever order: one answer each, no overlap, and every freeze undone.
TEST_CASE("random requests, delays and losses never leave a writer frozen") {
  Prng prng(umbra::test::seed());
  for (int round = 0; round < 2000; ++round) {
    Writer writer;
    for (int step = 0; step < 60; ++step) {
      const auto what = prng.below(12);
      if (what < 7) {
        writer.send(static_cast<Event>(1 + prng.below(8)), 10s);
      } else if (what < 10) {
        if (writer.running.contains(kSession)) writer.finish(prng.chance(4, 5));
      } else if (what == 10) {
        writer.pass(std::chrono::milliseconds(prng.below(8000)));
      } else if (prng.chance(1, 10)) {
        writer.lose();
      }
    }
    writer.pass(60s);
    while (writer.running.contains(kSession)) writer.finish();
    bool frozen = false;
    for (const Event event : writer.started) {
      if (event == Event::freeze) frozen = true;
      if (event == Event::thaw || event == Event::abort) frozen = false;
    }
    REQUIRE_FALSE(frozen);
    writer.lose();
    while (writer.running.contains(kSession)) writer.finish();
    REQUIRE(writer.logic.is_idle());
  }
}

}  // namespace
