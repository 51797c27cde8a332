// SPDX-License-Identifier: Apache-2.0
#include "engine/rpc/codec.h"

#include <boost/json/object.hpp>

#include "engine/platform/prng.h"
#include "tests/support/catch.h"
#include "tests/support/seed.h"

namespace {

using namespace umbra;
using namespace umbra::rpc;

constexpr std::size_t kPlenty = 1U << 20U;

template <class Message>
Result<Message> through_text(const Message& message) {
  const Result<Json> parsed = parse(serialize(encode(message)), kPlenty);
  REQUIRE(parsed);
  return decode<Message>(*parsed);
}

template <class Message>
std::string problem(const std::string& text) {
  const Result<Json> parsed = parse(text, kPlenty);
  REQUIRE(parsed);
  const Result<Message> message = decode<Message>(*parsed);
  REQUIRE_FALSE(message);
  CHECK(message.error().code == Errc::invalid_argument);
  return message.error().context;
}

// Random JSON, from the words that messages use, so that decoding gets past the first member.
Json random_json(Prng& prng, int depth) {
  static const std::vector<std::string> kNames{
      "id",     "name",  "device",  "path",  "volume",  "volumes", "set_id", "limits",
      "status", "hold",  "writers", "state", "edits",   "values",  "policy", "type",
      "major",  "flush", "hold_ms", "alive", "members", "failure", "ok",     "timeline"};
  switch (prng.below(depth > 0 ? 9 : 6)) {
    case 0: return nullptr;
    case 1: return prng.chance(1, 2);
    case 2: return static_cast<std::int64_t>(prng.next());
    case 3: return 1.5;
    case 4: return boost::json::string("7b9c2f1e-5d0a-4f4e-9c37-3f3f0a5b1c2d");
    case 5: return boost::json::string("0x80042301");
    case 6: {
      boost::json::array array;
      for (std::uint64_t i = prng.below(4); i > 0; --i)
        array.push_back(random_json(prng, depth - 1));
      return array;
    }
    default: {
      boost::json::object object;
      for (std::uint64_t i = prng.below(6); i > 0; --i) {
        object[kNames[prng.below(kNames.size())]] = random_json(prng, depth - 1);
      }
      return object;
    }
  }
}

TEST_CASE("every message of defaults survives the wire unchanged"){
#define UMBRA_CHECK_ROUND_TRIP(Message)                              \
  {                                                                  \
    INFO(#Message);                                                  \
    const Result<Message> back = through_text(Message{});            \
    REQUIRE(back);                                                   \
    CHECK(serialize(encode(*back)) == serialize(encode(Message{}))); \
    const Result<Message> absent = decode<Message>(Json(nullptr));   \
    CHECK(absent);                                                   \
  }
    UMBRA_RPC_MESSAGES(UMBRA_CHECK_ROUND_TRIP)
#undef UMBRA_CHECK_ROUND_TRIP
}

TEST_CASE("values of every kind survive the wire") {
  AttachedVolume message;
  message.volume.volume_id = VolumeId::random();
  message.volume.origin_path = "/srv/\xFF\x01 caf\xC3\xA9/\xE2\x90\x9B";
  message.volume.device = 0xFFFF'FFFF'FFFF'FFFFU;
  message.volume.chunk_bytes = 0xFFFF'FFFFU;
  message.notes = {"a", "", "\"\\\n"};
  const auto back = through_text(message);
  REQUIRE(back);
  CHECK(back->volume.volume_id == message.volume.volume_id);
  CHECK(back->volume.origin_path == message.volume.origin_path);
  CHECK(back->volume.device == message.volume.device);
  CHECK(back->volume.chunk_bytes == message.volume.chunk_bytes);
  CHECK(back->notes == message.notes);

  OperationStatus status;
  status.status = Errc::hold_writes_timeout;
  status.hold.gate = std::chrono::microseconds{123};
  status.timeline = {{"freeze", 1, 2}};
  status.writers.resize(1);
  status.writers[0].state = WriterState::failed_at_freeze;
  const auto status_back = through_text(status);
  REQUIRE(status_back);
  CHECK(status_back->status == Errc::hold_writes_timeout);
  CHECK(status_back->hold.gate.count() == 123);
  CHECK(status_back->timeline[0].end_us == 2);
  CHECK(status_back->writers[0].state == WriterState::failed_at_freeze);

  SnapshotProperties snapshot;
  snapshot.creation_filetime = 133'000'000'000'000'001;  // Not representable as a double.
  CHECK(through_text(snapshot)->creation_filetime == snapshot.creation_filetime);
}

TEST_CASE("an absent optional stays absent and a present one present", "[vss:S_FALSE]") {
  VolumeRef reference;
  CHECK_FALSE(through_text(reference)->id);
  CHECK_FALSE(through_text(reference)->device);
  reference.id = VolumeId::random();
  reference.device = 0;
  CHECK(through_text(reference)->id == reference.id);
  CHECK(through_text(reference)->device == reference.device);
}

TEST_CASE("a wrong member is named with its place") {
  CHECK(problem<HelloRequest>(R"({"major":"1"})").starts_with("major: expected an integer"));
  CHECK(problem<HelloRequest>(R"({"major":1.5})").starts_with("major: "));
  CHECK(problem<HelloRequest>(R"({"major":4294967296})").starts_with("major: "));
  CHECK(problem<HelloRequest>(R"({"features":["a",2]})") == "features[1]: expected text");
  CHECK(problem<VolumeRequest>(R"({"volume":{"device":7}})") ==
        "volume.device: expected decimal text");
  CHECK(problem<VolumeRequest>(R"({"volume":{"device":"-7"}})") ==
        "volume.device: expected decimal text");
  CHECK(problem<VolumeRequest>(R"({"volume":{"id":"x"}})") ==
        "volume.id: expected the text form of a GUID");
  CHECK(problem<WriterEvent>(R"({"volumes":[{},{"device":"1x"}]})") ==
        "volumes[1].device: expected decimal text");
  CHECK(problem<WriterStatus>(R"({"state":16})") == "state: expected a number from 0 to 15");
  CHECK(problem<WriterStatus>(R"({"failure":5})").starts_with("failure: expected a code"));
  CHECK(problem<WriterStatus>(R"({"failure":"0x8004230g"})").starts_with("failure: "));
  CHECK(problem<MountSnapshot>(R"({"directory":"␛4"})").starts_with("directory: U+241B"));
  CHECK(problem<MountSnapshot>(R"({"directory":"␛00"})") == "directory: a path holds no NUL");
  CHECK(problem<SetRequest>(R"({"limits":{"hold_ms":-1}})").starts_with("limits.hold_ms: "));
  CHECK(problem<WriterReply>(R"({"ok":1})") == "ok: expected true or false");
  CHECK(problem<WriterReply>(R"({"edits":{}})") == "edits: expected an array");
  CHECK(problem<WriterReply>("[]") == "expected an object");
}

TEST_CASE("unknown members are ignored and null ones have their default") {
  const auto parsed = parse(R"({"new":[{}],"program":null,"role":"writer"})", kPlenty);
  const auto hello = decode<HelloRequest>(*parsed);
  REQUIRE(hello);
  CHECK(hello->role == "writer");
  CHECK(hello->major == kWireMajor);
}

TEST_CASE("decoding random JSON gives a message or a named complaint, never a throw") {
  Prng prng(umbra::test::seed());
  for (int round = 0; round < 3000; ++round) {
    const Json value = random_json(prng, 4);
#define UMBRA_CHECK_TOTAL(Message)                               \
  {                                                              \
    const Result<Message> message = decode<Message>(value);      \
    if (message) {                                               \
      CHECK(through_text(*message));                             \
    } else if (message.error().code != Errc::invalid_argument) { \
      FAIL(#Message);                                            \
    }                                                            \
  }
    UMBRA_RPC_MESSAGES(UMBRA_CHECK_TOTAL)
#undef UMBRA_CHECK_TOTAL
  }
}

TEST_CASE("names, and words that end in documents, are any bytes") {
  const std::string bytes(
      "a\xFF\0\n\xE2\x90\x9B"
      "00",
      9);
  const ComponentRef component{{}, {}, {}, bytes, bytes + "2"};
  CHECK(through_text(component)->logical_path == bytes);
  CHECK(through_text(component)->name == bytes + "2");
  const ComponentEdit edit{bytes, bytes, bytes, {bytes, "", bytes + "3"}};
  const auto edited = through_text(edit);
  REQUIRE(edited);
  CHECK(edited->op != bytes);  // A word of ours.
  CHECK(edited->logical_path == bytes);
  CHECK(edited->component == bytes);
  CHECK(edited->values == edit.values);
  CHECK(through_text(AddRestoreSubcomponent{component, bytes, bytes})->logical_path == bytes);
  CHECK(through_text(AddRestoreSubcomponent{component, bytes, bytes})->name == bytes);
  CHECK(through_text(SetComponentText{component, bytes})->text == bytes);
  CHECK(through_text(SetRestoreText{component, bytes})->text == bytes);
  CHECK(through_text(SetRollForward{component, {}, bytes})->point == bytes);
  RegisterWriter writer;
  writer.name = writer.instance_name = bytes;
  CHECK(through_text(writer)->name == bytes);
  CHECK(through_text(writer)->instance_name == bytes);
  WriterMetadata metadata;
  metadata.name = bytes;
  CHECK(through_text(metadata)->name == bytes);
  WriterStatus status;
  status.name = bytes;
  CHECK(through_text(status)->name == bytes);
  VolumeRef volume;
  volume.name = bytes;
  CHECK(through_text(volume)->name == bytes);
  VolumeProperties properties;
  properties.name = bytes;
  CHECK(through_text(properties)->name == bytes);
  AffectedVolume affected;
  affected.name = bytes;
  CHECK(through_text(affected)->name == bytes);
  CHECK(through_text(NamedFiles{"", {bytes}})->files == std::vector<std::string>{bytes});
  CHECK(through_text(OperationInfo{.facts = {{"diff_area_path", bytes}}})->facts.at(0).value ==
        bytes);
  // As it is on the wire, and what is no such text is refused with its place.
  CHECK(serialize(encode(SetComponentText{{}, "a\xFF"})).find("a␛FF") != std::string::npos);
  CHECK(problem<WriterReply>(R"({"edits":[{"values":["x","␛g0"]}]})") ==
        "edits[0].values[1]: U+241B is not followed by two hexadecimal digits");
  CHECK(problem<WriterReply>(R"({"edits":[{"values":"x"}]})") ==
        "edits[0].values: expected an array");
}

TEST_CASE("text that is not UTF-8 is repaired, so that every line is JSON") {
  Nothing nothing;
  CHECK(serialize(encode(nothing)) == "{}");
  AbortSet message{"bad \xFF byte"};
  CHECK(through_text(message)->reason == "bad \xEF\xBF\xBD byte");
}

TEST_CASE("errors travel with code and context",
          "[vss:VSS_E_UNEXPECTED][vss:E_UNEXPECTED][vss:E_FAIL]") {
  const Error error{Errc::snapshot_set_in_progress, "held by uid 0"};
  CHECK(decode_error(encode_error(error)) == error);
  CHECK(decode_error(*parse(R"({"code":-32601,"message":"no such"})", kPlenty)).code ==
        Errc::not_implemented);
  CHECK(decode_error(*parse(R"({"code":-32602})", kPlenty)).code == Errc::invalid_argument);
  CHECK(decode_error(*parse(R"({"code":-32700})", kPlenty)).code == Errc::protocol_violation);
  CHECK(decode_error(*parse(R"({"code":7,"message":"m"})", kPlenty)) ==
        Error{Errc::unexpected, "m"});
  CHECK(decode_error(*parse(R"({"data":{"code":"0x00000000"}})", kPlenty)).code ==
        Errc::unexpected);
  CHECK(decode_error(*parse(R"({"data":{"code":5}})", kPlenty)).code == Errc::unexpected);
  CHECK(decode_error(Json(5)).code == Errc::protocol_violation);
}

TEST_CASE("a document that is too deep, too big in memory or no JSON is refused") {
  CHECK(parse(std::string(kDepthMax, '[') + std::string(kDepthMax, ']'), kPlenty));
  const std::string deep = std::string(kDepthMax + 1, '[') + std::string(kDepthMax + 1, ']');
  CHECK(parse(deep, kPlenty).error().code == Errc::protocol_violation);
  std::string wide = "[0";
  for (int i = 0; i < 100'000; ++i) wide += ",0";
  wide += "]";
  CHECK(parse(wide, 10U << 20U));
  CHECK(parse(wide, 100'000).error().code == Errc::protocol_violation);
  CHECK(parse("{", kPlenty).error().code == Errc::protocol_violation);
  CHECK(parse("\"\xFF\"", kPlenty).error().code == Errc::protocol_violation);
}

}  // namespace
