// SPDX-License-Identifier: Apache-2.0
// umbra trace [SET] [--list] [--perfetto FILE]
#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>
#include <fstream>
#include <map>

#include "requester-sdk/cli/commands.h"
#include "requester-sdk/cli/output_parts.h"

namespace umbra::cli {
namespace {

namespace json = boost::json;
using requester::SetTrace;
using requester::TraceSpan;

std::string outcome_text(const SetTrace& trace) {
  if (!trace.ended) return "not over";
  return trace.code == Errc::async_finished ? "finished" : std::string(code_name(trace.code));
}

json::object span_to_json(const TraceSpan& span) {
  json::value end;
  if (span.ended) end = span.end.count();
  return {{"actor", text_json(span.actor)}, {"what", text_json(span.what)},
          {"begin_us", span.begin.count()}, {"end_us", end},
          {"code", code_text(span.code)},   {"code_name", view_json(code_name(span.code))},
          {"text", text_json(span.text)}};
}

ExitCode list_traces(Service& service, Output& output) {
  const auto traces = service.traces();
  if (!traces) return output.error(traces.error());
  json::array list;
  std::vector<std::vector<std::string>> rows{{"SET ID", "BEGAN", "OUTCOME", "BY"}};
  for (const auto& trace : *traces) {
    list.emplace_back(to_json(trace));
    rows.push_back({trace.set_id.to_string(), time_text(trace.begin_filetime), outcome_text(trace),
                    shown(trace.requester)});
  }
  output.object({{"traces", list}});
  output.table(rows);
  return ExitCode::done;
}

void print(Output& output, const SetTrace& trace) {
  output.line("set " + trace.set_id.to_string() + ", begun " + time_text(trace.begin_filetime) +
              " by " + shown(trace.requester));
  output.line(outcome_text(trace) + (trace.context.empty() ? "" : ": " + shown(trace.context)));
  std::vector<std::vector<std::string>> rows{{"AT", "WHO", "WHAT", "TOOK", "ANSWER"}};
  for (const auto& span : trace.spans) {
    std::string answer = span.ended ? "" : "none";
    if (span.code != Errc::ok) answer = code_name(span.code);
    if (!span.text.empty()) answer += (answer.empty() ? "" : ": ") + shown(span.text);
    rows.push_back({duration_text(span.begin), shown(span.actor), shown(span.what),
                    span.ended ? duration_text(span.end - span.begin) : "-", answer});
  }
  output.table(rows);
  if (trace.dropped > 0) output.line(std::to_string(trace.dropped) + " more were not kept");
}

}  // namespace

json::object to_json(const SetTrace& trace) {
  json::array spans;
  for (const auto& span : trace.spans) spans.emplace_back(span_to_json(span));
  return {{"set_id", id_json(trace.set_id)},
          {"session_id", id_json(trace.session_id)},
          {"requester", text_json(trace.requester)},
          {"began", time_text(trace.begin_filetime)},
          {"ended", trace.ended},
          {"code", code_text(trace.code)},
          {"code_name", view_json(code_name(trace.code))},
          {"context", text_json(trace.context)},
          {"dropped", trace.dropped},
          {"spans", spans}};
}

// The format that Chrome's about:tracing began and Perfetto reads: a row for each who was asked.
// What has no answer lasts to the last thing that is known.
json::object to_perfetto(const SetTrace& trace) {
  std::chrono::microseconds last{0};
  for (const auto& span : trace.spans) last = std::max({last, span.begin, span.end});
  std::map<std::string, int> rows{{"umbrad", 1}, {"requester", 2}};
  json::array events;
  for (const auto& span : trace.spans) {
    const int row = rows.try_emplace(span.actor, static_cast<int>(rows.size()) + 1).first->second;
    const auto end = span.ended ? span.end : last;
    events.emplace_back(
        json::object{{"name", text_json(span.what)},
                     {"cat", "umbra"},
                     {"ph", "X"},
                     {"ts", span.begin.count()},
                     {"dur", (end - span.begin).count()},
                     {"pid", 1},
                     {"tid", row},
                     {"args", json::object{{"answer", span.ended ? view_json(code_name(span.code))
                                                                 : json::string("none")},
                                           {"text", text_json(span.text)}}}});
  }
  for (const auto& [name, row] : rows)
    events.emplace_back(json::object{{"name", "thread_name"},
                                     {"ph", "M"},
                                     {"pid", 1},
                                     {"tid", row},
                                     {"args", json::object{{"name", text_json(name)}}}});
  events.emplace_back(
      json::object{{"name", "process_name"},
                   {"ph", "M"},
                   {"pid", 1},
                   {"args", json::object{{"name", "set " + trace.set_id.to_string()}}}});
  return {{"displayTimeUnit", "ms"}, {"traceEvents", events}};
}

ExitCode trace(Service& service, Output& output, const Trace& arguments) {
  if (arguments.list) return list_traces(service, output);
  const auto found = service.trace(arguments.set);
  if (!found) return output.error(found.error());
  if (!arguments.perfetto.empty()) {
    std::ofstream file(arguments.perfetto, std::ios::trunc);
    file << json::serialize(to_perfetto(*found)) << '\n';
    file.flush();
    if (!file) return output.error({Errc::io_error, arguments.perfetto + " cannot be written"});
    output.note("umbra: wrote " + shown(arguments.perfetto) + "; open it at ui.perfetto.dev");
  }
  output.object(to_json(*found));
  print(output, *found);
  return ExitCode::done;
}

}  // namespace umbra::cli
