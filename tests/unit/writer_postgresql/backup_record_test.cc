// SPDX-License-Identifier: Apache-2.0

#include "writer-sdk/writers/postgresql/backup_record.h"

#include <string>

#include "tests/support/catch.h"

using umbra::Errc;
using namespace umbra::postgresql;

namespace {

BackupRecord shop() {
  BackupRecord record;
  record.cluster = "shop";
  record.system_identifier = "7711096288655696267";
  record.server_version = "150018";
  record.data_directory = "/srv/a b\\c\nd";
  record.wal_directory = "/srv/wal";
  record.tablespace_directory = "PG_15_202209061";
  record.tablespaces = {{"16385", "fast one", "/srv/fast \\one"}};
  record.timeline = "3";
  record.freeze_flush_lsn = "0/19A2C18";
  record.freeze_time = "2026-11-22 21:01:20.5+00";
  return record;
}

void check_refused(const std::string& text, const std::string& part) {
  CAPTURE(text);
  const auto record = parse_backup_record(text);
  REQUIRE_FALSE(record.has_value());
  CAPTURE(record.error().context);
  CHECK(record.error().code == Errc::invalid_argument);
  CHECK(record.error().context.find(part) != std::string::npos);
}

}  // namespace

TEST_CASE("a record comes back as it was") {
  const auto record = shop();
  const auto text = to_text(record);
  CHECK(text.starts_with("umbra-postgresql=1\ncluster=shop\n"));
  CHECK(text.find("tablespace=16385 /srv/fast\\s\\\\one fast one\n") != std::string::npos);
  const auto again = parse_backup_record(text);
  REQUIRE(again);
  CHECK(*again == record);
  CHECK(stamp_of(record) == "7711096288655696267/3/0/19A2C18");
}

TEST_CASE("keys of later writers are ignored") {
  const auto again = parse_backup_record(to_text(shop()) + "moon_phase=full\n");
  REQUIRE(again);
  CHECK(*again == shop());
}

TEST_CASE("a record that is not ours or broken is refused, and says where") {
  const auto good = to_text(shop());
  check_refused("", "cluster is missing");
  check_refused("hello", "line 1: this is not of umbra-writer-postgresql");
  check_refused("umbra-postgresql=2\n", "line 1");
  check_refused("umbra-postgresql=1\nnonsense\n", "line 2: no '='");
  check_refused(good + "fsync=on\\", "stands for nothing");
  check_refused(good + "tablespace=16385 /srv", "without three parts");
  check_refused(good + "tablespace=x /srv name", "that is none");
  check_refused(good + "tablespace=1 srv name", "that is none");
  check_refused(good + "data_directory=srv\n", "not absolute");
  check_refused(good + "system_identifier=\n", "system_identifier is missing");
}

TEST_CASE("every beginning of a record is read or refused") {
  const auto good = to_text(shop());
  for (std::size_t i = 0; i < good.size(); ++i) (void)parse_backup_record(good.substr(0, i));
}
