// SPDX-License-Identifier: Apache-2.0

#include "writer-sdk/writers/sqlite/databases.h"

#include <algorithm>
#include <utility>

#include "writer-sdk/writers/sqlite/metadata.h"

namespace umbra::sqlite {

namespace {

bool is_selected(const WriterComponents& selected, const std::string& path) {
  const auto component = describe_database(path);
  return std::any_of(
      selected.components.begin(), selected.components.end(), [&](const BackupComponent& other) {
        return other.logical_path == component.logical_path && other.name == component.name;
      });
}

}  // namespace

Databases::Databases(std::vector<std::string> paths) : paths_(std::move(paths)) {}

std::vector<std::string> Databases::paths() const {
  std::vector<std::string> real;
  for (const auto& path : paths_) real.push_back(real_path(path));
  std::sort(real.begin(), real.end());
  real.erase(std::unique(real.begin(), real.end()), real.end());
  return real;
}

std::vector<std::string> Databases::participants(
    const WriterComponents* selected,
    const std::function<bool(const std::string& path)>& is_affected) const {
  std::vector<std::string> taking_part;
  for (auto& path : paths()) {
    const bool takes_part = selected != nullptr ? is_selected(*selected, path) : is_affected(path);
    if (takes_part) taking_part.push_back(std::move(path));
  }
  return taking_part;
}

Status Databases::prepare(const SessionId& session, std::vector<std::string> paths,
                          const Patience& patience) {
  end(session);
  auto group = std::make_shared<HoldGroup>(std::move(paths));
  if (auto prepared = group->prepare(patience); !prepared) return prepared;
  const std::lock_guard lock(mutex_);
  sessions_[session] = std::move(group);
  return {};
}

Status Databases::freeze(const SessionId& session, const Patience& patience) {
  const auto group = find(session);
  if (!group) {
    return fail(Errc::writererror_retryable, "asked to freeze what was not prepared");
  }
  return group->acquire(patience);
}

Status Databases::thaw(const SessionId& session) noexcept {
  const auto group = find(session);
  return group ? group->release() : Status();
}

void Databases::end(const SessionId& session) noexcept {
  std::shared_ptr<HoldGroup> group;
  {
    const std::lock_guard lock(mutex_);
    const auto found = sessions_.find(session);
    if (found == sessions_.end()) return;
    group = std::move(found->second);
    sessions_.erase(found);
  }
  (void)group->release();  // The session is over: nobody is left to tell.
}

std::size_t Databases::open_count(const SessionId& session) const {
  const auto group = find(session);
  return group ? group->paths().size() : 0;
}

std::shared_ptr<HoldGroup> Databases::find(const SessionId& session) const {
  const std::lock_guard lock(mutex_);
  const auto found = sessions_.find(session);
  return found == sessions_.end() ? nullptr : found->second;
}

}  // namespace umbra::sqlite
