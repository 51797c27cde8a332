// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// One run of one callback: the values behind writer::Context, and the trampoline that calls the
// application and turns what it says (or throws) into a reply.

#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <vector>

#include "engine/documents/rules.h"
#include "engine/platform/clock.h"
#include "umbra/writer/writer.h"
#include "writer-sdk/src/logic.h"

namespace umbra::writer {

class Context::Impl {
 public:
  Event event = Event::identify;
  rpc::WriterEvent params;
  std::vector<AffectedVolume> volumes;
  std::optional<WriterComponents> components;
  std::vector<rpc::ComponentEdit> edits;
  std::optional<Failure> failure;
  TimePoint deadline;
  const Clock* clock = nullptr;
  std::shared_ptr<const std::atomic<bool>> stop;  // Shared with the I/O thread, which sets it.

  [[nodiscard]] Status edit(const char* op, const ComponentName& component,
                            std::vector<std::string> values);
};

/// Runs the callback of `start` on this thread. Never throws; `identity` is what Identify's
/// document says of the writer.
[[nodiscard]] rpc::WriterReply run_callback(Writer& writer, const Start& start,
                                            const WriterIdentity& identity, const Clock& clock,
                                            std::shared_ptr<const std::atomic<bool>> stop);

/// Whether this thread is inside run_callback().
[[nodiscard]] bool inside_callback() noexcept;

}  // namespace umbra::writer
