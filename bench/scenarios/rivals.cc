// SPDX-License-Identifier: Apache-2.0
//
// First writes beside what others do to keep old data, on the same medium, by the same client.
#include <filesystem>
#include <string>
#include <vector>

#include "bench/baselines/nbdkit.h"
#include "bench/baselines/qemu.h"
#include "bench/harness/failure.h"
#include "bench/scenarios/compare.h"
#include "bench/scenarios/scenarios.h"
#include "bench/umbra/world.h"

namespace umbra::bench {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20U;

UmbraVolume ours(Context& context, std::uint64_t size_bytes, std::uint32_t chunk_bytes,
                 const std::string& directory = {}) {
  VolumeShape shape;
  shape.size_bytes = size_bytes;
  shape.chunk_bytes = chunk_bytes;
  shape.directory = directory;
  return {context.world, shape, UmbraVolume::Copies::auto_release};
}

// Both keep 64 KiB at a time and every byte is written: what is copied is the same.
Outcome qemu_dense(Context& context) {
  const std::uint64_t size = context.size(128 * kMiB, 2 * kMiB);
  QemuFleecing theirs(context.world, size);
  UmbraVolume a = ours(context, size, 64U << 10U);
  return compare_first_writes(context, a, theirs, size, {});
}

// Each at its default: of every 64 KiB, 16 are written.
Outcome qemu_sparse(Context& context) {
  const std::uint64_t size = context.size(256 * kMiB, 4 * kMiB);
  QemuFleecing theirs(context.world, size);
  UmbraVolume a = ours(context, size, 16U << 10U);
  Shape shape;
  shape.stride_bytes = 64U << 10U;
  return compare_first_writes(context, a, theirs, size, shape);
}

Outcome nbdkit_cow(Context& context) {
  const std::uint64_t size = context.size(128 * kMiB, 2 * kMiB);
  NbdkitCow theirs(context.world, size);
  UmbraVolume a = ours(context, size, 16U << 10U);
  return compare_first_writes(context, a, theirs, size, {});
}

Outcome qcow2(Context& context) {
  const std::uint64_t size = context.size(128 * kMiB, 2 * kMiB);
  Qcow2Internal theirs(context.world, size);
  UmbraVolume a = ours(context, size, 16U << 10U);
  return compare_first_writes(context, a, theirs, size, {});
}

// Ours on the same file system, copying; the loop device is in memory.
constexpr std::uint64_t kSharedFileSystem = 1024 * kMiB;

Outcome xfs(Context& context) {
  const std::uint64_t size = context.size(64 * kMiB, 2 * kMiB);
  const LoopMount mount(context.world.scratch(), context.world.fresh_name("xfs"), "mkfs.xfs",
                        "xfsprogs", context.size(kSharedFileSystem, 400 * kMiB));
  XfsReflink theirs(context.world, size, mount.path(""));
  UmbraVolume a = ours(context, size, 16U << 10U, mount.path("."));
  Outcome outcome = compare_first_writes(context, a, theirs, size, {});
  outcome.medium = "XFS on a loop device on " + context.world.medium();
  return outcome;
}

Outcome btrfs(Context& context) {
  const std::uint64_t size = context.size(64 * kMiB, 2 * kMiB);
  const LoopMount mount(context.world.scratch(), context.world.fresh_name("btrfs"), "mkfs.btrfs",
                        "btrfs-progs", context.size(kSharedFileSystem, 400 * kMiB));
  const std::string volume = mount.path("volume");
  (void)run_program({require_program("btrfs", "btrfs-progs"), "subvolume", "create", volume});
  BtrfsSnapshot theirs(context.world, size, volume, mount.path("copy"));
  UmbraVolume a = ours(context, size, 16U << 10U, mount.path("."));
  Outcome outcome = compare_first_writes(context, a, theirs, size, {});
  outcome.medium = "btrfs on a loop device on " + context.world.medium();
  return outcome;
}

Outcome dm(Context&) {
  throw Skipped(
      "device-mapper needs a kernel that has it: tests/kernel/vm boots one, see docs/bench.md");
}

}  // namespace

std::vector<Scenario> rival_scenarios() {
  return {
      {"first_write_vs_qemu_cbw", "ratio", Target{3.5}, 7,
       "16 KiB first writes, dense, 64 KiB chunks / qemu-storage-daemon copy-before-write",
       qemu_dense},
      {"first_write_16k_vs_qemu_cbw", "ratio", Target{12}, 7,
       "16 KiB first writes, one in four, each at its default chunk / the same", qemu_sparse},
      {"first_write_vs_nbdkit_cow", "ratio", std::nullopt, 7,
       "16 KiB first writes / nbdkit --filter=cow", nbdkit_cow},
      {"first_write_vs_qcow2_internal", "ratio", std::nullopt, 7,
       "16 KiB first writes / qcow2 with an internal snapshot", qcow2},
      {"first_write_vs_xfs_reflink", "ratio", std::nullopt, 7,
       "16 KiB first writes on XFS / nbdkit file there after a reflink copy (root)", xfs, true},
      {"first_write_vs_btrfs_snapshot", "ratio", std::nullopt, 7,
       "16 KiB first writes on btrfs / nbdkit file there after a snapshot (root)", btrfs, true},
      {"dm_first_write_ratio", "ratio", Target{0.6}, 7,
       "ublk volume with 1 and 4 snapshots / without; dm-snapshot beside it, in the VM", dm},
  };
}

}  // namespace umbra::bench
