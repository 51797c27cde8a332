// SPDX-License-Identifier: Apache-2.0

#include "engine/daemon/trace_book.h"

#include <boost/json/value.hpp>
#include <filesystem>
#include <fstream>

#include "tests/support/catch.h"
#include "tests/support/manual_clock.h"
#include "tests/support/temp_dir.h"

namespace {

using namespace umbra;
using namespace umbra::daemon;
using namespace std::chrono_literals;
namespace fs = std::filesystem;

TEST_CASE("a story has what was asked with its time and its answer", "[daemon]") {
  test::ManualClock clock;
  TraceBook book(clock);
  const auto set = SnapshotSetId::random();
  CHECK(!book.asked(set, "writer 'a'", "freeze"));  // Not begun.
  book.begin(set, SessionId::random(), "uid 7 pid 8", 7);
  clock.advance(5ms);
  const auto freeze = book.asked(set, "writer 'a'", "freeze");
  const auto hold = book.asked(set, "provider 'cow'", "flush_commit_release");
  clock.advance(2ms);
  book.answered(freeze, Errc::writererror_retryable, "busy\x1b");
  book.answered(freeze, Errc::ok, "again");
  book.ended(set, Errc::writererror_retryable, "writer 'a', phase freeze");
  book.ended(set, Errc::async_finished, "");
  book.answered(std::nullopt);

  const auto* trace = book.find(set);
  REQUIRE(trace != nullptr);
  CHECK(book.find({}) == trace);
  CHECK(trace->ended);
  CHECK(trace->code == Errc::writererror_retryable);
  CHECK(trace->uid == 7);
  REQUIRE(trace->spans.size() == 2);
  CHECK(trace->spans[0].begin_us == 5'000);
  CHECK(trace->spans[0].end_us == 7'000);
  CHECK(trace->spans[0].code == Errc::writererror_retryable);
  CHECK(trace->spans[0].text.find('\x1b') == std::string::npos);
  CHECK(!trace->spans[1].ended);
  book.answered(hold);
  CHECK(book.find(set)->spans[1].ended);
}

TEST_CASE("stories are bounded: sets, spans, texts", "[daemon]") {
  test::ManualClock clock;
  TraceBook book(clock);
  const auto first = SnapshotSetId::random();
  book.begin(first, {}, "", 0);
  const auto old = book.asked(first, "umbrad", "freeze");
  for (std::size_t i = 0; i < kTracesMax; ++i) book.begin(SnapshotSetId::random(), {}, "", 0);
  CHECK(book.all().size() == kTracesMax);
  CHECK(book.find(first) == nullptr);
  book.answered(old);  // Its story is gone: nothing happens.

  const auto last = SnapshotSetId::random();
  book.begin(last, {}, "", 0);
  for (std::size_t i = 0; i < kTraceSpansMax; ++i)
    book.note(last, "umbrad", "note", std::string(10'000, 'x'));
  CHECK(!book.asked(last, "umbrad", "one too many"));
  CHECK(book.find(last)->spans.size() == kTraceSpansMax);
  CHECK(book.find(last)->dropped == 1);
  CHECK(book.find(last)->spans[0].text.size() <= kTraceTextMax + 3);
}

TEST_CASE("a story that was kept is read again, and the oldest files go", "[daemon]") {
  const test::TempDir directory;
  const Logger log(null_log(), "test");
  const auto place = directory / "traces";
  CHECK(load_traces(place, log).empty());
  test::ManualClock clock;
  TraceBook book(clock);
  const auto set = SnapshotSetId::random();
  book.begin(set, SessionId::random(), "uid 7 pid 8", 7);
  book.note(set, "umbrad", "hold", "3 us");
  for (const auto& trace : book.take_changed()) REQUIRE(save_trace(place, trace));
  CHECK(book.take_changed().empty());
  book.ended(set, Errc::async_finished, "");
  for (const auto& trace : book.take_changed()) REQUIRE(save_trace(place, trace));

  const auto kept = load_traces(place, log);
  REQUIRE(kept.size() == 1);
  CHECK(kept[0].set_id == set);
  CHECK(kept[0].ended);
  CHECK(kept[0].spans.at(0).text == "3 us");
  // What writers said is for umbrad's user only.
  const auto own = fs::perms::owner_read | fs::perms::owner_write;
  CHECK(fs::status(place + "/" + set.to_string() + ".json").permissions() == own);
  CHECK(fs::status(place).permissions() == fs::perms::owner_all);

  TraceBook next(clock);
  for (auto trace : load_traces(place, log)) next.restore(std::move(trace));
  CHECK(next.find(set)->requester == "uid 7 pid 8");
  CHECK(next.take_changed().empty());

  for (std::size_t i = 0; i < kTracesMax + 5; ++i) {
    rpc::SetTrace more;
    more.set_id = SnapshotSetId::random();
    REQUIRE(save_trace(place, more));
  }
  CHECK(load_traces(place, log).size() == kTracesMax);
}

TEST_CASE("files that are no story are left alone, and do not keep the others from being read",
          "[daemon]") {
  const test::TempDir directory;
  const Logger log(null_log(), "test");
  rpc::SetTrace good;
  good.set_id = SnapshotSetId::random();
  REQUIRE(save_trace(directory.path(), good));
  std::ofstream(directory / "x.json") << "{";
  std::ofstream(directory / "y.json") << "{}";
  std::ofstream(directory / (SnapshotSetId::random().to_string() + ".json")) << "[]";
  std::ofstream(directory / "notes.txt") << "mine";
  CHECK(load_traces(directory.path(), log).size() == 1);
  CHECK(fs::exists(directory / "notes.txt"));
}

TEST_CASE("a place that cannot be written is an error, no more", "[daemon]") {
  const test::TempDir directory;
  std::ofstream(directory / "file") << "x";
  rpc::SetTrace trace;
  trace.set_id = SnapshotSetId::random();
  const auto status = save_trace(directory / "file/below", trace);
  REQUIRE(!status);
  CHECK(status.error().code == Errc::io_error);
}

TEST_CASE("the set that a call is about is found in its params", "[daemon]") {
  const auto set = SnapshotSetId::random();
  CHECK(set_in(boost::json::object{{"set_id", set.to_string()}}) == set);
  CHECK(set_in(boost::json::object{{"id", set.to_string()}}) == set);
  CHECK(!set_in(boost::json::object{{"set_id", 7}}));
  CHECK(!set_in(boost::json::object{{"set_id", "x"}}));
  CHECK(!set_in(boost::json::object{}));
  CHECK(!set_in(boost::json::array{}));
}

}  // namespace
