// SPDX-License-Identifier: Apache-2.0
//
// `umbra-bench micro`: what the copy-on-write store costs per operation, in this process, without a
// server in front of it.
//
//   first_write_vs_plain            first write to each chunk under an auto-release snapshot / none
//   first_write_4k_vs_plain         the same with chunks and requests of 4 KiB, depth 32
//   first_write_persistent_vs_plain a persistent snapshot, a flush every 32 writes on both sides
//   rewrite_vs_plain                the second write to each chunk / no snapshot
//   first_write_N_vs_1              with N snapshots on the volume / with 1 (64, 512, 4096)
//   snapshot_read_vs_plain          4 KiB of the oldest of 512 snapshots, half of the chunks
//                                   preserved at random somewhere above it / of the live volume
//   preserve_ns, rewrite_ns, snapshot_read_ns
//                                   the A side of the pairs above, per operation; the B side beside
//   lookup_ns                       one look into the map, 512 epochs
//   ram_bytes_per_chunk             resident memory per preserved chunk, bitmaps included
//   reopen_s_per_10m_chunks         opening after kill -9
//
// Ratios are speeds, from interleaved pairs; each line carries a digest of what was read back and
// found right. The last three use disks that keep no payload.
#pragma once

#include <cstdint>
#include <string>

#include "bench/micro/bench_volume.h"

namespace umbra::bench {

struct MicroOptions {
  Medium medium;
  bool smoke = false;  // Sizes at which a figure means nothing and everything is run.
  std::size_t pairs = 20;
  std::uint64_t seed = 1;
  std::string only;  // A part of the keys; empty: all.
  bool json = false;
  std::uint64_t reopen_chunks = 10'000'000;
  std::uint64_t ram_chunks = 1'000'000;
};

/// Prints. Throws Failed if something is wrong with the data.
void run_micro(const MicroOptions& options);

}  // namespace umbra::bench
