// SPDX-License-Identifier: Apache-2.0
#include "provider/daemon/volume_config.h"

#include "tests/support/catch.h"

using namespace umbra;
using namespace umbra::cowd;

namespace {

VolumeConfig sample() {
  VolumeConfig config;
  config.volume_id = VolumeId::random();
  config.name = "data";
  config.origin_path = "/srv/data \xff.img";
  config.diff_area_path = "/var/diff/data";
  config.expose = Expose::none;
  config.direct = true;
  config.reflink = true;
  config.snapshots_max = 512;
  config.order = 7;
  config.hosts = {VolumeId::random(), VolumeId::random()};
  config.moving_to = "/srv/\xff moved.diff";
  config.moving_makes = true;
  return config;
}

rpc::AttachVolume request() {
  rpc::AttachVolume wanted;
  wanted.origin_path = "/srv/data.img";
  wanted.diff_area_path = "/var/diff/data";
  return wanted;
}

Error refusal(const rpc::AttachVolume& wanted) {
  const auto config = check_request(wanted);
  REQUIRE_FALSE(config);
  return config.error();
}

}  // namespace

TEST_CASE("a configuration survives its text form, whatever bytes its paths have", "[cowd]") {
  const VolumeConfig config = sample();
  CHECK(parse_config(to_text(config)) == config);
}

TEST_CASE("a record from before ublk keeps its meaning: the NBD server alone", "[cowd]") {
  std::string text = to_text(sample());
  const auto at = text.find("\"none\"");
  REQUIRE(at != std::string::npos);
  CHECK(parse_config(text.replace(at, 6, "\"nbd\""))->expose == Expose::none);
  VolumeConfig device = sample();
  device.expose = Expose::nbd;
  CHECK(parse_config(to_text(device))->expose == Expose::nbd);
}

TEST_CASE("text that is torn, foreign or newer is refused with what is wrong", "[cowd]") {
  const std::string text = to_text(sample());
  for (std::size_t size = 0; size + 1 < text.size(); ++size) {
    CAPTURE(size);
    const auto torn = parse_config(text.substr(0, size));
    REQUIRE_FALSE(torn);
    CHECK(torn.error().code == Errc::invalid_argument);
  }
  const auto replaced = [&](const std::string& from, const std::string& to) {
    std::string changed = text;
    const auto at = changed.find(from);
    REQUIRE(at != std::string::npos);
    return parse_config(changed.replace(at, from.size(), to));
  };
  CHECK(parse_config("[]").error().code == Errc::invalid_argument);
  CHECK(parse_config("{\"a\": 1}").error().context.find("configuration") != std::string::npos);
  CHECK(replaced("\"umbra_volume\":1", "\"umbra_volume\":2").error().code ==
        Errc::version_mismatch);
  for (const char* count : {"-1", "262145", "true"}) {
    const auto refused =
        replaced("\"snapshots_max\":512", "\"snapshots_max\":" + std::string(count));
    CHECK(refused.error().context.find("snapshots_max") != std::string::npos);
  }
  CHECK(replaced("\"order\":7", "\"order\":-7").error().context.find("order") != std::string::npos);
  CHECK(replaced("\"hosts\":[", "\"hosts\":[7,").error().context.find("hosts") !=
        std::string::npos);
  CHECK(replaced("\"hosts\":[\"", "\"hosts\":[\"x").error().context.find("hosts") !=
        std::string::npos);
  CHECK(replaced("\"hosts\"", "\"other\"")->hosts.empty());  // An older record.
  CHECK(replaced("\"cache\":\"none\"", "\"cache\":\"some\"").error().context.find("cache") !=
        std::string::npos);
  CHECK_FALSE(replaced("\"cache\"", "\"other\"")->direct);  // An older record.
  CHECK(
      replaced("\"preserve\":\"reflink\"", "\"preserve\":\"some\"").error().context.find("copy") !=
      std::string::npos);
  CHECK_FALSE(replaced("\"preserve\"", "\"other\"")->reflink);  // An older record.
  CHECK(replaced("\"/var", "\"var").error().context.find("absolute") != std::string::npos);
  CHECK(replaced("\"none\"", "\"iscsi\"").error().context.find("expose") != std::string::npos);
  CHECK(replaced("\"data\"", "\"../data\"").error().context.find("name") != std::string::npos);
  CHECK_FALSE(parse_config(std::string(kConfigBytesMax + 1, ' ')));
}

