// SPDX-License-Identifier: Apache-2.0
//
// Drawings in SVG, to be put into an HTML page. Colours come from the page's style sheet (classes
// "ink", "grid", "mark", "series0" to "series5"), so that they follow the reader's light or dark.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace umbra::bench {

/// Text made safe for HTML and SVG.
[[nodiscard]] std::string escaped(const std::string& text);

struct Bar {
  std::string label;
  std::string note{};  // Shown when the pointer rests on it.
  double value = 0;
  std::optional<std::pair<double, double>> bounds{};  // A whisker.
  std::optional<double> target{};                     // A mark across the bar.
  int colour = 0;
};
/// One under the other, on one scale from zero.
[[nodiscard]] std::string bar_plot(const std::vector<Bar>& bars, const std::string& unit);

struct Line {
  std::string name;
  std::vector<std::pair<double, double>> points;
};
struct Axes {
  std::string x;
  std::string y;
  bool logarithmic_x = false;
  bool logarithmic_y = false;
  std::optional<double> mark_x{};  // A line across, with `mark`.
  std::string mark{};
};
[[nodiscard]] std::string line_plot(const std::vector<Line>& lines, const Axes& axes);

}  // namespace umbra::bench
