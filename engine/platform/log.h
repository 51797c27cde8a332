// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Structured log records. Components write to the Log they were given; they never own a sink, so a
// library inside a customer's process writes only where the customer said. The daemons' sink is
// spdlog (engine/platform/log_spdlog.h).
//
// The message is a constant English phrase without values ("writer froze"), so that it can be
// searched for; values are fields. Every record of the control path carries "set", of a connection
// "peer", of the provider "volume". Levels: error = an operator must act; warning = we coped,
// someone should know; info = life cycle and phase changes, a dozen lines per snapshot; debug = off
// by default.

#pragma once

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "umbra/log_sink.h"

namespace umbra {

struct LogField {
  LogField(std::string_view key_, std::string_view value_) : key(key_), value(value_) {}
  LogField(std::string_view key_, const char* value_) : key(key_), value(value_) {}
  LogField(std::string_view key_, std::string value_) : key(key_), value(std::move(value_)) {}
  template <std::integral T>
  LogField(std::string_view key_, T value_) : key(key_), value(std::to_string(value_)) {}

  std::string_view key;
  std::string value;
};

/// Threads: write() may be called from any thread. It does not throw and does not block for long.
class Log {
 public:
  virtual ~Log() = default;
  virtual void write(LogLevel level, std::string_view component, std::string_view message,
                     std::span<const LogField> fields) noexcept = 0;
};

/// Swallows everything. Static storage.
[[nodiscard]] Log& null_log() noexcept;

/// A component's voice: `log_.info("writer froze", {{"set", id}, {"ms", elapsed}});`. A value; the
/// Log must outlive it.
class Logger {
 public:
  Logger(Log& log, std::string_view component) : log_(&log), component_(component) {}

  void debug(std::string_view message, std::initializer_list<LogField> fields = {}) const {
    log_->write(LogLevel::debug, component_, message, {fields.begin(), fields.size()});
  }
  void info(std::string_view message, std::initializer_list<LogField> fields = {}) const {
    log_->write(LogLevel::info, component_, message, {fields.begin(), fields.size()});
  }
  void warning(std::string_view message, std::initializer_list<LogField> fields = {}) const {
    log_->write(LogLevel::warning, component_, message, {fields.begin(), fields.size()});
  }
  void error(std::string_view message, std::initializer_list<LogField> fields = {}) const {
    log_->write(LogLevel::error, component_, message, {fields.begin(), fields.size()});
  }

 private:
  Log* log_;
  std::string_view component_;  // Static storage.
};

/// `text` for a log or a terminal: control bytes, quotes and what is not UTF-8 escaped, at most
/// `length_max` bytes. For everything that came from a peer.
[[nodiscard]] std::string printable(std::string_view text, std::size_t length_max = 256);

}  // namespace umbra
