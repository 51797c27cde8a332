// SPDX-License-Identifier: Apache-2.0
#include "engine/documents/selection.h"

#include "engine/documents/rules.h"
#include "tests/support/catch.h"

namespace {

using namespace umbra;
using namespace umbra::documents;
using Names = std::vector<std::string>;

const WriterClassId kWriter{Guid{{1}}};
const WriterClassId kOther{Guid{{2}}};

struct Row {
  const char* path;
  bool selectable;
  bool for_restore;
  Participation wanted;
};

// Microsoft's "MyWriter" (writer-and-documents 5.5), whole.
constexpr auto kMandatory = Participation::mandatory;
constexpr auto kOptional = Participation::optional;
constexpr auto kWith = Participation::with_ancestor;
constexpr auto kBoth = Participation::with_ancestor_or_optional;
constexpr Row kTree[] = {
    {"Executables", false, false, kMandatory},
    {"Executables\\ConfigFiles", false, false, kMandatory},
    {"LicenseInfo", true, false, kOptional},
    {"Security", true, false, kOptional},
    {"Security\\UserInfo", false, false, kWith},
    {"Security\\Certificates", false, false, kWith},
    {"writerData", true, true, kOptional},
    {"writerData\\Set1", false, true, kWith},
    {"writerData\\Set1\\Jan", false, false, kWith},
    {"writerData\\Set1\\Dec", false, false, kWith},
    {"writerData\\Set2", false, true, kWith},
    {"writerData\\Set2\\Jan", false, false, kWith},
    {"writerData\\Set2\\Dec", false, false, kWith},
    {"writerData\\QueryLogs\\Query", false, false, kWith},
    {"writerData\\Usage", true, true, kBoth},
    {"writerData\\Usage\\Jan", false, false, kWith},
    {"writerData\\Usage\\Dec", false, false, kWith},
};

template <class Component>
void name(Component& component, const std::string& path) {
  const std::size_t cut = path.rfind('\\');
  component.logical_path = cut == std::string::npos ? "" : path.substr(0, cut);
  component.name = cut == std::string::npos ? path : path.substr(cut + 1);
}

WriterMetadataDocument my_writer() {
  WriterMetadataDocument document;
  document.identity.class_id = kWriter;
  document.identity.name = "MyWriter";
  for (const Row& row : kTree) {
    ComponentInfo& info = document.components.emplace_back();
    name(info, row.path);
    info.selectable = row.selectable;
    info.selectable_for_restore = row.for_restore;
  }
  return document;
}

WriterComponents part_of(const Names& paths, const WriterClassId& writer = kWriter) {
  WriterComponents part;
  part.class_id = writer;
  for (const std::string& path : paths) name(part.components.emplace_back(), path);
  return part;
}

Names names(const WriterMetadataDocument& metadata, const std::vector<std::size_t>& indices) {
  Names result;
  for (const std::size_t i : indices)
    result.push_back(full_path(metadata.components[i].logical_path, metadata.components[i].name));
  return result;
}

Names included_names(const WriterMetadataDocument& metadata, const WriterComponents& part) {
  std::vector<std::size_t> indices;
  for (const Included& one : included(metadata, part)) indices.push_back(one.component);
  return names(metadata, indices);
}

TEST_CASE("each component of Microsoft's tree takes part as the table says",
          "[vss:rule.selectability-for-backup]") {
  const WriterMetadataDocument metadata = my_writer();
  for (std::size_t i = 0; i < metadata.components.size(); ++i) {
    CAPTURE(kTree[i].path);
    CHECK(participation(metadata, i) == kTree[i].wanted);
    // What the table forbids cannot be added; all else can.
    WriterComponents part;
    const auto& info = metadata.components[i];
    const Status added = add_component(part, metadata, info.type, info.logical_path, info.name);
    CHECK(added.has_value() == (kTree[i].wanted != kWith));
  }
}

TEST_CASE("a backup has its entries and what comes with the selectable ones",
          "[vss:rule.implicit-inclusion]") {
  const WriterMetadataDocument metadata = my_writer();
  CHECK(included(metadata, part_of({})).empty());
  CHECK(included_names(metadata, part_of({"Executables"})) == Names{"Executables"});
  CHECK(included_names(metadata, part_of({"SECURITY"})) ==
        Names{"Security", "Security\\UserInfo", "Security\\Certificates"});
  CHECK(included_names(metadata, part_of({"writerData\\Usage"})) ==
        Names{"writerData\\Usage", "writerData\\Usage\\Jan", "writerData\\Usage\\Dec"});
  CHECK(included_names(metadata, part_of({"writerData"})).size() == 11);
  CHECK(included_names(metadata, part_of({"Executables", "Executables\\ConfigFiles"})) ==
        Names{"Executables", "Executables\\ConfigFiles"});
  CHECK(included(metadata, part_of({"nothing of it"})).empty());
  // The entry that is nearest brings it.
  const auto both = included(metadata, part_of({"writerData", "writerData\\Usage"}));
  for (const Included& one : both) {
    const auto path = names(metadata, {one.component})[0];
    CHECK(one.entry == (path.starts_with("writerData\\Usage") ? 1U : 0U));
  }
}

TEST_CASE("a set is a selectable component and all below it", "[vss:rule.implicit-inclusion]") {
  const WriterMetadataDocument metadata = my_writer();
  CHECK(names(metadata, component_set(metadata, 0)) == Names{"Executables"});
  CHECK(names(metadata, component_set(metadata, 3)) ==
        Names{"Security", "Security\\UserInfo", "Security\\Certificates"});
  CHECK(find_component(metadata, "writerdata\\USAGE") == 14);
  CHECK(find_component(metadata, "writerData\\QueryLogs") == std::nullopt);
}

TEST_CASE("what is mandatory and missing is told", "[vss:rule.selectability-for-backup]") {
  const WriterMetadataDocument metadata = my_writer();
  CHECK(missing_mandatory(metadata, part_of({})).empty());
  CHECK(names(metadata, missing_mandatory(metadata, part_of({"Security"}))) ==
        Names{"Executables", "Executables\\ConfigFiles"});
  CHECK(
      missing_mandatory(metadata, part_of({"executables", "Executables\\configfiles", "Security"}))
          .empty());
}

TEST_CASE("system state is what a writer of it does not except", "[vss:VSS_CF.NOT_SYSTEM_STATE]") {
  WriterMetadataDocument metadata = my_writer();
  metadata.components[1].flags = component_flag::kNotSystemState;
  for (const auto usage : {UsageType::undefined, UsageType::user_data, UsageType::other}) {
    metadata.identity.usage = usage;
    CHECK_FALSE(is_system_state(metadata, 0));
  }
  for (const auto usage : {UsageType::bootable_system_state, UsageType::system_service}) {
    metadata.identity.usage = usage;
    CHECK(is_system_state(metadata, 0));
    CHECK_FALSE(is_system_state(metadata, 1));
  }
}

TEST_CASE("how a component of a backup can be restored by itself",
          "[vss:rule.selectability-for-restore]") {
  const WriterMetadataDocument metadata = my_writer();
  const WriterComponents part = part_of({"Security", "writerData"});
  const auto selection = [&](const char* path) { return restore_selection(metadata, part, path); };
  CHECK(*selection("security") == RestoreSelection{0, false});  // Explicit: whatever it says.
  CHECK(*selection("writerData") == RestoreSelection{1, false});
  CHECK(*selection("writerData\\Set1") == RestoreSelection{1, true});
  CHECK(*selection("writerData\\Usage") == RestoreSelection{1, true});
  CHECK(selection("writerData\\Set1\\Jan").error().code == Errc::not_supported);
  CHECK(selection("Security\\UserInfo").error().code == Errc::not_supported);
  CHECK(selection("LicenseInfo").error().code == Errc::object_not_found);
  CHECK(selection("nothing").error().code == Errc::object_not_found);
}

TEST_CASE("a restore covers the set, or the named parts with what is below them",
          "[vss:rule.selectability-for-restore]") {
  const WriterMetadataDocument metadata = my_writer();
  const WriterComponents part = part_of({"writerData", "Executables"});
  const BackupComponent& data = part.components[0];
  CHECK(restore_set(metadata, data, {})->size() == 11);
  CHECK(names(metadata, *restore_set(metadata, data, {{"writerData", "Set1"}})) ==
        Names{"writerData\\Set1", "writerData\\Set1\\Jan", "writerData\\Set1\\Dec"});
  CHECK(restore_set(metadata, data, {{"writerdata", "set1"}, {"writerData", "Set2"}})->size() == 6);
  CHECK(restore_set(metadata, data, {{"writerData\\Set1", "Jan"}}).error().code ==
        Errc::not_supported);
  CHECK(restore_set(metadata, data, {{"", "LicenseInfo"}}).error().code == Errc::object_not_found);
  CHECK(restore_set(metadata, data, {{"writerData", "x"}}).error().code == Errc::object_not_found);
  CHECK(names(metadata, *restore_set(metadata, part.components[1], {})) == Names{"Executables"});
  CHECK(restore_set(metadata, BackupComponent{.name = "x"}, {}).error().code ==
        Errc::object_not_found);
}

TEST_CASE("dependencies are satisfied by what is in the backup, as an entry or with one",
          "[vss:rule.dependencies]") {
  WriterMetadataDocument metadata = my_writer();
  metadata.components[4].dependencies = {{kOther, "db", "main"}, {kOther, "", "gone"}};
  WriterMetadataDocument other;
  other.identity.class_id = kOther;
  name(other.components.emplace_back(), "db");
  name(other.components.emplace_back(), "db\\main");
  other.components[1].selectable = false;
  BackupComponentsDocument backup;
  backup.writers = {part_of({"Security"}), part_of({"DB"}, kOther)};
  const auto of = [&] {
    return dependencies(metadata, backup.writers[0], backup, {metadata, other});
  };
  auto found = of();
  REQUIRE(found.size() == 2);
  CHECK(found[0] == Dependency{4, {kOther, "db", "main"}, "", true});
  CHECK_FALSE(found[1].satisfied);
  backup.writers[1].components.clear();
  CHECK_FALSE(of()[0].satisfied);
  backup.writers[0] = part_of({"LicenseInfo"});
  CHECK(of().empty());
}

TEST_CASE("a dependency on another machine names it", "[vss:rule.remote-dependencies]") {
  CHECK(parsed({kOther, R"(\\db1\sql\inst)", "main"}) ==
        Dependency{0, {kOther, R"(sql\inst)", "main"}, "db1", false});
  CHECK(parsed({kOther, R"(\\db1)", "main"}) == Dependency{0, {kOther, "", "main"}, "db1", false});
  CHECK(parsed({kOther, "", R"(\\db1\main)"}) == Dependency{0, {kOther, "", "main"}, "db1", false});
  CHECK(parsed({kOther, "sql", "main"}) == Dependency{0, {kOther, "sql", "main"}, "", false});
  WriterMetadataDocument metadata = my_writer();
  metadata.components[0].dependencies = {{kWriter, R"(\\db1\)", "LicenseInfo"}};
  BackupComponentsDocument backup;
  backup.writers = {part_of({"Executables", "LicenseInfo"})};
  const auto found = dependencies(metadata, backup.writers[0], backup, {metadata});
  REQUIRE(found.size() == 1);
  CHECK(found[0].machine == "db1");
  CHECK_FALSE(found[0].satisfied);
}

}  // namespace
