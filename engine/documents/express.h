// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Express writers: writers without a process. Their metadata is a document that was stored once;
// they hear of nothing and are always stable, so they may declare only what needs nobody to act:
//
//   what                    allowed                                          else
//   usage                   bootable-system-state, system-service, user-data  invalid_argument
//   components              file groups, without recovery flags               not_supported
//   file sets               no alternate path; mask: full bits, or 0xF0F      not_supported
//   restore                 writer-restore never; not undefined, custom or
//                           to an alternate location; no mappings             not_supported
//   backup schema           copy, independent system state                    not_supported
//   exclude from snapshot   nothing                                           not_supported

#pragma once

#include <string>

#include "umbra/documents.h"
#include "umbra/result.h"

namespace umbra::documents {

/// The table above, and check(). Errors: not_supported, invalid_argument (no class id or name, a
/// usage that is not allowed), and those of check().
[[nodiscard]] Status check_express(const WriterMetadataDocument& document);

/// Its instance id never changes: the document's own, or the class id if it has none.
void settle_express_identity(WriterMetadataDocument& document);

/// The class id of the writer that stands for the directory of express writers itself ("VSS
/// Metadata Store Writer" in VSS; the id is VSS's).
[[nodiscard]] WriterClassId metadata_store_class() noexcept;
/// Its document: one file group with every document in `directory`, an absolute path.
[[nodiscard]] WriterMetadataDocument metadata_store_writer(const std::string& directory);

}  // namespace umbra::documents
