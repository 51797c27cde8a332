// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "umbra/requester/examine_writer_metadata.h"

#include <utility>

#include "engine/documents/xml.h"

namespace umbra::requester {
namespace {

template <class Element>
Result<Element> element_at(const std::vector<Element>& list, std::size_t index, const char* what) {
  if (index < list.size()) return list[index];
  return fail(Errc::object_not_found, std::string(what) + " " + std::to_string(index) +
                                          " of a document that has " + std::to_string(list.size()));
}

}  // namespace

Result<ExamineWriterMetadata> ExamineWriterMetadata::load_from_xml(std::string_view xml) {
  auto document = documents::parse_writer_metadata(xml);
  if (!document) return fail(document.error());
  return ExamineWriterMetadata(std::move(*document));
}

ExamineWriterMetadata::ExamineWriterMetadata(WriterMetadataDocument document) noexcept
    : document_(std::move(document)) {}

std::string ExamineWriterMetadata::save_as_xml() const { return documents::to_xml(document_); }

ExamineWriterMetadata::FileCounts ExamineWriterMetadata::file_counts() const noexcept {
  return {0, document_.excludes.size(), document_.components.size()};
}

Result<FileSet> ExamineWriterMetadata::exclude_file(std::size_t index) const {
  return element_at(document_.excludes, index, "exclude");
}

Result<ComponentInfo> ExamineWriterMetadata::component(std::size_t index) const {
  return element_at(document_.components, index, "component");
}

Result<AlternateLocation> ExamineWriterMetadata::alternate_location_mapping(
    std::size_t index) const {
  static const std::vector<AlternateLocation> none;
  return element_at(document_.restore ? document_.restore->alternate_locations : none, index,
                    "alternate location");
}

Result<FileSet> ExamineWriterMetadata::exclude_from_snapshot_file(std::size_t index) const {
  return element_at(document_.excludes_from_snapshot, index, "exclude from the snapshot");
}

std::size_t ExamineWriterMetadata::exclude_from_snapshot_count() const noexcept {
  return document_.excludes_from_snapshot.size();
}

Result<ExamineWriterMetadata::RestoreMethodInfo> ExamineWriterMetadata::restore_method() const {
  if (!document_.restore)
    return fail(Errc::object_not_found, "the writer did not say how it is restored");
  const RestoreRules& rules = *document_.restore;
  return RestoreMethodInfo{rules.method,          rules.service,
                           rules.user_procedure,  rules.writer_restore,
                           rules.reboot_required, rules.alternate_locations.size()};
}

}  // namespace umbra::requester
