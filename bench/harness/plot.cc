// SPDX-License-Identifier: Apache-2.0
#include "bench/harness/plot.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace umbra::bench {
namespace {

std::string number(double value) {
  char text[32];
  (void)std::snprintf(text, sizeof text, "%.4g", value);
  return text;
}

std::string at(double value) {
  char text[32];
  (void)std::snprintf(text, sizeof text, "%.1f", value);
  return text;
}

std::string line(double x1, double y1, double x2, double y2, const std::string& kind) {
  return "<line class=\"" + kind + "\" x1=\"" + at(x1) + "\" y1=\"" + at(y1) + "\" x2=\"" + at(x2) +
         "\" y2=\"" + at(y2) + "\"/>\n";
}

std::string text(double x, double y, const std::string& anchor, const std::string& words,
                 const std::string& kind = "ink") {
  return "<text class=\"" + kind + "\" x=\"" + at(x) + "\" y=\"" + at(y) + "\" text-anchor=\"" +
         anchor + "\">" + escaped(words) + "</text>\n";
}

std::string open_svg(double width, double height, const std::string& title) {
  return "<svg viewBox=\"0 0 " + at(width) + " " + at(height) + "\" role=\"img\" aria-label=\"" +
         escaped(title) + "\">\n";
}

// 1, 2 or 5 times a power of ten, about `count` of them up to `most`.
double step_of(double most, int count) {
  const double raw = std::max(most, 1e-12) / count;
  const double power = std::pow(10, std::floor(std::log10(raw)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= raw) return factor * power;
  }
  return 10 * power;
}

// An axis: from values to places, and where its ticks are.
class Scale {
 public:
  Scale(double low, double high, bool logarithmic, double from, double to)
      : logarithmic_(logarithmic && low > 0), from_(from), to_(to) {
    low_ = logarithmic_ ? std::log10(low) : low;
    high_ = logarithmic_ ? std::log10(high) : high;
    if (high_ - low_ < 1e-12) high_ = low_ + 1;
  }
  [[nodiscard]] double place(double value) const {
    const double v = logarithmic_ ? std::log10(std::max(value, 1e-12)) : value;
    return from_ + (v - low_) / (high_ - low_) * (to_ - from_);
  }
  [[nodiscard]] std::vector<double> ticks() const {
    std::vector<double> ticks;
    if (logarithmic_) {
      for (double power = std::floor(low_); power <= std::ceil(high_); ++power) {
        for (const double factor : {1.0, 2.0, 5.0}) {
          const double tick = factor * std::pow(10, power);
          if (std::log10(tick) >= low_ - 1e-9 && std::log10(tick) <= high_ + 1e-9) {
            ticks.push_back(tick);
          }
        }
      }
      return ticks;
    }
    const double step = step_of(high_ - low_, 6);
    for (double tick = std::ceil(low_ / step) * step; tick <= high_ + step * 1e-6; tick += step) {
      ticks.push_back(std::abs(tick) < step * 1e-6 ? 0 : tick);
    }
    return ticks;
  }

 private:
  bool logarithmic_;
  double low_ = 0;
  double high_ = 1;
  double from_;
  double to_;
};

}  // namespace

std::string escaped(const std::string& text) {
  std::string safe;
  for (const char c : text) {
    switch (c) {
      case '&': safe += "&amp;"; break;
      case '<': safe += "&lt;"; break;
      case '>': safe += "&gt;"; break;
      case '"': safe += "&quot;"; break;
      default: safe += c;
    }
  }
  return safe;
}

