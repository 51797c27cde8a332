// SPDX-License-Identifier: Apache-2.0
// umbra scrub VOLUME [--rate BYTES] [--background]
//
// What was found is printed in any case. Damage is a failure (status 1), as of `umbra check`, and
// so is what could not be mended now (status 3).
#include <boost/json/array.hpp>
#include <boost/json/value.hpp>
#include <cstdlib>

#include "requester-sdk/cli/commands.h"

namespace umbra::cli {
namespace {

struct Facts {
  std::string outcome = "unknown";
  std::string verified_bytes = "0";
  std::vector<std::string> damaged_snapshots;
  std::vector<std::string> findings;
};

Facts facts_of(const OperationInfo& ended) {
  Facts facts;
  for (const auto& fact : ended.facts) {
    if (fact.name == "outcome") facts.outcome = fact.value;
    if (fact.name == "verified_bytes") facts.verified_bytes = fact.value;
    if (fact.name == "damaged_snapshot") facts.damaged_snapshots.push_back(fact.value);
    if (fact.name == "finding") facts.findings.push_back(fact.value);
  }
  return facts;
}

}  // namespace

ExitCode scrub(Service& service, Output& output, const Scrub& arguments) {
  const auto volume = service.resolve(arguments.volume);
  if (!volume) return output.error(volume.error());
  const auto begun = service.scrub(*volume, arguments.bytes_per_second);
  if (!begun) return output.error(begun.error());
  if (arguments.background) {
    output.object({{"operation_id", begun->to_string()}});
    output.line("begun; `umbra operations --wait " + begun->to_string() + "` waits for its end");
    return ExitCode::done;
  }
  const auto ended = wait_for_end(service, output, *begun, arguments.time_limit);
  if (!ended) return output.error(ended.error());
  const bool damaged = ended->status == Errc::diff_area_corrupt;
  if (ended->status != Errc::async_finished && !damaged) {
    return output.error({ended->status, "scrub of '" + ended->subject + "': " + ended->context});
  }
  const Facts facts = facts_of(*ended);
  output.object({{"operation_id", begun->to_string()},
                 {"outcome", facts.outcome},
                 {"verified_bytes", std::strtoull(facts.verified_bytes.c_str(), nullptr, 10)},
                 {"damaged_snapshots", names_to_json(facts.damaged_snapshots)},
                 {"findings", names_to_json(facts.findings)}});
  for (const std::string& finding : facts.findings) output.line(shown(finding));
  for (const std::string& id : facts.damaged_snapshots) {
    output.line("shadow copy " + shown(id) + " is damaged");
  }
  output.line(shown(facts.outcome) + ": " + shown(facts.verified_bytes) + " bytes verified");
  if (damaged) return ExitCode::failed;
  return facts.outcome == "repairable" ? ExitCode::in_part : ExitCode::done;
}

}  // namespace umbra::cli
