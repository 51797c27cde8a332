// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Puts files in place so that nobody ever sees half of one. Everything is first copied into a
// directory of its own on the destination's file system (".umbra-restore-XXXXXX", mode 0700) and
// made durable there; only then each file is renamed to its name. Until commit() nothing that was
// there has changed, and rollback() leaves the destination as it was. It takes as much room as the
// files themselves.
//
// Kept: content with its holes, mode, times, extended attributes and ACLs, hard links among the
// files, and the owner as far as this process may. Sockets are left out.

#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "engine/documents/rules.h"
#include "requester-sdk/src/files.h"
#include "umbra/result.h"

namespace umbra::requester {

struct Placement {
  SourceFile file;
  std::string destination;  // Absolute.
  // With ranges: only these bytes of the source go there, into what the destination holds.
  std::vector<documents::ByteRange> from{};
  std::vector<documents::ByteRange> to{};
};

class Staging {
 public:
  /// Told what was copied since the last time; false: stop, with async_cancelled.
  using OnBytes = std::function<bool(std::uint64_t bytes, bool file_done)>;

  explicit Staging(OnBytes on_bytes) : on_bytes_(std::move(on_bytes)) {}
  ~Staging() { rollback(); }
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  /// Whether the destinations' file systems have room for all of it. Errors: io_error (says how
  /// much is missing where).
  [[nodiscard]] static Status check_room(const std::vector<Placement>& placements);
  /// Copies. After an error call rollback(). Errors: io_error (also: no space left); access_denied;
  /// object_already_exists (a directory is in a file's place, or the other way round);
  /// async_cancelled.
  [[nodiscard]] Status stage(const std::vector<Placement>& placements);
  /// Makes what was staged durable where it is. Errors: io_error.
  [[nodiscard]] Status flush();
  /// Renames everything to its place and makes that durable. After an error some files have been
  /// replaced and some not. Errors: io_error; access_denied.
  [[nodiscard]] Status commit();
  /// Takes away what was staged and not committed, and the directories that were made for it.
  void rollback() noexcept;

  /// Whether a file has been renamed.
  [[nodiscard]] bool has_changed() const noexcept { return changed_; }
  /// What could not be kept: "owner of /x".
  [[nodiscard]] const std::vector<std::string>& notes() const noexcept { return notes_; }

 private:
  struct Staged {
    std::string beside;
    std::string destination;
  };
  struct Made {  // A directory that was not there; its times are set last.
    std::string destination;
    std::string source;
  };

  Status stage_one(const Placement& placement);
  Status stage_regular(const Placement& placement, const std::string& beside);
  Status stage_ranges(const Placement& placement);
  Result<std::string> begin_ranges(const Placement& placement);
  Status make_directory(const std::string& destination, const std::string& source);
  Status make_parents(const std::string& path);
  Result<std::string> name_beside(const std::string& destination);
  Status keep_properties(const std::string& source, const std::string& target);
  Status copy_range(int from, int to, std::uint64_t from_offset, std::uint64_t to_offset,
                    std::uint64_t length);
  Status copy_data(int from, int to, std::uint64_t bytes);
  void remove_directories() noexcept;
  void note(const std::string& text);

  OnBytes on_bytes_;
  std::map<std::uint64_t, std::string> directories_;  // By file system.
  std::vector<Staged> staged_;
  std::vector<Made> made_;
  std::map<std::pair<std::uint64_t, std::uint64_t>, std::string> links_;  // Of several names.
  std::map<std::string, std::string> ranged_;  // Destination to where its ranges are staged.
  std::size_t next_ = 0;
  bool changed_ = false;
  std::vector<std::string> notes_;
};

}  // namespace umbra::requester
