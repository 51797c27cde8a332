// SPDX-License-Identifier: Apache-2.0
//
// What the SDKs of an older version said to umbrad and heard from it, recorded then and replayed to
// the umbrad of today: an old program must go on working. The recordings are transcripts/VERSION/*;
// new ones are added with each release (docs/testing.md says how, and when one is changed).
//
// A line of a recording is {"peer", "up", "text"}: who, whether to umbrad, the JSON-RPC message.
// What umbrad says must have every member that it had then, with the same value; it may have more.
// Ids are those of the run; times, texts for people and XML are compared as being there.

#include <algorithm>
#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "tests/sim/provider.h"
#include "tests/sim/requester.h"
#include "tests/sim/world.h"
#include "tests/sim/writers.h"
#include "tests/support/catch.h"

namespace {

using namespace umbra;
using namespace umbra::sim;
using namespace std::chrono_literals;
using rpc::Json;
namespace json = boost::json;

constexpr std::size_t kMemoryMax = 64U << 20U;

struct Entry {
  std::string peer;
  bool up = false;
  Json text;
};

std::string text_of(const json::string& text) { return {text.data(), text.size()}; }

std::string method_of(const Json& message) {
  const auto* method = message.as_object().if_contains("method");
  return method == nullptr ? "" : text_of(method->as_string());
}

bool is_pending(const Json& reply) {
  const auto* result = reply.as_object().if_contains("result");
  if (result == nullptr || !result->is_object()) return false;
  const auto status = rpc::decode<rpc::OperationStatus>(*result);
  return result->as_object().contains("timeline") && status &&
         status->status == Errc::async_pending;
}

// --- recording ----------------------------------------------------------------------------------

/// A whole backup by the SDK's logic, with a writer of the SDK's.
std::vector<Entry> record() {
  World world(1);
  std::vector<Entry> entries;
  std::map<const Line*, std::string> names;
  world.tap = [&](const Line& line, bool up, std::string_view bytes) {
    for (std::size_t end = 0; (end = bytes.find('\n')) != std::string_view::npos;
         bytes.remove_prefix(end + 1)) {
      auto message = rpc::parse(bytes.substr(0, end), kMemoryMax).value();
      if (up && method_of(message) == "hello")
        names[&line] = text_of(message.at("params").at("role").as_string());
      if (names[&line] != "provider") entries.push_back({names[&line], up, std::move(message)});
    }
  };
  world.start_umbrad();
  SimProvider provider(world, "p", 0, [](const SnapshotSetId&) {});
  provider.connect();
  WriterPlan plan;
  plan.name = "ledger";
  plan.class_id = WriterClassId::random();
  const auto writer = make_sdk_writer(world, plan);
  writer->connect();
  world.run(world.now() + 1s);
  RequesterPlan wish;
  wish.volumes = provider.volumes();
  wish.context = context::kAppRollback;
  wish.policy = WriterPolicy::involved;
  SimRequester requester(world, wish);
  requester.start();
  world.run(world.now() + 1h, [&] { return requester.is_over(); });
  world.run(world.now() + 5s);
  REQUIRE(requester.end().created);
  return entries;
}

// Questions whether an operation has ended that were answered with "not yet" depend on the clock.
std::vector<Entry> without_polls(const std::vector<Entry>& entries) {
  std::set<std::string> polls;
  for (const auto& entry : entries)
    if (!entry.up && entry.peer == "requester" && is_pending(entry.text))
      polls.insert(rpc::serialize(entry.text.at("id")));
  std::vector<Entry> kept;
  for (const auto& entry : entries) {
    const auto* id = entry.text.as_object().if_contains("id");
    if (entry.peer != "requester" || id == nullptr || polls.count(rpc::serialize(*id)) == 0)
      kept.push_back(entry);
  }
  return kept;
}

// --- replaying ----------------------------------------------------------------------------------

const std::set<std::string>& compared_as_being_there() {
  static const std::set<std::string> names{
      "timeline",   "hold", "phase", "context",       "message",  "program",        "metadata",
      "components", "xml",  "minor", "time_limit_ms", "features", "snapshot_device"};
  return names;
}

class Replay {
 public:
  explicit Replay(std::vector<Entry> entries)
      : entries_(std::move(entries)),
        world_(2),
        provider_(world_, "p", 0, [](const SnapshotSetId&) {}) {
    world_.start_umbrad();
    provider_.connect();
    world_.run(world_.now() + 1s);
    world_.tap = [this](const Line& line, bool up, std::string_view bytes) {
      if (up) return;
      for (auto& [name, own] : lines_)
        if (own.get() == &line) take(name, bytes);
    };
  }

  /// Empty: umbrad said what it said then.
  std::string run() {
    for (std::size_t i = 0; i < entries_.size() && problem_.empty(); ++i) {
      const auto& entry = entries_[i];
      if (!lines_[entry.peer]) lines_[entry.peer] = world_.connect({});
      if (entry.up)
        say(entry.peer, with_new_ids(rpc::serialize(entry.text)));
      else
        expect(i, entry);
      // Who has nothing more to say or to hear goes, as it did then.
      const auto later =
          std::any_of(entries_.begin() + static_cast<std::ptrdiff_t>(i) + 1, entries_.end(),
                      [&](const Entry& other) { return other.peer == entry.peer; });
      if (!later) lines_[entry.peer]->close();
    }
    return problem_;
  }

 private:
  void take(const std::string& name, std::string_view bytes) {
    for (std::size_t end = 0; (end = bytes.find('\n')) != std::string_view::npos;
         bytes.remove_prefix(end + 1))
      heard_[name].push_back(rpc::parse(bytes.substr(0, end), kMemoryMax).value());
  }

