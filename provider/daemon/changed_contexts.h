// SPDX-License-Identifier: Apache-2.0
//
// Changed blocks as NBD's metadata contexts, in the words of QEMU, so that its tools and those of
// others make incremental backups from us:
//
//   qemu:dirty-bitmap:ID     what changed since the copy, or the change checkpoint, with this id
//   qemu:dirty-bitmap:NAME   what changed since the change checkpoint with this name
//
// On a copy's export: up to that copy, since whatever is not younger. On a live volume's: up to the
// moment of the question. Bit 0 says that a block may have changed. It is never missing where one
// has; what is told too much is in docs/design/0005. What is not known (a lost copy, a lost
// checkpoint) is not offered; where it becomes unknown later, everything is dirty.

#pragma once

#include <memory>
#include <optional>

#include "provider/cow/volume.h"
#include "provider/frontend/nbd/contexts.h"

namespace umbra::cowd {

/// What one answer looks at: it tells less than it is asked beyond that.
inline constexpr std::uint64_t kChunksAskedMax = std::uint64_t{1} << 20U;

/// `volume` is not kept. `copy`: whose export it is; nothing: the live volume's.
[[nodiscard]] std::shared_ptr<nbd::Contexts> changed_contexts(
    const std::shared_ptr<cow::Volume>& volume, const std::optional<SnapshotId>& copy);

}  // namespace umbra::cowd
