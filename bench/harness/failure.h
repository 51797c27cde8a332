// SPDX-License-Identifier: Apache-2.0
//
// How umbra-bench ends before its time. These are thrown, unlike errors elsewhere in this tree: a
// bench has servers, mounts and files of several parties open, and unwinding takes all of them away
// in the right order, whatever went wrong. Nothing catches them but the runner and main().
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

#include "umbra/result.h"

namespace umbra::bench {

/// Something is wrong, lost data among it: the program ends with status 1.
class Failed : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// This key cannot be measured here; says what is missing. The next key goes on.
class Skipped : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// SIGINT or SIGTERM: the program ends with 128 and the signal's number.
class Interrupted : public std::runtime_error {
 public:
  explicit Interrupted(int signal_number)
      : std::runtime_error("interrupted"), number(signal_number) {}
  int number;
};

[[noreturn]] inline void give_up(const std::string& why) { throw Failed(why); }
inline void must(const Status& status, const std::string& what) {
  if (!status) give_up(what + ": " + status.error().to_string());
}
template <class T>
T must(Result<T> result, const std::string& what) {
  if (!result) give_up(what + ": " + result.error().to_string());
  return std::move(*result);
}

}  // namespace umbra::bench
