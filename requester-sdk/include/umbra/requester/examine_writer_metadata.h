// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// A Writer Metadata Document to look into (IVssExamineWriterMetadata, Ex, Ex2, and the
// IVssWMComponent, IVssWMFiledesc and IVssWMDependency it gives): who the writer is, what it has,
// how that is restored. All of it is also in `document()`, for those who prefer values to calls.
//
//   auto writer = umbra::requester::ExamineWriterMetadata::load_from_xml(text);
//   for (const umbra::ComponentInfo& component : writer->document().components) ...
//
// What the document says beyond what is known here is kept and saved again. References stay valid
// until the object is assigned to or ends. Threads: any number of readers.

#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "umbra/documents.h"
#include "umbra/requester/export.h"
#include "umbra/result.h"

namespace umbra::requester {

class UMBRA_REQUESTER_EXPORT ExamineWriterMetadata {
 public:
  /// GetFileCounts. VSS's include files never existed and are always 0.
  struct FileCounts {
    std::size_t include_files = 0;
    std::size_t exclude_files = 0;
    std::size_t components = 0;

    friend bool operator==(const FileCounts&, const FileCounts&) = default;
  };
  /// GetRestoreMethod: the rules, without the mappings.
  struct RestoreMethodInfo {
    RestoreMethod method = RestoreMethod::undefined;
    std::string_view service{};
    std::string_view user_procedure{};
    WriterRestore writer_restore = WriterRestore::never;
    bool reboot_required = false;
    std::size_t mappings = 0;
  };

  /// LoadFromXML, CreateVssExamineWriterMetadata. Our element names or VSS's (docs/documents.md).
  /// Errors: invalid_xml_document, with the place: malformed, too large, not a metadata document,
  /// or what VSS forbids a writer to declare.
  [[nodiscard]] static Result<ExamineWriterMetadata> load_from_xml(std::string_view xml);
  /// What a session gave (BackupSession::writer_metadata()).
  explicit ExamineWriterMetadata(WriterMetadataDocument document) noexcept;

  /// SaveAsXML. load_from_xml() reads it back to an equal document, with what was unknown in it.
  [[nodiscard]] std::string save_as_xml() const;
  [[nodiscard]] const WriterMetadataDocument& document() const noexcept { return document_; }

  /// GetIdentity, GetIdentityEx (instance_name), GetVersion. Of a document that was kept, the
  /// instance id means nothing any more.
  [[nodiscard]] const WriterIdentity& identity() const noexcept { return document_.identity; }
  [[nodiscard]] FileCounts file_counts() const noexcept;
  /// GetBackupSchema: backup_schema.
  [[nodiscard]] std::uint32_t backup_schema() const noexcept { return document_.backup_schema; }

  // Indices count from 0. Error of each, as in VSS: object_not_found (no such index; the text says
  // how many there are).

  [[nodiscard]] Result<FileSet> exclude_file(std::size_t index) const;
  /// GetComponent, and GetComponentInfo, GetFile, GetDatabaseFile, GetDatabaseLogFile and
  /// GetDependency of it: files are in `files`, a database's logs in `log_files`.
  [[nodiscard]] Result<ComponentInfo> component(std::size_t index) const;
  [[nodiscard]] Result<AlternateLocation> alternate_location_mapping(std::size_t index) const;
  /// Only announced: the writer deletes them in the copy. They are not excluded from the backup.
  [[nodiscard]] Result<FileSet> exclude_from_snapshot_file(std::size_t index) const;
  [[nodiscard]] std::size_t exclude_from_snapshot_count() const noexcept;

  /// Errors: object_not_found (the writer did not say; VSS gives S_FALSE).
  [[nodiscard]] Result<RestoreMethodInfo> restore_method() const;

 private:
  WriterMetadataDocument document_;
};

}  // namespace umbra::requester
