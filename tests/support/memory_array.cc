// SPDX-License-Identifier: Apache-2.0

#include "tests/support/memory_array.h"

#include <utility>

#include "umbra/ids.h"

namespace umbra::test {

LunInformation MemoryArray::create(std::string bytes) {
  const std::lock_guard lock(mutex_);
  LunInformation lun;
  lun.vendor = "UMBRA";
  lun.product = "array in memory";
  lun.revision = "1";
  lun.serial = "S" + std::to_string(++made_);
  lun.size_bytes = bytes.size();
  // A port's number besides: other LUNs have the same, and it must find nothing.
  lun.identifiers = {{LunIdentifierType::relative_port, "1"},
                     {LunIdentifierType::naa, Guid::random().to_string()}};
  luns_[lun.identifiers[1].value] = Lun{lun, std::move(bytes), {}, false};
  return lun;
}

MemoryArray::Lun* MemoryArray::find(const LunInformation& lun) {
  for (auto& [id, one] : luns_)
    if (is_same_lun(one.information, lun)) return &one;
  return nullptr;
}

const MemoryArray::Lun* MemoryArray::find(const LunInformation& lun) const {
  for (const auto& [id, one] : luns_)
    if (is_same_lun(one.information, lun)) return &one;
  return nullptr;
}

void MemoryArray::remove(const LunInformation& lun) {
  const std::lock_guard lock(mutex_);
  std::erase_if(luns_, [&](const auto& one) { return is_same_lun(one.second.information, lun); });
}

bool MemoryArray::present(const LunInformation& lun, const void* host) {
  const std::lock_guard lock(mutex_);
  Lun* found = find(lun);
  if (found == nullptr || found->withheld) return false;
  found->hosts.insert(host);
  return true;
}

void MemoryArray::mask(const LunInformation& lun, const void* host) {
  const std::lock_guard lock(mutex_);
  if (Lun* found = find(lun)) found->hosts.erase(host);
}

bool MemoryArray::is_presented(const LunInformation& lun, const void* host) const {
  const std::lock_guard lock(mutex_);
  const Lun* found = find(lun);
  return found != nullptr && found->hosts.count(host) > 0;
}

std::vector<LunInformation> MemoryArray::seen_by(const void* host) const {
  const std::lock_guard lock(mutex_);
  std::vector<LunInformation> seen;
  for (const auto& [id, one] : luns_) {
    if (one.hosts.count(host) == 0) continue;
    seen.push_back(one.information);
    seen.back().device_path = "/memory/lun/" + one.information.serial;
  }
  return seen;
}

std::string MemoryArray::read(const LunInformation& lun) const {
  const std::lock_guard lock(mutex_);
  const Lun* found = find(lun);
  return found != nullptr ? found->bytes : std::string{};
}

void MemoryArray::write(const LunInformation& lun, std::string bytes) {
  const std::lock_guard lock(mutex_);
  if (Lun* found = find(lun)) found->bytes = std::move(bytes);
}

void MemoryArray::withhold(const LunInformation& lun, bool withheld) {
  const std::lock_guard lock(mutex_);
  if (Lun* found = find(lun)) found->withheld = withheld;
}

void MemoryArray::redescribe(const LunInformation& lun, const std::string& product) {
  const std::lock_guard lock(mutex_);
  if (Lun* found = find(lun)) found->information.product = product;
}

std::size_t MemoryArray::size() const {
  const std::lock_guard lock(mutex_);
  return luns_.size();
}

}  // namespace umbra::test
