// SPDX-License-Identifier: Apache-2.0
#include "bench/scenarios/compare.h"

namespace umbra::bench {

void set_pairs(Outcome& outcome, const Pairs& pairs, const std::string& name_of_b) {
  outcome.values = pairs.ratios();
  outcome.baseline = each_text(name_of_b, pairs.b) + ", ours" + each_text("", pairs.a);
}

std::size_t take_many(UmbraVolume& volume, Driver& driver, std::size_t count,
                      std::size_t chunks_each, std::chrono::seconds limit) {
  const double end = now_seconds() + static_cast<double>(limit.count());
  const std::vector<std::uint64_t> offsets = driver.draw({});
  std::size_t next = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (now_seconds() > end) return i;
    (void)volume.take(true);
    Plan plan;
    for (std::size_t k = 0; k < chunks_each; ++k) {
      plan.offsets.push_back(offsets[next++ % offsets.size()]);
    }
    (void)driver.run(plan);
    check_interrupted();
  }
  return count;
}

Outcome compare_first_writes(Context& context, Subject& a, Subject& b, std::uint64_t size_bytes,
                             const Shape& shape) {
  Driver ours(a, size_bytes, context.options.seed);
  Driver theirs(b, size_bytes, context.options.seed + 1);
  const Pairs pairs = run_pairs(
      context.reps, [&] { return ours.first_write(shape); },
      [&] { return theirs.first_write(shape); });
  Outcome outcome;
  set_pairs(outcome, pairs, b.name());
  outcome.medium = a.medium();
  ours.add_latency(a.name(), outcome.latencies);
  theirs.add_latency(b.name(), outcome.latencies);
  outcome.digest = both(ours.verify(shape), theirs.verify(shape));
  return outcome;
}

}  // namespace umbra::bench
