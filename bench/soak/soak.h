// SPDX-License-Identifier: Apache-2.0
//
// `umbra-bench soak`: everything that the harness has, mixed, for as long as is wanted, with every
// byte compared; and whether memory, descriptors and latency stay where they are.
//
// Two volumes. The `busy` one is written all the time by a thread. The `still` one is written by
// the main thread alone, which therefore knows what each copy of it has to show, to the byte; of
// copies of the busy one it knows for each 4 KiB between which two writes they have to be. The main
// thread does in turn, at random: writes; sets of both volumes, auto-release and persistent;
// reading one of them, all of it; deleting one, or ending its session; reading the live volume;
// reverting the still one. In the first two fifths of the time umbra-cowd is killed (kill -9) now
// and then under the load, and its guardian starts it again; after that it is one process, whose
// drift can be seen.
#pragma once

#include <cstdint>
#include <string>

namespace umbra::bench {

struct SoakOptions {
  double minutes = 10;
  bool smoke = false;  // Each thing once, and a second of the mix.
  bool json = false;
  std::uint64_t seed = 1;
  std::string directory{};  // Of all files.
};

/// Prints. Throws Failed if a byte was wrong or something was left, Interrupted.
void run_soak(const SoakOptions& options);

}  // namespace umbra::bench
