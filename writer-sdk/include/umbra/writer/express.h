// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Express writers: an application that only wants its files backed up registers their description
// once, at installation, and needs no process (IVssExpressWriter, IVssCreateExpressWriterMetadata).
//
//   auto express =
//       umbra::writer::ExpressWriter::create_metadata({.class_id = kId, .name = "menu"});
//   auto done = express->add_component({.name = "menu", .files = {{.path = "/var/lib/menu"}}});
//   done = express->set_restore_rules({.method = umbra::RestoreMethod::restore_if_can_replace});
//   done = express->register_writer();
//
// and ExpressWriter::unregister_writer(kId) when it is uninstalled.
//
// Nobody acts for an express writer, so it cannot freeze, cannot recover in the copy, is not told
// of restores, and declares file groups for full backups only: what goes further is not_supported
// (the context says what). It is always VSS_WS_STABLE, and its instance id never changes.

#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "umbra/documents.h"
#include "umbra/ids.h"
#include "umbra/result.h"
#include "umbra/vss.h"
#include "umbra/writer/export.h"
#include "umbra/writer/writer.h"

namespace umbra::writer {

struct ExpressIdentity {
  WriterClassId class_id{};                ///< Constant, made once by the author (uuidgen).
  std::string name{};                      ///< Constant; not translated.
  UsageType usage = UsageType::user_data;  ///< Or bootable_system_state, system_service.
  std::uint32_t version_major = 0;
  std::uint32_t version_minor = 0;
};

/// One express writer's metadata. A value. A call that fails leaves it as it was.
///
/// Errors of all calls: not_supported (an express writer cannot have it); invalid_argument.
/// Threads: distinct objects are independent; one object: one call at a time.
class UMBRA_WRITER_EXPORT ExpressWriter {
 public:
  /// CreateMetadata.
  [[nodiscard]] static Result<ExpressWriter> create_metadata(ExpressIdentity identity);
  /// LoadMetadata: text that save_as_xml() gave, perhaps years ago. Errors: also
  /// invalid_xml_document.
  [[nodiscard]] static Result<ExpressWriter> load_metadata(std::string_view xml);

  [[nodiscard]] Status add_exclude_files(FileSet files);
  /// Errors: also object_already_exists.
  [[nodiscard]] Status add_component(ComponentInfo component);
  /// Errors: also object_not_found.
  [[nodiscard]] Status add_files_to_file_group(const ComponentName& group, FileSet files);
  /// Errors: also bad_state (set already).
  [[nodiscard]] Status set_restore_rules(RestoreRules rules);
  /// Errors: also object_not_found.
  [[nodiscard]] Status add_component_dependency(const ComponentName& component,
                                                ComponentDependency dependency);
  /// 0, backup_schema::kCopy, kIndependentSystemState, or both.
  [[nodiscard]] Status set_backup_schema(std::uint32_t schema);

  /// A document for load_metadata(), or to be put into the directory by a package.
  [[nodiscard]] std::string save_as_xml() const;
  [[nodiscard]] const WriterMetadataDocument& metadata() const noexcept { return document_; }

  // `directory` of the following: empty for that of the system's umbrad (docs/umbrad.md), also if
  // it does not run.

  /// Register: stored durably; from the next backup on umbrad names this writer. Errors:
  /// object_already_exists (the class is registered); access_denied; io_error.
  [[nodiscard]] Status register_writer(const std::string& directory = {}) const;
  /// Unregister. Errors: object_not_found; access_denied; io_error.
  [[nodiscard]] static Status unregister_writer(const WriterClassId& class_id,
                                                const std::string& directory = {});

  struct Registered {
    std::vector<WriterMetadataDocument> writers{};
    std::vector<std::string> refused{};  ///< "FILE: why", of files that umbrad does not take.
  };
  /// Who is registered. Errors: access_denied (somebody else may write to it); io_error.
  [[nodiscard]] static Result<Registered> list(const std::string& directory = {});
  /// Where umbrad looks with that run directory (empty: this process's default). Errors:
  /// invalid_argument (UMBRA_RUN_DIR is not an absolute path).
  [[nodiscard]] static Result<std::string> directory_of(const std::string& run_dir = {});

 private:
  ExpressWriter() = default;
  template <class Change>
  Status change(Change edit);

  WriterMetadataDocument document_{};
};

}  // namespace umbra::writer
