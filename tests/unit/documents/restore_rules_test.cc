// SPDX-License-Identifier: Apache-2.0
#include "engine/documents/restore_rules.h"

#include <set>

#include "tests/support/catch.h"

namespace {

using namespace umbra;
using namespace umbra::documents;
using enum RestoreMethod;

Place place(const PlaceFacts& facts) { return decide(facts).place; }

// What is there and can be done: nothing there; there and replaceable; there and not.
struct Row {
  RestoreMethod method;
  Place free;
  Place replaceable;
  Place stuck;         // No alternate location.
  Place stuck_mapped;  // With alternate locations.
};

constexpr Row kRows[] = {
    {undefined, Place::own, Place::refused, Place::refused, Place::refused},
    {restore_if_not_there, Place::own, Place::refused, Place::refused, Place::alternate},
    {restore_if_can_replace, Place::own, Place::own, Place::refused, Place::alternate},
    {stop_restore_start, Place::own, Place::own, Place::refused, Place::alternate},
    {restore_to_alternate_location, Place::refused, Place::refused, Place::refused,
     Place::alternate},
    {restore_at_reboot, Place::at_reboot, Place::at_reboot, Place::at_reboot, Place::at_reboot},
    {restore_at_reboot_if_cannot_replace, Place::own, Place::own, Place::at_reboot,
     Place::at_reboot},
    {custom, Place::own, Place::refused, Place::refused, Place::refused},
    {restore_stop_start, Place::own, Place::own, Place::refused, Place::alternate},
};

TEST_CASE("each restore method puts files where VSS's table says",
          "[vss:rule.restore-method-decision][vss:VSS_RME.UNDEFINED]"
          "[vss:VSS_RME.RESTORE_IF_NOT_THERE][vss:VSS_RME.RESTORE_IF_CAN_REPLACE]"
          "[vss:VSS_RME.STOP_RESTORE_START][vss:VSS_RME.RESTORE_TO_ALTERNATE_LOCATION]"
          "[vss:VSS_RME.RESTORE_AT_REBOOT][vss:VSS_RME.RESTORE_AT_REBOOT_IF_CANNOT_REPLACE]"
          "[vss:VSS_RME.CUSTOM][vss:VSS_RME.RESTORE_STOP_START]") {
  for (const Row& row : kRows) {
    CAPTURE(static_cast<int>(row.method));
    CHECK(place({.method = row.method}) == row.free);
    CHECK(place({.method = row.method, .any_exists = true}) == row.replaceable);
    CHECK(place({.method = row.method, .any_exists = true, .all_replaceable = false}) == row.stuck);
    CHECK(place({.method = row.method,
                 .any_exists = true,
                 .all_replaceable = false,
                 .all_mapped = true}) == row.stuck_mapped);
  }
  CHECK(decide({.method = restore_if_not_there, .any_exists = true}).code ==
        Errc::object_already_exists);
  CHECK(decide({.method = restore_to_alternate_location}).code == Errc::not_supported);
  CHECK(decide({.method = restore_if_can_replace, .any_exists = true, .all_replaceable = false})
            .code == Errc::access_denied);
}

TEST_CASE("services are stopped by the two methods that say so, and only if files go anywhere",
          "[vss:rule.restore-method-decision]") {
  for (const Row& row : kRows) {
    const PlaceDecision decision = decide({.method = row.method});
    CHECK(decision.stop_before == (row.method == stop_restore_start));
    CHECK(decision.stop_after == (row.method == restore_stop_start));
    CHECK(decision.needs_reboot == (row.method == restore_at_reboot));
    const PlaceDecision stuck =
        decide({.method = row.method, .any_exists = true, .all_replaceable = false});
    if (stuck.place == Place::refused) CHECK_FALSE(stuck.stop_before);
    if (stuck.place == Place::refused) CHECK_FALSE(stuck.why.empty());
  }
}

TEST_CASE("a system that replaces files in use needs no staging, but the reboot",
          "[vss:rule.restore-method-decision]") {
  const PlaceDecision decision = decide({.method = restore_at_reboot, .replaces_in_use = true});
  CHECK(decision == PlaceDecision{.place = Place::own, .needs_reboot = true});
  CHECK(place({.method = restore_at_reboot_if_cannot_replace,
               .any_exists = true,
               .all_replaceable = false,
               .replaces_in_use = true}) == Place::at_reboot);
}

TEST_CASE("a writer's target stands above the method, but for reboots",
          "[vss:VSS_RT.UNDEFINED][vss:VSS_RT.ORIGINAL][vss:VSS_RT.ALTERNATE]"
          "[vss:VSS_RT.DIRECTED][vss:VSS_RT.ORIGINAL_LOCATION]") {
  for (const Row& row : kRows) {
    CAPTURE(static_cast<int>(row.method));
    const bool reboot =
        row.method == restore_at_reboot || row.method == restore_at_reboot_if_cannot_replace;
    PlaceFacts facts{.method = row.method, .any_exists = true, .all_replaceable = false};
    CHECK(place(facts) == row.stuck);
    facts.target = RestoreTarget::original_location;
    CHECK(place(facts) == (reboot ? Place::at_reboot : Place::own));
    facts.target = RestoreTarget::directed;
    CHECK(place(facts) == (reboot ? Place::at_reboot : Place::directed));
    facts.target = RestoreTarget::undefined;
    CHECK(place(facts) == (reboot ? Place::at_reboot : Place::refused));
    facts.target = RestoreTarget::alternate;
    CHECK(place(facts) == (reboot ? Place::at_reboot : Place::refused));
    facts.all_mapped = true;
    CHECK(place(facts) == (reboot ? Place::at_reboot : Place::alternate));
  }
}

TEST_CASE("a requester's new target stands above all of it", "[vss:rule.new-target]") {
  for (const Row& row : kRows) {
    for (const auto target : {RestoreTarget::original, RestoreTarget::alternate,
                              RestoreTarget::directed, RestoreTarget::undefined}) {
      PlaceFacts facts{.method = row.method, .target = target, .has_new_target = true};
      CHECK(place(facts) == Place::new_target);
      facts.any_exists = true;
      CHECK(decide(facts).code == Errc::object_already_exists);
      facts.may_replace = true;
      CHECK(place(facts) == Place::new_target);
    }
  }
}

TEST_CASE("who may replace may also where the rules do not say so") {
  for (const auto method : {undefined, custom, restore_if_not_there})
    CHECK(place({.method = method, .any_exists = true, .may_replace = true}) == Place::own);
}

TEST_CASE("whether a writer takes part in a restore",
          "[vss:VSS_WRE.UNDEFINED][vss:VSS_WRE.NEVER][vss:VSS_WRE.IF_REPLACE_FAILS]"
          "[vss:VSS_WRE.ALWAYS]") {
  for (const bool replaceable : {false, true}) {
    CHECK_FALSE(takes_part(WriterRestore::never, replaceable));
    CHECK(takes_part(WriterRestore::always, replaceable));
    CHECK(takes_part(WriterRestore::undefined, replaceable));
    CHECK(takes_part(WriterRestore::if_replace_fails, replaceable) == !replaceable);
  }
}

TEST_CASE("restore options are read, written and looked up by part") {
  const std::string text =
      "\"sub\\Part\": \"Authoritative\"=\"Item:a\" , \"authoritative\" = \"All\","
      "\"SUB\":\"Roll Forward\"=\"Partial:7\"";
  const auto options = parse_restore_options(text);
  REQUIRE(options);
  CHECK(*options == std::vector<RestoreOption>{{"sub\\Part", "Authoritative", "Item:a"},
                                               {"", "authoritative", "All"},
                                               {"SUB", "Roll Forward", "Partial:7"}});
  CHECK(*parse_restore_options(restore_options_text(*options)) == *options);
  using Values = std::vector<std::string>;
  CHECK(values_of(*options, "", "AUTHORITATIVE") == Values{"All"});
  CHECK(values_of(*options, "Sub\\part", "Authoritative") == Values{"Item:a", "All"});
  CHECK(values_of(*options, "sub\\part", "roll forward") == Values{"Partial:7"});
  CHECK(values_of(*options, "subway", "roll forward").empty());
  CHECK(parse_restore_options(" ")->empty());
  CHECK((*parse_restore_options("\"a\"=\"\""))[0].value.empty());
  for (const char* wrong : {"a=b", "\"a\"", "\"a\"=", "\"a\"=\"b", "\"a\"=\"b\",", "\"\"=\"b\"",
                            "\"a\":\"b\"", "\"a\"=\"b\" \"c\"=\"d\"", ",", "\"a\":=\"b\""}) {
    CAPTURE(wrong);
    const auto refused = parse_restore_options(wrong);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::invalid_argument);
  }
}

}  // namespace
