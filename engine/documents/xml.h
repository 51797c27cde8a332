// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// The two documents as XML. Writing is total and gives UTF-8 text that parses back to an equal
// value, whatever bytes the strings hold: they are escaped as on the wire
// (engine/platform/wire_text.h). Parsing takes anybody's text: what is malformed, of another kind,
// of a newer major version, too large or breaks a rule is invalid_xml_document with the place. The
// order of elements does not matter; elements and attributes that are not known are kept in the
// values' `unknown` and written again, after the known ones. Nothing is fetched or expanded: a
// document type declaration is refused.
//
// Documents in VSS's own element names are read as well (vss_names.h), the metadata document with
// whatever directories it has: who makes use of it calls check() (rules.h). The bundle is for
// restores, so its directories are this system's.

#pragma once

#include <string>
#include <string_view>

#include "umbra/documents.h"
#include "umbra/result.h"

namespace umbra::documents {

inline constexpr std::size_t kDocumentBytesMax = 16U << 20U;
inline constexpr std::size_t kElementsMax = 500'000;  // A System Writer declares 19000 file sets.
inline constexpr std::size_t kAttributesMax = 2'000'000;
inline constexpr std::size_t kAttributesPerElementMax = 64;
inline constexpr std::size_t kElementDepthMax = 8;

[[nodiscard]] std::string to_xml(const WriterMetadataDocument& document);
[[nodiscard]] std::string to_xml(const BackupComponentsDocument& document);
/// One writer's part, as it travels in an event.
[[nodiscard]] std::string to_xml(const WriterComponents& components);

/// All that is kept of a backup.
[[nodiscard]] std::string to_xml(const BackupBundle& bundle);

/// Errors (all four): invalid_xml_document.
[[nodiscard]] Result<WriterMetadataDocument> parse_writer_metadata(std::string_view xml);
[[nodiscard]] Result<BackupComponentsDocument> parse_backup_components(std::string_view xml);
[[nodiscard]] Result<WriterComponents> parse_writer_components(std::string_view xml);

[[nodiscard]] Result<BackupBundle> parse_bundle(std::string_view xml);

}  // namespace umbra::documents
