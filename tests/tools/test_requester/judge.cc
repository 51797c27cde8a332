// SPDX-License-Identifier: Apache-2.0

#include "tests/tools/test_requester/judge.h"

namespace umbra::test_requester {
namespace {

using Sentences = std::vector<std::string>;

void differ(Sentences& out, const std::string& what, const std::string& wanted,
            const std::string& got) {
  if (wanted != got) out.push_back(what + ": expected " + wanted + ", got " + got);
}

void judge_result(const Plan& plan, const Outcome& outcome, Sentences& out) {
  differ(out, "result", std::string(code_name(plan.result)),
         std::string(code_name(outcome.error.code)) +
             (outcome.error.code == plan.result || outcome.error.code == Errc::ok
                  ? ""
                  : " (" + outcome.failed_at + ": " + outcome.error.context + ")"));
  if (!plan.fails_at.empty() && outcome.error.code == plan.result)
    differ(out, "failing step", plan.fails_at,
           outcome.failed_at.empty() ? "none" : outcome.failed_at);
}

void judge_status(const WriterExpected& wanted, const requester::WriterStatus& got,
                  const std::string& what, Sentences& out) {
  if (wanted.state)
    differ(out, what + " state", std::string(vss_name(*wanted.state)),
           std::string(vss_name(got.state)));
  if (wanted.failure)
    differ(out, what + " failure", std::string(code_name(*wanted.failure)),
           std::string(code_name(got.failure)));
  if (wanted.application_code)
    differ(out, what + " application code", std::to_string(*wanted.application_code),
           std::to_string(got.application_code));
  if (got.message.find(wanted.message) == std::string::npos)
    out.push_back(what + " message: expected '" + wanted.message + "' in '" + got.message + "'");
}

void judge_writer(const WriterExpected& wanted, const Outcome& outcome, Sentences& out) {
  const std::string step = wanted.after.empty() ? outcome.last_step : wanted.after;
  const std::string what = "writer " + wanted.name + " after " + step;
  const auto list = outcome.statuses.find(step);
  if (list == outcome.statuses.end()) {
    out.push_back(what + ": writers were not asked then");
    return;
  }
  bool met = false;
  for (const auto& got : list->second) {
    if (!is_writer(wanted.name, got.name, got.class_id)) continue;
    met = true;
    if (!wanted.absent) judge_status(wanted, got, what, out);
  }
  if (met == wanted.absent) out.push_back(what + (met ? " is listed" : " is in no list"));
}

std::string shown(const std::optional<std::string>& text) {
  return text ? "'" + *text + "'" : "nothing";
}

void judge_component(const ComponentExpected& wanted, const BackupComponent& got,
                     const std::string& what, Sentences& out) {
  const auto text = [&](const char* name, const std::optional<std::string>& want,
                        const std::optional<std::string>& have) {
    if (want && *want != have.value_or("")) differ(out, what + name, shown(want), shown(have));
  };
  text(" stamp", wanted.stamp, got.backup_stamp);
  text(" metadata", wanted.metadata, got.backup_metadata);
  text(" restore metadata", wanted.restore_metadata, got.restore_metadata);
  if (wanted.target && *wanted.target != got.restore_target)
    differ(out, what + " target", std::to_string(static_cast<int>(*wanted.target)),
           std::to_string(static_cast<int>(got.restore_target)));
  if (wanted.partial_files)
    differ(out, what + " partial files", std::to_string(*wanted.partial_files),
           std::to_string(got.partial_files.size()));
  if (wanted.differenced_files)
    differ(out, what + " differenced files", std::to_string(*wanted.differenced_files),
           std::to_string(got.differenced_files.size()));
  const std::string& message = wanted.failure_message.value_or("");
  bool said = !wanted.failure_message;
  for (const auto& one : {got.prepare_for_backup_failure, got.post_snapshot_failure,
                          got.pre_restore_failure, got.post_restore_failure})
    said = said || one == message;
  if (!said) out.push_back(what + " failure message: nobody said '" + message + "'");
}

void judge_document(const ComponentExpected& wanted, const Outcome& outcome, Sentences& out) {
  std::string what = "component " + wanted.writer + ":";
  what += wanted.logical_path.empty() ? wanted.name : wanted.logical_path + "\\" + wanted.name;
  for (const auto& part : outcome.document.writers) {
    const auto name = outcome.names.find(part.class_id);
    if (!is_writer(wanted.writer, name == outcome.names.end() ? "" : name->second, part.class_id))
      continue;
    for (const auto& got : part.components) {
      if (got.logical_path != wanted.logical_path || got.name != wanted.name) continue;
      return judge_component(wanted, got, what, out);
    }
  }
  out.push_back(what + " is not in the document");
}

}  // namespace

bool is_writer(const std::string& wanted, const std::string& name, const WriterClassId& class_id) {
  return wanted == name || wanted == class_id.to_string();
}

std::vector<std::string> judge(const Plan& plan, const Outcome& outcome) {
  Sentences out;
  judge_result(plan, outcome, out);
  for (const auto& wanted : plan.writers) judge_writer(wanted, outcome, out);
  for (const auto& wanted : plan.documents) judge_document(wanted, outcome, out);
  return out;
}

}  // namespace umbra::test_requester
