// SPDX-License-Identifier: Apache-2.0
//
// What umbra-bench prints: one line per metric, for people or (`json`) one JSON object per line.
#pragma once

#include <cstdint>
#include <string>

#include "bench/harness/pairs.h"

namespace umbra::bench {

struct Metric {
  std::string key;
  Summary value;
  std::string unit;  // "ratio", "ns", "bytes", "s".
  std::size_t runs = 0;
  std::string beside;  // What a figure is to be read beside; empty for a ratio, which has it in it.
  std::uint32_t digest = 0;  // Of the data that was read back and found right.
};

class Report {
 public:
  explicit Report(bool json) noexcept : json_(json) {}
  /// Medium and sizes: stated before any figure.
  void say(const std::string& line) const;
  void add(const Metric& metric);

 private:
  bool json_;
  bool head_printed_ = false;
};

}  // namespace umbra::bench
