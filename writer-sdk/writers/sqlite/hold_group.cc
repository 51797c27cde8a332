// SPDX-License-Identifier: Apache-2.0

#include "writer-sdk/writers/sqlite/hold_group.h"

#include <algorithm>
#include <utility>

namespace umbra::sqlite {

namespace {

// How long one database is waited for while others are held.
constexpr std::chrono::milliseconds kHoldAndWaitLimit{250};

}  // namespace

HoldGroup::HoldGroup(std::vector<std::string> paths) {
  std::sort(paths.begin(), paths.end());
  paths.erase(std::unique(paths.begin(), paths.end()), paths.end());
  for (auto& path : paths) holds_.emplace_back(std::move(path));
}

std::vector<std::string> HoldGroup::paths() const {
  std::vector<std::string> paths;
  for (const auto& hold : holds_) paths.push_back(hold.path());
  return paths;
}

bool HoldGroup::is_held() const noexcept {
  return std::any_of(holds_.begin(), holds_.end(),
                     [](const DatabaseHold& hold) { return hold.is_held(); });
}

Status HoldGroup::prepare(const Patience& patience) {
  for (auto& hold : holds_) {
    if (auto prepared = hold.prepare(patience); !prepared) return prepared;
  }
  return {};
}

Status HoldGroup::acquire(const Patience& patience) {
  while (true) {
    auto acquired = acquire_once(patience);
    if (acquired) return acquired;
    (void)release();  // Held for no snapshot: what it says does not matter.
    const bool may_work_now = acquired.error().code == Errc::writererror_retryable;
    if (!may_work_now || patience.is_over()) return acquired;
  }
}

Status HoldGroup::acquire_once(const Patience& patience) {
  bool is_first = true;
  for (auto& hold : holds_) {
    const auto limit = is_first ? patience : patience.cut_to(kHoldAndWaitLimit);
    if (auto acquired = hold.acquire(limit); !acquired) return acquired;
    is_first = false;
  }
  return {};
}

Status HoldGroup::release() noexcept {
  Status first;
  for (auto& hold : holds_) {
    auto released = hold.release();
    if (!released && first) first = std::move(released);
  }
  return first;
}

}  // namespace umbra::sqlite
