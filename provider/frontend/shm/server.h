// SPDX-License-Identifier: Apache-2.0
//
// Gives readers of this machine what they need to read a snapshot by themselves: its view, and
// descriptors for reading (docs/formats/shm.md). A reader's connection is its claim: the snapshot
// counts as open until it ends.
//
// Who may: the user that umbra-cowd runs as, and root. The diff area shows the whole history of the
// volume, so this is more than the right to read one snapshot.
//
// One thread: opening a view, which looks at all records of the snapshot, keeps other openings
// waiting, and nobody else.

#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "engine/platform/log.h"
#include "engine/platform/unique_fd.h"
#include "umbra/ids.h"
#include "umbra/result.h"

namespace umbra::shm {

inline constexpr std::size_t kReadersMax = 64;  // Connections.
inline constexpr int kRequestSecondsMax = 5;    // Between connecting and asking.

/// Where views come from. Threads: one call at a time.
class Views {
 public:
  virtual ~Views() = default;
  struct Opened {
    std::shared_ptr<void> claim;  // On the view; its descriptors are valid that long.
    int view = -1;
    UniqueFd origin;  // For reading only, as the next.
    UniqueFd diff_area;
  };
  /// Errors: those that the reader is told.
  [[nodiscard]] virtual Result<Opened> open(const SnapshotId& snapshot) = 0;
};

struct ServerOptions {
  std::string socket_path;   // Replaced if nobody listens there.
  int life_descriptor = -1;  // Outlives the server.
};

class Server {
 public:
  /// Listens and starts its thread. `views` and `log` outlive it. Errors: object_already_exists
  /// (another server listens there); access_denied; invalid_argument (path
  /// too long for a socket); io_error.
  [[nodiscard]] static Result<std::unique_ptr<Server>> start(const ServerOptions& options,
                                                             Views& views, Log& log);
  /// Ends all connections and with them their claims.
  virtual ~Server() = default;

 protected:
  Server() = default;
};

}  // namespace umbra::shm
