// SPDX-License-Identifier: Apache-2.0
#include "bench/harness/page.h"

#include <algorithm>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/value_to.hpp>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <optional>
#include <vector>

#include "bench/harness/plot.h"

namespace umbra::bench {
namespace {

namespace json = boost::json;

constexpr const char* kStyle = R"(
:root { color-scheme: light dark; --ink:#1c2330; --soft:#5b6472; --back:#ffffff; --card:#f5f6f8;
  --grid:#dfe3e8; --mark:#b3261e; --good:#1b7f4b; --bad:#b3261e;
  --c0:#2f5fd0; --c1:#d9822b; --c2:#8a5fbf; --c3:#2a9d8f; --c4:#7a8594; --c5:#c2557a; }
@media (prefers-color-scheme: dark) { :root { --ink:#e6e9ee; --soft:#9aa4b2; --back:#14181f;
  --card:#1d232c; --grid:#333b47; --mark:#ff8a80; --good:#5fd39a; --bad:#ff8a80;
  --c0:#7ea3ff; --c4:#8f9aab; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back);
  max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.8rem; margin-bottom: .2rem; } h2 { margin-top: 2.5rem; font-size: 1.25rem; }
p.soft, td.soft, figcaption { color: var(--soft); }
section, figure { margin: 1rem 0; } svg { width: 100%; height: auto; background: var(--card);
  border-radius: 8px; padding: .5rem; box-sizing: border-box; }
svg text { font: 13px system-ui, sans-serif; fill: var(--ink); }
svg text.figure { font-weight: 600; }
.grid { stroke: var(--grid); } .mark { stroke: var(--mark); stroke-width: 2.5; }
.whisker { stroke: var(--ink); stroke-width: 1.5; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; } .wide { overflow-x: auto; }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid var(--grid);
  vertical-align: top; } td.n { text-align: right; font-variant-numeric: tabular-nums; }
code { font-size: .92em; } .good { color: var(--good); font-weight: 600; }
.bad { color: var(--bad); font-weight: 600; }
.warning { border-left: 4px solid var(--bad); padding: .3rem .8rem; background: var(--card); }
)";

struct Growth {
  const char* key;
  const char* title;
  const char* x;
};
constexpr Growth kGrowth[] = {
    {"first_write_by_volume_size", "Cost against the volume's size", "volume, MiB"},
    {"first_write_by_chunk", "Cost against the chunk", "chunk, KiB"},
    {"first_write_by_depth", "Cost against the requests in flight", "requests in flight"},
};

std::string text_of(const json::object& object, const char* name) {
  const auto* value = object.if_contains(name);
  return value != nullptr && value->is_string() ? std::string(value->as_string()) : std::string();
}

std::optional<double> number_of(const json::object& object, const char* name) {
  const auto* value = object.if_contains(name);
  if (value == nullptr || !value->is_number()) return std::nullopt;
  return value->to_number<double>();
}

bool flag_of(const json::object& object, const char* name) {
  const auto* value = object.if_contains(name);
  return value != nullptr && value->is_bool() && value->as_bool();
}

const json::array& array_of(const json::object& object, const char* name) {
  static const json::array none;
  const auto* value = object.if_contains(name);
  return value != nullptr && value->is_array() ? value->as_array() : none;
}

std::string figure(std::optional<double> value) {
  if (!value) return "&ndash;";
  char text[32];
  (void)std::snprintf(text, sizeof text, "%.4g", *value);
  return text;
}

std::string colours() {
  std::string css;
  for (int i = 0; i < 6; ++i) {
    const std::string n = std::to_string(i);
    css += ".fill" + n + " { fill: var(--c" + n + "); }\n.series" + n + " { stroke: var(--c" + n +
           "); stroke-width: 2; fill: none; }\n";
  }
  return css;
}

Bar bar_of(const json::object& object, const std::string& label, int colour) {
  Bar bar;
  bar.label = label;
  bar.value = number_of(object, "median").value_or(0);
  const auto low = number_of(object, "low");
  const auto high = number_of(object, "high");
  if (low && high) bar.bounds = {*low, *high};
  bar.target = number_of(object, "target");
  bar.note = text_of(object, "baseline");
  bar.colour = colour;
  return bar;
}

bool is_rival(const std::string& key) {
  for (const char* rival : {"qemu", "nbdkit", "qcow2", "xfs", "btrfs", "dm_"}) {
    if (key.find(rival) != std::string::npos) return true;
  }
  return false;
}

std::string met_text(const json::object& object) {
  const auto* met = object.if_contains("met");
  if (met == nullptr || !met->is_bool()) return "&ndash;";
  return met->as_bool() ? "<span class=\"good\">met</span>" : "<span class=\"bad\">not met</span>";
}

std::string figure_of(const std::string& svg, const std::string& caption) {
  return "<figure>" + svg + "<figcaption>" + caption + "</figcaption></figure>\n";
}

}  // namespace

struct Page::Lines {
  std::vector<std::string> order;
  std::map<std::string, json::object> keys;
  std::vector<json::object> machines;
  std::optional<json::object> soak;

