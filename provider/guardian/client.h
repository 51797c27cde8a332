// SPDX-License-Identifier: Apache-2.0
//
// umbra-cowd's side of the guardian (docs/guardian.md): asks it to flush and freeze file systems,
// thaws them, and leaves descriptors with it that must outlive umbra-cowd.
//
// Guarantee: what freeze() froze is thawed at the end of its lease, whatever happens to the
// guardian. Each set is frozen by a process of its own, the holder, which thaws by itself at the
// end of the lease; thaw() talks to the holder and not to the guardian. If the holder is dead or
// stopped too, this object thaws through mount descriptors of its own. It never freezes.
//
// A FITHAW waits for writes to the volume, which our process serves: every FITHAW that is issued
// here runs on a thread of its own that owns nothing but its descriptor.

#pragma once

#include <chrono>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "engine/platform/log.h"
#include "engine/platform/unique_fd.h"
#include "provider/contract/ports.h"
#include "umbra/result.h"

namespace umbra::guardian {

/// What keep() left with the guardian.
struct KeptDescriptor {
  std::string name;
  UniqueFd fd;
  std::string payload;
};

inline constexpr std::size_t kKeptNameBytesMax = 255;
inline constexpr std::size_t kKeptPayloadBytesMax = 64 * 1024;
inline constexpr std::size_t kKeptCountMax = 512;  // A session per volume.

/// Threads: every member from any thread. Destruction thaws what is still frozen.
class GuardianClient final : public contract::Freezer {
 public:
  /// Takes over `fd`, the number that the guardian passed with --guardian-fd, and says hello.
  /// Blocks at most 5 s. Starts one thread with all signals blocked. `log` must outlive the object.
  /// Errors: version_mismatch; protocol_violation (not a guardian's descriptor); coordinator_lost
  /// (the guardian is gone or does not answer).
  [[nodiscard]] static Result<std::unique_ptr<GuardianClient>> connect(UniqueFd fd, Log& log);

  ~GuardianClient() override;
  GuardianClient(const GuardianClient&) = delete;
  GuardianClient& operator=(const GuardianClient&) = delete;

  /// The guardian keeps a duplicate of `fd` and the payload until drop(), over any number of
  /// restarts of this process, and closes it when it gives up restarting us or after our clean
  /// exit: the last close of a /dev/fuse descriptor aborts the connection, so nothing waits for
  /// ever. A kept entry of the same name is replaced. Blocks at most 5 s. Errors: invalid_argument
  /// (an empty name, or name or payload too long); limit_reached; coordinator_lost.
  [[nodiscard]] Status keep(std::string_view name, int fd, std::string_view payload);
  /// Everything that is kept, also from the life before this one; descriptors are duplicates.
  /// Blocks at most 5 s. Errors: coordinator_lost.
  [[nodiscard]] Result<std::vector<KeptDescriptor>> kept();
  /// An unknown name is no error. Blocks at most 5 s. Errors: coordinator_lost.
  [[nodiscard]] Status drop(std::string_view name);

  /// Everything that kept() gave is served again. A successor that does not say so within the
  /// guardian's --serve-limit-ms is taken to hang and killed, as often as the guardian restarts at
  /// all; a first process, for which nothing is kept, is given any time. Blocks at most 5 s.
  /// Errors: coordinator_lost.
  [[nodiscard]] Status serving();

  /// False once the guardian has gone: nothing can be frozen or kept any more.
  [[nodiscard]] bool connected() const noexcept;

  // contract::Freezer. Devices are device numbers as st_rdev holds them; file systems on
  // partitions of a device and on what is stacked on it (LUKS, LVM) count as mounted from it.
  // Further errors of flush() and freeze(): freeze_failed (the guardian is gone); limit_reached.
  [[nodiscard]] Status flush(const std::vector<std::uint64_t>& devices,
                             std::chrono::milliseconds limit, std::stop_token stop) override;
  [[nodiscard]] Status freeze(const SnapshotSetId& set, const std::vector<std::uint64_t>& devices,
                              std::chrono::milliseconds limit, std::chrono::milliseconds lease,
                              std::stop_token stop) override;
  [[nodiscard]] Result<contract::Thawed> thaw(const SnapshotSetId& set) override;

 private:
  class Impl;
  explicit GuardianClient(std::unique_ptr<Impl> impl) noexcept;
  std::unique_ptr<Impl> impl_;
};

}  // namespace umbra::guardian
