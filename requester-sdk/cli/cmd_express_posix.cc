// SPDX-License-Identifier: Apache-2.0
// umbra express register | unregister | list
//
// Runs umbra-express, which is beside this program or in the path: describing writers is the
// writer SDK's business, and needs no daemon.
#include <filesystem>
#include <system_error>

#include "requester-sdk/cli/commands.h"

namespace umbra::cli {

int express(Output& output, const Express& arguments, const RunCommand& run_command) {
  std::error_code error;
  const auto own = std::filesystem::read_symlink("/proc/self/exe", error);
  const auto beside = own.parent_path() / "umbra-express";
  const bool found = !error && std::filesystem::exists(beside, error);
  std::vector<std::string> command{found ? beside.string() : "umbra-express", arguments.action};
  if (!arguments.argument.empty()) command.push_back(arguments.argument);
  if (!arguments.run_dir.empty()) command.insert(command.end(), {"--run-dir", arguments.run_dir});
  const auto ended = run_command(command, {});
  if (!ended) return static_cast<int>(output.error(ended.error()));
  return *ended;
}

}  // namespace umbra::cli
