// SPDX-License-Identifier: Apache-2.0
//
// Express writers as umbrad sees them: documents in a directory, read anew whenever somebody asks
// for writers, so that what a package drops in counts from the next backup on.

#pragma once

#include <functional>

#include "engine/daemon/server.h"
#include "engine/documents/express_store.h"

namespace umbra::daemon {

/// Reads on the wire's thread, logs what is not taken, and calls `done` on this one. If any writer
/// is registered, the directory itself is among them (documents::metadata_store_writer()).
void read_express(Server& server, std::function<void(documents::ExpressWriters)> done);

/// How umbrad lists it: always stable, told of nothing.
[[nodiscard]] coord::RegisteredWriter express_entry(const WriterIdentity& identity);

}  // namespace umbra::daemon