  [[nodiscard]] std::vector<const json::object*> measured() const {
    std::vector<const json::object*> found;
    for (const auto& key : order) {
      const auto& object = keys.at(key);
      if (number_of(object, "median")) found.push_back(&object);
    }
    return found;
  }

  [[nodiscard]] std::string machine_section() const {
    std::string html;
    std::vector<std::string> seen;
    for (const auto& machine : machines) {
      const std::string memory =
          std::to_string(static_cast<long>(number_of(machine, "memory_bytes").value_or(0)) >> 30);
      const std::string line = escaped(text_of(machine, "cpu")) + ", " +
                               figure(number_of(machine, "cores")) + " cores, " + memory +
                               " GiB memory; " + escaped(text_of(machine, "kernel")) + "; " +
                               escaped(text_of(machine, "medium")) + "; commit <code>" +
                               escaped(text_of(machine, "commit")) + "</code>, " +
                               escaped(text_of(machine, "compiler")) + "; load at the start " +
                               figure(number_of(machine, "load"));
      if (std::find(seen.begin(), seen.end(), line) != seen.end()) continue;
      seen.push_back(line);
      html += "<p class=\"soft\">" + line + "</p>\n";
    }
    return html;
  }

  [[nodiscard]] std::string bars_section() const {
    std::vector<Bar> own;
    std::vector<Bar> rivals;
    for (const json::object* object : measured()) {
      const std::string key = text_of(*object, "key");
      if (text_of(*object, "unit") != "ratio" || key == "latency_across_snapshot" ||
          key.find("_by_") != std::string::npos) {
        continue;
      }
      if (is_rival(key)) {
        rivals.push_back(bar_of(*object, key, 1));
      } else {
        own.push_back(bar_of(*object, key, 0));
      }
    }
    std::string html;
    if (!own.empty()) {
      html += "<h2>What a snapshot costs</h2>\n" +
              figure_of(bar_plot(own, "speed beside the same server without it; 1 = costs nothing"),
                        "Bars: medians of interleaved pairs. Whiskers: 95 % bounds of the median. "
                        "Red: the target.");
    }
    if (!rivals.empty()) {
      html += "<h2>Beside the rivals</h2>\n" +
              figure_of(bar_plot(rivals, "times as fast as the rival, same work, same client"),
                        "Each rival runs on the same medium in the same run. Red: the target.");
    }
    return html;
  }

  [[nodiscard]] static std::vector<Line> lines_of(const json::object& object) {
    std::vector<Line> lines;
    for (const auto& one : array_of(object, "series")) {
      if (!one.is_object()) continue;
      Line line{text_of(one.as_object(), "name"), {}};
      for (const auto& point : array_of(one.as_object(), "points")) {
        if (!point.is_array() || point.as_array().size() != 2) continue;
        const auto& pair = point.as_array();
        if (!pair[0].is_number() || !pair[1].is_number()) continue;
        line.points.emplace_back(pair[0].to_number<double>(), pair[1].to_number<double>());
      }
      lines.push_back(std::move(line));
    }
    return lines;
  }

  [[nodiscard]] std::string plot_of(const std::string& key, const std::string& title,
                                    const Axes& axes, const std::string& caption) const {
    const auto found = keys.find(key);
    if (found == keys.end()) return {};
    const std::vector<Line> lines = lines_of(found->second);
    if (lines.empty()) return {};
    return "<h2>" + title + "</h2>\n" +
           figure_of(line_plot(lines, axes),
                     caption + " " + escaped(text_of(found->second, "baseline")) + ".");
  }