std::string bar_plot(const std::vector<Bar>& bars, const std::string& unit) {
  constexpr double kLeft = 290;
  constexpr double kRight = 830;
  constexpr double kRow = 30;
  constexpr double kTop = 10;
  double most = 0;
  for (const Bar& bar : bars) {
    most =
        std::max({most, bar.value, bar.target.value_or(0), bar.bounds ? bar.bounds->second : 0.0});
  }
  const double bottom = kTop + kRow * static_cast<double>(bars.size());
  const Scale scale(0, most * 1.02, false, kLeft, kRight);
  std::string svg = open_svg(900, bottom + 44, unit);
  for (const double tick : scale.ticks()) {
    svg += line(scale.place(tick), kTop, scale.place(tick), bottom, "grid");
    svg += text(scale.place(tick), bottom + 16, "middle", number(tick));
  }
  svg += text((kLeft + kRight) / 2, bottom + 36, "middle", unit);
  for (std::size_t i = 0; i < bars.size(); ++i) {
    const Bar& bar = bars[i];
    const double y = kTop + kRow * static_cast<double>(i) + 5;
    svg += text(kLeft - 8, y + 15, "end", bar.label);
    svg += "<rect class=\"fill" + std::to_string(bar.colour) + "\" x=\"" + at(kLeft) + "\" y=\"" +
           at(y) + "\" width=\"" + at(std::max(0.0, scale.place(bar.value) - kLeft)) +
           "\" height=\"20\" rx=\"2\"><title>" + escaped(bar.note) + "</title></rect>\n";
    if (bar.bounds) {
      const double low = scale.place(bar.bounds->first);
      const double high = scale.place(bar.bounds->second);
      svg += line(low, y + 10, high, y + 10, "whisker");
      for (const double end : {low, high}) svg += line(end, y + 5, end, y + 15, "whisker");
    }
    if (bar.target) {
      svg += line(scale.place(*bar.target), y - 4, scale.place(*bar.target), y + 24, "mark");
    }
    svg += text(kRight + 8, y + 15, "start", number(bar.value), "ink figure");
  }
  return svg + "</svg>\n";
}

std::string line_plot(const std::vector<Line>& lines, const Axes& axes) {
  constexpr double kLeft = 80;
  constexpr double kRight = 870;
  constexpr double kTop = 34;
  constexpr double kBottom = 300;
  const double legend_width = lines.size() <= 3 ? 230 : 150;
  double x_low = 0;
  double x_high = 0;
  double y_low = 0;
  double y_high = 0;
  bool any = false;
  for (const Line& one : lines) {
    for (const auto& [x, y] : one.points) {
      x_low = any ? std::min(x_low, x) : x;
      x_high = any ? std::max(x_high, x) : x;
      y_low = any ? std::min(y_low, y) : y;
      y_high = any ? std::max(y_high, y) : y;
      any = true;
    }
  }
  const Scale x_scale(x_low, x_high, axes.logarithmic_x, kLeft, kRight);
  const Scale y_scale(axes.logarithmic_y ? y_low * 0.8 : 0, y_high * 1.1, axes.logarithmic_y,
                      kBottom, kTop);
  std::string svg = open_svg(900, 350, axes.y + " by " + axes.x);
  for (const double tick : y_scale.ticks()) {
    svg += line(kLeft, y_scale.place(tick), kRight, y_scale.place(tick), "grid");
    svg += text(kLeft - 8, y_scale.place(tick) + 4, "end", number(tick));
  }
  for (const double tick : x_scale.ticks()) {
    svg += line(x_scale.place(tick), kBottom, x_scale.place(tick), kBottom + 5, "grid");
    svg += text(x_scale.place(tick), kBottom + 20, "middle", number(tick));
  }
  svg += text((kLeft + kRight) / 2, kBottom + 42, "middle", axes.x);
  svg += text(kLeft, 18, "middle", axes.y);
  if (axes.mark_x) {
    svg += line(x_scale.place(*axes.mark_x), kTop, x_scale.place(*axes.mark_x), kBottom, "mark");
    svg += text(x_scale.place(*axes.mark_x) + 6, kTop + 12, "start", axes.mark);
  }
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const std::string colour = std::to_string(i % 6);
    std::string points;
    for (const auto& [x, y] : lines[i].points) {
      points += at(x_scale.place(x)) + "," + at(y_scale.place(y)) + " ";
    }
    svg += "<polyline class=\"series" + colour + "\" points=\"" + points + "\"/>\n";
    if (lines[i].points.size() <= 12) {
      for (const auto& [x, y] : lines[i].points) {
        svg += "<circle class=\"fill" + colour + "\" cx=\"" + at(x_scale.place(x)) + "\" cy=\"" +
               at(y_scale.place(y)) + "\" r=\"4\"><title>" + number(x) + ": " + number(y) +
               "</title></circle>\n";
      }
    }
    const double legend = kRight - legend_width * static_cast<double>(lines.size() - i);
    svg += line(legend, 14, legend + 20, 14, "series" + colour);
    svg += text(legend + 26, 18, "start", lines[i].name);
  }
  return svg + "</svg>\n";
}

}  // namespace umbra::bench
