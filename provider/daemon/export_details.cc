// SPDX-License-Identifier: Apache-2.0
#include "provider/daemon/export_details.h"

#include <array>
#include <chrono>
#include <cstdio>

#include "engine/platform/log.h"
#include "provider/daemon/changed_contexts.h"

namespace umbra::cowd {
namespace {

std::string moment_text(std::int64_t filetime) {
  constexpr std::int64_t kUnixEpochSeconds = 11'644'473'600;
  constexpr std::int64_t kTicksPerSecond = 10'000'000;
  const std::chrono::sys_seconds moment{
      std::chrono::seconds(filetime / kTicksPerSecond - kUnixEpochSeconds)};
  const auto day = std::chrono::floor<std::chrono::days>(moment);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss time(moment - day);
  std::array<char, 64> text{};
  (void)std::snprintf(text.data(), text.size(), "%04d-%02u-%02u %02d:%02d:%02d UTC",
                      static_cast<int>(date.year()), static_cast<unsigned>(date.month()),
                      static_cast<unsigned>(date.day()), static_cast<int>(time.hours().count()),
                      static_cast<int>(time.minutes().count()),
                      static_cast<int>(time.seconds().count()));
  return text.data();
}

}  // namespace

std::string ExportDetails::describe(const std::string& export_name) const {
  const auto subject = provider_.subject_of(export_name);
  if (!subject) return {};
  if (!subject->copy) return "live volume, origin " + printable(subject->origin_path);
  const auto& copy = *subject->copy;
  std::string text = "copy of volume " + subject->volume_name + ", taken " +
                     moment_text(copy.creation_filetime) + ", set " + copy.set_id.to_string();
  if (copy.stage != cow::Stage::created) text += ", still being made";
  if (!copy.persistent) text += ", goes with its session";
  if (copy.lost) text += ", LOST: it cannot be read";
  return text;
}

std::shared_ptr<nbd::Contexts> ExportDetails::contexts(const std::string& export_name) const {
  const auto subject = provider_.subject_of(export_name);
  if (!subject) return nullptr;
  if (!subject->copy) return changed_contexts(subject->volume, std::nullopt);
  return changed_contexts(subject->volume, subject->copy->id);
}

}  // namespace umbra::cowd
