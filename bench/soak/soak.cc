// SPDX-License-Identifier: Apache-2.0
#include "bench/soak/soak.h"

#include <algorithm>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "bench/harness/drift.h"
#include "bench/harness/failure.h"
#include "bench/harness/scenario.h"
#include "bench/harness/system.h"
#include "bench/load/background_load.h"
#include "bench/load/subject.h"
#include "bench/umbra/world.h"
#include "umbra/requester/management.h"

namespace umbra::bench {
namespace {

namespace json = boost::json;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20U;
constexpr std::size_t kSetsMax = 8;
// The guardian gives up after five failures in a minute.
constexpr double kKillPauseSeconds = 25;
constexpr double kWordSeconds = 60;      // Between two lines of progress.
constexpr double kKillUntil = 0.4;       // Of the time.
constexpr double kWarmUp = 0.1;          // Of the time: not looked at for drift.
constexpr std::size_t kPointsMax = 300;  // Of a plot.
constexpr std::chrono::minutes kRevertLimit{10};
constexpr std::chrono::seconds kGoneLimit{60};

struct Kept {
  requester::SnapshotSetInfo set;
  std::optional<requester::BackupSession> session;  // Of an auto-release set.
  Content still;
  ContentBetween busy;
};

struct Counts {
  std::uint64_t writes = 0;
  std::uint64_t sets = 0;
  std::uint64_t deleted = 0;
  std::uint64_t sessions_ended = 0;
  std::uint64_t copies_read = 0;
  std::uint64_t live_reads = 0;
  std::uint64_t reverts = 0;
  std::uint64_t kills = 0;
};

// More digits would be noise.
double rounded(double value) { return std::round(value * 1000) / 1000; }

struct Watched {
  std::string of;
  std::string unit;
  Samples samples;
};

class Soak {
 public:
  explicit Soak(const SoakOptions& options)
      : options_(options),
        size_(options.smoke ? 2 * kMiB : 64 * kMiB),
        seconds_(options.smoke ? 1 : options.minutes * 60),
        random_(options.seed),
        world_(options.directory) {}

  void run() {
    (void)std::fprintf(stderr, "umbra-bench: soak of %.4g s, seed %llu\n", seconds_,
                       static_cast<unsigned long long>(options_.seed));
    attach();
    begin_ = now_seconds();
    each_once();
    while (elapsed() < seconds_) step();
    load_->stop();
    sample();
    finish();
    print();
  }

 private:
  [[nodiscard]] double elapsed() const { return now_seconds() - begin_; }

  void attach() {
    VolumeShape shape;
    shape.size_bytes = size_;
    still_.emplace(world_, shape, UmbraVolume::Copies::none);
    busy_.emplace(world_, shape, UmbraVolume::Copies::none);
    driver_.emplace(*still_, size_, options_.seed);
    descriptors_at_begin_ = process_use(world_.cowd_pid()).descriptors;
    BackgroundOptions load;
    load.uris = {busy_->uri()};
    load.size_bytes = size_;
    load.depth = 4;
    load.seed = options_.seed + 1;
    load.note_each = true;
    load.reconnect_limit = kStartLimit;
    load_ = BackgroundLoad::start(load);
  }

  // In an order in which each has something to do.
  void each_once() {
    for (const bool persistent : {true, false, true}) {
      make(persistent);
      write();
    }
    read_one();
    kill();
    for (Kept& kept : kept_) read(kept);
    revert(0);
    make(false);
    write();
    end_session(kept_.size() - 1);
    remove(0);
    read_live();
  }

  void step() {
    check_interrupted();
    (void)load_->completed();  // It still runs.
    const bool may_kill =
        elapsed() < kKillUntil * seconds_ && elapsed() > last_kill_ + kKillPauseSeconds;
    const std::uint64_t dice = random_.below(100);
    if (may_kill) {
      kill();
    } else if (dice < 40 || (kept_.empty() && dice >= 58)) {
      write();
    } else if (dice < 58) {
      if (kept_.size() == kSetsMax) remove(random_.below(kept_.size()));
      make(random_.chance(1, 2));
    } else if (dice < 70) {
      const std::size_t which = random_.below(kept_.size());
      if (kept_[which].session && random_.chance(1, 2)) {
        end_session(which);
      } else {
        remove(which);
      }
    } else if (dice < 92) {
      read_one();
    } else if (dice < 97) {
      read_live();
    } else {
      revert(random_.below(kept_.size()));
    }
    const double pause = options_.smoke ? 0.02 : 1;
    if (elapsed() >= last_sample_ + pause) sample();
    if (elapsed() >= last_word_ + kWordSeconds) {
      last_word_ = elapsed();
      (void)std::fprintf(stderr, "umbra-bench: %.0f s, %s\n", last_word_,
                         json::serialize(counts()).c_str());
    }
  }

