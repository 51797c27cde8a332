// SPDX-License-Identifier: Apache-2.0
#include "provider/daemon/front_end_choice.h"

#include "tests/support/catch.h"

using namespace umbra;
using namespace umbra::cowd;

namespace {

const FrontEndOffer kBoth;
const FrontEndOffer kUblkOnly{"", "FUSE of this kernel is too old"};
const FrontEndOffer kFuseOnly{"there is no ublk", ""};
const FrontEndOffer kNeither{"there is no ublk", "FUSE of this kernel is too old"};

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
      {kBoth, FrontEnd::ublk, {"ublk", "survives"}},
      {kUblkOnly, FrontEnd::ublk, {"ublk", "survives"}},
      {kFuseOnly, FrontEnd::fuse, {"FUSE", "survives", "there is no ublk"}},
      {kNeither, FrontEnd::none, {"NBD", "there is no ublk", "too old"}},
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

TEST_CASE("one reason for both is said once", "[cowd]") {
  const FrontEndOffer offer{"umbra-cowd does not run as root", "umbra-cowd does not run as root"};
  const std::string why = choose(Expose::automatic, offer, {})->why;
  CHECK(why == "no block device: umbra-cowd does not run as root; reach it over NBD");
}

TEST_CASE("what is asked for is made, or refused with what could be had", "[cowd]") {
  for (const auto& offer : {kBoth, kUblkOnly, kFuseOnly, kNeither}) {
    CHECK(choose(Expose::none, offer, {})->front_end == FrontEnd::none);
    const auto ublk = choose(Expose::ublk, offer, {});
    CHECK(ublk.has_value() == offer.no_ublk.empty());
    if (ublk) CHECK(ublk->front_end == FrontEnd::ublk);
    const auto fuse = choose(Expose::fuse, offer, {});
    CHECK(fuse.has_value() == offer.no_fuse.empty());
    if (fuse) CHECK(fuse->front_end == FrontEnd::fuse);
  }
  const Error no_ublk = choose(Expose::ublk, kFuseOnly, {}).error();
  CHECK(no_ublk.code == Errc::missing_kernel_feature);
  CHECK(says(no_ublk.context, "there is no ublk"));
  CHECK(says(no_ublk.context, "\"fuse\""));
  CHECK(says(choose(Expose::fuse, kUblkOnly, {}).error().context, "\"ublk\""));
  CHECK(says(choose(Expose::fuse, kNeither, {}).error().context, "\"none\""));
}

TEST_CASE("what has users stays what it is over a restart", "[cowd]") {
  for (const Expose wanted : {Expose::automatic, Expose::fuse, Expose::none}) {
    CHECK(choose(wanted, kNeither, FrontEnd::ublk)->front_end == FrontEnd::ublk);
    CHECK(choose(wanted, kBoth, FrontEnd::fuse)->front_end == FrontEnd::fuse);
  }
  // And says the same, where it would be the same.
  CHECK(choose(Expose::automatic, kBoth, FrontEnd::ublk)->why ==
        choose(Expose::automatic, kBoth, {})->why);
  CHECK(says(choose(Expose::automatic, kBoth, FrontEnd::fuse)->why, "as before"));
}

TEST_CASE("the words of expose", "[cowd]") {
  for (const Expose expose : {Expose::automatic, Expose::ublk, Expose::fuse, Expose::none}) {
    CHECK(parse_expose(expose_text(expose)) == expose);
  }
  CHECK(parse_expose("iscsi").error().code == Errc::invalid_argument);
  const Error nbd = parse_expose("nbd").error();
  CHECK(nbd.code == Errc::not_supported);
  for (const char* word : {"\"ublk\"", "\"fuse\"", "\"none\""}) CHECK(says(nbd.context, word));
  CHECK(front_end_text(FrontEnd::none) == "none");
  CHECK(front_end_text(FrontEnd::fuse) == "fuse");
  CHECK(front_end_text(FrontEnd::ublk) == "ublk");
}