  // Of keys that end in their number: "snapshot_create_ms_64".
  [[nodiscard]] std::string life_plot() const {
    std::vector<Line> lines{{"making", {}}, {"deleting", {}}};
    const char* const stems[] = {"snapshot_create_ms_", "snapshot_delete_ms_"};
    for (std::size_t i = 0; i < lines.size(); ++i) {
      const std::string stem = stems[i];
      for (const json::object* object : measured()) {
        const std::string key = text_of(*object, "key");
        if (key.rfind(stem, 0) != 0) continue;
        const double count = std::strtod(key.c_str() + stem.size(), nullptr);
        lines[i].points.emplace_back(count, *number_of(*object, "median"));
      }
      std::sort(lines[i].points.begin(), lines[i].points.end());
    }
    if (lines[0].points.empty() && lines[1].points.empty()) return {};
    return "<h2>Making and deleting a snapshot</h2>\n" +
           figure_of(line_plot(lines, {"snapshots on the volume", "ms", true, true, {}, ""}),
                     "The whole call as a requester sees it, its session included.");
  }

  [[nodiscard]] std::string table_section() const {
    std::string html =
        "<h2>All figures</h2>\n<div class=\"wide\"><table><tr><th>Key</th><th>Median</th>"
        "<th>Bounds</th><th>Least, greatest</th><th>Runs</th><th>Target</th><th></th>"
        "<th>Beside</th></tr>\n";
    for (const auto& key : order) {
      const auto& object = keys.at(key);
      html += "<tr><td><code>" + escaped(key) + "</code></td>";
      if (!number_of(object, "median")) {
        html += "<td colspan=\"7\" class=\"soft\">skipped: " + escaped(text_of(object, "skipped")) +
                "</td></tr>\n";
        continue;
      }
      const auto target = number_of(object, "target");
      const std::string sign = text_of(object, "better") == "less" ? "&le; " : "&ge; ";
      html += "<td class=\"n\">" + figure(number_of(object, "median")) + " " +
              escaped(text_of(object, "unit")) + "</td><td class=\"n\">" +
              figure(number_of(object, "low")) + " &hellip; " + figure(number_of(object, "high")) +
              "</td><td class=\"n\">" + figure(number_of(object, "min")) + ", " +
              figure(number_of(object, "max")) + "</td><td class=\"n\">" +
              figure(number_of(object, "reps")) + "</td><td class=\"n\">" +
              (target ? sign + figure(target) : "") + "</td><td>" + met_text(object) +
              "</td><td class=\"soft\">" + escaped(text_of(object, "baseline")) + "; " +
              escaped(text_of(object, "medium")) + "</td></tr>\n";
    }
    return html + "</table></div>\n";
  }

  [[nodiscard]] std::string soak_section() const {
    if (!soak) return {};
    const std::string seconds = figure(number_of(*soak, "seconds"));
    std::string html = "<h2>A long run</h2>\n<p class=\"soft\">" + seconds +
                       " s of everything mixed, every byte compared; " +
                       escaped(text_of(*soak, "medium")) + ".</p>\n";
    if (flag_of(*soak, "smoke")) {
      html += "<p class=\"warning\">Made with --smoke: these figures mean nothing.</p>\n";
    }
    html +=
        "<div class=\"wide\"><table><tr><th></th><th>First quarter</th><th>Last quarter</th>"
        "<th>Per hour</th><th></th></tr>\n";
    for (const auto& one : array_of(*soak, "drift")) {
      if (!one.is_object()) continue;
      const auto& drift = one.as_object();
      html += "<tr><td>" + escaped(text_of(drift, "of")) + "</td><td class=\"n\">" +
              figure(number_of(drift, "first_quarter")) + "</td><td class=\"n\">" +
              figure(number_of(drift, "last_quarter")) + "</td><td class=\"n\">" +
              figure(number_of(drift, "slope_per_hour")) + "</td><td>" +
              escaped(text_of(drift, "unit")) + "</td></tr>\n";
    }
    html += "</table></div>\n";
    const std::vector<Line> lines = lines_of(*soak);
    for (const char* what : {"memory", "descriptors", "latency"}) {
      std::vector<Line> some;
      for (const Line& line : lines) {
        if (line.name.find(what) != std::string::npos) some.push_back(line);
      }
      const std::string unit = what == std::string("memory")    ? "MiB"
                               : what == std::string("latency") ? "us"
                                                                : what;
      if (some.empty()) continue;
      html += figure_of(line_plot(some, {"seconds", unit, false, false, std::nullopt, ""}),
                        std::string(what) + " along the run");
    }
    return html;
  }