  // --- what is done ------------------------------------------------------------------------

  void write() {
    Plan plan;
    plan.offsets = driver_->draw({});
    plan.offsets.resize(std::max<std::size_t>(plan.offsets.size() / 8, 1));
    (void)driver_->run(plan);
    driver_->forget_latencies();
    counts_.writes += plan.offsets.size();
  }

  void make(bool persistent) {
    auto session = must(requester::BackupSession::connect(world_.connect_options()), "a session");
    requester::CreateOptions options;
    options.volumes = {still_->ref(), busy_->ref()};
    options.context = persistent ? context::kNasRollback : context::kFileShareBackup;
    Content earliest = load_->content(0).earliest;
    auto set = must(session.create_snapshot_set(options), "making a set");
    if (set.snapshots.size() != 2) give_up("a set of two volumes has not two copies");
    ContentBetween busy{std::move(earliest), load_->content(0).latest};
    kept_.push_back({std::move(set), std::nullopt, driver_->content(), std::move(busy)});
    if (!persistent) kept_.back().session.emplace(std::move(session));
    ++counts_.sets;
  }

  [[nodiscard]] const SnapshotProperties& copy_of(const Kept& kept, UmbraVolume& volume) const {
    const auto& all = kept.set.snapshots;
    return all[all[0].volume_id == volume.properties().volume_id ? 0 : 1];
  }

  void read(const Kept& kept) {
    digest_ = verify_uri(copy_of(kept, *still_).nbd_uri, kept.still, digest_, "a copy");
    // What the busy one's copies hold is another thing each time: not in the digest.
    (void)NbdLoad(copy_of(kept, *busy_).nbd_uri)
        .verify_since(kept.busy.earliest, kept.busy.latest, 0, "a copy of the busy volume");
    counts_.copies_read += 2;
  }
  void read_one() { read(kept_[random_.below(kept_.size())]); }

  void read_live() {
    digest_ = driver_->verify_live(digest_);
    ++counts_.live_reads;
  }

  void await_gone(const SnapshotSetId& set) {
    const double end = now_seconds() + static_cast<double>(kGoneLimit.count());
    while (true) {
      const auto list = must(world_.client().list_snapshots(), "listing copies");
      if (std::none_of(list.snapshots.begin(), list.snapshots.end(),
                       [&](const auto& copy) { return copy.set_id == set; })) {
        return;
      }
      if (now_seconds() > end) give_up("a copy whose session has ended does not go");
      pause_briefly();
    }
  }

  void forget(std::size_t which) {
    kept_.erase(kept_.begin() + static_cast<std::ptrdiff_t>(which));
  }

  void end_session(std::size_t which) {
    const SnapshotSetId set = kept_[which].set.set_id;
    kept_[which].session.reset();
    await_gone(set);
    forget(which);
    ++counts_.sessions_ended;
  }

  void remove(std::size_t which) {
    const auto deleted = must(
        world_.client().delete_snapshots(kept_[which].set.set_id, ObjectType::snapshot_set, true),
        "deleting a set");
    must(deleted.status, "deleting a set");
    if (deleted.deleted != 2) give_up("deleting a set of two copies did not delete two");
    forget(which);
    ++counts_.deleted;
  }

  // To the nearest persistent one below.
  void revert(std::size_t which) {
    while (kept_[which].session) {
      if (which == 0) return;
      --which;
    }
    while (kept_.size() > which + 1) remove(kept_.size() - 1);
    const Kept& target = kept_[which];
    requester::Management management(world_.client());
    const auto operation = must(management.revert_to_snapshot(copy_of(target, *still_).snapshot_id),
                                "reverting a volume");
    const auto ended = must(management.wait_operation(operation, kRevertLimit), "a revert");
    if (ended.status != Errc::async_finished) give_up("a revert has failed: " + ended.context);
    driver_->went_back_to(target.still);
    read_live();
    read(target);
    ++counts_.reverts;
  }

