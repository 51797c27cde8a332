// SPDX-License-Identifier: Apache-2.0
//
// Stores over files and block devices: takes the locks, decides whether a diff area has to be made,
// opens the copy-on-write volume.
//
// A diff area is made where nothing is: the file is missing or empty, or a block device has nothing
// on it. Anything else is opened as it is, and if it is no diff area that is an error, unless
// `force` says to overwrite it.

#pragma once

#include <memory>
#include <optional>

#include "engine/platform/file_device.h"
#include "engine/platform/log.h"
#include "provider/cow/volume.h"
#include "provider/daemon/ports.h"

namespace umbra::cowd {

struct FileStoresOptions {
  Guid boot_id;                          // Of the running machine.
  cow::LostStore* lost_store = nullptr;  // Outlives every store; null: none.
  Log* log = nullptr;                    // Outlives every store; null: none.
  cow::EventSink* events = nullptr;      // Outlives every store; null: none.
  /// When volumes tell that their diff areas fill up; nothing: as each of them has it.
  std::optional<cow::ThresholdPercents> thresholds{};
  /// io_uring that is not to be had is replaced by threads, with a warning in the log.
  FileEngine engine = FileEngine::automatic;
};

/// Threads: one call at a time.
class FileStores final : public Stores {
 public:
  explicit FileStores(const FileStoresOptions& options) : options_(options) {}
  [[nodiscard]] Result<OpenedStore> open(const OpenStore& request) override;
  [[nodiscard]] Result<cow::MoveSide> settle(const SettleMove& request) override;
  [[nodiscard]] Status remove_area(const std::string& path) override;
  [[nodiscard]] Status discard_area(const DiscardArea& request) override;

 private:
  FileStoresOptions options_;
};

/// What a reader of one snapshot needs beside its view.
struct SnapshotReader {
  std::unique_ptr<cow::HomeWatch> watch;  // Null: it was not asked for.
  UniqueFd origin;
  UniqueFd diff_area;
};
/// Of a store that FileStores made. Without `sink` the descriptors only, for another reader of what
/// is watched already. Blocks as Volume::watch_homes(). Threads: any. Errors: those of
/// Volume::watch_homes() and FileDevice::open_for_reader(); volume_in_use (the diff area is being
/// moved).
[[nodiscard]] Result<SnapshotReader> open_reader(Store& store, const SnapshotId& snapshot,
                                                 std::shared_ptr<cow::HomeSink> sink);
/// How the descriptors must be read.
struct ReaderAlignment {
  std::uint32_t origin_bytes = 1;
  std::uint32_t diff_area_bytes = 1;
  friend bool operator==(const ReaderAlignment&, const ReaderAlignment&) = default;
};
[[nodiscard]] ReaderAlignment reader_alignment(Store& store);

/// The volume of a store that FileStores made; keeps its devices, and so their locks, alive.
[[nodiscard]] std::shared_ptr<cow::Volume> volume_of(Store& store);

}  // namespace umbra::cowd