TEST_CASE("a request gets defaults: the name is the origin's file name", "[cowd]") {
  rpc::AttachVolume wanted = request();
  wanted.origin_path = "/srv//./data.img/";
  const auto config = check_request(wanted);
  REQUIRE(config);
  CHECK(config->name == "data.img");
  CHECK(config->origin_path == "/srv/data.img");
  CHECK(config->expose == Expose::automatic);
}

TEST_CASE("what a request may not say is refused and named", "[cowd]") {
  auto wanted = request();
  SECTION("a relative origin") {
    wanted.origin_path = "data.img";
    CHECK(refusal(wanted).context.find("the origin must be an absolute path") != std::string::npos);
  }
  SECTION("no diff area") {
    wanted.diff_area_path.clear();
    CHECK(refusal(wanted).context.find("the diff area: a path is needed") != std::string::npos);
  }
  SECTION("a path of many bytes, or with a zero byte") {
    wanted.origin_path = "/" + std::string(kPathBytesMax, 'x');
    CHECK(refusal(wanted).code == Errc::invalid_argument);
    wanted.origin_path = std::string("/a\0b", 4);
    CHECK(refusal(wanted).code == Errc::invalid_argument);
  }
  SECTION("a name that cannot be one") {
    for (const char* name : {"a/b", ".hidden", "-x", "a b", "\xc3\xa4"}) {
      wanted.name = name;
      CHECK(refusal(wanted).context.find("a volume's name is") != std::string::npos);
    }
    wanted.name = std::string(kVolumeNameBytesMax + 1, 'a');
    CHECK(refusal(wanted).code == Errc::invalid_argument);
    wanted.name = Guid::random().to_string();
    CHECK(refusal(wanted).context.find("must not look like an id") != std::string::npos);
  }
  SECTION("an origin whose file name cannot be the name") {
    wanted.origin_path = "/srv/my data.img";
    CHECK(refusal(wanted).context.find("give it a name") != std::string::npos);
  }
  SECTION("a chunk size that is none") {
    for (const std::uint32_t size : {0U, 4095U, 2048U, 2U << 20U, 24U << 10U}) {
      wanted.chunk_bytes = size;
      CHECK(refusal(wanted).context.find("power of two") != std::string::npos);
    }
  }
  SECTION("sizes of the diff area") {
    wanted.diff_initial_bytes = 1000;
    CHECK(refusal(wanted).context.find("multiples of 4096") != std::string::npos);
    wanted.diff_initial_bytes = 128U << 20U;
    wanted.diff_maximum_bytes = 64U << 20U;
    CHECK(refusal(wanted).context.find("above its maximum") != std::string::npos);
  }
  SECTION("a front end that there is not") {
    wanted.expose = "iscsi";
    CHECK(refusal(wanted).context.find("\"auto\", \"ublk\", \"fuse\", \"nbd\" or \"none\"") !=
          std::string::npos);
  }
}

TEST_CASE("a limit on the copies of a volume is kept; without one there is only the format's",
          "[cowd]") {
  auto wanted = request();
  REQUIRE(check_request(wanted));
  CHECK(check_request(wanted)->snapshots_max == cow::kSnapshotsMax);
  CHECK(parse_config(to_text(*check_request(wanted)))->snapshots_max == cow::kSnapshotsMax);
  wanted.snapshots_max = 512;
  CHECK(check_request(wanted)->snapshots_max == 512);
  CHECK_FALSE(check_request(wanted)->direct);
  wanted.cache = "none";
  CHECK(check_request(wanted)->direct);
  wanted.cache = "writeback";
  CHECK(refusal(wanted).context.find("buffered") != std::string::npos);
  wanted.cache = "buffered";
  CHECK_FALSE(check_request(wanted)->reflink);
  wanted.preserve = "reflink";
  CHECK(check_request(wanted)->reflink);
  wanted.preserve = "clone";
  CHECK(refusal(wanted).context.find("reflink") != std::string::npos);
  wanted.preserve = "copy";
  wanted.snapshots_max = cow::kSnapshotsMax + 1;
  CHECK(refusal(wanted).context.find("1 to 262144") != std::string::npos);
}
