// SPDX-License-Identifier: Apache-2.0
//
// The locks as other processes see them: held by the kernel for the holder, and gone with it.

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <string>

#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/writer_sqlite/application.h"
#include "writer-sdk/writers/sqlite/database_hold.h"

using umbra::sqlite::DatabaseHold;
using namespace umbra::test;

namespace {

// A process that holds `path` until it is killed.
class Holder {
 public:
  explicit Holder(const std::string& path) {
    std::array<int, 2> ready{};
    REQUIRE(pipe(ready.data()) == 0);
    child_ = fork();
    if (child_ == 0) {
      DatabaseHold hold(path);
      const char answer = hold.prepare(patient()) && hold.acquire(patient()) ? 'y' : 'n';
      if (write(ready[1], &answer, 1) != 1) _exit(1);
      while (true) pause();
    }
    close(ready[1]);
    char answer = 0;
    CHECK(read(ready[0], &answer, 1) == 1);
    CHECK(answer == 'y');
    close(ready[0]);
  }
  ~Holder() { kill_hard(); }
  Holder(const Holder&) = delete;
  Holder& operator=(const Holder&) = delete;

  void kill_hard() {
    if (child_ <= 0) return;
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
    child_ = 0;
  }

 private:
  pid_t child_ = 0;
};

}  // namespace

TEST_CASE("another process is refused, and a holder killed with -9 holds nothing") {
  for (const std::string mode : {"wal", "delete"}) {
    DYNAMIC_SECTION(mode) {
      const TempDir dir;
      { REQUIRE(Application(dir / "ledger.db", mode).write() == SQLITE_OK); }
      Holder holder(dir / "ledger.db");
      Application application(dir / "ledger.db");
      CHECK(application.write() == SQLITE_BUSY);
      CHECK(application.count() == 1);
      holder.kill_hard();
      CHECK(application.write() == SQLITE_OK);
      CHECK(application.run("PRAGMA integrity_check") == SQLITE_OK);
    }
  }
}

TEST_CASE("what a dead writer left half done is rolled back by prepare, so that it can be held") {
  // The hot journal: a child writes inside a transaction and dies.
  const TempDir dir;
  { REQUIRE(Application(dir / "ledger.db", "delete").write() == SQLITE_OK); }
  const pid_t child = fork();
  if (child == 0) {
    Application application(dir / "ledger.db");
    const bool ok = application.run(
                        "PRAGMA cache_size=1; PRAGMA cache_spill=1; BEGIN IMMEDIATE;"
                        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n"
                        " WHERE i<2000) INSERT INTO note SELECT hex(randomblob(100))"
                        " FROM n") == SQLITE_OK;
    if (!ok) _exit(1);
    kill(getpid(), SIGKILL);
  }
  int status = 0;
  waitpid(child, &status, 0);
  REQUIRE(WIFSIGNALED(status));
  REQUIRE_FALSE(bytes_of(dir / "ledger.db-journal").empty());

  DatabaseHold hold(dir / "ledger.db");
  REQUIRE(hold.prepare(patient()));
  CHECK(bytes_of(dir / "ledger.db-journal").empty());
  CHECK(hold.acquire(patient()));
  CHECK(Application(dir / "ledger.db").count() == 1);
}
