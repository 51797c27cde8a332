// SPDX-License-Identifier: Apache-2.0
#include "bench/micro/micro.h"

#include <initializer_list>

#include "bench/harness/pairs.h"
#include "bench/harness/report.h"
#include "bench/micro/empty_volume.h"
#include "provider/cow/chunk_map.h"

namespace umbra::bench {
namespace {

constexpr double kNanoseconds = 1e9;
constexpr std::size_t kFlushEvery = 32;

class Micro {
 public:
  explicit Micro(const MicroOptions& options) : options_(options), report_(options.json) {}

  void run() {
    report_.say("micro: medium " +
                (options_.medium.directory.empty()
                     ? std::string("RAM of this process, completes at once")
                     : "files in " + options_.medium.directory + ", page cache, 4 threads") +
                (options_.smoke ? "; smoke sizes: figures mean nothing" : "") + "; " +
                std::to_string(chunks()) + " chunks, " + std::to_string(pairs()) + " pairs, seed " +
                std::to_string(options_.seed));
    first_writes();
    sharing();
    rewrites();
    many_snapshots();
    snapshot_reads();
    lookups();
    ram();
    reopen();
  }

 private:
  [[nodiscard]] std::uint64_t chunks() const { return options_.smoke ? 64 : 4096; }
  [[nodiscard]] std::size_t pairs() const { return options_.smoke ? 2 : options_.pairs; }
  // A line is printed if its key is wanted, measured if one of its section's is.
  [[nodiscard]] bool wanted(std::string_view key) const {
    return options_.only.empty() || key.find(options_.only) != std::string_view::npos;
  }
  [[nodiscard]] bool any_wanted(std::initializer_list<std::string_view> keys) const {
    for (const auto key : keys) {
      if (wanted(key)) return true;
    }
    return false;
  }

  void add_ratio(const std::string& key, const Pairs& measured, std::uint32_t digest) {
    if (wanted(key)) report_.add({key, measured.speed(), "ratio", measured.a.size(), {}, digest});
  }
  void add_cost(const std::string& key, const Pairs& measured, const char* beside,
                std::uint32_t digest) {
    if (!wanted(key)) return;
    std::vector<double> costs;
    for (const double a : measured.a) costs.push_back(a * kNanoseconds);
    const double baseline = summarise(measured.b).median * kNanoseconds;
    report_.add({key, summarise(costs), "ns", costs.size(),
                 std::string(beside) + " " + std::to_string(static_cast<long>(baseline)) + " ns",
                 digest});
  }

  // The first write to each chunk in an epoch of its own; before and after it the volume has
  // `below` snapshots.
  static Run first_write(BenchVolume& volume, bool persistent, std::size_t flush_every) {
    return [&volume, persistent, flush_every] {
      volume.take(persistent);
      const double seconds = volume.write(volume.chunks(), flush_every);
      volume.remove_newest();
      return seconds;
    };
  }

  void first_write_pair(const std::string& ratio_key, const std::string& cost_key,
                        const StoreShape& shape, bool persistent, std::size_t flush_every) {
    if (!any_wanted({ratio_key, cost_key})) return;
    BenchVolume copied(options_.medium, shape, options_.seed);
    BenchVolume plain(options_.medium, shape, options_.seed + 1);
    const Pairs measured = run_pairs(pairs(), first_write(copied, persistent, flush_every),
                                     [&] { return plain.write(plain.chunks(), flush_every); });
    copied.take(persistent);
    (void)copied.write(copied.chunks() / 2);
    const std::uint32_t digest = copied.verify() ^ plain.verify();
    add_ratio(ratio_key, measured, digest);
    add_cost(cost_key, measured, "plain", digest);
  }

  void first_writes() {
    StoreShape shape;
    shape.chunks = chunks();
    first_write_pair("first_write_vs_plain", "preserve_ns", shape, false, 0);
    first_write_pair("first_write_persistent_vs_plain", "preserve_persistent_ns", shape, true,
                     kFlushEvery);
    shape.chunk_bytes = shape.request_bytes = 4096;
    shape.chunks = chunks() * 4;
    shape.depth = 32;
    first_write_pair("first_write_4k_vs_plain", "preserve_4k_ns", shape, false, 0);
  }

  // The origin's blocks are shared instead of copied: where the medium can.
  void sharing() {
    for (const bool persistent : {false, true}) {
      const std::string kind = persistent ? "persistent_" : "";
      const std::string ratio_key = "first_write_" + kind + "reflink_vs_copy";
      const std::string cost_key = "preserve_" + kind + "reflink_ns";
      if (!any_wanted({ratio_key, cost_key})) continue;
      StoreShape shape;
      shape.chunks = chunks();
      shape.share = true;
      BenchVolume shared(options_.medium, shape, options_.seed);
      if (!shared.volume().statistics().reflink) {
        report_.say(ratio_key + ": skipped, files on XFS or btrfs are needed (--directory)");
        continue;
      }
      shape.share = false;
      BenchVolume copied(options_.medium, shape, options_.seed + 1);
      const std::size_t flush_every = persistent ? kFlushEvery : 0;
      const Pairs measured = run_pairs(pairs(), first_write(shared, persistent, flush_every),
                                       first_write(copied, persistent, flush_every));
      const std::uint64_t chunks_shared = shared.volume().statistics().chunks_shared;
      report_.say(ratio_key + ": " + std::to_string(chunks_shared) + " chunks were shared, " +
                  std::to_string(shared.volume().statistics().chunks_preserved) + " preserved");
      const std::uint32_t digest = shared.verify() + copied.verify();
      add_ratio(ratio_key, measured, digest);
      add_cost(cost_key, measured, "copied", digest);
    }
  }

