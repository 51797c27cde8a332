// SPDX-License-Identifier: Apache-2.0
//
// umbra-bench: figures, each beside what it is to be read with. Exit status: 0 if everything ran,
// whether targets are met or not; 1 if something went wrong, lost data among it; 2 for a wrong
// option; 128 and the signal's number after SIGINT or SIGTERM.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "bench/harness/failure.h"
#include "bench/harness/page.h"
#include "bench/harness/scenario.h"
#include "bench/micro/micro.h"
#include "bench/soak/soak.h"
#include "bench/umbra/world.h"

namespace umbra::bench {
namespace {

constexpr int kWrongOption = 2;
constexpr std::uint64_t kBytesNeeded = std::uint64_t{6} << 30U;

struct RunArguments {
  RunOptions options;
  std::vector<std::string> keys;
  bool all = false;
  bool json = false;
};

void print(const std::string& text) {
  (void)std::fwrite(text.data(), 1, text.size(), stdout);
  (void)std::fflush(stdout);
}

void list() {
  for (const Scenario& scenario : scenarios()) {
    char target[32] = "";
    if (scenario.target) {
      (void)std::snprintf(target, sizeof target, "%s %g",
                          scenario.target->at_least ? ">=" : "<=", scenario.target->value);
    }
    char line[256];
    (void)std::snprintf(line, sizeof line, "%-34s %-6s %-8s %s\n", scenario.key.c_str(),
                        scenario.unit.c_str(), target, scenario.what.c_str());
    print(line);
  }
}

std::vector<const Scenario*> chosen(const RunArguments& arguments) {
  std::vector<const Scenario*> found;
  for (const Scenario& scenario : scenarios()) {
    const bool is_named = std::find(arguments.keys.begin(), arguments.keys.end(), scenario.key) !=
                          arguments.keys.end();
    if (arguments.all || is_named) found.push_back(&scenario);
  }
  return found;
}

int run(RunArguments& arguments) {
  for (const auto& key : arguments.keys) {
    const auto& all = scenarios();
    if (std::none_of(all.begin(), all.end(), [&](const auto& s) { return s.key == key; })) {
      (void)std::fprintf(stderr, "umbra-bench: no key '%s'; `umbra-bench list` names them\n",
                         key.c_str());
      return kWrongOption;
    }
  }
  if (arguments.all == !arguments.keys.empty()) {
    (void)std::fprintf(stderr, "umbra-bench: give keys, or --all\n");
    return kWrongOption;
  }
  note_signals();
  // Only then: who has a mount namespace of his own holds the mounts that others want to be rid of.
  // Without root nothing is mounted either.
  const auto keys = chosen(arguments);
  if (std::any_of(keys.begin(), keys.end(), [](const auto* key) { return key->mounts; })) {
    (void)isolate_mounts();
  }
  RunOptions& options = arguments.options;
  if (options.directory.empty()) options.directory = default_directory(kBytesNeeded);
  const MachineCard card = machine_card(options.directory);
  print(arguments.json ? to_json(card) + "\n" : to_text(card));
  World world(options.directory);
  for (const Scenario* scenario : keys) {
    (void)std::fprintf(stderr, "umbra-bench: %s ...", scenario->key.c_str());
    const double begin = now_seconds();
    const std::size_t reps =
        options.reps > 0 ? options.reps : (options.smoke ? std::size_t{2} : scenario->reps);
    Context context{options, world, reps};
    Outcome outcome;
    try {
      outcome = scenario->run(context);
    } catch (const Skipped& why) {
      outcome = {};
      outcome.skipped = why.what();
    } catch (const Failed& why) {
      throw Failed(scenario->key + ": " + why.what());
    }
    (void)std::fprintf(stderr, " %.1f s\n", now_seconds() - begin);
    print(arguments.json ? to_json(*scenario, outcome, options) + "\n"
                         : to_text(*scenario, outcome));
  }
  return 0;
}

int soak(SoakOptions& options) {
  note_signals();
  if (options.directory.empty()) options.directory = default_directory(kBytesNeeded);
  const MachineCard card = machine_card(options.directory);
  print(options.json ? to_json(card) + "\n" : to_text(card));
  run_soak(options);
  return 0;
}

int report(const std::vector<std::string>& files) {
  Page page;
  for (const auto& file : files) {
    std::ifstream in(file);
    if (!in) give_up(file + ": cannot be opened");
    must(page.add(in, file), "reading");
  }
  print(must(page.html(), "the page"));
  return 0;
}

int main_of(int argc, char** argv) {
  CLI::App app("Measures Umbra; see docs/bench.md for what the keys mean.", "umbra-bench");
  app.require_subcommand(1);

  CLI::App& list_command = *app.add_subcommand("list", "the keys of `run`");
  RunArguments arguments;
  CLI::App& run_command =
      *app.add_subcommand("run", "measures keys behind servers, beside baselines and rivals");
  run_command.add_option("KEY", arguments.keys, "see `list`");
  run_command.add_flag("--all", arguments.all, "every key");
  run_command.add_flag("--json", arguments.json, "one JSON object per line");
  run_command.add_flag("--smoke", arguments.options.smoke,
                       "small sizes: everything is run, figures mean nothing");
  run_command
      .add_option("--reps", arguments.options.reps, "repetitions, instead of each key's own")
      ->check(CLI::Range(1, 1000));
  run_command.add_option("--seed", arguments.options.seed, "of the random places");
  run_command
      .add_option("--directory", arguments.options.directory,
                  "all files there instead of in memory (/dev/shm)")
      ->check(CLI::ExistingDirectory);

  SoakOptions soak_options;
  CLI::App& soak_command = *app.add_subcommand(
      "soak", "everything mixed and compared for a time; how memory, descriptors, latency drift");
  soak_command.add_option("--minutes", soak_options.minutes, "how long")
      ->check(CLI::Range(0.1, 14.0 * 24 * 60))
      ->capture_default_str();
  soak_command.add_flag("--json", soak_options.json, "one JSON object per line");
  soak_command.add_flag("--smoke", soak_options.smoke,
                        "each thing once and a second of the mix; figures mean nothing");
  soak_command.add_option("--seed", soak_options.seed, "of the order, places and contents");
  soak_command
      .add_option("--directory", soak_options.directory,
                  "all files there instead of in memory (/dev/shm)")
      ->check(CLI::ExistingDirectory);

  std::vector<std::string> files;
  CLI::App& report_command = *app.add_subcommand(
      "report", "an HTML page of what `run --json` and `soak --json` printed, to stdout");
  report_command.add_option("FILE", files, "later ones win")->required();

  MicroOptions micro;
  CLI::App& micro_command = *app.add_subcommand("micro", "the store's own costs, in this process");
  micro_command.add_flag("--smoke", micro.smoke,
                         "small sizes: everything is run, figures mean nothing");
  micro_command.add_flag("--json", micro.json, "one JSON object per line");
  micro_command.add_option("--pairs", micro.pairs, "interleaved pairs per ratio")
      ->check(CLI::Range(1, 1000));
  micro_command.add_option("--seed", micro.seed, "of the random places");
  micro_command.add_option("--only", micro.only, "only keys that contain this");
  micro_command
      .add_option("--directory", micro.medium.directory,
                  "files there instead of RAM (page cache, io of the shipped file devices)")
      ->check(CLI::ExistingDirectory);
  micro_command.add_option("--reopen-chunks", micro.reopen_chunks)->check(CLI::Range(1, 1 << 30));
  micro_command.add_option("--ram-chunks", micro.ram_chunks)->check(CLI::Range(1, 1 << 30));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kWrongOption;
  }
  if (list_command.parsed()) list();
  if (run_command.parsed()) return run(arguments);
  if (soak_command.parsed()) return soak(soak_options);
  if (report_command.parsed()) return report(files);
  if (micro_command.parsed()) run_micro(micro);
  return 0;
}

}  // namespace
}  // namespace umbra::bench

int main(int argc, char** argv) {
  // By here everything that was started and made has been taken away again (failure.h).
  try {
    return umbra::bench::main_of(argc, argv);
  } catch (const umbra::bench::Interrupted& by) {
    (void)std::fprintf(stderr, "\numbra-bench: interrupted\n");
    return 128 + by.number;
  } catch (const std::exception& error) {
    (void)std::fprintf(stderr, "\numbra-bench: %s\n", error.what());
    return 1;
  }
}
