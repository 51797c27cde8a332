// SPDX-License-Identifier: Apache-2.0
// umbra revert shadow ID [--force], umbra revert abandon VOLUME, umbra query revert [VOLUME]
#include <boost/json/array.hpp>
#include <boost/json/value.hpp>

#include "requester-sdk/cli/commands.h"

namespace umbra::cli {
namespace {

std::string progress_of(const RevertInfo& revert) {
  if (revert.stopped) return "stopped: " + shown(revert.trouble);
  if (revert.total_bytes == 0) return "begins";
  const double part =
      static_cast<double>(revert.done_bytes) / static_cast<double>(revert.total_bytes);
  return std::to_string(static_cast<int>(part * 100)) + " % of " + bytes_text(revert.total_bytes);
}

// The revert outlives whoever told of it.
bool nobody_tells(Errc code) {
  return code == Errc::object_not_found || code == Errc::provider_not_registered ||
         code == Errc::coordinator_lost || code == Errc::async_cancelled;
}

}  // namespace

ExitCode revert_shadow(Service& service, Output& output, const RevertShadow& arguments) {
  if (!arguments.ignore_writers) {
    const auto blocked = service.writers_block_revert(arguments.snapshot);
    if (!blocked) return output.error(blocked.error());
    if (*blocked) {
      return output.error({Errc::access_denied,
                           "a writer that umbrad's configuration names under [revert] "
                           "writers_blocking has files on the volume; restore them by its own "
                           "means, or use --ignore-writers"});
    }
  }
  const auto begun = service.revert(arguments.snapshot, arguments.force);
  if (!begun) return output.error(begun.error());
  output.note("the volume shows the copy; what changed since is copied back");
  const auto ended = wait_for(service, output, *begun, arguments.time_limit);
  if (!ended && nobody_tells(ended.error().code)) {
    output.end_progress();
    return output.error({Errc::async_pending,
                         "the revert goes on, but the provider was stopped or does not answer; "
                         "`umbra query revert` says how far it is (" +
                             ended.error().context + ")"});
  }
  if (!ended) return output.error(ended.error());
  output.object({{"operation_id", begun->to_string()},
                 {"snapshot_id", arguments.snapshot.to_string()},
                 {"total_bytes", ended->total}});
  output.line("reverted; mount the volume again");
  return ExitCode::done;
}

ExitCode query_revert(Service& service, Output& output, const std::string& volume) {
  VolumeRef wanted;
  if (!volume.empty()) {
    auto resolved = service.resolve(volume);
    if (!resolved) return output.error(resolved.error());
    wanted = std::move(*resolved);
  }
  const auto reverts = service.reverts(wanted);
  if (!reverts) return output.error(reverts.error());
  output.object({{"reverts", list_to_json(*reverts)}});
  std::vector<std::vector<std::string>> rows{{"VOLUME", "TO SHADOW", "PROGRESS"}};
  for (const auto& revert : *reverts) {
    rows.push_back(
        {shown(revert.volume_name), revert.snapshot_id.to_string(), progress_of(revert)});
  }
  output.table(rows);
  return ExitCode::done;
}

ExitCode abandon_revert(Service& service, Output& output, const std::string& volume) {
  const auto wanted = service.resolve(volume);
  if (!wanted) return output.error(wanted.error());
  if (const auto given_up = service.abandon_revert(*wanted); !given_up) {
    return output.error(given_up.error());
  }
  output.object({{"abandoned", true}});
  output.line("given up; the volume is a mix of before and after");
  return ExitCode::done;
}

}  // namespace umbra::cli
