// SPDX-License-Identifier: Apache-2.0
#include "provider/daemon/front_end_choice.h"

#include <algorithm>
#include <array>
#include <utility>

#include "engine/platform/assert.h"
#include "engine/platform/log.h"

namespace umbra::cowd {
namespace {

// Best first.
constexpr std::array kBlockDevices = {FrontEnd::ublk, FrontEnd::fuse, FrontEnd::nbd};

std::string name_of(FrontEnd front_end) {
  switch (front_end) {
    case FrontEnd::ublk: return "a block device (ublk)";
    case FrontEnd::fuse: return "a block device (FUSE and loop)";
    case FrontEnd::nbd: return "a block device (the kernel's NBD client)";
    case FrontEnd::none: break;
  }
  return "no block device";
}

FrontEnd front_end_of(Expose expose) {
  switch (expose) {
    case Expose::ublk: return FrontEnd::ublk;
    case Expose::fuse: return FrontEnd::fuse;
    case Expose::nbd: return FrontEnd::nbd;
    case Expose::none:
    case Expose::automatic: break;
  }
  return FrontEnd::none;
}

tl::unexpected<Error> refused(FrontEnd wanted, const FrontEndOffer& offer) {
  const auto* const other =
      std::find_if(kBlockDevices.begin(), kBlockDevices.end(),
                   [&](FrontEnd front_end) { return offer.why_not(front_end).empty(); });
  const FrontEnd rather = other != kBlockDevices.end() ? *other : FrontEnd::none;
  return fail(Errc::missing_kernel_feature,
              name_of(wanted) + " cannot be made: " + offer.why_not(wanted) +
                  "; attach it with expose \"" + std::string(front_end_text(rather)) +
                  "\", or \"auto\" for the best there is");
}

// Each once.
std::string reasons(const FrontEndOffer& offer, const FrontEnd* end) {
  std::string text;
  for (const auto* front_end = kBlockDevices.begin(); front_end != end; ++front_end) {
    const std::string& why = offer.why_not(*front_end);
    if (text.find(why) != std::string::npos) continue;
    text += (text.empty() ? "" : "; ") + why;
  }
  return text;
}

FrontEndChoice best_of(const FrontEndOffer& offer) {
  for (const auto* front_end = kBlockDevices.begin(); front_end != kBlockDevices.end();
       ++front_end) {
    if (!offer.why_not(*front_end).empty()) continue;
    std::string why = name_of(*front_end) + ", which survives a restart of umbra-cowd";
    if (front_end != kBlockDevices.begin()) why += "; no better one: " + reasons(offer, front_end);
    return {*front_end, std::move(why)};
  }
  return {FrontEnd::none,
          "no block device: " + reasons(offer, kBlockDevices.end()) + "; reach it over NBD"};
}

}  // namespace

const std::string& FrontEndOffer::why_not(FrontEnd front_end) const {
  UMBRA_ASSERT(front_end != FrontEnd::none);
  if (front_end == FrontEnd::ublk) return no_ublk;
  return front_end == FrontEnd::fuse ? no_fuse : no_nbd;
}

std::string& FrontEndOffer::why_not(FrontEnd front_end) {
  return const_cast<std::string&>(std::as_const(*this).why_not(front_end));
}

std::string_view expose_text(Expose expose) noexcept {
  return expose == Expose::automatic ? "auto" : front_end_text(front_end_of(expose));
}

Result<Expose> parse_expose(std::string_view text) {
  for (const Expose expose :
       {Expose::automatic, Expose::ublk, Expose::fuse, Expose::nbd, Expose::none}) {
    if (text == expose_text(expose)) return expose;
  }
  return fail(Errc::invalid_argument,
              "expose must be \"auto\", \"ublk\", \"fuse\", \"nbd\" or \"none\", not \"" +
                  printable(text, 40) + "\"");
}

std::string_view front_end_text(FrontEnd front_end) noexcept {
  switch (front_end) {
    case FrontEnd::ublk: return "ublk";
    case FrontEnd::fuse: return "fuse";
    case FrontEnd::nbd: return "nbd";
    case FrontEnd::none: break;
  }
  return "none";
}

Result<FrontEndChoice> choose(Expose wanted, const FrontEndOffer& offer,
                              std::optional<FrontEnd> kept) {
  if (kept) {
    auto anew = choose(wanted, offer, {});
    if (anew && anew->front_end == *kept) return anew;
    return FrontEndChoice{*kept, name_of(*kept) + ", as before umbra-cowd's restart"};
  }
  if (wanted == Expose::automatic) return best_of(offer);
  const FrontEnd front_end = front_end_of(wanted);
  if (front_end == FrontEnd::none) {
    return FrontEndChoice{front_end, "no block device, as asked for: reach it over NBD"};
  }
  if (!offer.why_not(front_end).empty()) return refused(front_end, offer);
  return FrontEndChoice{front_end, name_of(front_end) + ", as asked for"};
}

}  // namespace umbra::cowd
