// SPDX-License-Identifier: Apache-2.0
//
// Sets: how long writes are held, and writers frozen.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "bench/harness/failure.h"
#include "bench/load/background_load.h"
#include "bench/scenarios/scenarios.h"
#include "bench/umbra/world.h"
#include "umbra/writer/writer.h"

namespace umbra::bench {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20U;

using Clock = std::chrono::steady_clock;

std::vector<double> hold_times(Context& context,
                               const std::vector<std::unique_ptr<UmbraVolume>>& volumes,
                               std::size_t count) {
  auto session =
      must(requester::BackupSession::connect(context.world.connect_options()), "a session");
  std::vector<double> microseconds;
  for (std::size_t i = 0; i < count; ++i) {
    session = must(requester::BackupSession::connect(context.world.connect_options()), "a session");
    requester::CreateOptions options;
    for (const auto& volume : volumes) options.volumes.push_back(volume->ref());
    options.context = context::kNasRollback;
    const auto set = must(session.create_snapshot_set(options), "making a set");
    microseconds.push_back(static_cast<double>(set.report.hold.gate.count()));
    const auto deleted = must(session.delete_snapshots(set.set_id, ObjectType::snapshot_set, true),
                              "deleting a set");
    must(deleted.status, "deleting a set");
    check_interrupted();
  }
  return microseconds;
}

double p99_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[(values.size() * 99 + 99) / 100 - 1];
}

// One repetition is the p99 of a hundred holds while all volumes are written. `depth`: in flight on
// each.
Outcome hold(Context& context, std::size_t count, std::size_t depth) {
  const std::uint64_t size = context.size(count == 1 ? 64 * kMiB : 8 * kMiB, kMiB);
  VolumeShape shape;
  shape.size_bytes = size;
  std::vector<std::unique_ptr<UmbraVolume>> volumes;
  BackgroundOptions options;
  for (std::size_t i = 0; i < count; ++i) {
    volumes.push_back(
        std::make_unique<UmbraVolume>(context.world, shape, UmbraVolume::Copies::none));
    options.uris.push_back(volumes.back()->uri());
  }
  options.size_bytes = size;
  options.depth = depth;
  options.seed = context.options.seed;
  const std::size_t holds = context.size(100, 3);
  Outcome outcome;
  outcome.medium = volumes[0]->medium();
  const std::vector<double> idle =
      hold_times(context, volumes, std::max<std::size_t>(holds / 5, 2));
  const auto load = BackgroundLoad::start(options);
  for (std::size_t rep = 0; rep < context.reps; ++rep) {
    (void)load->completed();  // It still runs.
    outcome.values.push_back(p99_of(hold_times(context, volumes, holds)));
  }
  load->stop();
  outcome.digest = load->verify();
  outcome.baseline =
      "idle volumes, median " + std::to_string(static_cast<long>(summarise(idle).median)) + " us";
  return outcome;
}

Outcome hold_1(Context& context) { return hold(context, 1, 32); }

// The figure is that of 32 in flight on each volume; 32 on all together beside it.
Outcome hold_64(Context& context) {
  const std::size_t count = context.size(64, 4);
  Outcome outcome = hold(context, count, 32);
  Outcome lighter = hold(context, count, 1);
  outcome.beside.push_back(
      {"one write in flight on each volume", lighter.values, lighter.baseline});
  outcome.digest = both(outcome.digest, lighter.digest);
  return outcome;
}

// --- freeze to thaw --------------------------------------------------------------------------

struct Moments {
  std::atomic<std::int64_t> first_freeze{0};
  std::atomic<std::int64_t> last_thaw{0};
  std::atomic<int> freezes{0};
  std::atomic<int> thaws{0};
  void reset() {
    first_freeze = 0;
    last_thaw = 0;
    freezes = 0;
    thaws = 0;
  }
};

std::int64_t now_nanoseconds() { return Clock::now().time_since_epoch().count(); }

// Answers at once, and notes when it was asked.
class InstantWriter final : public writer::Writer {
 public:
  explicit InstantWriter(Moments& moments) : moments_(moments) {}
  [[nodiscard]] Status on_prepare_for_snapshot(writer::Context&) override { return {}; }
  [[nodiscard]] Status on_freeze(writer::Context&) override {
    std::int64_t none = 0;
    (void)moments_.first_freeze.compare_exchange_strong(none, now_nanoseconds());
    ++moments_.freezes;
    return {};
  }
  void on_thaw(writer::Context&) noexcept override {
    const std::int64_t now = now_nanoseconds();
    for (std::int64_t last = moments_.last_thaw.load();
         last < now && !moments_.last_thaw.compare_exchange_weak(last, now);) {
    }
    ++moments_.thaws;
  }
  void on_abort(writer::Context&) noexcept override {}

