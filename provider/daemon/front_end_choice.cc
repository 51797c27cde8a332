// SPDX-License-Identifier: Apache-2.0
#include "provider/daemon/front_end_choice.h"

#include "engine/platform/log.h"

namespace umbra::cowd {
namespace {

constexpr const char* kUblk = "a block device (ublk)";
constexpr const char* kFuse = "a block device (FUSE and loop)";

std::string name_of(FrontEnd front_end) { return front_end == FrontEnd::ublk ? kUblk : kFuse; }

tl::unexpected<Error> refused(const char* wanted, const std::string& why,
                              const std::string& no_other, const char* other) {
  return fail(Errc::missing_kernel_feature, std::string("no block device can be made with ") +
                                                wanted + ": " + why + "; attach it with expose \"" +
                                                (no_other.empty() ? other : "none") +
                                                "\", or \"auto\" for the best there is");
}

FrontEndChoice best_of(const FrontEndOffer& offer) {
  const std::string survives = ", which survives a restart of umbra-cowd";
  if (offer.no_ublk.empty()) return {FrontEnd::ublk, name_of(FrontEnd::ublk) + survives};
  if (offer.no_fuse.empty()) {
    return {FrontEnd::fuse, name_of(FrontEnd::fuse) + survives + "; no ublk: " + offer.no_ublk};
  }
  std::string why = offer.no_ublk;
  if (offer.no_fuse != why) why += "; " + offer.no_fuse;
  return {FrontEnd::none, "no block device: " + why + "; reach it over NBD"};
}

}  // namespace

std::string_view expose_text(Expose expose) noexcept {
  switch (expose) {
    case Expose::ublk: return "ublk";
    case Expose::fuse: return "fuse";
    case Expose::none: return "none";
    case Expose::automatic: break;
  }
  return "auto";
}

Result<Expose> parse_expose(std::string_view text) {
  for (const Expose expose : {Expose::automatic, Expose::ublk, Expose::fuse, Expose::none}) {
    if (text == expose_text(expose)) return expose;
  }
  if (text == "nbd") {
    return fail(
        Errc::not_supported,
        "expose \"nbd\" (the kernel's NBD client) is not offered; \"ublk\" and \"fuse\" are "
        "block devices, \"none\" leaves the NBD server alone");
  }
  return fail(Errc::invalid_argument,
              "expose must be \"auto\", \"ublk\", \"fuse\" or \"none\", not \"" +
                  printable(text, 40) + "\"");
}

std::string_view front_end_text(FrontEnd front_end) noexcept {
  if (front_end == FrontEnd::ublk) return "ublk";
  return front_end == FrontEnd::fuse ? "fuse" : "none";
}

Result<FrontEndChoice> choose(Expose wanted, const FrontEndOffer& offer,
                              std::optional<FrontEnd> kept) {
  if (kept) {
    auto anew = choose(wanted, offer, {});
    if (anew && anew->front_end == *kept) return anew;
    return FrontEndChoice{*kept, name_of(*kept) + ", as before umbra-cowd's restart"};
  }
  switch (wanted) {
    case Expose::none:
      return FrontEndChoice{FrontEnd::none, "no block device, as asked for: reach it over NBD"};
    case Expose::ublk:
      if (!offer.no_ublk.empty()) return refused("ublk", offer.no_ublk, offer.no_fuse, "fuse");
      return FrontEndChoice{FrontEnd::ublk, name_of(FrontEnd::ublk) + ", as asked for"};
    case Expose::fuse:
      if (!offer.no_fuse.empty()) return refused("FUSE", offer.no_fuse, offer.no_ublk, "ublk");
      return FrontEndChoice{FrontEnd::fuse, name_of(FrontEnd::fuse) + ", as asked for"};
    case Expose::automatic: break;
  }
  return best_of(offer);
}

}  // namespace umbra::cowd
