// SPDX-License-Identifier: Apache-2.0
//
// umbra-cowd, joined: what is built in which order, and taken down in the reverse one.
//
//   start  locks, log, guardian, state, NBD server, front ends (sessions taken over), provider,
//          volumes attached again and their copies surfaced, waiting requests answered, umbrad, the
//          service manager is told
//   stop   umbrad (running calls end), provider (an unfinished set is aborted), front ends, stores
//
// umbrad is not needed for anything but making snapshots: volumes are served before it is there and
// after it has gone.

#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "engine/platform/file_device.h"
#include "engine/platform/log_spdlog.h"
#include "provider/cow/volume.h"
#include "provider/daemon/reader_views_linux.h"
#include "provider/frontend/nbd/tcp_options.h"
#include "umbra/result.h"

namespace umbra::cowd {

struct DaemonOptions {
  std::string run_dir;    // Exists; real path.
  std::string state_dir;  // Made if it is missing.
  std::string socket;     // umbrad's.
  int guardian_fd = -1;
  std::chrono::milliseconds drill_hold{0};
  std::uint64_t diff_bytes_min = 0;  // 0: the store's own.
  std::uint32_t client_accessible_max = 64;
  cow::RetentionPolicy retention;
  /// When volumes tell that their diff areas fill up; nothing: as each of them has it.
  std::optional<cow::ThresholdPercents> thresholds;
  std::chrono::seconds stop_patience{0};  // For volumes to be unmounted.
  FileEngine io_engine = FileEngine::automatic;
  std::optional<nbd::TcpOptions> nbd_tcp;                // Nothing: NBD on the local socket only.
  std::uint64_t reader_bytes_max = kReaderBytesDefault;  // Of all views that are being read.
};

class Daemon {
 public:
  /// Everything up to the volumes. Signals are blocked, the process is protected. `log` outlives
  /// the object. Blocks: what attaching takes. Errors: volume_attached (another umbra-cowd has the
  /// run or state directory); coordinator_lost, version_mismatch, protocol_violation (the
  /// guardian's descriptor); access_denied, io_error (directories, sockets).
  [[nodiscard]] static Result<std::unique_ptr<Daemon>> start(const DaemonOptions& options,
                                                             SpdlogLog& log);
  /// A clean stop. Volumes stay recorded; what is in use after `stop_patience` is flushed, said in
  /// the log, and cut off.
  ~Daemon();
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

 private:
  struct Parts;
  explicit Daemon(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace umbra::cowd