  [[nodiscard]] std::string latency_section() const {
    std::string rows;
    for (const json::object* object : measured()) {
      for (const auto& one : array_of(*object, "latency")) {
        if (!one.is_object()) continue;
        const auto& latency = one.as_object();
        rows += "<tr><td><code>" + escaped(text_of(*object, "key")) + "</code></td><td>" +
                escaped(text_of(latency, "of")) + "</td><td class=\"n\">" +
                figure(number_of(latency, "p50_us")) + "</td><td class=\"n\">" +
                figure(number_of(latency, "p99_us")) + "</td><td class=\"n\">" +
                figure(number_of(latency, "p99.9_us")) + "</td></tr>\n";
      }
    }
    if (rows.empty()) return {};
    return "<h2>Latency of single requests, in microseconds</h2>\n<div class=\"wide\"><table><tr>"
           "<th>Key</th><th>Of</th><th>p50</th><th>p99</th><th>p99.9</th></tr>\n" +
           rows + "</table></div>\n";
  }
};

Page::Page() : lines_(std::make_unique<Lines>()) {}
Page::~Page() = default;

Status Page::add(std::istream& in, const std::string& name) {
  std::size_t number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    if (line.empty()) continue;
    boost::system::error_code error;
    const json::value value = json::parse(line, error);
    if (error || !value.is_object()) {
      return fail(Errc::invalid_argument, name + ", line " + std::to_string(number) +
                                              ": no JSON object; give it what `umbra-bench run "
                                              "--json` printed");
    }
    const auto& object = value.as_object();
    if (const auto* machine = object.if_contains("machine"); machine && machine->is_object()) {
      lines_->machines.push_back(machine->as_object());
      continue;
    }
    if (const auto* soak = object.if_contains("soak"); soak && soak->is_object()) {
      lines_->soak = soak->as_object();
      continue;
    }
    const std::string key = text_of(object, "key");
    if (key.empty()) continue;
    if (lines_->keys.insert_or_assign(key, object).second) lines_->order.push_back(key);
  }
  return {};
}

Result<std::string> Page::html() const {
  if (lines_->order.empty() && !lines_->soak) {
    return fail(Errc::invalid_argument, "there is no key in what was given");
  }
  const auto measured = lines_->measured();
  const bool is_smoke = std::any_of(measured.begin(), measured.end(),
                                    [](const json::object* one) { return flag_of(*one, "smoke"); });
  Axes across{"seconds since the snapshot", "us", false, true, 0.0, "snapshot"};
  Axes snapshots{"snapshots on the volume", "speed", true, false, std::nullopt, ""};
  Axes writers{"writers", "ms", true, false, std::nullopt, ""};
  std::string html =
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">"
      "<title>Umbra: measured</title><style>" +
      std::string(kStyle) + colours() + "</style></head><body>\n<h1>Umbra, measured</h1>\n" +
      "<p>Snapshots of a plain volume, in userspace: what they cost, beside the same server "
      "without "
      "them and beside others, in interleaved runs on one machine. Everything that was read back "
      "was compared with what had been written.</p>\n" +
      lines_->machine_section();
  if (is_smoke) {
    html +=
        "<p class=\"warning\">Made with --smoke: these sizes show that everything runs. The "
        "figures mean nothing.</p>\n";
  }
  html += lines_->bars_section();
  html += lines_->plot_of("latency_across_snapshot", "Latency across a snapshot", across,
                          "16 KiB random writes, 16 in flight; a snapshot is taken at 0.");
  html += lines_->plot_of("first_write_512_vs_1", "Cost against the number of snapshots", snapshots,
                          "First writes, each beside a volume with one snapshot.");
  html += lines_->life_plot();
  for (const auto& [key, title, x] : kGrowth) {
    html += lines_->plot_of(key, title, {x, "us", true, true, std::nullopt, ""},
                            "Microseconds of each 4 KiB write under a new snapshot, and without.");
  }
  html += lines_->plot_of("create_ms_freeze_to_thaw", "Freeze to thaw", writers,
                          "From the first writer's Freeze to the last one's Thaw.");
  html += lines_->soak_section();
  if (!lines_->order.empty()) html += lines_->table_section() + lines_->latency_section();
  return html + "</body></html>\n";
}

}  // namespace umbra::bench
