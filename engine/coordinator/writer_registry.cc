// SPDX-License-Identifier: Apache-2.0

#include "engine/coordinator/writer_registry.h"

#include <algorithm>
#include <utility>

namespace umbra::coord {
namespace {

bool contains(const std::vector<Guid>& list, const Guid& id) {
  return std::find(list.begin(), list.end(), id) != list.end();
}

void add(std::vector<Guid>& list, const std::vector<Guid>& ids) {
  list.insert(list.end(), ids.begin(), ids.end());
}
void remove(std::vector<Guid>& list, const std::vector<Guid>& ids) {
  std::erase_if(list, [&](const Guid& one) { return contains(ids, one); });
}

}  // namespace

void WriterFilter::enable_classes(const std::vector<Guid>& ids) {
  if (mode == Mode::all) mode = Mode::only_listed;
  if (mode == Mode::only_listed) return add(classes, ids);
  remove(classes, ids);
}

void WriterFilter::disable_classes(const std::vector<Guid>& ids) {
  if (mode == Mode::all) mode = Mode::all_but_listed;
  if (mode == Mode::all_but_listed) return add(classes, ids);
  remove(classes, ids);
}

bool WriterFilter::admits(const RegisteredWriter& writer) const {
  if (contains(disabled_instances, writer.instance_id)) return false;
  const bool listed = contains(classes, writer.class_id);
  return mode == Mode::all || listed == (mode == Mode::only_listed);
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
