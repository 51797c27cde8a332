// SPDX-License-Identifier: Apache-2.0
//
// Views of snapshots for readers of this machine (provider/frontend/shm): one for each snapshot
// that is being read, however many read it, as long as somebody does. Bounded in memory: a view
// takes 8 bytes for each chunk and 4 for each 4 KiB of the volume, all of it from the start.

#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>

#include "provider/daemon/ports.h"
#include "provider/frontend/shm/server.h"

namespace umbra::cowd {

inline constexpr std::uint64_t kReaderBytesDefault = std::uint64_t{512} << 20U;

class ReaderViews final : public shm::Views {
 public:
  explicit ReaderViews(std::uint64_t bytes_max) noexcept : bytes_max_(bytes_max) {}

  /// `store` is one of FileStores' and outlives its stay here. Threads: any.
  void add(Store& store);
  /// Waits for an opening that is under way. Views of it go on until the store is closed.
  void remove(const VolumeId& volume);

  /// Errors: object_not_found (no such snapshot); limit_reached (memory; says what to do); those of
  /// open_reader().
  [[nodiscard]] Result<Opened> open(const SnapshotId& snapshot) override;

 private:
  struct Claim;
  [[nodiscard]] Store* find_store(const SnapshotId& snapshot) const;  // mutex_
  [[nodiscard]] Result<std::shared_ptr<Claim>> make(Store& store, const SnapshotId& snapshot,
                                                    Opened& opened);  // mutex_
  [[nodiscard]] std::uint64_t bytes_in_use();                         // mutex_

  const std::uint64_t bytes_max_;
  std::mutex mutex_;
  std::map<VolumeId, Store*> stores_;                  // mutex_
  std::map<SnapshotId, std::weak_ptr<Claim>> claims_;  // mutex_
};

}  // namespace umbra::cowd