  // The load goes on meanwhile, as well as it can.
  void kill() {
    world_.kill_cowd();
    world_.await(still_->ref());
    world_.await(busy_->ref());
    const std::uint64_t answered = load_->completed();
    while (load_->completed() == answered) pause_briefly();
    (void)load_->take_samples();  // Not of requests that waited for its successor.
    read_live();
    last_kill_ = elapsed();
    ++counts_.kills;
  }

  // --- what is watched ---------------------------------------------------------------------

  void sample() {
    last_sample_ = elapsed();
    const auto add = [this](Watched& watched, double value) {
      watched.samples.emplace_back(last_sample_, value);
    };
    const ProcessUse umbrad = process_use(world_.umbrad_pid());
    const ProcessUse cowd = process_use(world_.cowd_pid());
    add(umbrad_memory_, static_cast<double>(umbrad.resident_bytes) / kMiB);
    add(umbrad_descriptors_, static_cast<double>(umbrad.descriptors));
    add(cowd_memory_, static_cast<double>(cowd.resident_bytes) / kMiB);
    add(cowd_descriptors_, static_cast<double>(cowd.descriptors));
    std::vector<std::uint32_t> latencies;
    for (const Sample& one : load_->take_samples()) latencies.push_back(one.latency_ns);
    counts_.writes += latencies.size();
    if (latencies.empty()) return;
    add(p50_, quantile(latencies, 0.5) / 1e3);
    add(p99_, quantile(latencies, 0.99) / 1e3);
  }

  // Without the beginning, and of umbra-cowd without its former lives.
  [[nodiscard]] Samples settled(const Watched& watched) const {
    const bool is_cowd = &watched == &cowd_memory_ || &watched == &cowd_descriptors_;
    const double since = is_cowd ? last_kill_ : 0;
    const double from = since + kWarmUp * (watched.samples.back().first - since);
    Samples kept;
    for (const auto& sample : watched.samples) {
      if (sample.first >= from) kept.push_back(sample);
    }
    return kept;
  }

  // --- the end -----------------------------------------------------------------------------

  void finish() {
    ran_ = elapsed();
    (void)load_->verify();
    read_live();
    for (const Kept& kept : kept_) read(kept);
    while (!kept_.empty()) remove(kept_.size() - 1);
    load_.reset();
    descriptors_at_end_ = process_use(world_.cowd_pid()).descriptors;
    expect_nothing_left();
  }

  void expect_nothing_left() {
    requester::SnapshotQuery all;
    all.incomplete = true;
    const auto copies = must(world_.client().list_snapshots(all), "listing copies");
    if (!copies.snapshots.empty()) {
      give_up(std::to_string(copies.snapshots.size()) + " copies are left");
    }
    must(world_.client().detach_volume(still_->ref()), "detaching");
    must(world_.client().detach_volume(busy_->ref()), "detaching");
    const auto volumes = must(world_.client().list_volumes(), "listing volumes");
    if (!volumes.volumes.empty()) give_up("volumes are left");
    requester::Management management(world_.client());
    for (const auto& one : must(management.list_operations(), "listing operations")) {
      if (one.status == Errc::async_pending) give_up("an operation still runs: " + one.kind);
    }
    const int cowd = world_.cowd_pid();
    world_.stop();
    if (is_alive(cowd)) give_up("umbra-cowd is left");
  }

  // --- printing ----------------------------------------------------------------------------

  [[nodiscard]] std::vector<const Watched*> watched() const {
    return {&cowd_memory_, &umbrad_memory_, &cowd_descriptors_, &umbrad_descriptors_, &p50_, &p99_};
  }

  // So few points that a plot shows them: medians of equal pieces.
  [[nodiscard]] static json::array points_of(const Samples& samples) {
    json::array points;
    const std::size_t each = samples.size() / kPointsMax + 1;
    for (std::size_t at = 0; at < samples.size(); at += each) {
      std::vector<double> values;
      for (std::size_t i = at; i < std::min(at + each, samples.size()); ++i) {
        values.push_back(samples[i].second);
      }
      points.push_back({rounded(samples[at].first), rounded(summarise(values).median)});
    }
    return points;
  }

