// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// On whose behalf a provider's thread works: umbrad says so with every call ("uid 0 pid 4242 (umbra
// 0.1.0)": credentials that the kernel vouches for, and a program's own name), and it holds for the
// thread that serves the call and for the operation that the call begins. For logs and audits; what
// is allowed was decided before.
//
// It is of the thread, not a parameter, since it goes through every call of umbra::Provider and
// DiffAreaManagement, which others implement, and changes none of them.

#pragma once

#include <string>
#include <utility>

namespace umbra {

inline constexpr std::size_t kCallerBytesMax = 256;

namespace caller_detail {
[[nodiscard]] inline std::string& of_thread() noexcept {
  thread_local std::string caller;
  return caller;
}
}  // namespace caller_detail

/// Empty: nobody's, the provider's own work.
[[nodiscard]] inline const std::string& current_caller() noexcept {
  return caller_detail::of_thread();
}

/// As long as it lives, this thread works for `caller`. Ends on the thread where it began.
class CallerScope {
 public:
  explicit CallerScope(std::string caller)
      : before_(std::exchange(caller_detail::of_thread(), std::move(caller))) {}
  ~CallerScope() { caller_detail::of_thread() = std::move(before_); }
  CallerScope(const CallerScope&) = delete;
  CallerScope& operator=(const CallerScope&) = delete;

 private:
  std::string before_;
};

}  // namespace umbra
