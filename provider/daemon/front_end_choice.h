// SPDX-License-Identifier: Apache-2.0
//
// How a volume is served: what was asked for, what this kernel offers, and what follows. Pure.
//
// A front end counts as offered only if it survives a restart of umbra-cowd on this kernel: one
// that does not would turn each restart into I/O errors. ublk comes before FUSE: there is no second
// block device and no file between the application and us, discard reaches the volume as what it
// is, and FUA does. The kernel's NBD client comes last: one connection, and what was in flight at a
// restart goes on up to two seconds later.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "umbra/result.h"

namespace umbra::cowd {

/// What an attach asks for. `automatic`: as a block device where that is possible.
enum class Expose : std::uint8_t { automatic, ublk, fuse, nbd, none };
[[nodiscard]] std::string_view expose_text(Expose expose) noexcept;
/// Errors: invalid_argument (names the words there are).
[[nodiscard]] Result<Expose> parse_expose(std::string_view text);

/// What serves it; `nbd` is a block device of the kernel's NBD client. Every volume can be reached
/// by NBD clients besides; `none`: only so.
enum class FrontEnd : std::uint8_t { none, nbd, fuse, ublk };
[[nodiscard]] std::string_view front_end_text(FrontEnd front_end) noexcept;

/// Of this kernel and this process: why not, or nothing.
struct FrontEndOffer {
  std::string no_ublk;
  std::string no_fuse;
  std::string no_nbd;

  /// Of a block device.
  [[nodiscard]] const std::string& why_not(FrontEnd front_end) const;
  [[nodiscard]] std::string& why_not(FrontEnd front_end);
};

struct FrontEndChoice {
  FrontEnd front_end = FrontEnd::none;
  std::string why;  // For people.
};

/// `kept`: what served it before this process was started, and still has its users. Errors:
/// missing_kernel_feature (what was asked for is not to be had: says why, and names what is).
[[nodiscard]] Result<FrontEndChoice> choose(Expose wanted, const FrontEndOffer& offer,
                                            std::optional<FrontEnd> kept);

}  // namespace umbra::cowd