  void say(const std::string& peer, const std::string& text) {
    said_[peer] = text;
    lines_[peer]->send_raw(text + "\n");
  }

  void expect(std::size_t index, const Entry& entry) {
    auto& heard = heard_[entry.peer];
    Json message;
    do {
      world_.run(world_.now() + 2min, [&] { return !heard.empty(); });
      if (heard.empty()) return fail_at(index, "nothing came");
      message = std::move(heard.front());
      heard.pop_front();
      // Not yet: ask again, as the SDK does.
      if (is_pending(message) && !is_pending(entry.text)) say(entry.peer, said_[entry.peer]);
    } while (is_pending(message) && !is_pending(entry.text));
    compare(index, entry.text, message, "");
  }

  void compare(std::size_t index, const Json& then, const Json& now, const std::string& where) {
    if (!problem_.empty()) return;
    const bool number = then.is_number() && now.is_number();
    if (then.kind() != now.kind() && !number) return fail_at(index, where + ": another kind");
    if (then.is_object()) {
      for (const auto& [key, value] : then.as_object()) {
        const auto* other = now.as_object().if_contains(key);
        const auto place = where + "." + std::string(key);
        if (other == nullptr) return fail_at(index, place + " is missing");
        if (compared_as_being_there().count(std::string(key)) == 0)
          compare(index, value, *other, place);
      }
    } else if (then.is_array()) {
      const auto& one = then.as_array();
      const auto& other = now.as_array();
      if (one.size() != other.size()) return fail_at(index, where + ": another number of them");
      for (std::size_t i = 0; i < one.size(); ++i) compare(index, one[i], other[i], where + "[]");
    } else if (then.is_string()) {
      compare_text(index, text_of(then.as_string()), text_of(now.as_string()), where);
    } else if (then != now) {
      fail_at(index, where + ": " + rpc::serialize(then) + " then, " + rpc::serialize(now));
    }
  }

  void compare_text(std::size_t index, const std::string& then, const std::string& now,
                    const std::string& where) {
    const auto id = Guid::parse(then);
    if (!id || id->is_nil() || !Guid::parse(now)) {
      if (then != now) fail_at(index, where + ": '" + then + "' then, '" + now + "'");
      return;
    }
    // Ids that peers chose themselves are as they were; umbrad's are of this run.
    const auto bound = ids_.emplace(then, now).first->second;
    if (bound != now) fail_at(index, where + ": another id than before");
  }

  [[nodiscard]] std::string with_new_ids(std::string text) const {
    for (const auto& [then, now] : ids_)
      for (std::size_t at = text.find(then); at != std::string::npos;
           at = text.find(then, at + now.size()))
        text.replace(at, then.size(), now);
    return text;
  }

  void fail_at(std::size_t index, const std::string& what) {
    if (problem_.empty())
      problem_ = "line " + std::to_string(index + 1) + " (" + entries_[index].peer + "): " + what +
                 "\n" + rpc::serialize(entries_[index].text);
  }

  std::vector<Entry> entries_;
  World world_;
  SimProvider provider_;
  std::map<std::string, std::shared_ptr<Line>> lines_;
  std::map<std::string, std::deque<Json>> heard_;
  std::map<std::string, std::string> said_;  // Last, by each.
  std::map<std::string, std::string> ids_;   // Of the recording, to those of this run.
  std::string problem_;
};

std::vector<Entry> load(const std::filesystem::path& path) {
  std::vector<Entry> entries;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const auto value = rpc::parse(line, kMemoryMax).value();
    entries.push_back(
        {text_of(value.at("peer").as_string()), value.at("up").as_bool(), value.at("text")});
  }
  return entries;
}

TEST_CASE("what the SDKs say now is understood, told again word by word", "[sim][transcript]") {
  const auto entries = without_polls(record());
  CHECK(entries.size() > 40);
  const auto problem = Replay(entries).run();
  INFO(problem);
  CHECK(problem.empty());
}

TEST_CASE("programs with the SDK of an older version are served", "[sim][transcript]") {
  std::size_t files = 0;
  for (const auto& file : std::filesystem::recursive_directory_iterator(UMBRA_TRANSCRIPTS)) {
    if (file.path().extension() != ".jsonl") continue;
    ++files;
    const auto problem = Replay(load(file.path())).run();
    INFO(file.path().string() << ": " << problem);
    CHECK(problem.empty());
  }
  CHECK(files > 0);
}

// A member that is gone, and one that has changed, are noticed.
TEST_CASE("a recording that umbrad no longer follows is an error", "[sim][transcript]") {
  auto entries = without_polls(record());
  for (auto& entry : entries) {
    if (entry.up || entry.peer != "writer" || method_of(entry.text) != "writer.freeze") continue;
    auto changed = entries;
    auto& params = changed[static_cast<std::size_t>(&entry - entries.data())]
                       .text.as_object()["params"]
                       .as_object();
    params["gone_since"] = 1;
    CHECK(Replay(changed).run().find("gone_since is missing") != std::string::npos);
    params.erase("gone_since");
    params["component_mode"] = false;
    CHECK(Replay(changed).run().find("component_mode") != std::string::npos);
    return;
  }
  FAIL("no Freeze in the recording");
}

// For a release: writes the recording to the file that UMBRA_RECORD names.
TEST_CASE("a backup is recorded", "[.record]") {
  const char* path = std::getenv("UMBRA_RECORD");  // NOLINT(concurrency-mt-unsafe)
  REQUIRE(path != nullptr);
  std::ofstream file(path, std::ios::trunc);
  for (const auto& entry : without_polls(record()))
    file << rpc::serialize(
                json::object{{"peer", entry.peer}, {"up", entry.up}, {"text", entry.text}})
         << '\n';
  CHECK(file.flush());
}

}  // namespace
