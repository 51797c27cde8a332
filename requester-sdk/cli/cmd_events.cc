// SPDX-License-Identifier: Apache-2.0
// umbra list events, umbra events [--follow]
#include <boost/json/array.hpp>
#include <boost/json/value.hpp>
#include <cstdint>

#include "requester-sdk/cli/commands.h"

namespace umbra::cli {
namespace {

constexpr std::chrono::milliseconds kFollowSlice{30'000};

// Everything that is kept, in pages.
Result<std::vector<ProviderEvent>> all_events(Service& service) {
  std::vector<ProviderEvent> all;
  requester::EventQuery query;
  while (all.size() < kEventsKeptMax) {
    auto page = service.events(query);
    if (!page) return fail(page.error());
    if (page->events.empty()) break;
    std::move(page->events.begin(), page->events.end(), std::back_inserter(all));
    query.after = page->next;
  }
  return all;
}

void print(Output& output, const requester::EventPage& page) {
  if (page.lost != 0) {
    output.object({{"lost", page.lost}});
    output.note("umbra: " + std::to_string(page.lost) + " events came and went unseen");
  }
  for (const auto& event : page.events) {
    output.object(to_json(event));
    output.line(event_text(event));
  }
}

}  // namespace

ExitCode list_events(Service& service, Output& output) {
  const auto all = all_events(service);
  if (!all) return output.error(all.error());
  output.object({{"events", list_to_json(*all)}});
  for (const auto& event : *all) output.line(event_text(event));
  return ExitCode::done;
}

ExitCode events(Service& service, Output& output, const Events& arguments) {
  requester::EventQuery query;
  // What is kept was there before: whatever of it is gone was not lost by us.
  for (bool first = true;; first = false) {
    auto page = service.events(query);
    if (!page) return output.error(page.error());
    if (first) page->lost = 0;
    print(output, *page);
    query.after = page->next;
    const bool at_end = page->events.empty();
    if (at_end && !arguments.follow) return ExitCode::done;
    if (at_end) query.time_limit = kFollowSlice;
  }
}

}  // namespace umbra::cli
