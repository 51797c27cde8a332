// SPDX-License-Identifier: Apache-2.0
#include "bench/harness/scenario.h"

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>
#include <cmath>
#include <cstdio>

namespace umbra::bench {
namespace {

namespace json = boost::json;

// Five digits: what more there would be is noise.
json::value number(double value) {
  if (!std::isfinite(value)) return nullptr;
  char text[32];
  (void)std::snprintf(text, sizeof text, "%.5g", value);
  return std::strtod(text, nullptr);
}

void add_figures(json::object& object, const std::vector<double>& values) {
  const Summary summary = summarise(values);
  const auto bounds = median_bounds(values);
  object["median"] = number(summary.median);
  object["min"] = number(summary.min);
  object["max"] = number(summary.max);
  object["low"] = bounds ? number(bounds->low) : json::value(nullptr);
  object["high"] = bounds ? number(bounds->high) : json::value(nullptr);
  object["reps"] = values.size();
}

json::object object_of(const Latency& latency) {
  return {{"of", latency.of},
          {"p50_us", number(latency.p50)},
          {"p99_us", number(latency.p99)},
          {"p99.9_us", number(latency.p999)}};
}

json::object object_of(const Beside& beside) {
  json::object object{{"name", beside.name}};
  add_figures(object, beside.values);
  if (!beside.baseline.empty()) object["baseline"] = beside.baseline;
  return object;
}

json::object object_of(const Series& series) {
  json::array points;
  for (const auto& [x, y] : series.points) points.push_back({number(x), number(y)});
  return {{"name", series.name}, {"x", series.x}, {"y", series.y}, {"points", std::move(points)}};
}

template <class T>
json::array array_of(const std::vector<T>& values) {
  json::array array;
  for (const auto& value : values) array.push_back(object_of(value));
  return array;
}

std::string figure(double value) {
  char text[32];
  (void)std::snprintf(text, sizeof text, "%.4g", value);
  return text;
}

std::string target_text(const Target& target) {
  return (target.at_least ? ">= " : "<= ") + figure(target.value);
}

std::string figures_text(const std::vector<double>& values) {
  const Summary summary = summarise(values);
  const auto bounds = median_bounds(values);
  return figure(summary.median) + "  [" + figure(summary.min) + " .. " + figure(summary.max) +
         "], of the median " +
         (bounds ? figure(bounds->low) + " .. " + figure(bounds->high) : "nothing sure") + ", " +
         std::to_string(values.size()) + " runs";
}

}  // namespace

std::optional<bool> is_met(const Scenario& scenario, const Outcome& outcome) {
  if (!scenario.target || outcome.values.empty()) return std::nullopt;
  const auto bounds = median_bounds(outcome.values);
  if (!bounds) return false;
  return scenario.target->at_least ? bounds->low >= scenario.target->value
                                   : bounds->high <= scenario.target->value;
}

std::string to_json(const Scenario& scenario, const Outcome& outcome, const RunOptions& options) {
  json::object object{{"key", scenario.key}, {"unit", scenario.unit}};
  if (outcome.values.empty()) {
    for (const char* none : {"median", "min", "max", "low", "high"}) object[none] = nullptr;
    object["reps"] = 0;
  } else {
    add_figures(object, outcome.values);
  }
  object["target"] =
      scenario.target ? json::value(number(scenario.target->value)) : json::value(nullptr);
  if (scenario.target) object["better"] = scenario.target->at_least ? "more" : "less";
  const auto met = is_met(scenario, outcome);
  object["met"] = met ? json::value(*met) : json::value(nullptr);
  object["baseline"] = outcome.baseline;
  object["medium"] = outcome.medium;
  if (outcome.values.empty()) object["skipped"] = outcome.skipped;
  object["bound"] = "one-sided 95 % each, order statistics";
  object["smoke"] = options.smoke;
  object["seed"] = options.seed;
  char digest[16];
  (void)std::snprintf(digest, sizeof digest, "%08x", outcome.digest);
  object["digest"] = digest;
  if (!outcome.latencies.empty()) object["latency"] = array_of(outcome.latencies);
  if (!outcome.beside.empty()) object["beside"] = array_of(outcome.beside);
  if (!outcome.series.empty()) object["series"] = array_of(outcome.series);
  return json::serialize(object);
}

std::string to_json(const MachineCard& card) {
  return json::serialize(json::object{{"machine", json::object{{"cpu", card.cpu},
                                                               {"cores", card.cores},
                                                               {"memory_bytes", card.memory_bytes},
                                                               {"kernel", card.kernel},
                                                               {"medium", card.file_system},
                                                               {"commit", card.commit},
                                                               {"compiler", card.compiler},
                                                               {"load", number(card.load)}}}});
}

std::string to_text(const Scenario& scenario, const Outcome& outcome) {
  if (outcome.values.empty()) return scenario.key + ": skipped, " + outcome.skipped + "\n";
  std::string text = scenario.key + " (" + scenario.unit + ")  " + figures_text(outcome.values);
  if (scenario.target) {
    text += "; target " + target_text(*scenario.target) +
            (*is_met(scenario, outcome) ? ": met" : ": NOT met");
  }
  text += "\n    beside " + outcome.baseline + "; " + outcome.medium + "\n";
  for (const auto& beside : outcome.beside) {
    text += "    " + beside.name + ": " + figures_text(beside.values) +
            (beside.baseline.empty() ? "" : "; beside " + beside.baseline) + "\n";
  }
  for (const auto& latency : outcome.latencies) {
    text += "    latency of " + latency.of + ": p50 " + figure(latency.p50) + ", p99 " +
            figure(latency.p99) + ", p99.9 " + figure(latency.p999) + " us\n";
  }
  return text;
}

std::string to_text(const MachineCard& card) {
  return card.cpu + ", " + std::to_string(card.cores) + " cores, " +
         std::to_string(card.memory_bytes >> 30U) + " GiB; " + card.kernel + "; " +
         card.file_system + "; commit " + card.commit + "; " + card.compiler + "; load " +
         figure(card.load) + "\n";
}

}  // namespace umbra::bench
