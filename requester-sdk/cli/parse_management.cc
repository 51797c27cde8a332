// SPDX-License-Identifier: Apache-2.0
//
// The syntax of what manages diff areas: shadowstorage, protection, retain, scrub, operations,
// events.
#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>

#include "requester-sdk/cli/parse_parts.h"

namespace umbra::cli {
namespace {

template <class Arguments>
using Command = ExitCode (*)(Service&, Output&, const Arguments&);

template <class Arguments>
void carry_out(Parser& parser, CLI::App* app, const std::shared_ptr<Arguments>& arguments,
               Command<Arguments> command) {
  app->callback([&parser, arguments, command] {
    parser.invocation.command = [arguments, command](Service& service, Output& output) {
      return static_cast<int>(command(service, output, *arguments));
    };
  });
}

CLI::App* add_storage(Parser& parser, CLI::App& parent, const char* text,
                      Command<ShadowStorage> command, bool sized) {
  auto arguments = std::make_shared<ShadowStorage>();
  CLI::App* app = add(parent, "shadowstorage", text);
  const bool list = command == &list_shadowstorage;
  auto* volume = app->add_option("--for", arguments->volume, "The volume that is copied");
  if (!list) volume->required();
  app->add_option("--on", arguments->diff_volume, "What the diff area lies on: any path there");
  if (sized) {
    add_parsed(app, "--max", arguments->maximum, parse_maximum,
               "20G, 10% of what it lies on, or UNBOUNDED (default)");
  }
  if (command == &resize_shadowstorage) {
    app->add_flag("--volatile", arguments->is_volatile, "Only until the volume is attached again");
  }
  if (!list && command != &add_shadowstorage) {
    add_parsed(app, "--timeout", arguments->time_limit, parse_duration,
               "Wait no longer than this; it goes on (1h)");
  }
  if (command == &move_shadowstorage) {
    app->add_option("--to", arguments->destination,
                    "A new or empty file, an empty device, or a directory")
        ->required();
    add_parsed(app, "--rate", arguments->bytes_per_second, parse_bytes,
               "Copy at most this much a second, e.g. 100M; what is written meanwhile on top");
  }
  carry_out(parser, app, arguments, command);
  return app;
}

void add_unused_command(Parser& parser) {
  auto arguments = std::make_shared<UnusedStorage>();
  CLI::App* app = add(*parser.app.get_subcommand("delete"), "unusedstorage",
                      "Delete diff areas whose volume has gone, with their copies");
  app->add_option("--on", arguments->diff_volume, "What they lie on: any path there")->required();
  add_parsed(app, "--timeout", arguments->time_limit, parse_duration,
             "Wait no longer than this; it goes on (1h)");
  carry_out(parser, app, arguments, &delete_unused_storage);
}

void add_storage_commands(Parser& parser) {
  CLI::App* list = parser.app.get_subcommand("list");
  add_storage(parser, *list, "Diff areas: what copies take and may take", &list_shadowstorage,
              false);
  add(*list, "events", "What providers told last")->callback([&parser] {
    parser.invocation.command = [](Service& service, Output& output) {
      return static_cast<int>(list_events(service, output));
    };
  });
  add_storage(parser, *parser.app.get_subcommand("delete"),
              "Forget the maximum of a volume without copies", &delete_shadowstorage, false);
  add_unused_command(parser);
  CLI::App* adding = add(parser.app, "add", "Decide what copies may take");
  adding->require_subcommand(1);
  add_storage(parser, *adding, "Set the maximum of a volume without copies", &add_shadowstorage,
              true);
  CLI::App* resizing = add(parser.app, "resize", "Change what copies may take");
  resizing->require_subcommand(1);
  add_storage(parser, *resizing, "Change the maximum; the oldest copies go if they must",
              &resize_shadowstorage, true);
  CLI::App* moving = add(parser.app, "move", "Keep copies in another place");
  moving->require_subcommand(1);
  add_storage(parser, *moving, "Move a diff area with its copies; the volume stays in use",
              &move_shadowstorage, false);
}

std::optional<Protection::Action> parse_action(const std::vector<std::string>& words) {
  using Action = Protection::Action;
  using Words = std::vector<std::string>;
  if (words.empty() || words == Words{"show"}) return Action::show;
  if (words == Words{"clear"}) return Action::clear;
  if (words == Words{"set", "snapshot"}) return Action::set_snapshot;
  if (words == Words{"set", "original"}) return Action::set_original;
  return std::nullopt;
}

void add_protection_command(Parser& parser) {
  auto arguments = std::make_shared<Protection>();
  auto action = std::make_shared<std::vector<std::string>>();
  CLI::App* app = add(parser.app, "protection", "Who gives way when a copy cannot be kept");
  app->add_option("volume", arguments->volume, "Name, id, device, or a path on it")->required();
  app->add_option("action", *action, "show (default), set snapshot, set original, clear");
  add_parsed(app, "--timeout", arguments->time_limit, parse_duration,
             "clear: wait no longer than this; it goes on (1h)");
  app->callback([&parser, arguments, action] {
    const auto wanted = parse_action(*action);
    if (!wanted) {
      throw CLI::ValidationError("action", "show, set snapshot, set original, or clear");
    }
    arguments->action = *wanted;
    parser.invocation.command = [arguments](Service& service, Output& output) {
      return static_cast<int>(protection(service, output, *arguments));
    };
  });
}

void add_other_commands(Parser& parser) {
  auto keeping = std::make_shared<Retain>();
  CLI::App* retain_app = add(parser.app, "retain", "Lock a copy against deletion for a time");
  add_parsed(retain_app, "snapshot", keeping->snapshot, parse_id<SnapshotId>, "The snapshot's id");
  retain_app->get_option("snapshot")->required();
  auto* how_long = retain_app->add_option_group("how long");
  how_long->require_option(1);
  add_parsed(how_long, "--until", keeping->until_filetime, parse_time,
             "UTC: 2027-01-31 or 2027-01-31T23:59:59Z");
  add_parsed(how_long, "--for", keeping->term, parse_term, "From now: 12h, 30d, 7y");
  carry_out(parser, retain_app, keeping, &retain);

  auto scrubbing = std::make_shared<Scrub>();
  CLI::App* scrub_app =
      add(parser.app, "scrub", "Verify everything that a volume's copies need, while it is in use");
  scrub_app->add_option("volume", scrubbing->volume, "Name, id, device, or a path on it")
      ->required();
  add_parsed(scrub_app, "--rate", scrubbing->bytes_per_second, parse_bytes,
             "Read at most this much a second, e.g. 100M");
  auto* wait = scrub_app->add_flag("--wait", scrubbing->wait, "Wait for its end (default)");
  scrub_app->add_flag("--background", scrubbing->background, "Begin it, and do not wait")
      ->excludes(wait);
  add_parsed(scrub_app, "--timeout", scrubbing->time_limit, parse_duration,
             "Wait no longer than this; it goes on (7d)");
  carry_out(parser, scrub_app, scrubbing, &scrub);

  auto operating = std::make_shared<Operations>();
  CLI::App* app = add(parser.app, "operations", "Long calls to the provider: list, wait, cancel");
  auto* what = app->add_option_group("what");
  what->require_option(0, 1);
  add_parsed(what, "--wait", operating->wait, parse_id<OperationId>, "Until this one has ended");
  add_parsed(what, "--cancel", operating->cancel, parse_id<OperationId>, "Ask this one to stop");
  add_parsed(app, "--timeout", operating->time_limit, parse_duration,
             "--wait: no longer than this (1h)");
  carry_out(parser, app, operating, &operations);

  auto watching = std::make_shared<Events>();
  CLI::App* events_app = add(parser.app, "events", "What providers tell, one line each");
  events_app->add_flag("--follow", watching->follow, "Go on until interrupted");
  carry_out(parser, events_app, watching, &events);
}

}  // namespace

void add_management_commands(Parser& parser) {
  add_storage_commands(parser);
  add_protection_command(parser);
  add_other_commands(parser);
}

std::optional<MaximumSize> parse_maximum(const std::string& text) {
  std::string upper = text;
  std::transform(upper.begin(), upper.end(), upper.begin(),
                 [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; });
  if (upper == "UNBOUNDED") return MaximumSize{};
  if (!text.empty() && text.back() == '%') {
    std::uint64_t percent = 0;
    const char* end = text.data() + text.size() - 1;
    const auto [rest, error] = std::from_chars(text.data(), end, percent);
    if (error != std::errc{} || rest != end || percent < 1 || percent > 100) return std::nullopt;
    return MaximumSize{MaximumSize::Unit::percent, percent};
  }
  const auto bytes = parse_bytes(text);
  if (!bytes || *bytes == 0 || *bytes >= std::uint64_t{1} << 63U) return std::nullopt;
  return MaximumSize{MaximumSize::Unit::bytes, *bytes};
}

std::optional<std::chrono::seconds> parse_term(const std::string& text) {
  constexpr std::uint64_t kDay = 24ULL * 3600;
  constexpr std::uint64_t kTermMax = 100 * 365 * kDay;
  std::uint64_t count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  const std::string unit(end, text.data() + text.size());
  const std::uint64_t factor = unit == "s" || unit.empty() ? 1
                               : unit == "m"               ? 60
                               : unit == "h"               ? 3'600
                               : unit == "d"               ? kDay
                               : unit == "y"               ? 365 * kDay
                                                           : 0;
  if (error != std::errc{} || factor == 0 || count == 0 || count > kTermMax / factor) {
    return std::nullopt;
  }
  return std::chrono::seconds{count * factor};
}

std::optional<std::int64_t> parse_time(const std::string& text) {
  constexpr std::chrono::seconds kFrom1601To1970{11'644'473'600};
  constexpr std::int64_t kTicksPerSecond = 10'000'000;
  // The shape first: numbers stand at fixed places.
  const std::string shape = "dddd-dd-ddTdd:dd:ddZ";
  if (text.size() != 10 && text.size() != shape.size()) return std::nullopt;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool digit = text[i] >= '0' && text[i] <= '9';
    if (shape[i] == 'd' ? !digit : text[i] != shape[i]) return std::nullopt;
  }
  const auto number = [&](std::size_t at, std::size_t digits) {
    int value = 0;
    for (std::size_t i = 0; i < digits && at + i < text.size(); ++i) {
      value = value * 10 + (text[at + i] - '0');
    }
    return value;
  };
  const std::chrono::year_month_day date{std::chrono::year{number(0, 4)},
                                         std::chrono::month{static_cast<unsigned>(number(5, 2))},
                                         std::chrono::day{static_cast<unsigned>(number(8, 2))}};
  const int hour = number(11, 2);
  const int minute = number(14, 2);
  const int second = number(17, 2);
  if (!date.ok() || date.year() < std::chrono::year{1970} || hour > 23 || minute > 59 ||
      second > 59) {
    return std::nullopt;
  }
  const auto time = std::chrono::sys_days{date} + std::chrono::hours{hour} +
                    std::chrono::minutes{minute} + std::chrono::seconds{second};
  const std::chrono::seconds since = time.time_since_epoch() + kFrom1601To1970;
  return since.count() * kTicksPerSecond;
}

}  // namespace umbra::cli
