// SPDX-License-Identifier: Apache-2.0
#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>

#include "requester-sdk/cli/commands.h"
#include "requester-sdk/cli/parse.h"
#include "tests/support/catch.h"
#include "tests/unit/cli/fake_service.h"

namespace umbra::cli::test {
namespace {

using Calls = std::vector<std::string>;

OperationInfo operation(Errc status) {
  OperationInfo info;
  info.operation_id = OperationId{kOne};
  info.kind = "change_diff_area_maximum_size";
  info.subject = "db";
  info.status = status;
  return info;
}

FakeState one_area() {
  auto state = without_error();
  DiffAreaProperties area;
  area.volume_id = VolumeId{kOne};
  area.volume_name = "db";
  area.diff_area_path = "/var/db.diff";
  area.diff_volume = "/var";
  area.maximum_bytes = kAssocNoMaxSpace;
  area.used_bytes = 3ULL << 20;
  area.allocated_bytes = 64ULL << 20;
  area.state = "ok";
  state.areas = {area};
  state.hosts = {{"/", "/ (ext4)", 1, 2}, {"/var", "/var (xfs)", 5ULL << 30, 10'000'000'000}};
  return state;
}

TEST_CASE("diff areas are listed, also by what they lie on", "[cli]") {
  auto state = one_area();
  const auto all = umbra(state, {"list", "shadowstorage"});
  CHECK(all.status == 0);
  CHECK(all.out.find("UNBOUNDED") != std::string::npos);
  CHECK(all.out.find("/var/db.diff") != std::string::npos);
  CHECK(umbra(state, {"list", "shadowstorage", "--on", "/var"}).status == 0);
  const auto json = umbra(state, {"list", "shadowstorage", "--for", "db", "--json"});
  const auto area = boost::json::parse(json.out).at("diff_areas").at(0);
  CHECK(area.at("maximum_bytes").is_null());
  CHECK(area.at("used_bytes").to_number<int>() == 3 << 20);
  CHECK(area.at("diff_volume").as_string() == "/var");
  CHECK(state.calls == Calls{"areas ", "areas on /var", "areas db"});
}

TEST_CASE("a resize waits for its end and names what was deleted", "[cli]") {
  auto state = one_area();
  auto ended = operation(Errc::async_finished);
  ended.facts = {{"deleted_snapshot", kTwo.to_string()}};
  state.operations = {operation(Errc::async_pending), ended};
  const auto ran = umbra(
      state, {"resize", "shadowstorage", "--for", "db", "--on", "/var", "--max", "1G", "--json"});
  CHECK(ran.status == 0);
  const auto value = boost::json::parse(ran.out);
  CHECK(value.at("maximum_bytes").to_number<int>() == 1 << 30);
  CHECK(value.at("deleted_snapshots").at(0).as_string() == kTwo.to_string());
  CHECK(state.calls == Calls{"change db /var 1073741824", "wait", "wait"});
}

TEST_CASE("percent are of what the diff area lies on, in whole blocks", "[cli]") {
  auto state = one_area();
  state.operations = {operation(Errc::async_finished)};
  CHECK(umbra(state, {"resize", "shadowstorage", "--for", "db", "--max", "10%"}).status == 0);
  CHECK(state.calls == Calls{"areas db", "hosts db", "change db  999997440", "wait"});
  static_assert(999'997'440 % 4096 == 0);
  state.hosts.clear();
  CHECK(umbra(state, {"resize", "shadowstorage", "--for", "db", "--max", "10%"}).status == 13);
}

TEST_CASE("a new diff area's maximum may be percent of what it will lie on", "[cli]") {
  auto state = one_area();
  CHECK(umbra(state, {"attach", "/srv/db", "--diff", "/var/x/db", "--diff-max", "10%"}).status ==
        0);
  CHECK(state.attached.diff_maximum_bytes == 999'997'440);
  CHECK(umbra(state, {"attach", "/srv/db", "--diff", "/variety", "--diff-max", "100%"}).status ==
        0);
  CHECK(state.attached.diff_maximum_bytes == 4096);  // "/" has two bytes; 0 were no bound.
  CHECK(umbra(state, {"attach", "/srv/db", "--diff", "/d", "--diff-max", "unbounded"}).status == 0);
  CHECK(umbra(state, {"attach", "/srv/db", "--diff", "/d", "--diff-max", "0"}).status == 0);
  CHECK(state.calls == Calls{"hosts ", "attach", "hosts ", "attach", "attach", "attach"});
  state.hosts.clear();
  CHECK(umbra(state, {"attach", "/srv/db", "--diff", "/d", "--diff-max", "5%"}).status == 13);
}

TEST_CASE("a diff area is moved, and what is left of the former one is named", "[cli]") {
  auto state = one_area();
  auto ended = operation(Errc::async_finished);
  ended.facts = {{"volume_id", kOne.to_string()},
                 {"diff_area_path", "/mnt/db.diff"},
                 {"kept", "/var/db.diff: it is still being read"}};
  state.operations = {operation(Errc::async_pending), ended};
  const auto ran = umbra(state, {"move", "shadowstorage", "--for", "db", "--to", "/mnt", "--json"});
  CHECK(ran.status == 0);
  const auto value = boost::json::parse(ran.out);
  CHECK(value.at("diff_area_path").as_string() == "/mnt/db.diff");
  CHECK(value.at("bytes_damaged").to_number<int>() == 0);
  CHECK(value.at("kept").as_string() == "/var/db.diff: it is still being read");
  CHECK(state.calls == Calls{"move db  /mnt", "wait", "wait"});
  state.operations = {operation(Errc::async_finished)};
  CHECK(umbra(state, {"move", "shadowstorage", "--for", "db"}).status == 2);
  state.calls.clear();
  CHECK(umbra(state, {"move", "shadowstorage", "--for", "db", "--to", "/mnt", "--rate", "2M"})
            .status == 0);
  CHECK(state.calls.front() == "move db  /mnt 2097152");
}

TEST_CASE("unused diff areas are deleted, and what stays is named", "[cli]") {
  auto state = without_error();
  auto ended = operation(Errc::async_finished);
  ended.facts = {{"deleted_diff_area", "/var/a.diff"}};
  state.operations = {ended};
  const auto all = umbra(state, {"delete", "unusedstorage", "--on", "/var"});
  CHECK(all.status == 0);
  CHECK(all.out.find("/var/a.diff") != std::string::npos);
  CHECK(state.calls.front() == "delete unused /var");
  ended.status = Errc::access_denied;
  ended.context = "1 of 2 stay";
  ended.facts.push_back({"kept_diff_area", "/var/b.diff: locked"});
  state.operations = {ended};
  const auto some = umbra(state, {"delete", "unusedstorage", "--on", "/var", "--json"});
  CHECK(some.status == 3);
  const auto object = boost::json::parse(some.out);
  CHECK(object.at("deleted").as_array().size() == 1);
  CHECK(object.at("kept").at(0).as_string() == "/var/b.diff: locked");
  ended.facts.erase(ended.facts.begin());
  state.operations = {ended};
  const auto none = umbra(state, {"delete", "unusedstorage", "--on", "/var"});
  CHECK(none.status == 12);
  CHECK(none.err.find("1 of 2 stay") != std::string::npos);
  CHECK(umbra(state, {"delete", "unusedstorage"}).status == 2);
}

TEST_CASE("without a maximum there is none, and deleting the association says so", "[cli]") {
  auto state = one_area();
  state.operations = {operation(Errc::async_finished)};
  CHECK(umbra(state, {"resize", "shadowstorage", "--for", "db", "--volatile"}).status == 0);
  CHECK(umbra(state, {"delete", "shadowstorage", "--for", "db"}).status == 0);
  CHECK(umbra(state, {"add", "shadowstorage", "--for", "db", "--max", "unbounded"}).status == 0);
  CHECK(state.calls ==
        Calls{"change db  -1 volatile", "wait", "change db  0", "wait", "add db  -1"});
}

TEST_CASE("an operation's failure is the command's, and one that takes too long is told", "[cli]") {
  auto state = one_area();
  auto failed = operation(Errc::insufficient_storage);
  failed.context = "copies that must stay need 2 GiB";
  state.operations = {failed};
  const auto ran = umbra(state, {"resize", "shadowstorage", "--for", "db", "--max", "1M"});
  CHECK(ran.status == 1);
  CHECK(ran.err.find("copies that must stay need 2 GiB") != std::string::npos);
  state.operations = {operation(Errc::async_pending)};
  const auto late =
      umbra(state, {"resize", "shadowstorage", "--for", "db", "--max", "1M", "--timeout", "1s"});
  CHECK(late.status == 11);
  CHECK(late.err.find("umbra operations --wait " + kOne.to_string()) != std::string::npos);
}

TEST_CASE("protection is shown, set and cleared", "[cli]") {
  auto state = without_error();
  CHECK(umbra(state, {"protection", "db"}).out.find("sacrificed") != std::string::npos);
  state.protection.level = ProtectionLevel::snapshot;
  state.protection.fault = ProtectionFault::diff_area_full;
  state.protection.volume_is_offline = true;
  const auto set = umbra(state, {"protection", "db", "set", "snapshot"});
  CHECK(set.out.find("VSS_PROTECTION_FAULT_DIFF_AREA_FULL") != std::string::npos);
  CHECK(umbra(state, {"protection", "db", "set", "original"}).status == 0);
  state.operations = {operation(Errc::async_finished)};
  const auto cleared = umbra(state, {"protection", "db", "clear", "--json"});
  CHECK(boost::json::parse(cleared.out).at("offline").as_bool());
  CHECK(state.calls == Calls{"protection db", "protect db VSS_PROTECTION_LEVEL_SNAPSHOT",
                             "protection db", "protect db VSS_PROTECTION_LEVEL_ORIGINAL_VOLUME",
                             "protection db", "clear db", "wait", "protection db"});
}

TEST_CASE("changed blocks come in parts, to the end of the volume", "[cli]") {
  auto state = without_error();
  const auto ran = umbra(state, {"changed", kOne.to_string(), kTwo.to_string()});
  CHECK(ran.status == 0);
  CHECK(ran.out == "12288 8192\n245760 4096\n");
  CHECK(ran.err.find("12 KiB changed") != std::string::npos);
  const std::string ids = kOne.to_string() + " " + kTwo.to_string();
  CHECK(state.calls == Calls{"changed " + ids + " 0", "changed " + ids + " 50"});
  const auto raw = umbra(state, {"changed", kOne.to_string(), kTwo.to_string(), "--raw"});
  CHECK(raw.err.empty());
  const auto json = umbra(state, {"changed", kOne.to_string(), kTwo.to_string(), "--json"});
  const auto first = boost::json::parse(json.out.substr(0, json.out.find('\n')));
  CHECK(first.at("ranges").at(0).at("offset").to_number<int>() == 12288);
  CHECK(first.at("ranges").at(0).at("size").to_number<int>() == 8192);
  CHECK(first.at("last").as_bool() == false);
  state.delta_step = 0;  // A provider that does not go on is not followed for ever.
  CHECK(umbra(state, {"changed", kOne.to_string(), kTwo.to_string()}).status != 0);
}

TEST_CASE("a scrub ends with the status that its findings have", "[cli]") {
  struct Case {
    Errc status;
    const char* outcome;
    int exit;
  };
  for (const auto& [status, outcome, exit] :
       {Case{Errc::async_finished, "clean", 0}, Case{Errc::async_finished, "repaired", 0},
        Case{Errc::async_finished, "repairable", 3}, Case{Errc::diff_area_corrupt, "damaged", 1}}) {
    auto state = without_error();
    auto ended = operation(status);
    ended.facts = {{"outcome", outcome}, {"verified_bytes", "4096"}, {"finding", "a finding"}};
    if (status == Errc::diff_area_corrupt) {
      ended.facts.push_back({"damaged_snapshot", kTwo.to_string()});
    }
    state.operations = {operation(Errc::async_pending), ended};
    const auto ran = umbra(state, {"scrub", "db", "--rate", "1M"});
    CHECK(ran.status == exit);
    CHECK(ran.out.find(outcome) != std::string::npos);
    CHECK(ran.out.find("a finding") != std::string::npos);
    CHECK(state.calls.front() == "scrub db 1048576");
    const auto json = umbra(state, {"scrub", "db", "--json"});
    CHECK(json.status == exit);
    const auto object = boost::json::parse(json.out);
    CHECK(object.at("outcome").as_string() == outcome);
    CHECK(object.at("verified_bytes").to_number<int>() == 4096);
    CHECK(object.at("damaged_snapshots").as_array().size() == (exit == 1 ? 1U : 0U));
  }
  auto state = without_error();
  const auto begun = umbra(state, {"scrub", "db", "--background"});
  CHECK(begun.status == 0);
  CHECK(begun.out.find(kOne.to_string()) != std::string::npos);
  CHECK(state.calls == Calls{"scrub db 0"});
  state.operations = {operation(Errc::async_cancelled)};
  CHECK(umbra(state, {"scrub", "db"}).status == 130);
  CHECK(umbra(state, {"scrub", "db", "--wait", "--background"}).status == 2);
}

TEST_CASE("a copy is retained until a time or for a term", "[cli]") {
  auto state = without_error();
  CHECK(umbra(state, {"retain", kOne.to_string(), "--for", "1d"}).status == 0);
  CHECK(umbra(state, {"retain", kOne.to_string(), "--until", "1970-01-01T00:00:01Z"}).status == 0);
  CHECK(state.calls == Calls{"retain " + kOne.to_string() + " 133000864000000000",
                             "retain " + kOne.to_string() + " 116444736010000000"});
}

TEST_CASE("operations are listed, waited for and cancelled", "[cli]") {
  auto state = without_error();
  auto running = operation(Errc::async_pending);
  running.done = 1;
  running.total = 4;
  state.operations = {running};
  const auto list = umbra(state, {"operations"});
  CHECK(list.out.find("25 %") != std::string::npos);
  CHECK(umbra(state, {"operations", "--cancel", kOne.to_string()}).status == 0);
  state.operations = {operation(Errc::async_cancelled)};
  CHECK(umbra(state, {"operations", "--wait", kOne.to_string()}).status == 130);
  CHECK(umbra(state, {"operations", "--json"}).out.find("VSS_S_ASYNC_CANCELLED") !=
        std::string::npos);
}

ProviderEvent event(std::uint64_t sequence, const std::string& name) {
  ProviderEvent event;
  event.sequence = sequence;
  event.name = name;
  event.event_id = 33;
  event.severity = EventSeverity::warning;
  return event;
}

TEST_CASE("events are listed to the end, page by page", "[cli]") {
  auto state = without_error();
  state.pages = {{{event(1, "a"), event(2, "b")}, 2, 0}, {{event(3, "c")}, 3, 0}};
  const auto ran = umbra(state, {"list", "events", "--json"});
  CHECK(ran.status == 0);
  const auto list = boost::json::parse(ran.out).at("events");
  CHECK(list.as_array().size() == 3);
  CHECK(list.at(2).at("name").as_string() == "c");
  CHECK(list.at(2).at("event_id").to_number<int>() == 33);
  CHECK(state.calls == Calls{"events 0", "events 2", "events 3"});
}

TEST_CASE("events are one line each, and what was missed is told", "[cli]") {
  auto state = without_error();
  state.pages = {{{event(8, "a")}, 8, 7}, {{event(12, "b")}, 12, 3}};
  const auto ran = umbra(state, {"events"});
  CHECK(ran.status == 0);
  CHECK(ran.out.find("warning  a (33)") != std::string::npos);
  CHECK(ran.err.find("3 events") != std::string::npos);
  CHECK(ran.err.find("7 events") == std::string::npos);  // They were there before we came.
}

TEST_CASE("sizes, terms and times of day are understood", "[cli]") {
  CHECK(parse_maximum("20G")->number == 20ULL << 30);
  CHECK(parse_maximum("7%")->unit == MaximumSize::Unit::percent);
  CHECK(parse_maximum("Unbounded")->unit == MaximumSize::Unit::unbounded);
  for (const char* wrong : {"", "0", "0%", "101%", "%", "9E", "-1", "8E"}) {
    INFO(wrong);
    CHECK_FALSE(parse_maximum(wrong));
  }
  CHECK(parse_term("7y") == std::chrono::seconds{7LL * 365 * 24 * 3600});
  for (const char* wrong : {"", "0d", "101y", "1w", "99999999999999999999s"}) {
    INFO(wrong);
    CHECK_FALSE(parse_term(wrong));
  }
  CHECK(time_text(*parse_time("2027-01-31T23:59:58Z")) == "2027-01-31T23:59:58Z");
  CHECK(time_text(*parse_time("2028-02-29")) == "2028-02-29T00:00:00Z");
  for (const char* wrong : {"", "2027-13-01", "2027-02-29", "1969-12-31", "2027-01-01T24:00:00Z",
                            "2027-01-01 00:00:00Z", "2027-1-1"}) {
    INFO(wrong);
    CHECK_FALSE(parse_time(wrong));
  }
}

}  // namespace
}  // namespace umbra::cli::test
