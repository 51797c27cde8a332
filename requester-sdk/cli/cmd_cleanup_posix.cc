// SPDX-License-Identifier: Apache-2.0
// umbra cleanup
//
// Runs umbra-cleanup, which is beside this program or in the path: what a provider leaves is the
// provider's business, and no daemon is needed.
#include <filesystem>
#include <system_error>

#include "requester-sdk/cli/commands.h"

namespace umbra::cli {

int cleanup(Output& output, const Cleanup& arguments, const RunCommand& run_command) {
  std::error_code error;
  const auto own = std::filesystem::read_symlink("/proc/self/exe", error);
  const auto beside = own.parent_path() / "umbra-cleanup";
  const bool found = !error && std::filesystem::exists(beside, error);
  std::vector<std::string> command{found ? beside.string() : "umbra-cleanup"};
  if (!arguments.run_dir.empty()) command.insert(command.end(), {"--run-dir", arguments.run_dir});
  if (arguments.force) command.emplace_back("--force");
  if (arguments.dry_run) command.emplace_back("--dry-run");
  if (output.json()) command.emplace_back("--json");
  const auto ended = run_command(command, {});
  if (!ended) return static_cast<int>(output.error(ended.error()));
  return *ended;
}

}  // namespace umbra::cli
