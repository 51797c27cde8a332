// SPDX-License-Identifier: Apache-2.0
//
// Writes what the store tells of a snapshot's homes into a view (engine/shm/layout.h), which others
// read at the same time. It neither blocks nor allocates: the memory is there.

#pragma once

#include <cstddef>
#include <span>

#include "engine/shm/layout.h"
#include "provider/cow/home_watch.h"

namespace umbra::shm {

/// Threads: any, as of HomeSink.
class ViewWriter final : public cow::HomeSink {
 public:
  /// Formats `memory`, which is zero, has layout.total_bytes() and outlives the object.
  ViewWriter(const Layout& layout, std::span<std::byte> memory) noexcept;

  void place(std::uint64_t chunk, const cow::ChunkPlace& where) noexcept override;
  void end() noexcept override;

  [[nodiscard]] const View& view() const noexcept { return view_; }
  [[nodiscard]] bool has_ended() const noexcept;

 private:
  View view_;
};

}  // namespace umbra::shm
