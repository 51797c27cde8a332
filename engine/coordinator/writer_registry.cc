// SPDX-License-Identifier: Apache-2.0

#include "engine/coordinator/writer_registry.h"

#include <algorithm>
#include <utility>

namespace umbra::coord {
namespace {

bool contains(const std::vector<Guid>& list, const Guid& id) {
  return std::find(list.begin(), list.end(), id) != list.end();
}

}  // namespace

bool WriterFilter::admits(const RegisteredWriter& writer) const {
  if (!enabled_classes.empty() && !contains(enabled_classes, writer.class_id)) return false;
  return !contains(disabled_classes, writer.class_id) &&
         !contains(disabled_instances, writer.instance_id);
}

Status WriterRegistry::add(RegisteredWriter writer) {
  if (writer.class_id.is_nil())
    return fail(Errc::invalid_argument, "class_id: a writer needs a class id of its own");
  if (writer.name.empty() || writer.name.size() > kPeerNameBytesMax ||
      writer.instance_name.size() > kPeerNameBytesMax)
    return fail(Errc::invalid_argument, "name: 1 to " + std::to_string(kPeerNameBytesMax) +
                                            " bytes, instance_name no more");
  if (writer.freeze_window.count() < 1 || writer.freeze_window > kFreezeWindowMax)
    return fail(Errc::invalid_argument,
                "freeze_window_ms: 1 to " + std::to_string(kFreezeWindowMax.count()));
  if (writer.level == ApplicationLevel::unknown)
    return fail(Errc::invalid_argument, "level: system, system-rm, back-end or front-end");
  if (writer.subscription == 0 || (writer.subscription & ~subscribe::kAll) != 0)
    return fail(Errc::invalid_argument, "subscription: backup events (2), restore events (4) or 6");
  if (writers_.size() >= kWritersMax)
    return fail(Errc::limit_reached, std::to_string(kWritersMax) + " writers are registered");
  const auto id = writer.instance_id;
  writers_.insert_or_assign(id, std::move(writer));
  return {};
}

RegisteredWriter* WriterRegistry::find(const WriterInstanceId& id) {
  const auto found = writers_.find(id);
  return found == writers_.end() ? nullptr : &found->second;
}

void WriterRegistry::note(const SessionWriter& writer, std::int64_t filetime) {
  auto* entry = find(writer.instance_id);
  if (entry == nullptr) return;
  entry->state = writer.state;
  if (writer.failure == Errc::ok) return;
  entry->last_failure = writer.failure;
  entry->last_failure_phase = writer.failed_phase;
  entry->last_failure_message = writer.message;
  entry->last_failure_filetime = filetime;
}

}  // namespace umbra::coord
