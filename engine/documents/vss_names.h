// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Documents in VSS's own element names, read as ours. Of these names some were seen in documents
// that Windows wrote, others (marked "ours" in the tables) follow from the names of public calls
// only; so what Windows writes may differ, and nothing here claims to understand it whole. What has
// no counterpart stays as it is and is kept as unknown. We write our own names only.

#pragma once

#include <pugixml.hpp>

namespace umbra::documents {

/// Turns a WRITER_METADATA, BACKUP_COMPONENTS or WRITER_COMPONENTS element into ours, with all that
/// is in it. False: it is none of them, and unchanged.
bool translate_vss_names(pugi::xml_node root);

}  // namespace umbra::documents
