// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "engine/platform/log_spdlog.h"

#include <spdlog/logger.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

namespace umbra {
namespace {

constexpr const char* kPattern = "%Y-%m-%dT%H:%M:%S.%fZ %l %v";
constexpr std::chrono::milliseconds kHoldDrainLimit{100};
constexpr std::chrono::milliseconds kFlushLimit{2'000};

struct Record {
  std::chrono::system_clock::time_point time;
  spdlog::level::level_enum level;
  std::string text;
};

spdlog::level::level_enum to_spdlog(LogLevel level) {
  switch (level) {
    case LogLevel::debug: return spdlog::level::debug;
    case LogLevel::info: return spdlog::level::info;
    case LogLevel::warning: return spdlog::level::warn;
    case LogLevel::error: break;
  }
  return spdlog::level::err;
}

std::string quoted_if_needed(std::string_view value) {
  const bool plain = !value.empty() && value.size() <= kLogValueBytesMax &&
                     value.find_first_of(" =\"\\") == std::string_view::npos;
  std::string safe = printable(value, kLogValueBytesMax);
  if (plain && safe == value) return safe;
  return "\"" + safe + "\"";
}

std::string line_of(std::string_view component, std::string_view message,
                    std::span<const LogField> fields) {
  std::string line;
  line.append(component).append(" ").append(message);
  for (const LogField& field : fields) {
    line.append(" ").append(field.key).append("=").append(quoted_if_needed(field.value));
  }
  return line;
}

Result<std::shared_ptr<spdlog::logger>> make_logger(const std::string& file) {
  try {
    spdlog::sink_ptr sink;
    if (file.empty()) {
      sink = std::make_shared<spdlog::sinks::stderr_sink_st>();
    } else {
      sink = std::make_shared<spdlog::sinks::basic_file_sink_st>(file);
    }
    auto logger = std::make_shared<spdlog::logger>("umbra", std::move(sink));
    logger->set_level(spdlog::level::trace);
    logger->set_formatter(
        std::make_unique<spdlog::pattern_formatter>(kPattern, spdlog::pattern_time_type::utc));
    logger->flush_on(spdlog::level::off);
    // A log that cannot be written has nobody to tell.
    logger->set_error_handler([](const std::string&) {});
    return logger;
  } catch (const std::exception& error) {
    return fail(Errc::io_error, "cannot open the log file " + file + ": " + error.what());
  }
}

}  // namespace

struct SpdlogLog::State {
  std::string file;
  std::size_t records_max = kLogRecordsMax;
  std::atomic<LogLevel> level{LogLevel::info};

  std::mutex mutex;
  std::condition_variable changed;
  std::shared_ptr<spdlog::logger> logger;  // Used by the writing thread, replaced by reopen().
  std::deque<Record> waiting;
  std::uint64_t dropped = 0;
  unsigned holds = 0;
  bool writing = false;
  bool stopping = false;

  [[nodiscard]] bool idle() const { return waiting.empty() && dropped == 0 && !writing; }

  void run() noexcept;
};

// Takes everything that waits at once, writes it without the lock, and flushes once.
void SpdlogLog::State::run() noexcept {
  std::unique_lock lock(mutex);
  while (true) {
    changed.wait(lock, [&] {
      return (holds == 0 || stopping) && (stopping || !waiting.empty() || dropped > 0);
    });
    if (waiting.empty() && dropped == 0) return;
    std::deque<Record> batch;
    batch.swap(waiting);
    const std::uint64_t lost = std::exchange(dropped, 0);
    const std::shared_ptr<spdlog::logger> to = logger;
    writing = true;
    lock.unlock();
    if (lost > 0) {
      to->log(batch.empty() ? std::chrono::system_clock::now() : batch.front().time,
              spdlog::source_loc{}, spdlog::level::warn,
              "log records were dropped count=" + std::to_string(lost));
    }
    for (const Record& record : batch) {
      to->log(record.time, spdlog::source_loc{}, record.level, record.text);
    }
    to->flush();
    lock.lock();
    writing = false;
    changed.notify_all();
  }
}

SpdlogLog::SpdlogLog(std::shared_ptr<State> state) noexcept : state_(std::move(state)) {}

Result<std::unique_ptr<SpdlogLog>> SpdlogLog::open(const SpdlogOptions& options) {
  auto logger = make_logger(options.file);
  if (!logger) return fail(logger.error());
  auto state = std::make_shared<State>();
  state->file = options.file;
  state->records_max = std::max<std::size_t>(options.records_max, 1);
  state->level = options.level;
  state->logger = std::move(*logger);
  std::thread([state] { state->run(); }).detach();
  return std::unique_ptr<SpdlogLog>(new SpdlogLog(std::move(state)));
}

SpdlogLog::~SpdlogLog() {
  std::unique_lock lock(state_->mutex);
  state_->stopping = true;
  state_->changed.notify_all();
  state_->changed.wait_for(lock, kFlushLimit, [&] { return state_->idle(); });
}

void SpdlogLog::write(LogLevel level, std::string_view component, std::string_view message,
                      std::span<const LogField> fields) noexcept {
  if (level < state_->level.load(std::memory_order_relaxed)) return;
  Record record{std::chrono::system_clock::now(), to_spdlog(level),
                line_of(component, message, fields)};
  const std::lock_guard lock(state_->mutex);
  if (state_->waiting.size() >= state_->records_max) {
    state_->waiting.pop_front();
    ++state_->dropped;
  }
  state_->waiting.push_back(std::move(record));
  state_->changed.notify_all();
}

void SpdlogLog::set_level(LogLevel level) noexcept {
  state_->level.store(level, std::memory_order_relaxed);
}

Status SpdlogLog::reopen() {
  if (state_->file.empty()) return {};
  auto logger = make_logger(state_->file);
  if (!logger) return fail(logger.error());
  const std::lock_guard lock(state_->mutex);
  state_->logger = std::move(*logger);
  return {};
}

void SpdlogLog::hold() noexcept {
  std::unique_lock lock(state_->mutex);
  if (state_->holds == 0) {
    state_->changed.wait_for(lock, kHoldDrainLimit, [&] { return state_->idle(); });
  }
  ++state_->holds;
}

void SpdlogLog::release() noexcept {
  const std::lock_guard lock(state_->mutex);
  if (state_->holds > 0) --state_->holds;
  state_->changed.notify_all();
}

bool SpdlogLog::flush() noexcept {
  std::unique_lock lock(state_->mutex);
  return state_->changed.wait_for(lock, kFlushLimit, [&] { return state_->idle(); });
}

Result<LogLevel> parse_log_level(std::string_view text) {
  if (text == "debug") return LogLevel::debug;
  if (text == "info") return LogLevel::info;
  if (text == "warning") return LogLevel::warning;
  if (text == "error") return LogLevel::error;
  return fail(Errc::invalid_argument,
              "log level \"" + printable(text, 40) + "\": must be debug, info, warning or error");
}

}  // namespace umbra
