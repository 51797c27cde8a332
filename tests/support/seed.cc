// SPDX-License-Identifier: Apache-2.0
#include "tests/support/seed.h"

#include <cstdio>
#include <cstdlib>
#include <random>

namespace umbra::test {
namespace {

std::uint64_t g_seed = 0;

}  // namespace

void set_seed(std::uint64_t seed) {
  if (seed == 0) {
    if (const char* text = std::getenv("UMBRA_SEED")) seed = std::strtoull(text, nullptr, 10);
  }
  if (seed == 0) seed = std::random_device{}();
  g_seed = seed;
}

std::uint64_t seed() {
  if (g_seed == 0) set_seed(0);
  return g_seed;
}

bool long_run() {
  const char* text = std::getenv("UMBRA_LONG");
  return text != nullptr && *text == '1';
}

void print_replay(const char* program) {
  (void)std::fprintf(stderr, "replay with: %s --seed %llu\n", program,
                     static_cast<unsigned long long>(seed()));
}

}  // namespace umbra::test
