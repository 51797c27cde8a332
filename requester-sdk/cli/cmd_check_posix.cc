// SPDX-License-Identifier: Apache-2.0
// umbra check DIFF
//
// Runs umbra-check, which is beside this program or in the path: looking into a diff area is the
// provider's business, and needs no daemon.
#include <filesystem>
#include <system_error>

#include "requester-sdk/cli/commands.h"

namespace umbra::cli {
namespace {

[[nodiscard]] std::string checker() {
  std::error_code error;
  const auto own = std::filesystem::read_symlink("/proc/self/exe", error);
  const auto beside = own.parent_path() / "umbra-check";
  return !error && std::filesystem::exists(beside, error) ? beside.string() : "umbra-check";
}

}  // namespace

int check(Output& output, const Check& arguments, const RunCommand& run_command) {
  std::vector<std::string> command{checker(), arguments.diff};
  if (arguments.repair) command.emplace_back("--repair");
  if (arguments.data) command.emplace_back("--data");
  if (output.json()) command.emplace_back("--json");
  if (!arguments.rate.empty()) command.insert(command.end(), {"--rate", arguments.rate});
  const auto ended = run_command(command, {});
  if (!ended) return static_cast<int>(output.error(ended.error()));
  return *ended;
}

}  // namespace umbra::cli
