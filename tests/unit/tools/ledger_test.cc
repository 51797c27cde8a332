// SPDX-License-Identifier: Apache-2.0
//
// The ledger's check finds every kind of damage it claims to find.

#include "tests/tools/ledger/ledger.h"

#include <filesystem>
#include <fstream>
#include <string>

#include "tests/support/catch.h"
#include "tests/support/seed.h"
#include "tests/support/temp_dir.h"

using umbra::test::TempDir;
namespace ledger = umbra::ledger;
namespace fs = std::filesystem;

namespace {

constexpr int kTransfers = 20;

// A bank with some transfers, its connections closed.
std::string make_bank(const TempDir& dir, const std::string& journal_mode = "wal") {
  const std::string path = dir / "bank.db";
  REQUIRE(ledger::create(path, journal_mode, 10));
  auto teller = ledger::Teller::open(path, umbra::test::seed());
  REQUIRE(teller);
  for (int i = 1; i <= kTransfers; ++i) {
    const auto number = teller->transfer();
    REQUIRE(number);
    CHECK(*number == static_cast<std::uint64_t>(i));
  }
  return path;
}

// The problem that check() reports after `damage`, or nothing.
std::string problem_after(const std::string& damage) {
  const TempDir dir;
  const auto path = make_bank(dir);
  {
    auto connection = ledger::Connection::open(path, false);
    REQUIRE(connection);
    REQUIRE(connection->run(damage));
  }
  const auto verdict = ledger::check(path);
  REQUIRE(verdict);
  std::string problems;
  for (const auto& problem : verdict->problems) problems += problem + "\n";
  return problems;
}

}  // namespace

TEST_CASE("a ledger that was only used is good, in every journal mode") {
  for (const std::string mode : {"wal", "delete", "truncate", "persist"}) {
    const TempDir dir;
    const auto path = make_bank(dir, mode);
    for (const auto& verdict : {ledger::check(path), ledger::check_copy(path)}) {
      REQUIRE(verdict);
      CHECK(verdict->problems.empty());
      CHECK(verdict->commits == kTransfers);
      CHECK(verdict->accounts == 10);
    }
  }
}

TEST_CASE("making a ledger that is there keeps it") {
  const TempDir dir;
  const auto path = make_bank(dir);
  REQUIRE(ledger::create(path, "wal", 10));
  CHECK(ledger::check(path)->commits == kTransfers);
}

TEST_CASE("a missing commit, half a transfer and a wrong balance are found") {
  CHECK(problem_after("SELECT 1").empty());
  CHECK(problem_after("DELETE FROM ledger WHERE id = 7").find("missing") != std::string::npos);
  CHECK(problem_after("DELETE FROM ledger WHERE id = 1").find("missing") != std::string::npos);
  CHECK(problem_after("DELETE FROM ledger WHERE id = 20").find("balances") != std::string::npos);
  CHECK(problem_after("UPDATE account SET balance = balance + 1 WHERE id = 3").find("sum") !=
        std::string::npos);
  CHECK(problem_after("UPDATE account SET balance = balance + 3 * (id = 1) - 3 * (id = 2)")
            .find("balances") != std::string::npos);
  CHECK(problem_after("DELETE FROM account").find("sum") != std::string::npos);
}

TEST_CASE("a copy without its -wal lacks the commits that are only there") {
  const TempDir dir;
  const auto path = make_bank(dir);
  auto keeper = ledger::Connection::open(path, false);  // The last to close would checkpoint.
  REQUIRE(keeper);
  REQUIRE(keeper->number("SELECT count(*) FROM ledger"));
  auto teller = ledger::Teller::open(path, 1);
  REQUIRE(teller);
  REQUIRE(teller->transfer());
  REQUIRE(fs::file_size(path + "-wal") > 0);
  CHECK(ledger::check_copy(path)->commits == kTransfers + 1);
  fs::copy_file(path, dir / "alone.db");
  CHECK(ledger::check_copy(dir / "alone.db")->commits == kTransfers);
}

TEST_CASE("what cannot be read is an error that names the file") {
  const TempDir dir;
  std::ofstream(dir / "text.db") << std::string(4096, 'x');
  for (const std::string name : {"none.db", "text.db"}) {
    for (const auto& verdict : {ledger::check(dir / name), ledger::check_copy(dir / name)}) {
      REQUIRE_FALSE(verdict);
      CHECK(verdict.error().code == umbra::Errc::io_error);
    }
  }
  CHECK(ledger::check_copy(dir / "none.db").error().context.find("none.db") != std::string::npos);
  CHECK_FALSE(ledger::create(dir / "no/such/bank.db", "wal", 10));
  CHECK_FALSE(ledger::Teller::open(dir / "text.db", 1));
}
