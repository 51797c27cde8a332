// SPDX-License-Identifier: Apache-2.0
#include "requester-sdk/cli/output.h"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>
#include <sstream>

#include "requester-sdk/cli/commands.h"
#include "tests/support/catch.h"
#include "tests/unit/cli/fake_service.h"

namespace umbra::cli::test {
namespace {

using namespace std::chrono_literals;

std::vector<std::string> members(const boost::json::object& object) {
  std::vector<std::string> names;
  for (const auto& member : object) names.emplace_back(member.key());
  return names;
}

using Names = std::vector<std::string>;

TEST_CASE("the member names of JSON output are an interface", "[cli]") {
  CHECK(members(to_json(VolumeProperties{})) ==
        Names{"volume_id", "name", "origin_path", "diff_area_path", "device_path", "nbd_uri",
              "front_end", "front_end_why", "size_bytes", "chunk_bytes", "diff_used_bytes",
              "diff_allocated_bytes", "diff_maximum_bytes", "free_bytes_not_copied",
              "snapshot_count", "state"});
  CHECK(members(to_json(SnapshotProperties{})) ==
        Names{"snapshot_id", "set_id", "volume_id", "provider_id", "snapshots_count",
              "device_object", "nbd_uri", "original_volume", "originating_machine",
              "service_machine", "exposed_path", "attributes", "context", "created",
              "creation_filetime", "state", "lost"});
  CHECK(members(to_json(requester::WriterInfo{})) ==
        Names{"instance_id", "class_id", "name", "instance_name", "level", "freeze_window_ms",
              "state", "last_failure"});
  CHECK(members(to_json(requester::WriterStatus{})) == Names{"instance_id", "class_id", "name",
                                                             "state", "failure", "failure_name",
                                                             "application_code", "message"});
  CHECK(members(to_json(requester::ProviderInfo{})) ==
        Names{"provider_id", "name", "type", "version", "connected"});
  CHECK(members(to_json(requester::CoordinatorStatus{})) ==
        Names{"program", "uptime_s", "writers", "sessions", "providers_connected",
              "set_in_progress", "set_phase", "set_holder", "set_age_ms"});
  CHECK(members(to_json(requester::PhaseTime{})) == Names{"phase", "begin_us", "end_us"});
  CHECK(members(to_json(HoldReport{})) == Names{"flush_us", "freeze_us", "gate_us"});
  CHECK(members(to_json(requester::SetReport{})) == Names{"writers", "timeline", "hold"});
  CHECK(members(error_to_json(Error{})) ==
        Names{"code", "name", "text", "context", "remedy", "exit_status"});
  CHECK(members(set_to_json({})) ==
        Names{"set_id", "snapshots", "writers", "timeline", "hold", "components", "partly_held"});
}

TEST_CASE("JSON values: nil ids are null, states have VSS's names, times are UTC", "[cli]") {
  SnapshotProperties snapshot;
  snapshot.snapshot_id = SnapshotId{kOne};
  snapshot.state = SnapshotState::created;
  snapshot.attributes = context::kAppRollback | attribute::kDifferential;
  snapshot.creation_filetime = 134'150'976'000'000'000;
  const auto object = to_json(snapshot);
  CHECK(object.at("snapshot_id").as_string() == kOne.to_string().c_str());
  CHECK(object.at("volume_id").is_null());
  CHECK(object.at("state").as_string() == "VSS_SS_CREATED");
  CHECK(object.at("context").as_string() == "app-rollback");
  CHECK(object.at("created").as_string() == "2026-02-09T08:00:00Z");
  CHECK(object.at("creation_filetime").as_string() == "134150976000000000");
}

TEST_CASE("bytes that are not UTF-8 never make the JSON invalid", "[cli]") {
  VolumeProperties volume;
  for (const char* name :
       {"\xff", "a\xc3", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe0\x80\x80", "\xc0\xaf", "\x80"}) {
    volume.name = name;
    const auto text = boost::json::serialize(to_json(volume));
    const auto parsed = boost::json::parse(text);
    CHECK(parsed.at("name").as_string().find("\xEF\xBF\xBD") != boost::json::string::npos);
  }
  volume.name =
      "Gr\xC3\xBC\xC3\x9F"
      "e \xE2\x82\xAC \xF0\x9F\x98\x80";
  CHECK(to_json(volume).at("name").as_string() == volume.name.c_str());
}

TEST_CASE("text from others cannot steer the terminal", "[cli]") {
  CHECK(shown("a\x1b[2J\nb\x7f") == "a\\x1B[2J\\x0Ab\\x7F");
  CHECK(shown("\xC2\x9B"
              "31m") == "\\xC2\\x9B31m");
  CHECK(shown("\xC3\xBC") == "\xC3\xBC");
}

TEST_CASE("sizes, times and durations read well", "[cli]") {
  CHECK(bytes_text(0) == "0 B");
  CHECK(bytes_text(1023) == "1023 B");
  CHECK(bytes_text(1536) == "1.5 KiB");
  CHECK(bytes_text(64ULL << 20) == "64 MiB");
  CHECK(bytes_text(~0ULL) == "16 EiB");
  CHECK(time_text(0) == "-");
  CHECK(duration_text(150us) == "150 us");
  CHECK(duration_text(12'345us) == "12.3 ms");
  CHECK(duration_text(2'500'000us) == "2.5 s");
}

TEST_CASE("the timeline shows where each phase lies in the whole", "[cli]") {
  const auto lines = timeline_text({{"prepare", 0us, 50'000us},
                                    {"freeze", 50'000us, 50'000us},
                                    {"hold", 50'000us, 50'200us},
                                    {"thaw", 99'000us, 100'000us}});
  REQUIRE(lines.size() == 3);
  CHECK(lines[0] == "prepare    50.0 ms  |====================                    |");
  CHECK(lines[1] == "hold        200 us  |                    =                   |");
  CHECK(lines[2] == "thaw        1.0 ms  |                                       =|");
  CHECK(timeline_text({}).empty());
  // What a confused peer might send.
  CHECK(timeline_text({{"x", 900us, 100us}, {"y", -5us, -1us}}).size() == 2);
}

TEST_CASE("an error is one line for people and one object for programs", "[cli]") {
  std::ostringstream out;
  std::ostringstream err;
  Output output(out, err, false);
  const Error error{Errc::snapshot_set_in_progress, "held by pid 7"};
  CHECK(output.error(error) == ExitCode::busy);
  CHECK(err.str() ==
        "umbra: another snapshot set is being created: held by pid 7 "
        "(VSS_E_SNAPSHOT_SET_IN_PROGRESS)\n");
  err.str("");
  output.use_json();
  CHECK(output.error(error) == ExitCode::busy);
  const auto value = boost::json::parse(err.str()).at("error");
  CHECK(value.at("code").as_string() == "0x80042316");
  CHECK(value.at("name").as_string() == "VSS_E_SNAPSHOT_SET_IN_PROGRESS");
  CHECK(value.at("context").as_string() == "held by pid 7");
  CHECK(value.at("remedy").as_string() == "retry_later");
  CHECK(value.at("exit_status").as_int64() == 11);
  CHECK(out.str().empty());
}

TEST_CASE("progress is for terminals only", "[cli]") {
  for (const bool terminal : {false, true}) {
    std::ostringstream out;
    std::ostringstream err;
    Output output(out, err, terminal);
    output.progress({.operation = "do_snapshot_set", .phase = "freeze", .elapsed = 1500ms});
    output.end_progress();
    CHECK(err.str() == (terminal ? "\r\x1b[Kfreeze ... 1.5 s\r\x1b[K" : ""));
    CHECK(out.str().empty());
  }
}

TEST_CASE("every error has an exit status, by who must act", "[cli]") {
  const auto status = [](Errc code) { return static_cast<int>(exit_code_for({code, ""})); };
  CHECK(status(Errc::ok) == 0);
  CHECK(status(Errc::snapshot_lost) == 1);
  CHECK(status(Errc::coordinator_lost) == 10);
  CHECK(status(Errc::provider_not_registered) == 10);
  CHECK(status(Errc::snapshot_set_in_progress) == 11);
  CHECK(status(Errc::freeze_failed) == 11);
  CHECK(status(Errc::access_denied) == 12);
  CHECK(status(Errc::missing_privilege) == 12);
  CHECK(status(Errc::object_not_found) == 13);
  CHECK(status(Errc::volume_not_supported) == 14);
  CHECK(status(Errc::invalid_argument) == 14);
  CHECK(status(Errc::writererror_timeout) == 15);
  CHECK(status(Errc::writererror_retryable) == 15);
  CHECK(status(Errc::writer_not_responding) == 15);
  CHECK(status(Errc::async_cancelled) == 130);
  CHECK(status(static_cast<Errc>(0xA0049999U)) == 1);
}

}  // namespace
}  // namespace umbra::cli::test
