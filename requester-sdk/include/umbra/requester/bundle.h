// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// What has to be kept with a backup so that it can be restored: one XML file with both kinds of
// documents and the volumes' mount points (docs/documents.md). BackupSession::make_bundle() gives
// it; RestoreSession takes it.

#pragma once

#include <string>

#include "umbra/documents.h"
#include "umbra/requester/export.h"
#include "umbra/result.h"

namespace umbra::requester {

/// Replaces `path`, or leaves it as it was; durable on return, mode 0600 (it holds what writers
/// noted for themselves). Errors: io_error; access_denied; insufficient_storage; object_not_found
/// (no such directory); limit_reached (longer than 16 MiB). Threads: any.
[[nodiscard]] UMBRA_REQUESTER_EXPORT Status save_bundle(const BackupBundle& bundle,
                                                        const std::string& path);
/// Errors: object_not_found; access_denied; io_error; invalid_xml_document (not a bundle, damaged,
/// of a newer version, or longer than 16 MiB). Threads: any.
[[nodiscard]] UMBRA_REQUESTER_EXPORT Result<BackupBundle> load_bundle(const std::string& path);

}  // namespace umbra::requester
