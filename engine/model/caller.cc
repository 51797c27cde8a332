// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "umbra/caller.h"

#include <utility>

namespace umbra {
namespace {

// Not in the header: a library that keeps its symbols to itself would have one, its program
// another.
[[nodiscard]] std::string& of_thread() noexcept {
  thread_local std::string caller;
  return caller;
}

}  // namespace

const std::string& current_caller() noexcept { return of_thread(); }

CallerScope::CallerScope(std::string caller)
    : before_(std::exchange(of_thread(), std::move(caller))) {}
CallerScope::~CallerScope() { of_thread() = std::move(before_); }

}  // namespace umbra
