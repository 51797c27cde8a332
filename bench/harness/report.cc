// SPDX-License-Identifier: Apache-2.0
#include "bench/harness/report.h"

#include <cstdio>

namespace umbra::bench {

void Report::say(const std::string& line) const {
  (void)std::fprintf(json_ ? stderr : stdout, "%s\n", line.c_str());
  (void)std::fflush(stdout);
}

void Report::add(const Metric& metric) {
  if (json_) {
    (void)std::printf(
        "{\"key\":\"%s\",\"median\":%.6g,\"min\":%.6g,\"max\":%.6g,\"unit\":\"%s\",\"runs\":%zu,"
        "\"beside\":\"%s\",\"digest\":\"%08x\"}\n",
        metric.key.c_str(), metric.value.median, metric.value.min, metric.value.max,
        metric.unit.c_str(), metric.runs, metric.beside.c_str(), metric.digest);
  } else {
    if (!head_printed_) {
      (void)std::printf("%-36s %10s %10s %10s %-6s %4s %9s  %s\n", "key", "median", "min", "max",
                        "unit", "runs", "digest", "beside");
    }
    (void)std::printf("%-36s %10.4g %10.4g %10.4g %-6s %4zu  %08x  %s\n", metric.key.c_str(),
                      metric.value.median, metric.value.min, metric.value.max, metric.unit.c_str(),
                      metric.runs, metric.digest, metric.beside.c_str());
  }
  head_printed_ = true;
  (void)std::fflush(stdout);
}

}  // namespace umbra::bench
