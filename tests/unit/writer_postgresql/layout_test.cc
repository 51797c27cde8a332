// SPDX-License-Identifier: Apache-2.0
//
// What Identify tells of a cluster's files, and whether a set holds them.

#include "writer-sdk/writers/postgresql/layout.h"

#include <algorithm>
#include <set>
#include <string>

#include "engine/documents/rules.h"
#include "tests/support/catch.h"

using namespace umbra;
using namespace umbra::postgresql;

namespace {

Layout shop() {
  Layout layout;
  layout.data = "/srv/data/shop";
  layout.wal = "/srv/wal/shop";
  layout.tablespaces = {{"16385", "fast", "/srv/fast/shop"}, {"16399", "Fast\\\n", "/srv/data/x"}};
  layout.directories = {"base", "global", "pg_replslot", "pg_xact"};
  layout.tablespace_directory = "PG_15_202209061";
  return layout;
}

std::function<bool(const std::string&)> below(std::vector<std::string> tops) {
  return [tops](const std::string& path) {
    return std::any_of(tops.begin(), tops.end(),
                       [&](const auto& top) { return path.starts_with(top); });
  };
}

bool excludes(const Layout& layout, bool keep_slots, const std::string& path,
              const std::string& pattern) {
  const auto sets = describe_excludes(layout, keep_slots);
  return std::any_of(sets.begin(), sets.end(), [&](const FileSet& files) {
    return files.path == path && files.pattern == pattern;
  });
}

}  // namespace

TEST_CASE("a cluster is one selectable component with its files below it") {
  const auto layout = shop();
  const auto components = describe_cluster("shop", &layout);
  REQUIRE(components.size() == 4);
  CHECK(components[0].type == ComponentType::database);
  CHECK(components[0].selectable);
  CHECK(components[0].files.at(0).path == "/srv/data/shop");
  CHECK(components[0].log_files.at(0).path == "/srv/wal/shop");
  CHECK(components[0].log_files.at(1).path == "/srv/wal/shop/archive_status");
  CHECK(components[1].logical_path == "shop");
  CHECK(components[1].files.size() == 4);
  CHECK(components[1].files[0].recursive);
  CHECK(components[2].logical_path == "shop\\tablespaces");
  CHECK(components[2].name == "16385-fast");
  CHECK(components[2].files.at(0).path == "/srv/fast/shop/PG_15_202209061");
  CHECK(components[3].name == "16399-Fast__");
  for (std::size_t i = 1; i < components.size(); ++i) CHECK_FALSE(components[i].selectable);
}

TEST_CASE("what is told keeps the documents' rules") {
  const auto layout = shop();
  WriterMetadataDocument document;
  document.components = describe_cluster("shop", &layout);
  document.excludes = describe_excludes(layout, false);
  document.restore = describe_restore();
  const auto sound = documents::check(document);
  CAPTURE(sound ? std::string() : sound.error().to_string());
  CHECK(sound.has_value());
  // The whole comes with the one that can be selected.
  CHECK(documents::select_components(document, below({"/srv"})) == std::vector<std::size_t>{0});
  CHECK(documents::select_components(document, below({"/srv/data", "/srv/wal"})).empty());
  CHECK(documents::partly_held_components(document, below({"/srv/data", "/srv/wal"})) ==
        std::vector<std::size_t>{0});
}

TEST_CASE("WAL in the data directory is told once") {
  auto layout = shop();
  layout.wal = layout.data + "/pg_wal";
  layout.directories.push_back("pg_wal");
  const auto components = describe_cluster("shop", &layout);
  CHECK(components[0].log_files.at(0).path == "/srv/data/shop/pg_wal");
  std::multiset<std::string> paths;
  for (const auto& component : components) {
    for (const auto& files : component.files) paths.insert(files.path);
    for (const auto& files : component.log_files) paths.insert(files.path);
  }
  CHECK(paths.count("/srv/data/shop/pg_wal") == 1);
}

TEST_CASE("a cluster that nobody has seen is a component without files") {
  const auto components = describe_cluster("shop", nullptr);
  REQUIRE(components.size() == 1);
  CHECK(components[0].selectable);
  CHECK(components[0].files.empty());
}

TEST_CASE("what a start makes anew is left out, WAL is not") {
  auto layout = shop();
  CHECK(excludes(layout, false, "/srv/data/shop", "postmaster.pid"));
  CHECK(excludes(layout, false, "/srv/data/shop", "backup_label"));
  CHECK(excludes(layout, false, "/srv/data/shop/pg_subtrans", "*"));
  CHECK(excludes(layout, false, "/srv/data/shop/base", "pg_internal.init*"));
  CHECK(excludes(layout, false, "/srv/fast/shop/PG_15_202209061/pgsql_tmp", "*"));
  CHECK(excludes(layout, false, "/srv/data/shop/pg_replslot", "*"));
  CHECK_FALSE(excludes(layout, true, "/srv/data/shop/pg_replslot", "*"));
  for (const auto& files : describe_excludes(layout, false)) CHECK_FALSE(files.path == layout.wal);
  layout.stats_temp = "/run/postgresql/stats";  // Not in the data directory: nobody's business.
  CHECK_FALSE(excludes(layout, false, "/run/postgresql/stats", "*"));
  layout.stats_temp = "/srv/data/shop/stats";
  CHECK(excludes(layout, false, "/srv/data/shop/stats", "*"));
}

TEST_CASE("a set holds a cluster whole, in part or not at all") {
  const auto layout = shop();
  const auto whole = coverage(layout, below({"/srv"}));
  CHECK(whole.is_whole());
  CHECK(whole.is_touched());
  const auto part = coverage(layout, below({"/srv/data", "/srv/wal"}));
  CHECK_FALSE(part.is_whole());
  CHECK(part.is_touched());
  CHECK(join(part.outside) == "tablespace fast in /srv/fast/shop");
  const auto none = coverage(layout, below({"/home"}));
  CHECK_FALSE(none.is_touched());
  CHECK(none.outside.size() == 4);
}

TEST_CASE("a volume mounted inside of the data directory counts") {
  const auto layout = shop();
  const auto found =
      coverage(layout, [](const std::string& path) { return path != "/srv/data/shop/base"; });
  CHECK(join(found.outside) == "the directory /srv/data/shop/base");
}
