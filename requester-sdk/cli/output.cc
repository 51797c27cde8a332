// SPDX-License-Identifier: Apache-2.0
#include "requester-sdk/cli/output.h"

#include <algorithm>
#include <array>
#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>
#include <cstdio>
#include <iostream>

#include "requester-sdk/cli/output_parts.h"

namespace umbra::cli {
namespace {

namespace json = boost::json;
using requester::CoordinatorStatus;
using requester::PhaseTime;
using requester::ProviderInfo;
using requester::SetReport;
using requester::WriterInfo;
using requester::WriterStatus;

constexpr std::size_t kBarColumns = 40;
constexpr std::int64_t kTicksPerSecond = 10'000'000;
constexpr std::int64_t kSecondsFrom1601To1970 = 11'644'473'600;

std::string_view remedy_text(Errc code) {
  switch (remedy(code)) {
    case Remedy::none: return "none";
    case Remedy::fix_the_call: return "fix_the_call";
    case Remedy::retry_later: return "retry_later";
    case Remedy::reconnect: return "reconnect";
    case Remedy::give_up: return "give_up";
  }
  return "give_up";
}

// JSON is UTF-8; bytes of file names that are not become U+FFFD.
std::size_t sequence_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  if (byte(0) < 0x80) return 1;
  const std::size_t length = byte(0) >= 0xF0 ? 4 : byte(0) >= 0xE0 ? 3 : 2;
  if (byte(0) < 0xC2 || byte(0) > 0xF4 || text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  const bool overlong = (byte(0) == 0xE0 && byte(1) < 0xA0) || (byte(0) == 0xF0 && byte(1) < 0x90);
  const bool outside = (byte(0) == 0xED && byte(1) >= 0xA0) || (byte(0) == 0xF4 && byte(1) >= 0x90);
  return overlong || outside ? 0 : length;
}

}  // namespace

std::string code_text(Errc code) {
  std::array<char, 16> text{};
  (void)std::snprintf(text.data(), text.size(), "0x%08X", static_cast<unsigned>(code));
  return text.data();
}

json::string text_json(std::string_view text) {
  json::string utf8;
  while (!text.empty()) {
    const std::size_t length = sequence_length(text);
    const auto part = length == 0 ? std::string_view("\xEF\xBF\xBD") : text.substr(0, length);
    utf8.append(json::string_view(part.data(), part.size()));
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
  return utf8;
}

json::string view_json(std::string_view text) {
  return {json::string_view(text.data(), text.size())};
}

// --- Output ------------------------------------------------------------------------------------

void Output::line(std::string_view text) {
  if (!json_) out_ << text << "\n";
}

void Output::note(std::string_view text) {
  if (!json_) err_ << text << "\n";
}

void Output::object(const json::object& value) {
  if (json_) out_ << json::serialize(value) << "\n";
}

void Output::table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  for (const auto& row : rows) {
    std::string text;
    for (std::size_t i = 0; i < row.size(); ++i) {
      text += row[i];
      if (i + 1 < row.size()) text.append(widths[i] - row[i].size() + 2, ' ');
    }
    line(text);
  }
}

ExitCode Output::error(const Error& error, const json::object& details,
                       std::optional<ExitCode> status) {
  end_progress();
  const ExitCode exit_code = status.value_or(exit_code_for(error));
  if (json_) {
    json::object object{{"error", error_to_json(error)}};
    object["error"].as_object()["exit_status"] = static_cast<int>(exit_code);
    for (const auto& [name, value] : details) object[name] = value;
    err_ << json::serialize(object) << "\n";
  } else {
    err_ << "umbra: "
         << shown(error.context.empty() ? std::string(describe(error.code))
                                        : std::string(describe(error.code)) + ": " + error.context)
         << " (" << code_name(error.code) << ")\n";
  }
  return exit_code;
}

void Output::progress(const requester::Progress& progress) {
  if (json_ || !terminal_) return;
  const auto phase = progress.phase.empty() ? progress.operation : progress.phase;
  err_ << "\r\x1b[K" << shown(phase) << " ... " << duration_text(progress.elapsed) << std::flush;
  progress_shown_ = true;
}

void Output::end_progress() {
  if (!progress_shown_) return;
  err_ << "\r\x1b[K" << std::flush;
  progress_shown_ = false;
}

Output standard_output(bool terminal) { return {std::cout, std::cerr, terminal}; }

// --- values as JSON ----------------------------------------------------------------------------

json::object to_json(const VolumeProperties& volume) {
  return {{"volume_id", id_json(volume.volume_id)},
          {"name", text_json(volume.name)},
          {"origin_path", text_json(volume.origin_path)},
          {"diff_area_path", text_json(volume.diff_area_path)},
          {"device_path", text_json(volume.device_path)},
          {"nbd_uri", text_json(volume.nbd_uri)},
          {"front_end", text_json(volume.front_end)},
          {"front_end_why", text_json(volume.front_end_why)},
          {"size_bytes", volume.size_bytes},
          {"chunk_bytes", volume.chunk_bytes},
          {"diff_used_bytes", volume.diff_used_bytes},
          {"diff_allocated_bytes", volume.diff_allocated_bytes},
          {"diff_maximum_bytes", volume.diff_maximum_bytes},
          {"free_bytes_not_copied", volume.free_bytes_not_copied},
          {"snapshot_count", volume.snapshot_count},
          {"state", text_json(volume.state)}};
}

json::object to_json(const SnapshotProperties& snapshot) {
  return {{"snapshot_id", id_json(snapshot.snapshot_id)},
          {"set_id", id_json(snapshot.set_id)},
          {"volume_id", id_json(snapshot.volume_id)},
          {"provider_id", id_json(snapshot.provider_id)},
          {"snapshots_count", snapshot.snapshots_count},
          {"device_object", text_json(snapshot.device_object)},
          {"nbd_uri", text_json(snapshot.nbd_uri)},
          {"original_volume", text_json(snapshot.original_volume)},
          {"originating_machine", text_json(snapshot.originating_machine)},
          {"service_machine", text_json(snapshot.service_machine)},
          {"exposed_path", text_json(snapshot.exposed_path)},
          {"attributes", snapshot.attributes},
          {"context", context_text(snapshot.attributes)},
          {"created", time_text(snapshot.creation_filetime)},
          {"creation_filetime", std::to_string(snapshot.creation_filetime)},
          {"state", view_json(vss_name(snapshot.state))},
          {"lost", snapshot.lost}};
}

json::object to_json(const WriterInfo& writer) {
  json::value failure;
  if (writer.last_failure != Errc::ok) {
    failure = {{"code", code_text(writer.last_failure)},
               {"name", view_json(code_name(writer.last_failure))},
               {"phase", text_json(writer.last_failure_phase)},
               {"message", text_json(writer.last_failure_message)},
               {"time", time_text(writer.last_failure_filetime)}};
  }
  return {{"instance_id", id_json(writer.instance_id)},
          {"class_id", id_json(writer.class_id)},
          {"name", text_json(writer.name)},
          {"instance_name", text_json(writer.instance_name)},
          {"level", view_json(vss_name(writer.level))},
          {"freeze_window_ms", writer.freeze_window.count()},
          {"state", view_json(vss_name(writer.state))},
          {"last_failure", failure}};
}

json::object to_json(const WriterStatus& writer) {
  return {{"instance_id", id_json(writer.instance_id)},
          {"class_id", id_json(writer.class_id)},
          {"name", text_json(writer.name)},
          {"state", view_json(vss_name(writer.state))},
          {"failure", code_text(writer.failure)},
          {"failure_name", view_json(code_name(writer.failure))},
          {"application_code", writer.application_code},
          {"message", text_json(writer.message)}};
}

json::object to_json(const ProviderInfo& provider) {
  return {{"provider_id", id_json(provider.properties.provider_id)},
          {"name", text_json(provider.properties.name)},
          {"type", view_json(vss_name(provider.properties.type))},
          {"version", text_json(provider.properties.version)},
          {"connected", provider.connected}};
}

json::object to_json(const CoordinatorStatus& status) {
  return {{"program", text_json(status.program)},
          {"uptime_s", status.uptime.count()},
          {"writers", status.writers},
          {"sessions", status.sessions},
          {"providers_connected", status.providers_connected},
          {"set_in_progress", id_json(status.set_in_progress)},
          {"set_phase", text_json(status.set_phase)},
          {"set_holder", text_json(status.set_holder)},
          {"set_age_ms", status.set_age.count()}};
}

json::object to_json(const PhaseTime& phase) {
  return {{"phase", text_json(phase.phase)},
          {"begin_us", phase.begin.count()},
          {"end_us", phase.end.count()}};
}

json::object to_json(const HoldReport& hold) {
  return {{"flush_us", hold.flush.count()},
          {"freeze_us", hold.freeze.count()},
          {"gate_us", hold.gate.count()}};
}

json::object to_json(const SetReport& report) {
  return {{"writers", list_to_json(report.writers)},
          {"timeline", list_to_json(report.timeline)},
          {"hold", to_json(report.hold)}};
}

json::object error_to_json(const Error& error) {
  return {{"code", code_text(error.code)},
          {"name", view_json(code_name(error.code))},
          {"text", view_json(describe(error.code))},
          {"context", text_json(error.context)},
          {"remedy", view_json(remedy_text(error.code))},
          {"exit_status", static_cast<int>(exit_code_for(error))}};
}

template <class T>
json::array list_to_json(const std::vector<T>& values) {
  json::array list;
  for (const auto& value : values) list.emplace_back(to_json(value));
  return list;
}
template json::array list_to_json(const std::vector<VolumeProperties>&);
template json::array list_to_json(const std::vector<SnapshotProperties>&);
template json::array list_to_json(const std::vector<WriterInfo>&);
template json::array list_to_json(const std::vector<ProviderInfo>&);
template json::array list_to_json(const std::vector<WriterStatus>&);
template json::array list_to_json(const std::vector<RevertInfo>&);
template json::array list_to_json(const std::vector<CheckpointProperties>&);
template json::array list_to_json(const std::vector<SupportedVolume>&);
template json::array list_to_json(const std::vector<DiffVolumeProperties>&);
template json::array list_to_json(const std::vector<DiffAreaProperties>&);
template json::array list_to_json(const std::vector<OperationInfo>&);
template json::array list_to_json(const std::vector<ProviderEvent>&);

json::array names_to_json(const std::vector<std::string>& names) {
  json::array list;
  for (const auto& name : names) list.emplace_back(text_json(name));
  return list;
}

// --- values as text ----------------------------------------------------------------------------

std::string shown(std::string_view text) {
  std::string escaped;
  while (!text.empty()) {
    const std::size_t length = sequence_length(text);
    const auto byte = static_cast<unsigned char>(text[0]);
    // U+0080 to U+009F are control characters too.
    const bool control =
        byte < 0x20 || byte == 0x7F ||
        (length == 2 && byte == 0xC2 && static_cast<unsigned char>(text[1]) < 0xA0);
    const bool plain = length > 0 && !control;
    if (plain) {
      escaped.append(text.substr(0, length));
    } else {
      std::array<char, 8> code{};
      (void)std::snprintf(code.data(), code.size(), "\\x%02X", byte);
      escaped += code.data();
    }
    text.remove_prefix(plain ? length : 1);
  }
  return escaped;
}

std::string bytes_text(std::uint64_t bytes) {
  static constexpr std::array<const char*, 6> kUnits{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  if (bytes < 1024) return std::to_string(bytes) + " B";
  double value = static_cast<double>(bytes) / 1024;
  std::size_t unit = 0;
  for (; value >= 1024 && unit + 1 < kUnits.size(); ++unit) value /= 1024;
  std::array<char, 32> text{};
  (void)std::snprintf(text.data(), text.size(), value < 10 ? "%.1f %s" : "%.0f %s", value,
                      kUnits[unit]);
  return text.data();
}

std::string time_text(std::int64_t filetime) {
  if (filetime <= 0) return "-";
  const std::chrono::sys_seconds time{
      std::chrono::seconds{filetime / kTicksPerSecond - kSecondsFrom1601To1970}};
  const auto day = std::chrono::floor<std::chrono::days>(time);
  const std::chrono::year_month_day date{day};
  const std::chrono::hh_mm_ss clock{time - day};
  std::array<char, 48> text{};
  (void)std::snprintf(text.data(), text.size(), "%04d-%02u-%02uT%02d:%02d:%02dZ",
                      static_cast<int>(date.year()), static_cast<unsigned>(date.month()),
                      static_cast<unsigned>(date.day()), static_cast<int>(clock.hours().count()),
                      static_cast<int>(clock.minutes().count()),
                      static_cast<int>(clock.seconds().count()));
  return text.data();
}

std::string duration_text(std::chrono::microseconds duration) {
  const double us = static_cast<double>(duration.count());
  std::array<char, 32> text{};
  if (us < 1'000) {
    (void)std::snprintf(text.data(), text.size(), "%.0f us", us);
  } else if (us < 1'000'000) {
    (void)std::snprintf(text.data(), text.size(), "%.1f ms", us / 1'000);
  } else {
    (void)std::snprintf(text.data(), text.size(), "%.1f s", us / 1'000'000);
  }
  return text.data();
}

std::vector<std::string> timeline_text(const std::vector<PhaseTime>& phases) {
  std::size_t name_width = 0;
  std::chrono::microseconds end{1};
  for (const auto& phase : phases) {
    name_width = std::max(name_width, shown(phase.phase).size());
    end = std::max(end, phase.end);
  }
  const auto column = [&](std::chrono::microseconds time) {
    const auto clamped = std::clamp(time, std::chrono::microseconds{0}, end);
    return static_cast<std::size_t>(clamped.count()) * kBarColumns /
           static_cast<std::size_t>(end.count());
  };
  std::vector<std::string> lines;
  for (const auto& phase : phases) {
    if (phase.begin == phase.end) continue;  // Nobody had anything to do in it.
    const std::size_t begin = std::min(column(phase.begin), kBarColumns - 1);
    const std::size_t width =
        std::max<std::size_t>(column(phase.end) - std::min(begin, column(phase.end)), 1);
    const std::string time = duration_text(phase.end - phase.begin);
    const std::string name = shown(phase.phase);
    std::string text = name + std::string(name_width - name.size() + 2, ' ');
    text += std::string(9 - std::min<std::size_t>(time.size(), 9), ' ') + time + "  |";
    text += std::string(begin, ' ') + std::string(width, '=') +
            std::string(kBarColumns - std::min(begin + width, kBarColumns), ' ') + "|";
    lines.push_back(std::move(text));
  }
  return lines;
}

std::string context_text(std::uint32_t attributes) {
  switch (attributes & context::kMask) {
    case context::kBackup: return "backup";
    case context::kFileShareBackup: return "file-share-backup";
    case context::kNasRollback: return "nas-rollback";
    case context::kAppRollback: return "app-rollback";
    case context::kClientAccessible: return "client-accessible";
    case context::kClientAccessibleWriters: return "client-accessible-writers";
    default: return "unknown";
  }
}

}  // namespace umbra::cli
