// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// An application's function as a Log: an SDK writes nowhere else. One line per record, fields
// made printable.

#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "engine/platform/log.h"

namespace umbra {

/// Threads: any, if the sink is made for it. What the sink throws is dropped.
class SinkLog final : public Log {
 public:
  explicit SinkLog(LogSink sink) : sink_(std::move(sink)) {}
  void write(LogLevel level, std::string_view component, std::string_view message,
             std::span<const LogField> fields) noexcept override {
    if (!sink_) return;
    try {
      std::string text(component);
      text.append(": ").append(message);
      for (const LogField& field : fields) {
        text.append(" ").append(field.key).append("=").append(printable(field.value));
      }
      sink_(level, text);
    } catch (...) {
      // A log that cannot be written must not end the application.
    }
  }

 private:
  LogSink sink_;
};

}  // namespace umbra
