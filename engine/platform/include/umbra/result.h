// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// How expected failures travel: a value or an Error. Nothing of ours throws across a boundary.

#pragma once

#include <string>
#include <tl/expected.hpp>
#include <utility>

#include "umbra/errc.h"

namespace umbra {

/// What went wrong (`code`, for programs) and where (`context`, for people: one fact per layer that
/// knew one, outermost first, e.g. "writer 'ledger', phase freezing: no answer in 60000 ms").
struct Error {
  Errc code = Errc::unexpected;
  std::string context;

  /// "VSS_E_BAD_STATE (0x80042301): not allowed at this point: <context>".
  [[nodiscard]] std::string to_string() const;

  friend bool operator==(const Error&, const Error&) = default;
};

template <class T>
using Result = tl::expected<T, Error>;
using Status = Result<void>;

/// `return fail(Errc::bad_state, "why");` in any function that returns a Result or Status.
[[nodiscard]] inline tl::unexpected<Error> fail(Errc code, std::string context) {
  return tl::unexpected<Error>(Error{code, std::move(context)});
}

/// Passes an error up, with one more fact in front of its context.
[[nodiscard]] tl::unexpected<Error> fail(Error cause, std::string_view fact);
/// Passes an error up unchanged.
[[nodiscard]] inline tl::unexpected<Error> fail(Error cause) {
  return tl::unexpected<Error>(std::move(cause));
}

}  // namespace umbra
