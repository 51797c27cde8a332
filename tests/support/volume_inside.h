// SPDX-License-Identifier: Apache-2.0
//
// What tests do to a volume that it has no call for.
#pragma once

#include <span>
#include <vector>

#include "provider/cow/blobs.h"

namespace umbra::cow {

struct VolumeInside {
  static Status put(Volume& volume, BlobKind kind, const Guid& key,
                    std::span<const std::byte> bytes) {
    const std::lock_guard table(volume.impl_->table_mutex_);
    return volume.impl_->blobs_->put(kind, key, bytes);
  }
  static Result<std::vector<std::byte>> get(Volume& volume, BlobKind kind, const Guid& key) {
    const std::lock_guard table(volume.impl_->table_mutex_);
    return volume.impl_->blobs_->get(kind, key);
  }
  static std::vector<Guid> list(Volume& volume, BlobKind kind) {
    const std::lock_guard table(volume.impl_->table_mutex_);
    return volume.impl_->blobs_->list(kind);
  }
  static Status remove(Volume& volume, BlobKind kind, const Guid& key) {
    const std::lock_guard table(volume.impl_->table_mutex_);
    return volume.impl_->blobs_->remove(kind, key);
  }
  static std::uint64_t free_segments(Volume& volume) {
    const std::lock_guard lock(volume.impl_->mutex_);
    return volume.impl_->segments_.free_count() + volume.impl_->segments_.bare_count();
  }
};

}  // namespace umbra::cow
