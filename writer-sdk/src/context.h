// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// One run of one callback: the values behind writer::Context, and the trampoline that calls the
// application and turns what it says (or throws) into a reply.

#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "engine/documents/rules.h"
#include "engine/platform/clock.h"
#include "umbra/writer/writer.h"
#include "writer-sdk/src/logic.h"

namespace umbra::writer {

/// What a running callback is told without being called again; the I/O thread sets it.
struct StopFlags {
  std::atomic<bool> stop{false};           ///< Going on is of no use.
  std::atomic<bool> shutting_down{false};  ///< The writer itself ends.
};

/// What Identify described to whom: the last kBackupsMax documents. Threads: any.
class Descriptions {
 public:
  using Document = std::shared_ptr<const WriterMetadataDocument>;
  /// Replaces the session's document, if it has one already.
  void keep(const SessionId& session, WriterMetadataDocument document);
  /// Null if it is not known (any more).
  [[nodiscard]] Document of(const SessionId& session) const;
  void forget(const SessionId& session);

 private:
  mutable std::mutex mutex_;
  std::deque<std::pair<SessionId, Document>> kept_;  // Oldest first.
};

/// What a callback's thread knows of the registration.
struct Surroundings {
  WriterIdentity identity{};  ///< What Identify's document says of the writer.
  ApplicationLevel level = ApplicationLevel::front_end;
  const Clock* clock = &system_clock();
  std::shared_ptr<const StopFlags> stop{};
  Descriptions* descriptions = nullptr;  ///< Null: none are kept.
};

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
  ApplicationLevel level = ApplicationLevel::front_end;
  std::shared_ptr<const StopFlags> stop;
  Descriptions::Document described;

  [[nodiscard]] Status edit(const char* op, const ComponentName& component,
                            std::vector<std::string> values);
};

/// Runs the callback of `start` on this thread. Never throws.
[[nodiscard]] rpc::WriterReply run_callback(Writer& writer, const Start& start,
                                            const Surroundings& around);

/// Whether this thread is inside run_callback().
[[nodiscard]] bool inside_callback() noexcept;

}  // namespace umbra::writer
