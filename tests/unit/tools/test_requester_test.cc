// SPDX-License-Identifier: Apache-2.0
//
// The test requester's plans and its judgement. That plans are carried out is shown by
// tests/e2e/test_requester.py.

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/catch.h"
#include "tests/tools/test_requester/judge.h"
#include "tests/tools/test_requester/plan.h"

namespace {

using namespace umbra;
using namespace umbra::test_requester;

Plan plan_of(const std::string& text) {
  auto plan = parse_plan(text);
  INFO((plan ? std::string() : plan.error().to_string()));
  REQUIRE(plan);
  return std::move(*plan);
}

constexpr const char* kBackup = R"(
enable_writer_classes = ["5f0c8d3e-2b52-4d7e-9a43-6f8e1b0c7a11"]
[backup]
context = "APP_ROLLBACK"
attributes = ["DIFFERENTIAL", "NO_AUTORECOVERY"]
type = "INCREMENTAL"
components = true
bootable_system_state = true
partial_files = true
volumes = ["data", "/srv"]
policy = "involved"
save_to = "/tmp/b.umbra.xml"
[[component]]
writer = "ledger"
path = 'accounts\eu\db'
succeeded = false
backup_options = "gently"
previous_stamp = "7"
[[component]]
writer = "other"
path = "c"
previous_stamp_from = "/tmp/a.umbra.xml"
[expect]
result = "VSS_E_WRITERERROR_RETRYABLE"
fails_at = "do"
[[expect.writer]]
name = "ledger"
after = "prepare"
state = "STABLE"
failure = "VSS_E_WRITERERROR_PARTIAL_FAILURE"
application_code = 42
message = "busy"
[[expect.component]]
writer = "ledger"
path = 'accounts\eu\db'
stamp = "8"
metadata = "m"
partial_files = 1
differenced_files = 0
)";

TEST_CASE("a plan of a backup says all there is to say") {
  const auto plan = plan_of(kBackup);
  CHECK_FALSE(plan.restore);
  CHECK(plan.context ==
        (context::kAppRollback | attribute::kDifferential | attribute::kNoAutorecovery));
  CHECK(plan.state.backup_type == BackupType::incremental);
  CHECK(plan.state.bootable_system_state);
  CHECK(plan.state.partial_file_support);
  CHECK(plan.volumes == std::vector<std::string>{"data", "/srv"});
  CHECK(plan.policy == WriterPolicy::involved);
  CHECK(plan.enable.size() == 1);
  REQUIRE(plan.components.size() == 2);
  CHECK(plan.components[0].logical_path == "accounts\\eu");
  CHECK(plan.components[0].name == "db");
  CHECK_FALSE(plan.components[0].succeeded);
  CHECK(plan.components[0].backup_options == "gently");
  CHECK(plan.components[0].previous_stamp == "7");
  CHECK(plan.components[1].logical_path.empty());
  CHECK(plan.components[1].previous_stamp_from == "/tmp/a.umbra.xml");
  CHECK(plan.result == Errc::writererror_retryable);
  CHECK(plan.fails_at == "do");
  REQUIRE(plan.writers.size() == 1);
  CHECK(plan.writers[0].state == WriterState::stable);
  CHECK(plan.writers[0].failure == Errc::writererror_partial_failure);
  CHECK(plan.writers[0].application_code == 42U);
  REQUIRE(plan.documents.size() == 1);
  CHECK(plan.documents[0].stamp == "8");
  CHECK(plan.documents[0].partial_files == std::size_t{1});
}

TEST_CASE("a plan of a restore says all there is to say") {
  const auto plan = plan_of(R"(
[restore]
from = "/tmp/b.umbra.xml"
type = "BY_COPY"
[[component]]
writer = "ledger"
path = "db"
subcomponents = ['db\january']
restore_options = "x"
authoritative = true
roll_forward = "partial:noon"
restore_name = "copy"
more_follow = true
status = "failed"
[[component.new_targets]]
path = "/srv"
to = "/new"
[[component.alternate_locations]]
path = "/srv"
pattern = "*.db"
recursive = true
to = "/spare"
[[expect.component]]
writer = "ledger"
path = "db"
target = "directed"
failure_message = "no"
)");
  CHECK(plan.restore);
  CHECK(plan.restore_type == RestoreType::by_copy);
  const auto& part = plan.components.at(0);
  CHECK(part.subcomponents == std::vector<RestoreSubcomponent>{{"db", "january"}});
  CHECK(part.authoritative);
  CHECK(part.roll_forward == RollForward{RollForwardType::partial, "noon"});
  CHECK(part.restore_name == "copy");
  CHECK(part.more_follow);
  CHECK(part.status == FileRestoreStatus::failed);
  CHECK(part.new_targets == std::vector<AlternateLocation>{{"/srv", "*", false, "/new"}});
  CHECK(part.alternate_locations ==
        std::vector<AlternateLocation>{{"/srv", "*.db", true, "/spare"}});
  CHECK(plan.documents.at(0).target == RestoreTarget::directed);
}

