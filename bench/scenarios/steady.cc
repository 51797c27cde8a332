// SPDX-License-Identifier: Apache-2.0
//
// What goes on once old data is kept: rewriting, reading snapshots, and the server without any.
#include <algorithm>
#include <string>
#include <vector>

#include "bench/baselines/nbdkit.h"
#include "bench/harness/failure.h"
#include "bench/load/background_load.h"
#include "bench/scenarios/compare.h"
#include "bench/scenarios/file_reader.h"
#include "bench/scenarios/scenarios.h"
#include "bench/umbra/world.h"
#include "umbra/requester/snapshot_reader.h"

namespace umbra::bench {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20U;

using Copies = UmbraVolume::Copies;

VolumeShape volume_of(std::uint64_t size_bytes) {
  VolumeShape shape;
  shape.size_bytes = size_bytes;
  return shape;
}

Outcome rewrite(Context& context) {
  const VolumeShape volume = volume_of(context.size(128 * kMiB, 2 * kMiB));
  UmbraVolume copied(context.world, volume, Copies::auto_release);
  UmbraVolume plain(context.world, volume, Copies::none);
  Driver ours(copied, volume.size_bytes, context.options.seed);
  Driver theirs(plain, volume.size_bytes, context.options.seed + 1);
  copied.protect();
  const Content kept = ours.content();
  (void)ours.write({});
  ours.forget_latencies();
  const Pairs pairs = run_pairs(
      context.reps, [&] { return ours.write({}); }, [&] { return theirs.write({}); });
  Outcome outcome;
  set_pairs(outcome, pairs, plain.name());
  outcome.medium = copied.medium();
  ours.add_latency("second writes", outcome.latencies);
  theirs.add_latency(plain.name(), outcome.latencies);
  outcome.digest = both(ours.verify_live(0), theirs.verify_live(0));
  outcome.digest = copied.verify_copy(kept, outcome.digest);
  copied.release();
  return outcome;
}

// Half of the chunks are preserved, each at random above one of `depth` copies.
struct HalfPreserved {
  HalfPreserved(Context& context, std::uint64_t size_bytes, std::size_t depth)
      : volume(context.world, volume_of(size_bytes), Copies::none),
        driver(volume, size_bytes, context.options.seed),
        oldest(driver.content()) {
    const std::vector<std::uint64_t> offsets = driver.draw({});
    const std::size_t half = offsets.size() / 2;
    for (std::size_t i = 0; i < depth; ++i) {
      const auto& copy = volume.take(true);
      if (i == 0) properties = copy;
      Plan plan;
      plan.offsets.assign(offsets.begin() + static_cast<std::ptrdiff_t>(half * i / depth),
                          offsets.begin() + static_cast<std::ptrdiff_t>(half * (i + 1) / depth));
      if (!plan.offsets.empty()) (void)driver.run(plan);
    }
    driver.forget_latencies();
  }
  UmbraVolume volume;
  Driver driver;
  Content oldest;
  SnapshotProperties properties;
};

Outcome snapshot_read(Context& context) {
  const std::uint64_t size = context.size(128 * kMiB, 4 * kMiB);
  const std::size_t depth = context.size(512, 8);
  HalfPreserved half(context, size, depth);
  Shape shape;
  shape.request_bytes = 4096;
  Prng prng(context.options.seed);
  const std::uint64_t reads = context.size(16384, 512);
  Plan plan{Work::read, 4096, 16, 0, {}};
  std::vector<std::uint32_t> latencies;
  const auto read_copy = [&] {
    plan.offsets.resize(reads);
    for (auto& offset : plan.offsets) offset = prng.below(size / 4096) * 4096;
    Measured measured = NbdLoad(half.properties.nbd_uri).run(plan, half.oldest);
    const double each = measured.seconds_each();
    latencies.insert(latencies.end(), measured.latencies_ns.begin(), measured.latencies_ns.end());
    return each;
  };
  const Pairs pairs =
      run_pairs(context.reps, read_copy, [&] { return half.driver.read(shape, reads * 4096); });
  Outcome outcome;
  set_pairs(outcome, pairs, "reads of the live volume");
  outcome.medium = half.volume.medium() + ", " + std::to_string(depth) + " snapshots";
  outcome.latencies.push_back(latency_of("reads of the oldest snapshot", latencies));
  half.driver.add_latency("reads of the live volume", outcome.latencies);
  outcome.digest = verify_uri(half.properties.nbd_uri, half.oldest, 0, "the oldest snapshot");
  outcome.digest = half.driver.verify_live(outcome.digest);
  return outcome;
}

Outcome shm_read(Context& context) {
  const std::uint64_t size = context.size(256 * kMiB, 8 * kMiB);
  constexpr std::uint64_t kRequest = 256U << 10U;
  HalfPreserved half(context, size, 1);
  requester::SnapshotReaderOptions options;
  options.socket_path = context.world.run_directory() + "/reader.sock";
  const auto reader =
      must(requester::SnapshotReader::open(half.properties.snapshot_id, options), "opening a copy");
  const FileReader file(half.volume.origin_path());
  Prng prng(context.options.seed);
  std::vector<std::byte> buffer(kRequest);
  const std::uint64_t reads = context.size(2048, 64);
  // Both look at what they read in the same way; that is part of the time, and small beside it.
  const auto measure = [&](const Content& content, const auto& read) {
    const double begin = now_seconds();
    for (std::uint64_t i = 0; i < reads; ++i) {
      const std::uint64_t offset = prng.below(size / kRequest) * kRequest;
      read(offset);
      if (!content.looks_right(offset, buffer)) give_up("wrong data was read");
    }
    check_interrupted();
    return (now_seconds() - begin) / static_cast<double>(reads);
  };
  const auto by_reader = [&](std::uint64_t offset) {
    must(reader.read(offset, buffer), "reading a copy");
  };
  const Pairs pairs = run_pairs(
      context.reps, [&] { return measure(half.oldest, by_reader); },
      [&] {
        return measure(half.driver.content(),
                       [&](std::uint64_t offset) { file.read(offset, buffer); });
      });
  Outcome outcome;
  set_pairs(outcome, pairs, "pread of the origin, 256 KiB");
  outcome.medium = half.volume.medium();
  for (std::uint64_t at = 0; at < size; at += kRequest) {
    by_reader(at);
    outcome.digest = half.oldest.check(at, buffer, outcome.digest, "the copy, by shared memory,");
  }
  return outcome;
}

// The worst of the four is the key's figure; all are beside it.
Outcome nbd_plain(Context& context) {
  const VolumeShape volume = volume_of(context.size(64 * kMiB, 2 * kMiB));
  NbdkitFile rival(context.world, volume.size_bytes);
  UmbraVolume plain(context.world, volume, Copies::none);
  Driver ours(plain, volume.size_bytes, context.options.seed);
  Driver theirs(rival, volume.size_bytes, context.options.seed + 1);
  Outcome outcome;
  outcome.medium = plain.medium();
  const std::uint64_t bytes = context.size(64 * kMiB, 2 * kMiB);
  for (const std::uint32_t request_bytes : {4096U, 16384U}) {
    for (const bool writes : {false, true}) {
      Shape shape;
      shape.request_bytes = request_bytes;
      const auto run = [&](Driver& driver) {
        return writes ? driver.write(shape) : driver.read(shape, bytes);
      };
      const Pairs pairs = run_pairs(
          context.reps, [&] { return run(ours); }, [&] { return run(theirs); });
      const std::string name = std::to_string(request_bytes >> 10U) + " KiB " +
                               (writes ? "writes" : "reads") + ", depth 16";
      ours.add_latency(name + ", umbra-cowd", outcome.latencies);
      theirs.add_latency(name + ", nbdkit file", outcome.latencies);
      ours.forget_latencies();
      theirs.forget_latencies();
      Outcome one;
      set_pairs(one, pairs, rival.name());
      const bool is_worst =
          outcome.values.empty() || summarise(one.values).median < summarise(outcome.values).median;
      if (is_worst) {
        outcome.values = one.values;
        outcome.baseline = name + " (the worst of four): " + one.baseline;
      }
      outcome.beside.push_back({name, one.values, one.baseline});
    }
  }
  outcome.digest = both(ours.verify_live(0), theirs.verify_live(0));
  return outcome;
}

// --- latency across a snapshot ---------------------------------------------------------------

// The samples' quantile in slices of time.
Series slices(const std::vector<Sample>& samples, double from, double until, double each,
              double fraction, const std::string& name) {
  Series series{name, "seconds since the snapshot", "us", {}};
  std::vector<std::uint32_t> slice;
  std::size_t next = 0;
  for (double at = from; at < until; at += each) {
    slice.clear();
    while (next < samples.size() && samples[next].at_seconds < at) ++next;
    while (next < samples.size() && samples[next].at_seconds < at + each) {
      slice.push_back(samples[next++].latency_ns);
    }
    if (slice.empty()) continue;
    series.points.emplace_back(at + each / 2, quantile(slice, fraction) / 1e3);
  }
  return series;
}

double p99_between(const std::vector<Sample>& samples, double from, double until) {
  std::vector<std::uint32_t> latencies;
  for (const Sample& sample : samples) {
    if (sample.at_seconds >= from && sample.at_seconds < until) {
      latencies.push_back(sample.latency_ns);
    }
  }
  if (latencies.empty()) give_up("nothing was written");
  return quantile(latencies, 0.99);
}

Outcome latency_across(Context& context) {
  const std::uint64_t size = context.size(256 * kMiB, 4 * kMiB);
  const double seconds = context.options.smoke ? 0.1 : 1.0;  // Before, and after.
  UmbraVolume volume(context.world, volume_of(size), Copies::auto_release);
  Outcome outcome;
  outcome.medium = volume.medium();
  std::vector<double> before;
  for (std::size_t rep = 0; rep < context.reps; ++rep) {
    BackgroundOptions options;
    options.uris = {volume.uri()};
    options.size_bytes = size;
    options.request_bytes = 16U << 10U;
    options.depth = 16;
    options.seed = context.options.seed + rep;
    options.note_each = true;
    const auto load = BackgroundLoad::start(options);
    // At least so long, and longer if hardly anything is answered.
    const auto run_for = [&] {
      constexpr std::uint64_t kLeast = 64;
      const double from = load->seconds();
      const std::uint64_t answered = load->completed();
      while (load->seconds() < from + seconds || load->completed() < answered + kLeast) {
        pause_briefly();
      }
    };
    const double begin = load->seconds();
    run_for();
    const double snapshot = load->seconds();
    volume.protect();
    run_for();
    const double end = load->seconds();
    load->stop();
    std::vector<Sample> samples = load->samples();
    for (auto& sample : samples) sample.at_seconds -= snapshot;
    const double p99_before = p99_between(samples, begin - snapshot, 0);
    outcome.values.push_back(p99_between(samples, 0, end - snapshot) / p99_before);
    before.push_back(p99_before / 1e3);
    if (rep + 1 == context.reps) {
      const double each = seconds / 50;
      outcome.series.push_back(slices(samples, begin - snapshot, end - snapshot, each, 0.5, "p50"));
      outcome.series.push_back(
          slices(samples, begin - snapshot, end - snapshot, each, 0.99, "p99"));
    }
    outcome.digest = both(outcome.digest, load->verify());
    volume.release();
  }
  outcome.baseline = "p99 in the time before the snapshot, median " +
                     std::to_string(static_cast<long>(summarise(before).median)) + " us";
  return outcome;
}

}  // namespace

std::vector<Scenario> steady_scenarios() {
  return {
      {"rewrite_vs_plain", "ratio", Target{0.97}, 20,
       "16 KiB second writes under a snapshot, depth 16 / the same server without", rewrite},
      {"snapshot_read_vs_plain", "ratio", Target{0.90}, 20,
       "4 KiB random reads of the oldest of 512 snapshots, half preserved / of the live volume",
       snapshot_read},
      {"shm_read_vs_pread", "ratio", Target{0.85}, 20,
       "256 KiB reads of a snapshot by the SDK's reader, half preserved / pread of the origin",
       shm_read},
      {"nbd_plain_vs_nbdkit_file", "ratio", Target{1.0}, 20,
       "our NBD server without a snapshot / nbdkit file: the worst of 4 and 16 KiB, read and write",
       nbd_plain},
      {"latency_across_snapshot", "ratio", std::nullopt, 5,
       "p99 of 16 KiB random writes in the second after a snapshot / in the second before",
       latency_across},
  };
}

}  // namespace umbra::bench
