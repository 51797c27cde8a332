// SPDX-License-Identifier: Apache-2.0
//
// Copies themselves: making and deleting them, reverting to one, asking what has changed, and how
// much is stored of what is written.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include "bench/harness/failure.h"
#include "bench/scenarios/compare.h"
#include "bench/scenarios/scenarios.h"
#include "bench/umbra/world.h"
#include "umbra/requester/management.h"

namespace umbra::bench {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20U;
constexpr std::chrono::minutes kRevertLimit{10};
constexpr std::chrono::seconds kOthersLimit{600};

using Copies = UmbraVolume::Copies;

std::string text_of(const char* format, double value) {
  char text[64];
  (void)std::snprintf(text, sizeof text, format, value);
  return text;
}

// --- making and deleting ---------------------------------------------------------------------

enum class Part : std::uint8_t { create, remove };

// Seconds of one of both; a few chunks are kept in between. Session and all: what a requester waits
// for.
double time_part(UmbraVolume& volume, Driver& driver, Part part) {
  const double begin = now_seconds();
  (void)volume.take(true);
  const double made = now_seconds();
  Plan plan;
  plan.offsets = driver.draw({});
  plan.offsets.resize(std::min<std::size_t>(plan.offsets.size(), 4));
  (void)driver.run(plan);
  const double before = now_seconds();
  volume.drop_newest();
  return part == Part::create ? made - begin : now_seconds() - before;
}

// The volume has `count` copies after one is made and before one is deleted, the newest. Beside it
// a volume that has no other, of other daemons, since theirs may cost everybody something; for that
// one an empty call to umbrad.
Outcome life(Context& context, std::size_t count, Part part) {
  VolumeShape shape;
  shape.size_bytes = context.size(16 * kMiB, kMiB);
  UmbraVolume many(context.world, shape, Copies::persistent);
  World elsewhere(context.options.directory);
  UmbraVolume one(elsewhere, shape, Copies::persistent);
  Driver ours(many, shape.size_bytes, context.options.seed);
  Driver theirs(one, shape.size_bytes, context.options.seed + 1);
  const std::size_t others = (context.options.smoke ? std::min<std::size_t>(count, 8) : count) - 1;
  const std::size_t made = take_many(many, ours, others, 1, kOthersLimit);
  if (made < others) {
    throw Skipped("of the others only " + std::to_string(made) + " were made within " +
                  std::to_string(kOthersLimit.count()) + " s");
  }
  const auto empty_call = [&] {
    const double begin = now_seconds();
    (void)must(context.world.client().status(), "asking umbrad");
    return now_seconds() - begin;
  };
  const Pairs pairs = run_pairs(
      context.reps, [&] { return time_part(many, ours, part); },
      [&] { return count == 1 ? empty_call() : time_part(one, theirs, part); });
  Outcome outcome;
  for (const double seconds : pairs.a) outcome.values.push_back(seconds * 1e3);
  outcome.baseline = (count == 1 ? "an empty call to umbrad" : "a volume with one copy") +
                     text_of(" %.4g ms", summarise(pairs.b).median * 1e3);
  outcome.medium = many.medium();
  outcome.digest = both(ours.verify({}), theirs.verify({}));
  return outcome;
}

// --- what is stored --------------------------------------------------------------------------

enum class Pattern : std::uint8_t { sequential, random, hot_spot };

Plan plan_of(Pattern pattern, std::uint64_t size_bytes, Prng& random) {
  Plan plan;
  if (pattern == Pattern::sequential) {
    plan.request_bytes = 64U << 10U;
    for (std::uint64_t at = 0; at < size_bytes; at += plan.request_bytes)
      plan.offsets.push_back(at);
    return plan;
  }
  plan.request_bytes = 4096;
  plan.depth =
      1;  // In the hot spot two writes to one place may meet: then nobody knows which is last.
  const std::uint64_t places = size_bytes / plan.request_bytes;
  for (std::uint64_t i = 0; i < places / 4; ++i) {
    const bool is_hot = pattern == Pattern::hot_spot && random.chance(9, 10);
    plan.offsets.push_back(random.below(is_hot ? places / 100 : places) * plan.request_bytes);
  }
  return plan;
}

std::uint64_t chunks_touched(const Plan& plan, std::uint32_t chunk_bytes) {
  std::vector<std::uint64_t> chunks;
  for (const std::uint64_t offset : plan.offsets) {
    for (std::uint64_t at = offset; at < offset + plan.request_bytes; at += chunk_bytes) {
      chunks.push_back(at / chunk_bytes);
    }
  }
  std::sort(chunks.begin(), chunks.end());
  chunks.erase(std::unique(chunks.begin(), chunks.end()), chunks.end());
  return chunks.size();
}

Outcome amplification(Context& context, Pattern pattern) {
  VolumeShape shape;
  shape.size_bytes = context.size(256 * kMiB, 16 * kMiB);
  Prng random(context.options.seed);
  Outcome outcome;
  std::vector<double> least;
  std::uint64_t segment = 0;
  for (std::size_t rep = 0; rep < context.reps; ++rep) {
    UmbraVolume volume(context.world, shape, Copies::persistent);
    Driver driver(volume, shape.size_bytes, context.options.seed + rep);
    volume.protect();
    const Content before = driver.content();
    const std::uint64_t used = volume.used_bytes();
    const Plan plan = plan_of(pattern, shape.size_bytes, random);
    (void)driver.run(plan);
    const double written = static_cast<double>(plan.offsets.size() * plan.request_bytes);
    outcome.values.push_back(static_cast<double>(volume.used_bytes() - used) / written);
    least.push_back(static_cast<double>(chunks_touched(plan, shape.chunk_bytes)) *
                    shape.chunk_bytes / written);
    outcome.digest = volume.verify_copy(before, driver.verify_live(outcome.digest));
    outcome.medium = volume.medium();
    segment = volume.segment_bytes();
  }
  outcome.baseline = "the chunks that were touched, 16 KiB each," +
                     text_of(" %.4g bytes", summarise(least).median) + "; counted in segments of" +
                     text_of(" %.3g MiB", static_cast<double>(segment) / kMiB);
  return outcome;
}

// --- reverting -------------------------------------------------------------------------------

Outcome revert(Context& context) {
  VolumeShape shape;
  shape.size_bytes = context.size(128 * kMiB, 2 * kMiB);
  UmbraVolume volume(context.world, shape, Copies::none);
  Driver driver(volume, shape.size_bytes, context.options.seed);
  requester::Management management(context.world.client());
  Outcome outcome;
  outcome.medium = volume.medium();
  std::vector<double> writes;
  const double mib = static_cast<double>(shape.size_bytes) / kMiB;
  for (std::size_t rep = 0; rep < context.reps; ++rep) {
    const SnapshotId copy = volume.take(true).snapshot_id;
    const Content before = driver.content();
    (void)driver.write({});
    const double begin = now_seconds();
    const auto operation = must(management.revert_to_snapshot(copy), "reverting");
    const auto ended = must(management.wait_operation(operation, kRevertLimit), "reverting");
    if (ended.status != Errc::async_finished) give_up("the revert has failed: " + ended.context);
    outcome.values.push_back(mib / (now_seconds() - begin));
    driver.went_back_to(before);
    outcome.digest = driver.verify_live(outcome.digest);
    volume.drop_newest();
    Plan plain;
    plain.request_bytes = 64U << 10U;
    for (std::uint64_t at = 0; at < shape.size_bytes; at += plain.request_bytes) {
      plain.offsets.push_back(at);
    }
    writes.push_back(mib / (driver.run(plain) * static_cast<double>(plain.offsets.size())));
  }
  outcome.baseline = "writing the volume by a client, 64 KiB, without a snapshot" +
                     text_of(" %.4g MiB/s", summarise(writes).median);
  return outcome;
}

// --- what has changed ------------------------------------------------------------------------

// All parts. The chunks that are named; `wanted`, which is sorted, is among them.
std::uint64_t query_changes(requester::Management& management, const SnapshotId& older,
                            const SnapshotId& younger, const std::vector<std::uint64_t>& wanted) {
  std::uint64_t named = 0;
  std::size_t found = 0;
  std::uint64_t next = 0;
  while (true) {
    const auto part =
        must(management.query_snapshot_delta_bitmap(older, younger, next), "the query");
    for (const auto& run : part.runs) {
      const std::uint64_t begin = run.first_block * part.block_bytes;
      const std::uint64_t end = begin + run.blocks * part.block_bytes;
      while (found < wanted.size() && wanted[found] >= begin && wanted[found] < end) ++found;
      named += run.blocks;
    }
    if (part.next_block >= part.volume_blocks) break;
    if (part.next_block <= next) give_up("the query does not get on");
    next = part.next_block;
  }
  if (found != wanted.size()) give_up("a changed block is not named: it would not be backed up");
  return named;
}

Outcome changed(Context& context) {
  VolumeShape shape;
  shape.chunk_bytes = 4096;
  const std::uint64_t chunks = context.size(10'000'000, 65'536);
  const std::uint64_t count = context.size(100'000, 256);
  shape.size_bytes = chunks * shape.chunk_bytes;
  shape.copies = 1.5 * static_cast<double>(count) / static_cast<double>(chunks);
  shape.is_sparse = true;
  UmbraVolume volume(context.world, shape, Copies::none);
  const SnapshotId first = volume.take(true).snapshot_id;
  Prng random(context.options.seed);
  Plan plan;
  plan.request_bytes = 4096;
  plan.depth = 32;
  for (std::uint64_t i = 0; i < count; ++i) plan.offsets.push_back(random.below(chunks) * 4096);
  std::sort(plan.offsets.begin(), plan.offsets.end());
  plan.offsets.erase(std::unique(plan.offsets.begin(), plan.offsets.end()), plan.offsets.end());
  const std::vector<std::uint64_t> wanted = plan.offsets;
  for (std::size_t i = plan.offsets.size(); i > 1; --i) {
    std::swap(plan.offsets[i - 1], plan.offsets[random.below(i)]);
  }
  Content content(shape.size_bytes, context.options.seed);
  (void)NbdLoad(volume.uri()).run(plan, content);
  const SnapshotId second = volume.take(true).snapshot_id;
  const SnapshotId third = volume.take(true).snapshot_id;
  requester::Management management(context.world.client());
  Outcome outcome;
  std::uint64_t named = 0;
  const auto time_of = [&](const SnapshotId& older, const SnapshotId& younger,
                           const std::vector<std::uint64_t>& changes) {
    const double begin = now_seconds();
    named = query_changes(management, older, younger, changes);
    return now_seconds() - begin;
  };
  const Pairs pairs = run_pairs(
      context.reps, [&] { return time_of(first, second, wanted); },
      [&] { return time_of(second, third, {}); });
  for (const double seconds : pairs.a) outcome.values.push_back(seconds * 1e3);
  (void)time_of(first, second, wanted);
  outcome.baseline = "of " + std::to_string(chunks) + " chunks of 4 KiB " +
                     std::to_string(wanted.size()) + " changed, " + std::to_string(named) +
                     " were named; where none has" +
                     text_of(" %.4g ms", summarise(pairs.b).median * 1e3);
  outcome.medium = volume.medium();
  plan.work = Work::read;
  (void)NbdLoad(volume.uri()).run(plan, content);
  outcome.digest = static_cast<std::uint32_t>(named);
  return outcome;
}

}  // namespace

std::vector<Scenario> copy_scenarios() {
  std::vector<Scenario> keys;
  for (const Part part : {Part::create, Part::remove}) {
    for (const std::size_t count : {1U, 64U, 512U, 4096U}) {
      const std::string number = std::to_string(count);
      const bool creates = part == Part::create;
      keys.push_back({(creates ? "snapshot_create_ms_" : "snapshot_delete_ms_") + number, "ms",
                      std::nullopt, 20,
                      creates
                          ? "making a persistent copy, which is the " + number + ". of the volume"
                          : "deleting the newest of " + number + " persistent copies",
                      [count, part](Context& context) { return life(context, count, part); }});
    }
  }
  const auto add_pattern = [&](const std::string& key, Pattern pattern, const std::string& what) {
    keys.push_back({key, "bytes", std::nullopt, 5, what,
                    [pattern](Context& context) { return amplification(context, pattern); }});
  };
  add_pattern("diff_bytes_per_byte_sequential", Pattern::sequential,
              "diff area used per byte written: the whole volume, 64 KiB in order");
  add_pattern("diff_bytes_per_byte_random_4k", Pattern::random,
              "the same: 4 KiB at random, a quarter of the volume's size");
  add_pattern("diff_bytes_per_byte_hot_spot", Pattern::hot_spot,
              "the same, nine of ten writes in one hundredth of the volume");
  keys.push_back({"revert_mib_s", "MiB/s", std::nullopt, 7,
                  "reverting a volume all of which has changed, until it is copied back", revert});
  keys.push_back({"changed_query_ms_10m_chunks", "ms", std::nullopt, 7,
                  "what differs between two copies of 10 million chunks, of which 100,000 do",
                  changed});
  return keys;
}

}  // namespace umbra::bench