TEST_CASE("a mistake in a plan is named") {
  struct Mistake {
    std::string text;
    std::string word;
  };
  for (const auto& [text, word] :
       {Mistake{"", "[backup]"},
        {"[backup]\n[restore]\nfrom='x'", "either"},
        {"[restore]\n", "restore.from"},
        {"[backup\n", "line 1"},
        {"[backup]\ncontxt = 'BACKUP'\n", "backup.contxt"},
        {"[backup]\ncontext = 'TAPE'\n", "backup.context"},
        {"[backup]\ncontext = 7\n", "backup.context"},
        {"[backup]\nattributes = ['IMPORTED']\n", "backup.attributes"},
        {"[backup]\nattributes = 'PLEX'\n", "backup.attributes"},
        {"[backup]\ntype = 'TAPE'\n", "backup.type"},
        {"[backup]\nvolumes = [1]\n", "backup.volumes"},
        {"[backup]\npolicy = 'some'\n", "backup.policy"},
        {"[backup]\n[component]\n", "component: no"},
        {"[backup]\n[[component]]\nwriter='w'\n", "component[0]"},
        {"[backup]\n[[component]]\nwriter='w'\npath='p'\nstamp='x'\n", "component[0].stamp"},
        {"[backup]\n[[component]]\nwriter='w'\npath='p'\n[[component.new_targets]]\nfrom='x'\n",
         "new_targets[0].from"},
        {"[backup]\n[expect]\nresult='VSS_E_NONE'\n", "expect.result"},
        {"[backup]\n[[expect.writer]]\nstate='STABLE'\n", "expect.writer[0]"},
        {"[backup]\n[[expect.writer]]\nname='w'\nstate='WELL'\n", "expect.writer[0].state"},
        {"[backup]\n[[expect.writer]]\nname='w'\napplication_code=-1\n", "application_code"},
        {"[backup]\n[[expect.component]]\nwriter='w'\npath='p'\ntarget='moon'\n", "target"},
        {"enable_writer_classes=['x']\n[backup]\n", "enable_writer_classes"}}) {
    INFO(text);
    const auto plan = parse_plan(text);
    REQUIRE_FALSE(plan);
    CHECK(plan.error().code == Errc::invalid_argument);
    CHECK_THAT(plan.error().context, Catch::Contains(word));
  }
}

Outcome outcome_of(const WriterClassId& ledger) {
  Outcome outcome;
  outcome.failed_at = "do";
  outcome.error = {Errc::writererror_retryable, "writer 'ledger'"};
  outcome.last_step = "do";
  requester::WriterStatus status;
  status.name = "ledger";
  status.class_id = ledger;
  status.state = WriterState::stable;
  status.failure = Errc::writererror_partial_failure;
  status.application_code = 42;
  status.message = "very busy";
  outcome.statuses["prepare"] = {status};
  outcome.names[ledger] = "ledger";
  auto& part = outcome.document.writers.emplace_back();
  part.class_id = ledger;
  auto& component = part.components.emplace_back();
  component.logical_path = "accounts\\eu";
  component.name = "db";
  component.backup_stamp = "8";
  component.backup_metadata = "m";
  component.partial_files.emplace_back();
  return outcome;
}

TEST_CASE("what is as expected is good, and each thing that is not is one sentence") {
  const auto ledger = WriterClassId::random();
  const auto plan = plan_of(kBackup);
  CHECK(judge(plan, outcome_of(ledger)).empty());
  const std::vector<std::pair<std::string, std::function<void(Outcome&)>>> changes{
      {"result", [](Outcome& one) { one.error.code = Errc::io_error; }},
      {"result", [](Outcome& one) { one.error.code = Errc::ok; }},
      {"failing step", [](Outcome& one) { one.failed_at = "prepare"; }},
      {"were not asked", [](Outcome& one) { one.statuses.clear(); }},
      {"is in no list", [](Outcome& one) { one.statuses["prepare"].clear(); }},
      {"state", [](Outcome& one) { one.statuses["prepare"][0].state = WriterState::unknown; }},
      {"failure", [](Outcome& one) { one.statuses["prepare"][0].failure = Errc::ok; }},
      {"application code", [](Outcome& one) { one.statuses["prepare"][0].application_code = 0; }},
      {"message", [](Outcome& one) { one.statuses["prepare"][0].message = "idle"; }},
      {"not in the document", [](Outcome& one) { one.document.writers.clear(); }},
      {"not in the document", [](Outcome& one) { one.names.clear(); }},
      {"stamp", [](Outcome& one) { one.document.writers[0].components[0].backup_stamp.reset(); }},
      {"metadata",
       [](Outcome& one) { one.document.writers[0].components[0].backup_metadata = "x"; }},
      {"partial files",
       [](Outcome& one) { one.document.writers[0].components[0].partial_files.clear(); }},
      {"differenced files", [](Outcome& one) {
         one.document.writers[0].components[0].differenced_files.emplace_back();
       }}};
  for (const auto& [word, change] : changes) {
    auto outcome = outcome_of(ledger);
    change(outcome);
    const auto wrong = judge(plan, outcome);
    REQUIRE(wrong.size() == 1);
    CHECK_THAT(wrong[0], Catch::Contains(word));
  }
}

TEST_CASE("a writer may have to be absent, and a message is anybody's") {
  const auto ledger = WriterClassId::random();
  auto outcome = outcome_of(ledger);
  outcome.error = {Errc::ok, {}};
  Plan plan;
  plan.writers = {{.name = "nobody", .after = "prepare", .absent = true}};
  CHECK(judge(plan, outcome).empty());
  plan.writers[0].name = ledger.to_string();
  CHECK(judge(plan, outcome).size() == 1);
  plan.writers.clear();
  plan.documents = {{.writer = ledger.to_string(),
                     .logical_path = "accounts\\eu",
                     .name = "db",
                     .target = RestoreTarget::directed,
                     .failure_message = "no"}};
  CHECK(judge(plan, outcome).size() == 2);
  outcome.document.writers[0].components[0].pre_restore_failure = "no";
  outcome.document.writers[0].components[0].restore_target = RestoreTarget::directed;
  CHECK(judge(plan, outcome).empty());
}

}  // namespace
