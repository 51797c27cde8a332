// SPDX-License-Identifier: Apache-2.0
#include "provider/daemon/volume_config.h"

#include <algorithm>
#include <bit>
#include <boost/json/object.hpp>

#include "engine/platform/log.h"
#include "engine/platform/wire_text.h"
#include "engine/rpc/codec.h"

namespace umbra::cowd {
namespace {

constexpr std::size_t kConfigMemoryBytesMax = 1U << 20U;
constexpr std::uint64_t kDiffGranuleBytes = 4096;
// "nbd" is taken, see parse_config().
constexpr std::string_view kRecordedNbd = "nbd-device";

bool is_name_byte(char c, bool first) {
  const bool alphanumeric =
      (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  return alphanumeric || (!first && (c == '.' || c == '_' || c == '-'));
}

// "/srv//data/./x/" as "/srv/data/x"; ".." is left alone, since links decide what it means.
std::string tidy_path(std::string_view path) {
  std::string out;
  while (!path.empty()) {
    const auto slash = path.find('/');
    const std::string_view part = path.substr(0, slash);
    if (!part.empty() && part != ".") out.append("/").append(part);
    if (slash == std::string_view::npos) break;
    path.remove_prefix(slash + 1);
  }
  return out.empty() ? "/" : out;
}

Result<bool> parse_cache(std::string_view text) {
  if (text.empty() || text == "buffered") return false;
  if (text == "none") return true;
  return fail(Errc::invalid_argument,
              "cache must be \"buffered\" or \"none\", not \"" + printable(text, 40) + "\"");
}

Result<bool> parse_preserve(std::string_view text) {
  if (text.empty() || text == "copy") return false;
  if (text == "reflink") return true;
  return fail(Errc::invalid_argument,
              "preserve must be \"copy\" or \"reflink\", not \"" + printable(text, 40) + "\"");
}

Result<std::string> default_name(const std::string& origin_path) {
  const std::string name = origin_path.substr(origin_path.rfind('/') + 1);
  if (check_volume_name(name)) return name;
  return fail(Errc::invalid_argument, "the origin's file name \"" + printable(name) +
                                          "\" cannot be the volume's name (1 to 64 of letters, "
                                          "digits, '.', '_', '-'); give it a name");
}

Status check_sizes(const rpc::AttachVolume& request) {
  const std::uint32_t chunk = request.chunk_bytes;
  if (chunk < cow::kChunkBytesMin || chunk > cow::kChunkBytesMax || !std::has_single_bit(chunk)) {
    return fail(Errc::invalid_argument, "chunk_bytes must be a power of two from " +
                                            std::to_string(cow::kChunkBytesMin) + " to " +
                                            std::to_string(cow::kChunkBytesMax) + ", not " +
                                            std::to_string(chunk));
  }
  for (const std::uint64_t size : {request.diff_initial_bytes, request.diff_maximum_bytes}) {
    if (size % kDiffGranuleBytes != 0) {
      return fail(Errc::invalid_argument,
                  "sizes of the diff area must be multiples of 4096, not " + std::to_string(size));
    }
  }
  const std::uint64_t initial = request.diff_initial_bytes;
  const std::uint64_t maximum = request.diff_maximum_bytes;
  if (maximum != 0 && initial > maximum) {
    return fail(Errc::invalid_argument, "the diff area's initial size " + std::to_string(initial) +
                                            " is above its maximum " + std::to_string(maximum));
  }
  return {};
}

Result<std::uint32_t> check_snapshots_max(std::int64_t count) {
  if (count == 0) return cow::kSnapshotsMax;
  if (count > 0 && count <= cow::kSnapshotsMax) return static_cast<std::uint32_t>(count);
  return fail(Errc::invalid_argument,
              "snapshots_max must be 1 to " + std::to_string(cow::kSnapshotsMax) +
                  ", or 0 for as many as possible, not " + std::to_string(count));
}

Result<std::string> text_member(const boost::json::object& object, std::string_view key) {
  const auto* member = object.if_contains(key);
  if (member == nullptr || !member->is_string()) {
    return fail(Errc::invalid_argument, std::string(key) + ": expected text");
  }
  return std::string(member->get_string());
}

Result<std::string> path_member(const boost::json::object& object, std::string_view key) {
  const auto text = text_member(object, key);
  if (!text) return fail(text.error());
  const auto bytes = unescape_bytes(*text);
  if (!bytes) return fail(Errc::invalid_argument, std::string(key) + ": not an escaped path");
  return check_path(*bytes, key);
}

Result<std::vector<VolumeId>> hosts_member(const boost::json::object& object) {
  std::vector<VolumeId> hosts;
  const auto* member = object.if_contains("hosts");
  if (member == nullptr) return hosts;  // A record of an older umbra-cowd.
  const Error bad{Errc::invalid_argument, "hosts: expected ids of volumes"};
  if (!member->is_array() || member->get_array().size() > kVolumesMax) return fail(bad);
  for (const auto& value : member->get_array()) {
    const auto id = value.is_string() ? VolumeId::parse(std::string_view(value.get_string()))
                                      : Result<VolumeId>(fail(bad));
    if (!id) return fail(bad);
    hosts.push_back(*id);
  }
  return hosts;
}

Status check_format(const boost::json::object& object) {
  const auto* format = object.if_contains("umbra_volume");
  if (format == nullptr || !format->is_int64()) {
    return fail(Errc::invalid_argument, "not a volume's configuration");
  }
  if (format->get_int64() == kConfigFormat) return {};
  return fail(Errc::version_mismatch,
              "configuration format " + std::to_string(format->get_int64()) +
                  "; this umbra-cowd reads " + std::to_string(kConfigFormat));
}

}  // namespace

Result<std::string> check_path(std::string_view path, std::string_view what) {
  if (path.empty()) {
    return fail(Errc::invalid_argument, std::string(what) + ": a path is needed");
  }
  if (path.front() != '/') {
    return fail(Errc::invalid_argument,
                std::string(what) + " must be an absolute path: " + printable(path));
  }
  if (path.size() > kPathBytesMax || path.find('\0') != std::string_view::npos) {
    return fail(Errc::invalid_argument,
                std::string(what) + " is no usable path: " + printable(path));
  }
  return tidy_path(path);
}

std::string to_text(const VolumeConfig& config) {
  boost::json::object object;
  object["umbra_volume"] = kConfigFormat;
  object["volume_id"] = config.volume_id.to_string();
  object["name"] = config.name;
  object["origin_path"] = escape_bytes(config.origin_path);
  object["diff_area_path"] = escape_bytes(config.diff_area_path);
  object["expose"] = config.expose == Expose::nbd ? kRecordedNbd : expose_text(config.expose);
  if (config.direct) object["cache"] = "none";
  if (config.reflink) object["preserve"] = "reflink";
  if (config.snapshots_max != cow::kSnapshotsMax) object["snapshots_max"] = config.snapshots_max;
  if (config.copy_free_blocks) object["copy_free_blocks"] = true;
  object["order"] = static_cast<std::int64_t>(config.order);
  boost::json::array hosts;
  for (const VolumeId& host : config.hosts) hosts.emplace_back(host.to_string());
  object["hosts"] = std::move(hosts);
  if (!config.moving_to.empty()) {
    object["moving_to"] = escape_bytes(config.moving_to);
    object["moving_makes"] = config.moving_makes;
  }
  return rpc::serialize(object) + "\n";
}

Result<VolumeConfig> parse_config(std::string_view text) {
  if (text.size() > kConfigBytesMax) return fail(Errc::invalid_argument, "longer than 64 KiB");
  const auto json = rpc::parse(text, kConfigMemoryBytesMax);
  if (!json) return fail(Errc::invalid_argument, "not JSON: torn, or no configuration");
  if (!json->is_object()) return fail(Errc::invalid_argument, "not a volume's configuration");
  const auto& object = json->get_object();
  if (const Status format = check_format(object); !format) return fail(format.error());

  VolumeConfig config;
  const auto id = text_member(object, "volume_id").and_then([](const std::string& value) {
    return VolumeId::parse(value);
  });
  if (!id) return fail(id.error());
  config.volume_id = *id;
  const auto name = text_member(object, "name");
  if (!name) return fail(name.error());
  if (const Status good = check_volume_name(*name); !good) return fail(good.error());
  config.name = *name;
  const auto origin = path_member(object, "origin_path");
  if (!origin) return fail(origin.error());
  config.origin_path = *origin;
  const auto diff = path_member(object, "diff_area_path");
  if (!diff) return fail(diff.error());
  config.diff_area_path = *diff;
  const auto expose = text_member(object, "expose").and_then([](const std::string& value) {
    // An umbra-cowd from before ublk called it so that only the NBD server serves a volume.
    if (value == "nbd") return parse_expose("none");
    return parse_expose(value == kRecordedNbd ? "nbd" : value);
  });
  if (!expose) return fail(expose.error());
  config.expose = *expose;
  if (object.contains("cache")) {  // Not in a record of an older umbra-cowd.
    const auto direct = text_member(object, "cache").and_then([](const std::string& value) {
      return parse_cache(value);
    });
    if (!direct) return fail(direct.error());
    config.direct = *direct;
  }
  if (object.contains("preserve")) {
    const auto reflink = text_member(object, "preserve").and_then([](const std::string& value) {
      return parse_preserve(value);
    });
    if (!reflink) return fail(reflink.error());
    config.reflink = *reflink;
  }
  if (const auto* most = object.if_contains("snapshots_max")) {
    if (!most->is_int64()) return fail(Errc::invalid_argument, "snapshots_max: expected a number");
    const auto count = check_snapshots_max(most->get_int64());
    if (!count) return fail(count.error());
    config.snapshots_max = *count;
  }
  if (const auto* whole = object.if_contains("copy_free_blocks")) {
    if (!whole->is_bool()) return fail(Errc::invalid_argument, "copy_free_blocks: expected a bool");
    config.copy_free_blocks = whole->get_bool();
  }
  const auto* order = object.if_contains("order");
  if (order == nullptr || !order->is_int64() || order->get_int64() < 0) {
    return fail(Errc::invalid_argument, "order: expected a number");
  }
  config.order = static_cast<std::uint64_t>(order->get_int64());
  auto hosts = hosts_member(object);
  if (!hosts) return fail(hosts.error());
  config.hosts = std::move(*hosts);
  if (object.contains("moving_to")) {
    const auto to = path_member(object, "moving_to");
    if (!to) return fail(to.error());
    config.moving_to = *to;
    const auto* makes = object.if_contains("moving_makes");
    config.moving_makes = makes != nullptr && makes->is_bool() && makes->get_bool();
  }
  return config;
}

Result<VolumeConfig> check_request(const rpc::AttachVolume& request) {
  VolumeConfig config;
  const auto origin = check_path(request.origin_path, "the origin");
  if (!origin) return fail(origin.error());
  config.origin_path = *origin;
  const auto diff = check_path(request.diff_area_path, "the diff area");
  if (!diff) return fail(diff.error());
  config.diff_area_path = *diff;
  const auto name =
      request.name.empty() ? default_name(config.origin_path) : Result<std::string>(request.name);
  if (!name) return fail(name.error());
  if (const Status good = check_volume_name(*name); !good) return fail(good.error());
  config.name = *name;
  const auto expose = parse_expose(request.expose.empty() ? "auto" : request.expose);
  if (!expose) return fail(expose.error());
  config.expose = *expose;
  const auto direct = parse_cache(request.cache);
  if (!direct) return fail(direct.error());
  config.direct = *direct;
  const auto reflink = parse_preserve(request.preserve);
  if (!reflink) return fail(reflink.error());
  config.reflink = *reflink;
  if (const Status sizes = check_sizes(request); !sizes) return fail(sizes.error());
  const auto snapshots = check_snapshots_max(request.snapshots_max);
  if (!snapshots) return fail(snapshots.error());
  config.snapshots_max = *snapshots;
  config.copy_free_blocks = request.copy_free_blocks;
  return config;
}

Status check_volume_name(std::string_view name) {
  bool good = !name.empty() && name.size() <= kVolumeNameBytesMax;
  for (std::size_t i = 0; good && i < name.size(); ++i) good = is_name_byte(name[i], i == 0);
  if (!good) {
    return fail(Errc::invalid_argument,
                "a volume's name is 1 to 64 letters, digits, '.', '_' and '-', and starts with a "
                "letter or digit; not \"" +
                    printable(name, 80) + "\"");
  }
  if (Guid::parse(name)) {
    return fail(Errc::invalid_argument,
                "a volume's name must not look like an id: \"" + printable(name) + "\"");
  }
  return {};
}

}  // namespace umbra::cowd