  [[nodiscard]] json::object counts() const {
    return {{"writes", counts_.writes},           {"sets_made", counts_.sets},
            {"sets_deleted", counts_.deleted},    {"sessions_ended", counts_.sessions_ended},
            {"copies_read", counts_.copies_read}, {"live_volume_read", counts_.live_reads},
            {"reverts", counts_.reverts},         {"kills", counts_.kills}};
  }

  void print() const {
    json::array drifts;
    json::array series;
    std::string text;
    for (const Watched* one : watched()) {
      if (one->samples.empty()) give_up("there is no sample of " + one->of);
      const Drift drift = drift_of(settled(*one));
      drifts.push_back(json::object{{"of", one->of},
                                    {"unit", one->unit},
                                    {"first_quarter", rounded(drift.first_quarter)},
                                    {"last_quarter", rounded(drift.last_quarter)},
                                    {"slope_per_hour", rounded(drift.slope_per_hour)},
                                    {"samples", one->samples.size()}});
      series.push_back(json::object{{"name", one->of},
                                    {"x", "seconds"},
                                    {"y", one->unit},
                                    {"points", points_of(one->samples)}});
      char line[160];
      (void)std::snprintf(line, sizeof line, "%-26s %10.4g %10.4g %+12.3g  %s\n", one->of.c_str(),
                          drift.first_quarter, drift.last_quarter, drift.slope_per_hour,
                          one->unit.c_str());
      text += line;
    }
    if (!options_.json) {
      char head[160];
      (void)std::snprintf(head, sizeof head, "%-26s %10s %10s %12s\n", "", "first 1/4", "last 1/4",
                          "per hour");
      text = head + text;
      for (const auto& [name, count] : counts()) {
        text += std::string(name) + ": " + std::to_string(count.to_number<std::uint64_t>()) + "\n";
      }
      text += "descriptors of umbra-cowd at rest: " + std::to_string(descriptors_at_begin_) +
              " at the beginning, " + std::to_string(descriptors_at_end_) + " at the end\n";
      text += "no byte was wrong, nothing is left\n";
    } else {
      char digest[16];
      (void)std::snprintf(digest, sizeof digest, "%08x", digest_);
      text = json::serialize(json::object{
                 {"soak", json::object{{"seconds", rounded(ran_)},
                                       {"medium", world_.medium()},
                                       {"seed", options_.seed},
                                       {"smoke", options_.smoke},
                                       {"digest", digest},
                                       {"counts", counts()},
                                       {"cowd_descriptors_at_begin", descriptors_at_begin_},
                                       {"cowd_descriptors_at_end", descriptors_at_end_},
                                       {"drift", std::move(drifts)},
                                       {"series", std::move(series)}}}}) +
             "\n";
    }
    (void)std::fwrite(text.data(), 1, text.size(), stdout);
    (void)std::fflush(stdout);
  }

  SoakOptions options_;
  std::uint64_t size_;
  double seconds_;
  Prng random_;
  World world_;
  std::optional<UmbraVolume> still_;
  std::optional<UmbraVolume> busy_;
  std::optional<Driver> driver_;
  std::unique_ptr<BackgroundLoad> load_;
  std::deque<Kept> kept_;
  Counts counts_;
  double begin_ = 0;
  double ran_ = 0;
  double last_kill_ = 0;
  double last_sample_ = 0;
  double last_word_ = 0;
  std::uint64_t descriptors_at_begin_ = 0;
  std::uint64_t descriptors_at_end_ = 0;
  std::uint32_t digest_ = 0;
  Watched cowd_memory_{"memory of umbra-cowd", "MiB", {}};
  Watched umbrad_memory_{"memory of umbrad", "MiB", {}};
  Watched cowd_descriptors_{"descriptors of umbra-cowd", "", {}};
  Watched umbrad_descriptors_{"descriptors of umbrad", "", {}};
  Watched p50_{"write latency, p50", "us", {}};
  Watched p99_{"write latency, p99", "us", {}};
};

}  // namespace

void run_soak(const SoakOptions& options) { Soak(options).run(); }

}  // namespace umbra::bench
