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

#include <cstddef>
#include <string>

namespace umbra {

inline constexpr std::size_t kCallerBytesMax = 256;  ///< umbrad cuts what is longer.

/// Empty: nobody's, the provider's own work. Of this thread, and valid until its scope ends.
/// Threads: any.
[[nodiscard]] const std::string& current_caller() noexcept;

/// As long as it lives, this thread works for `caller`. Ends on the thread where it began. For a
/// provider that hands a call's work to a thread of its own: CallerScope there, with what
/// current_caller() was here.
class CallerScope {
 public:
  explicit CallerScope(std::string caller);
  ~CallerScope();
  CallerScope(const CallerScope&) = delete;
  CallerScope& operator=(const CallerScope&) = delete;

 private:
  std::string before_;
};

}  // namespace umbra
