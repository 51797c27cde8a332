// SPDX-License-Identifier: Apache-2.0
#include "engine/documents/file_rules.h"

#include "engine/platform/prng.h"
#include "tests/support/catch.h"
#include "tests/support/seed.h"

namespace {

using namespace umbra;
using namespace umbra::documents;

TEST_CASE("a name matches a pattern as a naive twin says", "[vss:rule.file-sets-recursion]") {
  struct Twin {
    static bool match(std::string_view p, std::string_view n) {
      if (p.empty()) return n.empty();
      if (p[0] == '*') return match(p.substr(1), n) || (!n.empty() && match(p, n.substr(1)));
      return !n.empty() && (p[0] == '?' || p[0] == n[0]) && match(p.substr(1), n.substr(1));
    }
  };
  Prng prng(umbra::test::seed());
  const auto word = [&](std::string_view letters, std::uint64_t longest) {
    std::string text;
    for (std::uint64_t i = prng.below(longest); i > 0; --i)
      text.push_back(letters[prng.below(letters.size())]);
    return text;
  };
  for (int round = 0; round < 20'000; ++round) {
    const std::string pattern = word("ab*?", 7);
    const std::string name = word("ab", 8);
    if (matches(pattern, name) != Twin::match(pattern, name)) FAIL(pattern << " " << name);
  }
  CHECK(matches("*.*", "no dot"));  // As in VSS.
  CHECK_FALSE(matches("*.x", "no dot"));
  CHECK(has_wildcards("a?"));
  CHECK_FALSE(has_wildcards("[a]"));
}

TEST_CASE("a set names files of its directory, and below it if it says so",
          "[vss:rule.file-sets-recursion]") {
  const FileSet flat{.path = "/a/b/", .pattern = "*.db"};
  const FileSet deep{.path = "/a/b", .pattern = "*.db", .recursive = true};
  CHECK(covers(flat, "/a/b", "x.db"));
  CHECK_FALSE(covers(flat, "/a/b/c", "x.db"));
  CHECK(covers(deep, "/a/b/c/d/", "x.db"));
  CHECK_FALSE(covers(deep, "/a/bc", "x.db"));
  CHECK_FALSE(covers(deep, "/a", "x.db"));
  CHECK(covers({.path = "/", .recursive = true}, "/x", "y"));
  CHECK(below("/", "/") == "");
  CHECK(below("/a", "/a/b/") == "/b");
  CHECK(below("/a", "/ab") == std::nullopt);
}

TEST_CASE("many sets are searched as one after another would be", "[vss:rule.exclude-wins]") {
  Prng prng(umbra::test::seed());
  const std::vector<std::string> directories{"/", "/a", "/a/b", "/a/b/c", "/ab", "/c"};
  const std::vector<std::string> patterns{"*", "x", "?", "y*"};
  const std::vector<std::string> names{"x", "y", "yy", "z"};
  for (int round = 0; round < 300; ++round) {
    std::vector<FileSet> sets(prng.below(8));
    FileSetIndex index;
    for (std::size_t i = 0; i < sets.size(); ++i) {
      sets[i].path = directories[prng.below(directories.size())];
      sets[i].pattern = patterns[prng.below(patterns.size())];
      sets[i].recursive = prng.chance(1, 2);
      index.add(sets[i], i);
    }
    CHECK(index.empty() == sets.empty());
    for (const auto& directory : directories) {
      for (const auto& name : names) {
        const std::size_t limit = prng.below(10);
        std::optional<std::size_t> wanted;
        for (std::size_t i = std::min(sets.size(), limit); i > 0; --i)
          if (covers(sets[i - 1], directory, name)) wanted = i - 1;
        CHECK(index.find(directory, name, limit) == wanted);
      }
    }
  }
}

TEST_CASE("variables of a path are replaced once, by name", "[vss:rule.file-sets-recursion]") {
  const Variables variables{{"DATA", "/srv/${X}"}, {"X", "x"}, {"REL", "y"}};
  CHECK(*expanded("/a/b", variables) == "/a/b");
  CHECK(*expanded("${DATA}/a/%X%", variables) == "/srv/${X}/a/x");
  CHECK(*expanded("%DATA%", variables) == "/srv/${X}");
  CHECK(*expanded("/50%%/a%/$X/${/%a b%/100%", variables) == "/50%/a%/$X/${/%a b%/100%");
  CHECK(expanded("${NONE}/a", variables).error().code == Errc::object_not_found);
  CHECK_THAT(expanded("/%NONE%", variables).error().context, Catch::Contains("'NONE'"));
  CHECK(expanded("${REL}/a", variables).error().code == Errc::invalid_argument);
  CHECK(*expanded("/a\xFF/${DATA}", variables) == "/a\xFF//srv/${X}");
  CHECK(expanded(std::string_view("/a\0b", 4), variables).error().code == Errc::invalid_argument);
  CHECK(parse_variables("# c\nDATA=/srv\nexport Q=\"a b\"\n bad name=1\nS='x'\r\nnothing\nE=\n") ==
        Variables{{"DATA", "/srv"}, {"Q", "a b"}, {"S", "x"}, {"E", ""}});
}

TEST_CASE("the mask says for which backups a set is copied, and from where",
          "[vss:VSS_FSBT.FULL_BACKUP_REQUIRED][vss:VSS_FSBT.DIFFERENTIAL_BACKUP_REQUIRED]"
          "[vss:VSS_FSBT.INCREMENTAL_BACKUP_REQUIRED][vss:VSS_FSBT.LOG_BACKUP_REQUIRED]"
          "[vss:VSS_FSBT.FULL_SNAPSHOT_REQUIRED][vss:VSS_FSBT.DIFFERENTIAL_SNAPSHOT_REQUIRED]"
          "[vss:VSS_FSBT.INCREMENTAL_SNAPSHOT_REQUIRED][vss:VSS_FSBT.LOG_SNAPSHOT_REQUIRED]") {
  struct Row {
    BackupType type;
    std::uint32_t backup;
    std::uint32_t snapshot;
  };
  constexpr Row kRows[] = {
      {BackupType::full, 0x1, 0x100},         {BackupType::copy, 0x1, 0x100},
      {BackupType::other, 0x1, 0x100},        {BackupType::undefined, 0x1, 0x100},
      {BackupType::differential, 0x2, 0x200}, {BackupType::incremental, 0x4, 0x400},
      {BackupType::log, 0x8, 0x800}};
  for (const Row& row : kRows) {
    for (std::uint32_t bit = 1; bit <= 0x800; bit <<= 1U) {
      FileSet files;
      files.backup_type_mask = bit;
      CHECK(is_backed_up(files, row.type) == (bit == row.backup));
      CHECK(needs_snapshot(files, row.type) == (bit == row.snapshot));
      ComponentInfo component;
      component.log_files = {files};
      CHECK(contributes(component, row.type) == (bit == row.backup));
    }
    CHECK(is_backed_up(FileSet{}, row.type));
    CHECK(needs_snapshot(FileSet{}, row.type));
  }
  CHECK(file_spec::kDefault == (file_spec::kAllBackup | file_spec::kAllSnapshot));
  CHECK_FALSE(contributes(ComponentInfo{}, BackupType::full));
}

TEST_CASE("a type that a writer does not support is a full backup of it") {
  for (const std::uint32_t schema : {0x0U, 0x1U, 0x2U, 0x8U, 0xFU}) {
    CHECK(effective_type(schema, BackupType::full) == BackupType::full);
    CHECK(effective_type(schema, BackupType::copy) == BackupType::copy);
    CHECK(effective_type(schema, BackupType::undefined) == BackupType::full);
    CHECK(effective_type(schema, BackupType::differential) ==
          ((schema & 1U) != 0 ? BackupType::differential : BackupType::full));
    CHECK(effective_type(schema, BackupType::incremental) ==
          ((schema & 2U) != 0 ? BackupType::incremental : BackupType::full));
    CHECK(effective_type(schema, BackupType::log) ==
          ((schema & 8U) != 0 ? BackupType::log : BackupType::full));
  }
}

TEST_CASE("what is not to be backed up is read from lines, and a running writer knows better",
          "[vss:rule.files-not-to-backup][vss:config.FilesNotToBackup]") {
  const auto list = parse_not_to_backup(
      "# nobody's\n/var/tmp/* /s\n\n[Ledger]\n/srv/ledger/*.tmp\n/swap.img\n[Mail]\n"
      "/var/mail/cache/* /s\n");
  REQUIRE(list);
  REQUIRE(list->size() == 3);
  CHECK((*list)[0].files == std::vector<FileSet>{{.path = "/var/tmp", .recursive = true}});
  CHECK((*list)[1].name == "Ledger");
  CHECK((*list)[1].files[1] == FileSet{.path = "/", .pattern = "swap.img"});
  CHECK(not_to_backup(*list, {}).size() == 4);
  CHECK(not_to_backup(*list, {"LEDGER", "x"}).size() == 2);
  for (const char* wrong : {"var/x", "/", "/a/", "/a*/b", "[", "[x", "x y", "/s"}) {
    CAPTURE(wrong);
    const auto refused = parse_not_to_backup(std::string("/good/x\n") + wrong);
    if (std::string_view(wrong) == "/s") {
      CHECK(refused);  // A file of that name.
      continue;
    }
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::invalid_argument);
    CHECK_THAT(refused.error().context, Catch::Contains("line 2"));
  }
  CHECK(parse_not_to_backup(std::string(20'000, '\n')).error().code == Errc::limit_reached);
}

TEST_CASE("differenced before partial before mask",
          "[vss:rule.differenced-files][vss:rule.partial-files]") {
  const auto take = [](FileFacts facts) { return decide(facts).take; };
  CHECK(take({.mask_says_copy = true}) == Take::whole);
  CHECK(take({.mask_says_copy = false}) == Take::nothing);
  CHECK(take({.mask_says_copy = true, .partial = true}) == Take::ranges);
  CHECK(take({.mask_says_copy = false, .partial = true}) == Take::ranges);
  // No time: our own knowledge decides.
  CHECK(take({.modify_filetime = 5, .differenced = 0}) == Take::whole);
  CHECK(take({.modify_filetime = 5, .base_filetime = 4, .differenced = 0}) == Take::whole);
  CHECK(
      take({.modify_filetime = 5, .base_filetime = 5, .mask_says_copy = true, .differenced = 0}) ==
      Take::nothing);
  // A time: changed since it, or it is the file's own and after the base.
  CHECK(take({.modify_filetime = 7, .base_filetime = 9, .differenced = 6}) == Take::whole);
  CHECK(take({.modify_filetime = 5, .base_filetime = 5, .differenced = 6}) == Take::whole);
  CHECK(take({.modify_filetime = 5, .differenced = 6}) == Take::whole);
  CHECK(
      take({.modify_filetime = 6, .base_filetime = 6, .mask_says_copy = true, .differenced = 6}) ==
      Take::nothing);
  CHECK(decide({.modify_filetime = 7, .differenced = 6, .partial = true}) ==
        FileDecision{Take::whole, true});
}

constexpr std::uint32_t kAll =
    backup_schema::kDifferential | backup_schema::kIncremental | backup_schema::kLog;

TEST_CASE("the base of a backup is the one its kind is a change of", "[vss:rule.stamps-chain]") {
  using enum BackupType;
  const std::vector<PastBackup> past{{full}, {incremental}, {differential},
                                     {copy}, {log},         {incremental, false}};
  const auto base = [&](BackupType type, std::uint32_t schema = kAll) {
    return *choose_base(schema, type, past);
  };
  CHECK(base(full) == std::nullopt);
  CHECK(base(copy) == std::nullopt);
  CHECK(base(incremental) == 1);
  CHECK(base(differential) == 0);
  CHECK(base(log) == 4);
  CHECK(base(incremental, 0) == std::nullopt);  // It makes a full one.
  CHECK(*choose_base(kAll, incremental, {{copy}, {full, false}}) == std::nullopt);
  constexpr std::uint32_t kExclusive = kAll | backup_schema::kExclusiveIncrementalDifferential;
  CHECK(choose_base(kExclusive, incremental, {{full}, {differential}}).error().code ==
        Errc::not_supported);
  CHECK(choose_base(kExclusive, differential, {{full}, {incremental}}).error().code ==
        Errc::not_supported);
  CHECK(*choose_base(kExclusive, differential, {{incremental}, {full}, {differential}}) == 1);
}

}  // namespace
