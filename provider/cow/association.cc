// SPDX-License-Identifier: Apache-2.0
//
// What is kept about the maximum of a diff area: what the next open() begins with, and whether
// somebody decided it. It differs from the maximum of now as long as that is a volatile one.

#include "provider/cow/core.h"

namespace umbra::cow {

Status Volume::Impl::keep_association(const Association& association) {
  const std::lock_guard table(table_mutex_);
  if (closed_.load()) return fail(Errc::bad_state, "the volume is closed");
  const std::uint64_t former = superblock_.diff_bytes_max;
  const bool was_explicit = superblock_.settings.explicit_association;
  superblock_.diff_bytes_max = association.maximum_bytes;
  superblock_.settings.explicit_association = association.is_explicit;
  if (Status written = write_superblock(false); !written) {
    superblock_.diff_bytes_max = former;
    superblock_.settings.explicit_association = was_explicit;
    return written;
  }
  kept_maximum_ = association.maximum_bytes;
  explicit_association_ = association.is_explicit;
  return {};
}

Association Volume::Impl::kept_association() const {
  return {kept_maximum_.load(), explicit_association_.load()};
}

}  // namespace umbra::cow
