// SPDX-License-Identifier: Apache-2.0
//
// A disk array in memory: LUNs with contents, which several hosts (MemoryProvider) may see. What it
// says of a LUN is what its identifiers, and nothing else, can find again.

#pragma once

#include <cstddef>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "umbra/lun.h"

namespace umbra::test {

/// Threads: any. Outlives its hosts.
class MemoryArray {
 public:
  /// A new LUN with these contents. Its description; `device_path` is a host's, and empty here.
  LunInformation create(std::string bytes);
  /// Idempotent, like the rest: what is not there needs nothing.
  void remove(const LunInformation& lun);

  /// False: it knows no such LUN, or withholds it.
  bool present(const LunInformation& lun, const void* host);
  void mask(const LunInformation& lun, const void* host);
  [[nodiscard]] bool is_presented(const LunInformation& lun, const void* host) const;
  /// All LUNs that the host sees, with its device paths.
  [[nodiscard]] std::vector<LunInformation> seen_by(const void* host) const;

  [[nodiscard]] std::string read(const LunInformation& lun) const;
  void write(const LunInformation& lun, std::string bytes);

  // Faults.
  /// Presenting this LUN does nothing from now on, or works again: a cable, a zone.
  void withhold(const LunInformation& lun, bool withheld);
  /// From now on it is described otherwise than before, as by other firmware.
  void redescribe(const LunInformation& lun, const std::string& product);
  [[nodiscard]] std::size_t size() const;

 private:
  struct Lun {
    LunInformation information;
    std::string bytes;
    std::set<const void*> hosts;
    bool withheld = false;
  };
  [[nodiscard]] Lun* find(const LunInformation& lun);
  [[nodiscard]] const Lun* find(const LunInformation& lun) const;

  mutable std::mutex mutex_;
  std::map<std::string, Lun> luns_;  // By the value of their naa.
  int made_ = 0;
};

}  // namespace umbra::test
