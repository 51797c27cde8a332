// SPDX-License-Identifier: Apache-2.0
#include "bench/umbra/world.h"

#include <algorithm>
#include <chrono>
#include <filesystem>

#include "bench/harness/failure.h"
#include "provider/format/diff_area.h"
#include "umbra/requester/management.h"

namespace umbra::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kReclaimLimit{60};
// Between two steps of reclaiming, at most.
constexpr std::chrono::milliseconds kReclaimPause{500};
constexpr std::uint64_t kDiffBytesLeast = std::uint64_t{40} << 20U;

std::string own_program(const std::string& name) {
  std::string path = own_directory() + "/" + name;
  if (!std::filesystem::exists(path)) {
    give_up("there is no " + path + ": build the targets umbrad, umbra-cowd and umbra-guardian");
  }
  return path;
}

}  // namespace

World::~World() {
  client_.reset();
  cowd_.stop();
  umbrad_.stop();
}

requester::ConnectOptions World::connect_options() const {
  requester::ConnectOptions options;
  options.socket_path = run_directory() + "/umbrad.sock";
  options.admin = true;
  options.program = "umbra-bench";
  return options;
}

requester::Client& World::client() {
  if (client_) return *client_;
  ChildOptions options;
  options.orderly = true;
  options.log_path = scratch_.path("umbrad.log");
  umbrad_ = Child::start({own_program("umbrad"), "--run-dir", run_directory()}, options);
  umbrad_.wait_until_listening(run_directory() + "/umbrad.sock");
  start_cowd();
  client_ = must(requester::Client::connect(connect_options()), "connecting to umbrad");
  const auto end = Clock::now() + kStartLimit;
  while (true) {
    const auto providers = must(client_->list_providers(), "listing providers");
    if (std::any_of(providers.begin(), providers.end(),
                    [](const auto& p) { return p.connected; })) {
      return *client_;
    }
    if (cowd_.wait(std::chrono::milliseconds(5))) cowd_.fail("it ended");
    if (Clock::now() > end) cowd_.fail("umbrad does not know it");
  }
}

void World::start_cowd() {
  ChildOptions options;
  options.orderly = true;
  options.log_path = scratch_.path("cowd.log");
  (void)own_program("umbra-guardian");
  cowd_ = Child::start({own_program("umbra-cowd"), "--run-dir", run_directory(), "--state-dir",
                        scratch_.path("state")},
                       options);
}

int World::cowd_pid() const { return cowd_.started() ? child_of(cowd_.pid(), "umbra-cowd") : 0; }

void World::kill_cowd() {
  const int victim = cowd_pid();
  if (victim == 0) cowd_.fail("its guardian has no umbra-cowd");
  kill_at_once(victim);
  const auto end = Clock::now() + kStopLimit;
  while (is_alive(victim)) {
    if (Clock::now() > end) cowd_.fail("it did not end by kill -9");
    pause_briefly();
  }
}

void World::kill_cowd_for_good() {
  const int victim = cowd_pid();
  kill_at_once(cowd_.pid());  // First: it would start another one.
  kill_at_once(victim);
  const auto end = Clock::now() + kStopLimit;
  while (is_alive(victim) || !cowd_.wait(std::chrono::milliseconds(5))) {
    if (Clock::now() > end) cowd_.fail("it did not end by kill -9");
    pause_briefly();
  }
}

void World::await(const VolumeRef& volume) {
  requester::Management management(client());
  const auto end = Clock::now() + kStartLimit;
  while (true) {
    const auto areas = management.query_diff_areas_for_volume(volume);
    if (areas && areas->size() == 1) return;
    if (cowd_.wait(std::chrono::milliseconds(2))) cowd_.fail("the guardian gave up");
    if (Clock::now() > end) {
      cowd_.fail("the volume does not come back" +
                 (areas ? std::string() : ": " + areas.error().to_string()));
    }
  }
}

void World::stop() {
  client_.reset();
  for (Child* child : {&cowd_, &umbrad_}) {
    if (!child->started()) continue;
    child->stop();
    if (child->exit_status() != 0) {
      child->fail("it ended with " + std::to_string(child->exit_status()));
    }
  }
}

UmbraVolume::UmbraVolume(World& world, const VolumeShape& shape, Copies copies)
    : world_(world), shape_(shape), copies_(copies) {
  const std::string name = world.fresh_name("volume");
  if (shape_.directory.empty()) shape_.directory = world.scratch().path();
  origin_ = shape_.directory + "/" + name + ".img";
  diff_ = shape_.directory + "/" + name + ".diff";
  if (shape.is_sparse) {
    make_sparse_file(origin_, shape.size_bytes);
  } else {
    make_touched_file(origin_, shape.size_bytes);
  }
  requester::AttachOptions options;
  options.origin_path = origin_;
  options.diff_area_path = diff_;
  options.name = name;
  options.chunk_bytes = shape.chunk_bytes;
  options.diff_initial_bytes =
      kDiffBytesLeast +
      static_cast<std::uint64_t>(static_cast<double>(shape.size_bytes) * shape.copies * 1.25);
  options.front_end = requester::FrontEnd::none;
  volume_ = must(world.client().attach_volume(options), "attaching a volume").volume;
}

