// SPDX-License-Identifier: Apache-2.0
//
// umbra-bench: figures, each beside what it is to be read with. Exit status: 0, or 1 if something
// went wrong, lost data among it.
#include <CLI/CLI.hpp>

#include "bench/micro/micro.h"

int main(int argc, char** argv) {
  CLI::App app("Measures Umbra; see docs/bench.md for what the keys mean.", "umbra-bench");
  app.require_subcommand(1);
  umbra::bench::MicroOptions micro;
  CLI::App& command = *app.add_subcommand("micro", "the store's own costs, in this process");
  command.add_flag("--smoke", micro.smoke, "small sizes: everything is run, figures mean nothing");
  command.add_flag("--json", micro.json, "one JSON object per line");
  command.add_option("--pairs", micro.pairs, "interleaved pairs per ratio")
      ->check(CLI::Range(1, 1000));
  command.add_option("--seed", micro.seed, "of the random places");
  command.add_option("--only", micro.only, "only keys that contain this");
  command
      .add_option("--directory", micro.medium.directory,
                  "files there instead of RAM (page cache, io of the shipped file devices)")
      ->check(CLI::ExistingDirectory);
  command.add_option("--reopen-chunks", micro.reopen_chunks)->check(CLI::Range(1, 1 << 30));
  command.add_option("--ram-chunks", micro.ram_chunks)->check(CLI::Range(1, 1 << 30));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  }
  umbra::bench::run_micro(micro);
  return 0;
}
