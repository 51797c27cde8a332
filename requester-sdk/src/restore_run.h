// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// A whole restore over a RestoreLogic: which files, from where, to where, and what writers are told
// of it. The rules are those of requester-and-coordinator 2.7; where files go is decided after
// PreRestore, since writers may direct it.
//
//   choose -> mount -> list -> (writers: gather, select, PreRestore) -> place -> stage -> commit
//     -> (writers: status of the files, PostRestore) -> unmount
//
// Until commit nothing that was there has changed; whatever fails, writers that took PreRestore get
// PostRestore and what was mounted is unmounted.

#pragma once

#include <atomic>
#include <string>
#include <vector>

#include "requester-sdk/src/files.h"
#include "requester-sdk/src/restore_logic.h"
#include "requester-sdk/src/staging.h"

namespace umbra::requester {

class RestoreRun {
 public:
  /// All must outlive the object. `stop`: set by another thread to give up.
  RestoreRun(RestoreLogic& logic, const BackupBundle& bundle, const RestoreOptions& options,
             const std::atomic<bool>& stop);
  ~RestoreRun() { unmount(); }
  RestoreRun(const RestoreRun&) = delete;
  RestoreRun& operator=(const RestoreRun&) = delete;

  Status run();
  /// Whatever run() returned.
  [[nodiscard]] RestoreReport take_report();

 private:
  struct Part {  // One component of the document.
    ComponentRef ref;
    std::string instance_name;
    const WriterMetadataDocument* writer = nullptr;
    BackupComponent component;  // As it was kept, and after PreRestore as it is.
    const RestoreComponent* wish = nullptr;
    std::vector<FileSet> sets;                   // Without variables.
    std::vector<FileSet> declared;               // The same, letter by letter.
    std::vector<std::vector<SourceFile>> files;  // Of each set.
    bool with_writer = false;
    bool needs_service = false;
    std::vector<Placement> placements;
    std::vector<AlternateLocation> used;
    FileRestoreStatus status = FileRestoreStatus::none;
  };

  Status choose();
  Status add_part(const WriterComponents& owner, const BackupComponent& component,
                  const RestoreComponent* wish);
  Status choose_sets(Part& part) const;
  Status add_set(Part& part, const FileSet& declared) const;

  Status mount_sources();
  Result<std::string> mounted(const BundleVolume& volume, const SnapshotList& list);
  [[nodiscard]] bool is_needed(const BundleVolume& volume) const;
  void unmount() noexcept;
  Status list();

  Status meet_writers();
  Status decide_about_writer(Part& part, const std::vector<WriterMetadata>& live);
  Status select(const Part& part);
  Status prepare_writers();
  Status check_writers(std::string_view event);
  Status reread();

  Status place(bool before);
  Status place_part(Part& part, bool before);
  Status place_relocated(Part& part, std::size_t set);
  Status place_by_rules(Part& part, const std::vector<std::size_t>& sets, bool before);
  Status to_alternate(Part& part, const std::vector<std::size_t>& sets);
  Status to_own_place(Part& part, const std::vector<std::size_t>& sets, bool directed);
  [[nodiscard]] static const AlternateLocation* mapping_of(const Part& part, std::size_t set);
  Status direct(Part& part, const SourceFile& file, bool& directed) const;
  void put_set(Part& part, std::size_t set, const std::string& base) const;
  [[nodiscard]] std::optional<std::string> relocated(const std::string& path) const;
  [[nodiscard]] static bool any_exists(const Part& part, std::size_t set, const std::string& base);

  Status control_services(ServiceAction action);
  Status put_files();
  Status finish(Status files);
  void tell(std::string_view phase);
  [[nodiscard]] bool uses_writers() const;

  RestoreLogic& logic_;
  const BackupBundle& bundle_;
  const RestoreOptions& options_;
  const std::atomic<bool>& stop_;
  const documents::Variables variables_;
  TimePoint begin_;
  TimePoint told_;
  std::vector<Part> parts_;
  SourceTree tree_;
  std::vector<SnapshotId> mounted_;
  std::vector<std::string> stopped_services_;
  RestoreProgress progress_;
  RestoreReport report_;
};

}  // namespace umbra::requester
