// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// The directory in which express writers are registered: one document a file, *.xml. Packages may
// drop theirs in; umbrad reads it anew for each backup. Whoever may write there speaks for any
// application, so a directory or a file that somebody else than root or this user may change is not
// read. Links are not followed.

#pragma once

#include <string>
#include <vector>

#include "umbra/documents.h"
#include "umbra/result.h"

namespace umbra::documents {

inline constexpr std::size_t kExpressWritersMax = 256;
inline constexpr std::size_t kExpressBytesMax = 64U << 20U;  // Of all documents together.

/// Where the umbrad of a run directory looks: /etc/umbra/writers.d for the system's, else writers.d
/// in the run directory.
[[nodiscard]] std::string express_directory(const std::string& run_dir);

struct ExpressWriters {
  struct Entry {
    std::string file{};  ///< Its name in the directory.
    std::string xml{};
    WriterMetadataDocument document{};
  };
  std::vector<Entry> writers{};        ///< By file name; one of each class.
  std::vector<std::string> refused{};  ///< "FILE: why", of those that are not taken.
};

/// Nothing if there is no such directory. Blocks for the disk. Errors: access_denied (others may
/// write to it); io_error.
[[nodiscard]] Result<ExpressWriters> read_express_writers(const std::string& directory);

/// Stores the document as CLASS-ID.xml, whole or not at all, durably; makes the directory. Errors:
/// those of check_express(); object_already_exists (the class is registered); access_denied;
/// io_error.
[[nodiscard]] Status register_express_writer(const std::string& directory,
                                             WriterMetadataDocument document);
/// Errors: object_not_found; access_denied; io_error.
[[nodiscard]] Status unregister_express_writer(const std::string& directory,
                                               const WriterClassId& class_id);

}  // namespace umbra::documents
