// SPDX-License-Identifier: Apache-2.0
// umbra operations [--wait ID | --cancel ID]
#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/value.hpp>

#include "requester-sdk/cli/commands.h"

namespace umbra::cli {
namespace {

constexpr std::chrono::milliseconds kProgressSlice{500};

std::string progress_text(const OperationInfo& operation) {
  if (operation.status != Errc::async_pending) return std::string(code_name(operation.status));
  std::string text = operation.cancelling ? "is being cancelled" : shown(operation.text);
  if (text.empty()) text = "running";
  if (operation.total != 0) {
    const double part = static_cast<double>(operation.done) / static_cast<double>(operation.total);
    text += ", " + std::to_string(static_cast<int>(std::min(part, 1.0) * 100)) + " %";
  }
  return text;
}

}  // namespace

Result<OperationInfo> wait_for(Service& service, Output& output, const OperationId& operation,
                               std::chrono::milliseconds limit) {
  auto info = wait_for_end(service, output, operation, limit);
  if (!info || info->status == Errc::async_finished) return info;
  return fail(info->status, info->kind + " of '" + info->subject + "': " + info->context);
}

Result<OperationInfo> wait_for_end(Service& service, Output& output, const OperationId& operation,
                                   std::chrono::milliseconds limit) {
  for (std::chrono::milliseconds waited{0};; waited += kProgressSlice) {
    auto info = service.wait_operation(operation, std::min(kProgressSlice, limit));
    if (!info) return fail(info.error());
    if (info->status != Errc::async_pending) {
      output.end_progress();
      return info;
    }
    if (waited >= limit) {
      output.end_progress();
      return fail(Errc::async_pending, "it goes on; `umbra operations --wait " +
                                           operation.to_string() + "` waits for it");
    }
    const std::string text = progress_text(*info);
    output.progress({.operation = info->kind, .phase = text, .elapsed = waited});
  }
}

ExitCode operations(Service& service, Output& output, const Operations& arguments) {
  if (arguments.cancel) {
    const auto info = service.cancel_operation(*arguments.cancel);
    if (!info) return output.error(info.error());
    output.object(to_json(*info));
    output.line(info->status == Errc::async_pending ? "asked to stop at the next safe place"
                                                    : "it had ended before");
    return ExitCode::done;
  }
  if (arguments.wait) {
    const auto info = wait_for(service, output, *arguments.wait, arguments.time_limit);
    if (!info) return output.error(info.error());
    output.object(to_json(*info));
    output.line(shown(info->kind) + " of " + shown(info->subject) + " has finished");
    for (const auto& fact : info->facts) {
      output.line("  " + shown(fact.name) + "  " + shown(fact.value));
    }
    return ExitCode::done;
  }
  const auto list = service.operations();
  if (!list) return output.error(list.error());
  output.object({{"operations", list_to_json(*list)}});
  std::vector<std::vector<std::string>> rows{{"KIND", "SUBJECT", "BEGUN", "STATE", "OPERATION ID"}};
  for (const auto& operation : *list) {
    rows.push_back({shown(operation.kind), shown(operation.subject),
                    time_text(operation.begun_filetime), progress_text(operation),
                    operation.operation_id.to_string()});
  }
  output.table(rows);
  return ExitCode::done;
}

}  // namespace umbra::cli