  void rewrites() {
    if (!any_wanted({"rewrite_vs_plain", "rewrite_ns"})) return;
    StoreShape shape;
    shape.chunks = chunks();
    BenchVolume copied(options_.medium, shape, options_.seed);
    BenchVolume plain(options_.medium, shape, options_.seed + 1);
    copied.take(false);
    (void)copied.write(copied.chunks());
    const Pairs measured = run_pairs(
        pairs(), [&] { return copied.write(copied.chunks()); },
        [&] { return plain.write(plain.chunks()); });
    const std::uint32_t digest = copied.verify() ^ plain.verify();
    add_ratio("rewrite_vs_plain", measured, digest);
    add_cost("rewrite_ns", measured, "plain", digest);
  }

  // `count` snapshots, each with a few chunks of its own.
  static void take_many(BenchVolume& volume, std::size_t count, std::uint64_t chunks_each) {
    while (volume.snapshots() < count) {
      volume.take(false);
      (void)volume.write(chunks_each);
    }
  }

  void many_snapshots() {
    for (const std::size_t count : {std::size_t{64}, std::size_t{512}, std::size_t{4096}}) {
      const std::string name = std::to_string(count);
      const std::string ratio_key = "first_write_" + name + "_vs_1";
      const std::string cost_key = "preserve_" + name + "_ns";
      if (!any_wanted({ratio_key, cost_key})) continue;
      StoreShape shape;
      shape.chunks = chunks();
      shape.copies = 4 + 4 * count / shape.chunks;
      const std::size_t below = options_.smoke ? count / 32 : count;
      // The measured snapshot is the last of them.
      BenchVolume many(options_.medium, shape, options_.seed);
      take_many(many, below - 1, 4);
      BenchVolume one(options_.medium, shape, options_.seed + 1);
      const Pairs measured =
          run_pairs(pairs(), first_write(many, false, 0), first_write(one, false, 0));
      const std::uint32_t digest = many.verify() ^ one.verify();
      add_ratio(ratio_key, measured, digest);
      add_cost(cost_key, measured, "with 1", digest);
    }
  }

  void snapshot_reads() {
    if (!any_wanted({"snapshot_read_vs_plain", "snapshot_read_ns"})) return;
    StoreShape shape;
    shape.chunks = chunks();
    BenchVolume volume(options_.medium, shape, options_.seed);
    const std::uint64_t depth = options_.smoke ? 16 : 512;
    take_many(volume, depth, volume.chunks() / 2 / depth);
    shape.request_bytes = 4096;
    volume.set_request(4096, 1);
    const std::uint64_t reads = volume.chunks() * 4;
    const Pairs measured = run_pairs(
        pairs(), [&] { return volume.read_oldest(reads); },
        [&] { return volume.read_live(reads); });
    volume.set_request(shape.chunk_bytes, 1);
    const std::uint32_t digest = volume.verify();
    add_ratio("snapshot_read_vs_plain", measured, digest);
    add_cost("snapshot_read_ns", measured, "live", digest);
  }

  void lookups() {
    if (!wanted("lookup_ns")) return;
    constexpr std::uint64_t kEpochs = 512;
    const std::uint64_t records = options_.smoke ? 4096 : 1'000'000;
    const std::uint64_t count = records;
    cow::ChunkMap map(count);
    Prng prng(options_.seed);
    for (std::uint64_t i = 0; i < records; ++i) {
      (void)map.insert(prng.below(count), 1 + prng.below(kEpochs), {1, 2});
    }
    std::uint64_t found = 0;
    std::vector<double> costs;
    for (std::size_t round = 0; round < pairs(); ++round) {
      found = 0;
      Prng places(options_.seed + 1);
      const double start = now_seconds();
      for (std::uint64_t i = 0; i < count; ++i) {
        found += map.find(places.below(count), 1 + i % kEpochs) ? 1U : 0U;
      }
      costs.push_back((now_seconds() - start) / static_cast<double>(count) * kNanoseconds);
    }
    report_.add({"lookup_ns", summarise(costs), "ns", costs.size(),
                 std::to_string(map.record_count()) + " records, random places",
                 static_cast<std::uint32_t>(found)});
  }

  // --- without payload ---------------------------------------------------------------------

  void ram() {
    if (!wanted("ram_bytes_per_chunk")) return;
    const std::uint64_t count = options_.smoke ? 4096 : options_.ram_chunks;
    report_.add({"ram_bytes_per_chunk", summarise({ram_bytes_per_chunk(count, options_.seed)}),
                 "bytes", 1,
                 std::to_string(count) +
                     " chunks of 16 KiB at random, 1 snapshot, buffers and bitmaps included",
                 static_cast<std::uint32_t>(count)});
  }

  void reopen() {
    if (!wanted("reopen_s_per_10m_chunks")) return;
    const std::uint64_t count = options_.smoke ? 4096 : options_.reopen_chunks;
    const auto seconds = reopen_seconds_per_10m(count, 3, options_.seed);
    report_.add({"reopen_s_per_10m_chunks", summarise(seconds), "s", seconds.size(),
                 "from " + std::to_string(count) +
                     " chunks of 4 KiB without payload, index in RAM (warm), after kill -9",
                 static_cast<std::uint32_t>(count)});
  }

  MicroOptions options_;
  Report report_;
};

}  // namespace

void run_micro(const MicroOptions& options) { Micro(options).run(); }

}  // namespace umbra::bench
