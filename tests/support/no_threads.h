// SPDX-License-Identifier: Apache-2.0
//
// A process in which no thread can be started, as at the limit of its user: none has room for its
// stack.

#pragma once

#include <memory>

namespace umbra::test {

/// As long as it lives. Threads that run are left alone.
class NoThreads {
 public:
  NoThreads();
  ~NoThreads();
  NoThreads(const NoThreads&) = delete;
  NoThreads& operator=(const NoThreads&) = delete;

 private:
  struct Usual;
  std::unique_ptr<Usual> usual_;
};

}  // namespace umbra::test
