// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Where an SDK's log goes: to the program that it is a part of, and nowhere else.

#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

namespace umbra {

/// error: somebody must act; warning: it was coped with, and somebody should know; info: life cycle
/// and phases; debug: the rest. In ascending order.
enum class LogLevel : std::uint8_t { debug = 0, info = 1, warning = 2, error = 3 };

/// Receives one line without its end; the view is valid during the call. Called from the SDK's
/// threads, also from several at once; what it throws is dropped, with the line.
using LogSink = std::function<void(LogLevel level, std::string_view text)>;

}  // namespace umbra
