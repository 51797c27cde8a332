// SPDX-License-Identifier: Apache-2.0
//
// umbra: the command line of the requester SDK, and its first customer. docs/cli.md.
#include <unistd.h>

#include <csignal>
#include <iostream>

#include "requester-sdk/cli/output.h"
#include "requester-sdk/cli/run.h"

int main(int argc, char** argv) {
  (void)std::signal(SIGPIPE, SIG_IGN);  // A reader that has gone is no reason to skip clean-up.
  auto output = umbra::cli::standard_output(isatty(STDERR_FILENO) != 0);
  return umbra::cli::run({argv + 1, argv + argc}, output, umbra::cli::make_sdk_service);
}