 private:
  Moments& moments_;
};

// Of the volumes as wholes, so that every writer takes part.
void make_set(Context& context, UmbraVolume& volume) {
  auto session =
      must(requester::BackupSession::connect(context.world.connect_options()), "a session");
  (void)must(session.initialize_for_backup(), "InitializeForBackup");
  must(session.set_context(context::kBackup), "SetContext");
  requester::BackupState state;
  state.component_mode = false;
  must(session.set_backup_state(state), "SetBackupState");
  must(session.gather_writer_metadata(), "GatherWriterMetadata");
  (void)must(session.start_snapshot_set(std::chrono::seconds(10)), "StartSnapshotSet");
  (void)must(session.add_to_snapshot_set(volume.ref()), "AddToSnapshotSet");
  must(session.prepare_for_backup(), "PrepareForBackup");
  must(session.do_snapshot_set(), "DoSnapshotSet");
}

std::vector<double> freeze_times(Context& context, UmbraVolume& volume, std::size_t count) {
  Moments moments;
  std::vector<std::unique_ptr<InstantWriter>> writers;
  std::vector<writer::Session> sessions;
  for (std::size_t i = 0; i < count; ++i) {
    writers.push_back(std::make_unique<InstantWriter>(moments));
    writer::Options options;
    options.class_id = WriterClassId::random();
    options.name = "umbra-bench " + std::to_string(i + 1);
    options.socket_path = context.world.connect_options().socket_path;
    sessions.push_back(must(writer::Session::connect(*writers.back(), options), "a writer"));
  }
  std::vector<double> milliseconds;
  for (std::size_t rep = 0; rep <= context.reps; ++rep) {
    moments.reset();
    make_set(context, volume);
    if (moments.freezes != static_cast<int>(count) || moments.thaws != static_cast<int>(count)) {
      give_up("not every writer was frozen and thawed once");
    }
    const auto taken = moments.last_thaw.load() - moments.first_freeze.load();
    if (rep > 0) milliseconds.push_back(static_cast<double>(taken) / 1e6);  // The first: warm-up.
    check_interrupted();
  }
  return milliseconds;
}

Outcome create_ms(Context& context) {
  VolumeShape shape;
  shape.size_bytes = context.size(64 * kMiB, kMiB);
  UmbraVolume volume(context.world, shape, UmbraVolume::Copies::none);
  Driver driver(volume, shape.size_bytes, context.options.seed);
  Outcome outcome;
  outcome.medium = volume.medium() + ", no file system";
  outcome.values = freeze_times(context, volume, 8);
  Series series{"freeze to thaw", "writers", "ms", {}};
  const std::vector<std::size_t> counts =
      context.options.smoke ? std::vector<std::size_t>{1} : std::vector<std::size_t>{1, 4, 16, 64};
  for (const std::size_t count : counts) {
    const std::vector<double> values = freeze_times(context, volume, count);
    series.points.emplace_back(static_cast<double>(count), summarise(values).median);
    if (count == 1) {
      outcome.baseline = "one writer, median " +
                         std::to_string(static_cast<long>(summarise(values).median * 1000)) + " us";
    } else {
      outcome.beside.push_back({std::to_string(count) + " writers", values});
    }
  }
  outcome.series.push_back(std::move(series));
  outcome.digest = driver.verify_live(0);
  return outcome;
}

}  // namespace

std::vector<Scenario> set_scenarios() {
  return {
      {"hold_us_1", "us", Target{300, false}, 5,
       "p99 of 100 write holds, one volume with 32 writes in flight, persistent", hold_1},
      {"hold_us_64", "us", Target{10'000, false}, 5,
       "p99 of 100 write holds, 64 volumes with 32 writes in flight on each, persistent", hold_64},
      {"create_ms_freeze_to_thaw", "ms", Target{20, false}, 20,
       "first Freeze to last Thaw of 8 writers that answer at once; 1 to 64 beside it", create_ms},
  };
}

}  // namespace umbra::bench
