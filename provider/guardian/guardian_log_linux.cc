// SPDX-License-Identifier: Apache-2.0
#include "provider/guardian/guardian_log_linux.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <ctime>
#include <utility>

namespace umbra::guardian {
namespace {

std::string_view name(LogLevel level) {
  switch (level) {
    case LogLevel::debug: return "debug";
    case LogLevel::info: return "info";
    case LogLevel::warning: return "warning";
    case LogLevel::error: return "error";
  }
  return "error";
}

// 2026-01-31T23:59:59.123Z
std::string timestamp() {
  timespec now{};
  (void)clock_gettime(CLOCK_REALTIME, &now);
  tm parts{};
  (void)gmtime_r(&now.tv_sec, &parts);
  std::array<char, 32> text{};
  const std::size_t length = std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%S", &parts);
  const auto milliseconds = std::to_string(1000 + now.tv_nsec / 1'000'000);
  return std::string(text.data(), length) + "." + milliseconds.substr(1) + "Z";
}

}  // namespace

void GuardianLog::write(LogLevel level, std::string_view component, std::string_view message,
                        std::span<const LogField> fields) noexcept {
  if (level == LogLevel::debug) return;
  std::string line = timestamp();
  for (const auto part : {name(level), component, message}) line.append(" ").append(part);
  for (const auto& field : fields) {
    const bool quoted = field.value.empty() || field.value.find(' ') != std::string::npos;
    const char* quote = quoted ? "\"" : "";
    line.append(" ").append(field.key).append("=").append(quote);
    line.append(printable(field.value)).append(quote);
  }
  line.append("\n");
  if (!held_) return put(line);
  if (lines_.size() < kHeldLinesMax) {
    lines_.push_back(std::move(line));
  } else {
    ++dropped_;
  }
}

void GuardianLog::hold(bool held) noexcept {
  held_ = held;
  if (held_) return;
  for (const auto& line : std::exchange(lines_, {})) put(line);
  if (const auto count = std::exchange(dropped_, 0); count != 0) {
    write(LogLevel::warning, "guardian", "log lines were dropped while frozen",
          std::array{LogField("count", count)});
  }
}

void GuardianLog::let_go_aside() noexcept {
  if (lines_.empty()) return;
  const pid_t pid = fork();
  if (pid < 0) return;
  if (pid == 0) {
    // Nothing of the guardian's may be kept alive by a process that hangs.
    if (fd_ > 3) (void)close_range(3, static_cast<unsigned>(fd_) - 1, 0);
    (void)close_range(static_cast<unsigned>(std::max(fd_ + 1, 3)), ~0U, 0);
    for (const auto& line : lines_) put(line);
    _exit(0);
  }
  lines_.clear();
}

void GuardianLog::put(const std::string& line) const noexcept {
  // A log that cannot be written to has nowhere to report it.
  [[maybe_unused]] const ssize_t written = ::write(fd_, line.data(), line.size());
}

}  // namespace umbra::guardian