UmbraVolume::~UmbraVolume() {
  // Of a failure on the way out nobody wants to hear: the daemons end, the directory goes.
  // Persistent copies may stay in a diff area that goes; the others' sessions would end late.
  for (const Copy& copy : taken_) {
    if (!copy.session) continue;
    (void)world_.client().delete_snapshots(copy.properties.snapshot_id, ObjectType::snapshot, true);
  }
  taken_.clear();
  (void)world_.client().detach_volume(ref());
  std::error_code ignored;
  (void)std::filesystem::remove(origin_, ignored);
  (void)std::filesystem::remove(diff_, ignored);
}

std::string UmbraVolume::name() const {
  const std::string chunk = " (" + std::to_string(shape_.chunk_bytes >> 10U) + " KiB chunks)";
  switch (copies_) {
    case Copies::none: return "umbra-cowd without a snapshot" + chunk;
    case Copies::auto_release: return "umbra-cowd, auto-release snapshot" + chunk;
    case Copies::persistent: return "umbra-cowd, persistent snapshot" + chunk;
    case Copies::auto_release_over_persistent:
      return "umbra-cowd, auto-release over persistent snapshot" + chunk;
  }
  return "umbra-cowd";
}

std::string UmbraVolume::medium() const { return medium_of(shape_.directory); }

VolumeRef UmbraVolume::ref() const {
  VolumeRef ref;
  ref.id = volume_.volume_id;
  return ref;
}

std::uint64_t UmbraVolume::segment_bytes() const {
  return format::Layout::of(shape_.chunk_bytes, 512).segment_bytes;
}

std::uint64_t UmbraVolume::used_bytes() {
  requester::Management management(world_.client());
  const auto areas = must(management.query_diff_areas_for_volume(ref()), "asking for a diff area");
  if (areas.size() != 1) give_up("the volume has no diff area");
  if (areas[0].state != "ok") give_up("the diff area's state: " + areas[0].state);
  return areas[0].used_bytes;
}

const SnapshotProperties& UmbraVolume::take(bool persistent) {
  auto session = must(requester::BackupSession::connect(world_.connect_options()), "a session");
  requester::CreateOptions options;
  options.volumes = {ref()};
  // Neither has writers: what is measured is the store.
  options.context = persistent ? context::kNasRollback : context::kFileShareBackup;
  const auto set = must(session.create_snapshot_set(options), "making a copy");
  taken_.push_back({set.snapshots.at(0), std::nullopt});
  if (!persistent) taken_.back().session.emplace(std::move(session));
  return taken_.back().properties;
}

void UmbraVolume::protect() {
  kept_ = taken_.size();
  used_before_ = used_bytes();
  switch (copies_) {
    case Copies::none: break;
    case Copies::auto_release: (void)take(false); break;
    case Copies::persistent: (void)take(true); break;
    case Copies::auto_release_over_persistent:
      (void)take(true);
      (void)take(false);
      break;
  }
}

void UmbraVolume::drop_newest() {
  const auto deleted = must(world_.client().delete_snapshots(taken_.back().properties.snapshot_id,
                                                             ObjectType::snapshot, true),
                            "deleting a copy");
  must(deleted.status, "deleting a copy");
  taken_.pop_back();
}

void UmbraVolume::release() {
  while (taken_.size() > kept_) drop_newest();
  // What it had preserved is given back in the background: not while somebody else is measured. The
  // segment that is written now stays in use. So does what older copies resolve through: where
  // there are such, all is done when nothing changes any more.
  const auto begin = Clock::now();
  auto last_change = begin;
  for (std::uint64_t used = used_bytes(); used > used_before_ + segment_bytes();) {
    if (kept_ > 0 && Clock::now() > last_change + kReclaimPause) return;
    if (Clock::now() > begin + kReclaimLimit) {
      give_up("the space of a deleted copy is not given back");
    }
    pause_briefly();
    const std::uint64_t now_used = used_bytes();
    if (now_used != used) last_change = Clock::now();
    used = now_used;
  }
}

std::uint32_t UmbraVolume::verify_copy(const Content& content, std::uint32_t digest) {
  if (copies_ == Copies::none) return digest;
  for (std::size_t i = kept_; i < taken_.size(); ++i) {
    digest = verify_uri(taken_[i].properties.nbd_uri, content, digest, name() + ", the copy,");
  }
  return digest;
}

}  // namespace umbra::bench
