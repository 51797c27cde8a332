// SPDX-License-Identifier: Apache-2.0
#include "provider/daemon/front_end_choice.h"

#include "tests/support/catch.h"

using namespace umbra;
using namespace umbra::cowd;

namespace {

const std::string kNoUblk = "there is no ublk";
const std::string kNoFuse = "FUSE of this kernel is too old";
const std::string kNoNbd = "there is no NBD client";
const FrontEndOffer kAll;
const FrontEndOffer kUblkOnly{"", kNoFuse, kNoNbd};
const FrontEndOffer kFuseOnly{kNoUblk, "", kNoNbd};
const FrontEndOffer kNbdOnly{kNoUblk, kNoFuse, ""};
const FrontEndOffer kNone{kNoUblk, kNoFuse, kNoNbd};

bool says(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("auto takes the best that survives a restart, and says which and why", "[cowd]") {
  struct Row {
    FrontEndOffer offer;
    FrontEnd chosen;
    std::vector<std::string> said;
  };
  const std::vector<Row> rows = {
      {kAll, FrontEnd::ublk, {"ublk", "survives"}},
      {kUblkOnly, FrontEnd::ublk, {"ublk", "survives"}},
      {kFuseOnly, FrontEnd::fuse, {"FUSE", "survives", kNoUblk}},
      {kNbdOnly, FrontEnd::nbd, {"the kernel's NBD client", "survives", kNoUblk, kNoFuse}},
      {kNone, FrontEnd::none, {"reach it over NBD", kNoUblk, kNoFuse, kNoNbd}},
  };
  for (const Row& row : rows) {
    const auto choice = choose(Expose::automatic, row.offer, {});
    REQUIRE(choice);
    CHECK(choice->front_end == row.chosen);
    for (const auto& part : row.said) {
      INFO(choice->why << " // " << part);
      CHECK(says(choice->why, part));
    }
  }
}

TEST_CASE("one reason for all is said once", "[cowd]") {
  const std::string reason = "umbra-cowd does not run as root";
  const FrontEndOffer offer{reason, reason, reason};
  const std::string why = choose(Expose::automatic, offer, {})->why;
  CHECK(why == "no block device: umbra-cowd does not run as root; reach it over NBD");
}

TEST_CASE("what is asked for is made, or refused with what could be had", "[cowd]") {
  for (const auto& offer : {kAll, kUblkOnly, kFuseOnly, kNbdOnly, kNone}) {
    CHECK(choose(Expose::none, offer, {})->front_end == FrontEnd::none);
    const auto ublk = choose(Expose::ublk, offer, {});
    CHECK(ublk.has_value() == offer.no_ublk.empty());
    if (ublk) CHECK(ublk->front_end == FrontEnd::ublk);
    const auto fuse = choose(Expose::fuse, offer, {});
    CHECK(fuse.has_value() == offer.no_fuse.empty());
    if (fuse) CHECK(fuse->front_end == FrontEnd::fuse);
    const auto nbd = choose(Expose::nbd, offer, {});
    CHECK(nbd.has_value() == offer.no_nbd.empty());
    if (nbd) CHECK(nbd->front_end == FrontEnd::nbd);
  }
  const Error no_ublk = choose(Expose::ublk, kFuseOnly, {}).error();
  CHECK(no_ublk.code == Errc::missing_kernel_feature);
  CHECK(says(no_ublk.context, "there is no ublk"));
  CHECK(says(no_ublk.context, "\"fuse\""));
  CHECK(says(choose(Expose::fuse, kUblkOnly, {}).error().context, "\"ublk\""));
  CHECK(says(choose(Expose::fuse, kNbdOnly, {}).error().context, "\"nbd\""));
  CHECK(says(choose(Expose::nbd, kNone, {}).error().context, "\"none\""));
  CHECK(says(choose(Expose::nbd, kNone, {}).error().context, kNoNbd));
}

TEST_CASE("what has users stays what it is over a restart", "[cowd]") {
  for (const Expose wanted : {Expose::automatic, Expose::fuse, Expose::none}) {
    CHECK(choose(wanted, kNone, FrontEnd::ublk)->front_end == FrontEnd::ublk);
    CHECK(choose(wanted, kAll, FrontEnd::fuse)->front_end == FrontEnd::fuse);
    CHECK(choose(wanted, kAll, FrontEnd::nbd)->front_end == FrontEnd::nbd);
  }
  // And says the same, where it would be the same.
  CHECK(choose(Expose::automatic, kAll, FrontEnd::ublk)->why ==
        choose(Expose::automatic, kAll, {})->why);
  CHECK(says(choose(Expose::automatic, kAll, FrontEnd::fuse)->why, "as before"));
}

TEST_CASE("the words of expose", "[cowd]") {
  for (const Expose expose :
       {Expose::automatic, Expose::ublk, Expose::fuse, Expose::nbd, Expose::none}) {
    CHECK(parse_expose(expose_text(expose)) == expose);
  }
  const Error other = parse_expose("iscsi").error();
  CHECK(other.code == Errc::invalid_argument);
  for (const char* word : {"\"auto\"", "\"ublk\"", "\"fuse\"", "\"nbd\"", "\"none\""}) {
    CHECK(says(other.context, word));
  }
  CHECK(front_end_text(FrontEnd::none) == "none");
  CHECK(front_end_text(FrontEnd::fuse) == "fuse");
  CHECK(front_end_text(FrontEnd::ublk) == "ublk");
  CHECK(front_end_text(FrontEnd::nbd) == "nbd");
}
