// SPDX-License-Identifier: Apache-2.0
#define CATCH_CONFIG_RUNNER
#include "tests/support/catch.h"
#include "tests/support/keep_memory.h"
#include "tests/support/seed.h"

// Every test program takes --seed N (or UMBRA_SEED), prints the seed when a case fails, and so can
// be replayed. Catch's own --rng-seed is left alone.
int main(int argc, char** argv) {
  umbra::test::keep_freed_memory();
  Catch::Session session;
  std::uint64_t seed = 0;
  using Catch::clara::Opt;
  session.cli(session.cli() | Opt(seed, "number")["--seed"]("seed of the random tests"));
  if (const int failed = session.applyCommandLine(argc, argv); failed != 0) return failed;
  umbra::test::set_seed(seed);
  const auto& wanted = session.configData();
  const bool listing = wanted.listTests || wanted.listTestNamesOnly || wanted.listTags ||
                       wanted.listReporters || wanted.showHelp;
  const int failures = session.run();
  if (!listing && failures != 0) umbra::test::print_replay(argc > 0 ? argv[0] : "test");
  return failures;
}
