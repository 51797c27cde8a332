// SPDX-License-Identifier: Apache-2.0
//
// What came of a plan, and whether it is what was expected. Pure: the runners note, the judge
// compares.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "tests/tools/test_requester/plan.h"

namespace umbra::test_requester {

struct Outcome {
  std::string failed_at{};  ///< The step; empty: none.
  Error error{Errc::ok, {}};
  std::string last_step{};  ///< After which writers were asked last.
  /// By step.
  std::map<std::string, std::vector<requester::WriterStatus>, std::less<>> statuses{};
  BackupComponentsDocument document{};
  /// Names of the writers, by class id; for the document.
  std::map<WriterClassId, std::string> names{};
};

/// One sentence for each thing that is not as expected.
[[nodiscard]] std::vector<std::string> judge(const Plan& plan, const Outcome& outcome);

/// Whether `wanted` is the name or the class id of a writer.
[[nodiscard]] bool is_writer(const std::string& wanted, const std::string& name,
                             const WriterClassId& class_id);

}  // namespace umbra::test_requester
