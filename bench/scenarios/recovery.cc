// SPDX-License-Identifier: Apache-2.0
//
// How long a volume is away after kill -9 of umbra-cowd. Each repetition has daemons of its own: a
// guardian waits longer before each restart of a minute.
#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "bench/harness/failure.h"
#include "bench/scenarios/compare.h"
#include "bench/scenarios/scenarios.h"
#include "bench/umbra/world.h"

namespace umbra::bench {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20U;

// Every chunk of 4 KiB preserved, or none, by a persistent copy.
struct Victim {
  Victim(Context& context, const std::string& directory, bool preserved)
      : world(directory),
        volume(world, shape_of(context), UmbraVolume::Copies::persistent),
        driver(volume, shape_of(context).size_bytes, context.options.seed),
        before(driver.content()) {
    volume.protect();
    if (!preserved) return;
    Shape shape;
    shape.request_bytes = 4096;
    shape.depth = 32;
    (void)driver.write(shape);
  }
  static VolumeShape shape_of(const Context& context) {
    VolumeShape shape;
    shape.size_bytes = context.size(256 * kMiB, 2 * kMiB);
    shape.chunk_bytes = 4096;
    return shape;
  }
  // Until a request is answered.
  double await_read(double since) {
    if (!connect_again(volume.uri(), kStartLimit, [] {
          check_interrupted();
          return false;
        })) {
      give_up("the volume does not come back");
    }
    Content content = driver.content();
    (void)NbdLoad(volume.uri()).run({Work::read, 4096, 1, 0, {0}}, content);
    return now_seconds() - since;
  }
  [[nodiscard]] std::uint32_t verify(std::uint32_t digest) {
    world.await(volume.ref());
    return volume.verify_copy(before, driver.verify_live(digest));
  }
  World world;
  UmbraVolume volume;
  Driver driver;
  Content before;
};

std::string chunks_text(const Context& context) {
  return std::to_string(Victim::shape_of(context).size_bytes / 4096) + " chunks of 4 KiB preserved";
}

Outcome killed(Context& context) {
  Outcome outcome;
  const auto time_of = [&](bool preserved) {
    Victim victim(context, context.options.directory, preserved);
    const double begin = now_seconds();
    victim.world.kill_cowd();
    const double seconds = victim.await_read(begin);
    outcome.digest = victim.verify(outcome.digest);
    outcome.medium = victim.world.medium();
    return seconds;
  };
  std::vector<double> none;
  for (std::size_t rep = 0; rep < context.reps; ++rep) {
    outcome.values.push_back(time_of(true) * 1e3);
    if (!context.options.smoke || rep == 0) none.push_back(time_of(false));
  }
  outcome.baseline =
      chunks_text(context) + "; with none" +
      (" " + std::to_string(static_cast<long>(summarise(none).median * 1e3)) + " ms");
  return outcome;
}

// The page cache of these files alone is dropped: dropping all of it would be felt by everybody
// else on the machine, and needs root.
Outcome reopened_cold(Context& context) {
  std::string directory = context.options.directory;
  const auto is_memory = [&] { return medium_of(directory).find("tmpfs") != std::string::npos; };
  if (is_memory()) {
    std::error_code ignored;
    directory = std::filesystem::temp_directory_path(ignored).string();
  }
  if (is_memory()) throw Skipped("files in memory are never cold; give --directory on a disk");
  Outcome outcome;
  const auto time_of = [&](bool cold) {
    Victim victim(context, directory, true);
    victim.world.kill_cowd_for_good();
    for (const auto& file : {victim.volume.origin_path(), victim.volume.diff_path()}) {
      // Written back in both cases: what is measured is reading.
      const bool is_gone = evict_file(file);
      if (cold && !is_gone) throw Skipped("the page cache keeps " + file);
      if (!cold) read_all(file);
    }
    const double begin = now_seconds();
    victim.world.start_cowd();
    const double seconds = victim.await_read(begin);
    outcome.digest = victim.verify(outcome.digest);
    outcome.medium = victim.world.medium() + ", dropped before";
    return seconds;
  };
  std::vector<double> warm;
  for (std::size_t rep = 0; rep < context.reps; ++rep) {
    outcome.values.push_back(time_of(true) * 1e3);
    if (!context.options.smoke || rep == 0) warm.push_back(time_of(false));
  }
  outcome.baseline = chunks_text(context) + "; with a warm page cache " +
                     std::to_string(static_cast<long>(summarise(warm).median * 1e3)) + " ms";
  return outcome;
}

}  // namespace

std::vector<Scenario> recovery_scenarios() {
  return {
      {"recovery_ms_after_kill", "ms", std::nullopt, 7,
       "kill -9 of umbra-cowd to the first read that its successor answers", killed},
      {"recovery_ms_cold", "ms", std::nullopt, 7,
       "start of umbra-cowd after kill -9 of all to the first read, page cache dropped",
       reopened_cold},
  };
}

}  // namespace umbra::bench
