// SPDX-License-Identifier: Apache-2.0
// umbra list | add | resize | move | delete shadowstorage, umbra list volumes --supported
#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/value.hpp>
#include <filesystem>

#include "requester-sdk/cli/commands.h"

namespace umbra::cli {
namespace {

constexpr std::uint64_t kGranuleBytes = 4096;  // Sizes of a diff area are multiples of it.

std::string maximum_text(std::int64_t bytes) {
  return bytes == kAssocNoMaxSpace ? "UNBOUNDED" : bytes_text(static_cast<std::uint64_t>(bytes));
}

std::uint64_t part_of(std::uint64_t bytes, std::uint64_t percent) {
  return bytes / 100 * percent / kGranuleBytes * kGranuleBytes;
}

// What percent are of: the diff volume that the area lies on.
Result<std::uint64_t> host_bytes(Service& service, const DiffAreaRef& area) {
  const auto areas = service.diff_areas(area.volume);
  if (!areas) return fail(areas.error());
  const auto volumes = service.diff_volumes(area.volume);
  if (!volumes) return fail(volumes.error());
  for (const auto& volume : *volumes) {
    for (const auto& one : *areas) {
      if (one.diff_volume == volume.diff_volume) return volume.total_bytes;
    }
  }
  return fail(Errc::object_not_found,
              "what the diff area lies on cannot be found out; name the maximum in bytes");
}

Result<std::int64_t> maximum_of(Service& service, const DiffAreaRef& area,
                                const MaximumSize& maximum) {
  if (maximum.unit == MaximumSize::Unit::unbounded) return kAssocNoMaxSpace;
  std::uint64_t bytes = maximum.number;
  if (maximum.unit == MaximumSize::Unit::percent) {
    const auto whole = host_bytes(service, area);
    if (!whole) return fail(whole.error());
    bytes = part_of(*whole, maximum.number);
  }
  return static_cast<std::int64_t>(bytes);
}

ExitCode change(Service& service, Output& output, const ShadowStorage& arguments,
                std::optional<MaximumSize> wanted) {
  const auto volume = service.resolve(arguments.volume);
  if (!volume) return output.error(volume.error());
  const DiffAreaRef area{*volume, arguments.diff_volume};
  std::int64_t maximum = kAssocRemove;
  if (wanted) {
    const auto bytes = maximum_of(service, area, *wanted);
    if (!bytes) return output.error(bytes.error());
    maximum = *bytes;
  }
  const auto begun = service.change_maximum(area, maximum, arguments.is_volatile);
  if (!begun) return output.error(begun.error());
  const auto ended = wait_for(service, output, *begun, arguments.time_limit);
  if (!ended) return output.error(ended.error());
  std::vector<std::string> deleted;
  for (const auto& fact : ended->facts) {
    if (fact.name == "deleted_snapshot") deleted.push_back(fact.value);
  }
  boost::json::object object{{"operation_id", begun->to_string()},
                             {"deleted_snapshots", names_to_json(deleted)}};
  object["maximum_bytes"] = nullptr;
  if (maximum > 0) object["maximum_bytes"] = maximum;
  output.object(object);
  output.line(!wanted ? "the association is automatic again, without a bound"
                      : "maximum is " + maximum_text(maximum));
  for (const auto& id : deleted) output.line("  deleted  " + shown(id));
  return ExitCode::done;
}

// Whether `path` is `directory` or below it.
bool is_within(const std::string& path, const std::string& directory) {
  if (directory == "/" || path == directory) return true;
  return path.starts_with(directory) && path[directory.size()] == '/';
}

}  // namespace

Result<std::uint64_t> maximum_at(Service& service, const std::string& path,
                                 const MaximumSize& maximum) {
  if (maximum.unit == MaximumSize::Unit::unbounded) return 0;
  if (maximum.unit == MaximumSize::Unit::bytes) return maximum.number;
  const auto volumes = service.diff_volumes({});
  if (!volumes) return fail(volumes.error());
  const DiffVolumeProperties* found = nullptr;
  for (const auto& volume : *volumes) {
    if (!is_within(path, volume.diff_volume)) continue;
    const bool nearer = found == nullptr || volume.diff_volume.size() > found->diff_volume.size();
    if (nearer) found = &volume;
  }
  // Never 0, which would mean no bound.
  if (found != nullptr) return std::max(kGranuleBytes, part_of(found->total_bytes, maximum.number));
  return fail(Errc::object_not_found,
              "what the diff area would lie on is not known; name the maximum in bytes");
}

ExitCode list_shadowstorage(Service& service, Output& output, const ShadowStorage& arguments) {
  VolumeRef volume;
  if (!arguments.volume.empty()) {
    auto resolved = service.resolve(arguments.volume);
    if (!resolved) return output.error(resolved.error());
    volume = std::move(*resolved);
  }
  auto areas = arguments.diff_volume.empty() ? service.diff_areas(volume)
                                             : service.diff_areas_on(arguments.diff_volume);
  if (!areas) return output.error(areas.error());
  if (!arguments.volume.empty() && !arguments.diff_volume.empty()) {
    const auto of_volume = service.diff_areas(volume);
    if (!of_volume) return output.error(of_volume.error());
    std::erase_if(*areas, [&](const DiffAreaProperties& area) {
      return std::none_of(
          of_volume->begin(), of_volume->end(),
          [&](const DiffAreaProperties& other) { return other.volume_id == area.volume_id; });
    });
  }
  output.object({{"diff_areas", list_to_json(*areas)}});
  std::vector<std::vector<std::string>> rows{
      {"VOLUME", "USED", "ALLOCATED", "MAXIMUM", "COPIES", "STATE", "ON", "DIFF AREA"}};
  for (const auto& area : *areas) {
    rows.push_back(
        {shown(area.volume_name), bytes_text(area.used_bytes), bytes_text(area.allocated_bytes),
         maximum_text(area.maximum_bytes) + (area.volatile_maximum ? "*" : ""),
         std::to_string(area.snapshots), shown(area.state) + (area.reflink ? ", reflink" : ""),
         area.diff_volume.empty() ? "-" : shown(area.diff_volume), shown(area.diff_area_path)});
  }
  output.table(rows);
  return ExitCode::done;
}

ExitCode add_shadowstorage(Service& service, Output& output, const ShadowStorage& arguments) {
  const auto volume = service.resolve(arguments.volume);
  if (!volume) return output.error(volume.error());
  const DiffAreaRef area{*volume, arguments.diff_volume};
  const auto maximum = maximum_of(service, area, arguments.maximum);
  if (!maximum) return output.error(maximum.error());
  if (const auto added = service.add_diff_area(area, *maximum); !added) {
    return output.error(added.error());
  }
  boost::json::object object{{"maximum_bytes", nullptr}};
  if (*maximum > 0) object["maximum_bytes"] = *maximum;
  output.object(object);
  output.line("the association is explicit, maximum " + maximum_text(*maximum));
  return ExitCode::done;
}

ExitCode resize_shadowstorage(Service& service, Output& output, const ShadowStorage& arguments) {
  return change(service, output, arguments, arguments.maximum);
}

ExitCode delete_shadowstorage(Service& service, Output& output, const ShadowStorage& arguments) {
  return change(service, output, arguments, std::nullopt);
}

ExitCode move_shadowstorage(Service& service, Output& output, const ShadowStorage& arguments) {
  const auto volume = service.resolve(arguments.volume);
  if (!volume) return output.error(volume.error());
  const std::string to = std::filesystem::absolute(arguments.destination).string();
  const auto begun =
      service.move_area({*volume, arguments.diff_volume}, to, arguments.bytes_per_second);
  if (!begun) return output.error(begun.error());
  const auto ended = wait_for(service, output, *begun, arguments.time_limit);
  if (!ended) return output.error(ended.error());
  const auto fact = [&](std::string_view name) {
    for (const auto& one : ended->facts) {
      if (one.name == name) return one.value;
    }
    return std::string();
  };
  const std::string path = fact("diff_area_path");
  const std::string damaged = fact("bytes_damaged");
  const std::string kept = fact("kept");
  boost::json::object object{{"operation_id", begun->to_string()},
                             {"diff_area_path", shown(path)},
                             {"bytes_damaged", damaged.empty() ? 0 : std::stoull(damaged)}};
  object["kept"] = nullptr;
  if (!kept.empty()) object["kept"] = shown(kept);
  output.object(object);
  output.line("the diff area is " + shown(path));
  if (!damaged.empty()) {
    output.line("  " + shown(damaged) + " bytes were damaged before, and are; see umbra scrub");
  }
  if (!kept.empty()) output.line("  kept  " + shown(kept));
  return ExitCode::done;
}

// Some may stay, above all those with a copy under retention lock: the others are gone all the
// same.
ExitCode delete_unused_storage(Service& service, Output& output, const UnusedStorage& arguments) {
  const std::string on = std::filesystem::absolute(arguments.diff_volume).string();
  const auto begun = service.delete_unused(on);
  if (!begun) return output.error(begun.error());
  const auto ended = wait_for_end(service, output, *begun, arguments.time_limit);
  if (!ended) return output.error(ended.error());
  std::vector<std::string> deleted;
  std::vector<std::string> kept;
  for (const auto& fact : ended->facts) {
    if (fact.name == "deleted_diff_area") deleted.push_back(fact.value);
    if (fact.name == "kept_diff_area") kept.push_back(fact.value);
  }
  const bool done = ended->status == Errc::async_finished;
  if (!done && deleted.empty()) {
    return output.error({ended->status, "unused diff areas on " + on + ": " + ended->context});
  }
  output.object({{"operation_id", begun->to_string()},
                 {"deleted", names_to_json(deleted)},
                 {"kept", names_to_json(kept)}});
  output.line(std::to_string(deleted.size()) + " unused diff areas were deleted");
  for (const auto& path : deleted) output.line("  deleted  " + shown(path));
  for (const auto& text : kept) output.line("  kept  " + shown(text));
  return done ? ExitCode::done : ExitCode::in_part;
}

ExitCode list_supported_volumes(Service& service, Output& output) {
  const auto volumes = service.supported_volumes(context::kAppRollback);
  if (!volumes) return output.error(volumes.error());
  output.object({{"volumes", list_to_json(*volumes)}});
  std::vector<std::vector<std::string>> rows{{"NAME", "VOLUME ID"}};
  for (const auto& volume : *volumes) {
    rows.push_back({shown(volume.display_name), volume.volume_id.to_string()});
  }
  output.table(rows);
  return ExitCode::done;
}

}  // namespace umbra::cli
