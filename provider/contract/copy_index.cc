// SPDX-License-Identifier: Apache-2.0
#include "provider/contract/copy_index.h"

#include "umbra/vss.h"

namespace umbra::contract {
namespace {

constexpr std::size_t kSlack = 1'024;  // Ids that have gone and are not worth counting anew.

}  // namespace

void CopyIndex::add(const SnapshotSetId& set, const SessionId& session, bool auto_release) {
  sets_.insert(set);
  if (auto_release) sessions_.insert(session);
}

void CopyIndex::add(const cow::SnapshotRecord& record) {
  add(record.set_id, record.session_id, is_auto_release(record.attributes));
}

void CopyIndex::count_anew(const std::vector<cow::SnapshotRecord>& records) {
  sets_.clear();
  sessions_.clear();
  for (const auto& record : records) add(record);
}

bool CopyIndex::is_worn(std::size_t copies) const noexcept {
  return sets_.size() > 2 * copies + kSlack || sessions_.size() > 2 * copies + kSlack;
}

}  // namespace umbra::contract
