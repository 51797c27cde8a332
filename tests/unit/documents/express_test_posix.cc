// SPDX-License-Identifier: Apache-2.0
#include "engine/documents/express.h"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "engine/documents/express_store.h"
#include "engine/documents/xml.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace {

using namespace umbra;
using namespace umbra::documents;

const WriterClassId kClass{Guid{{0xab, 2}}};

WriterMetadataDocument sound() {
  WriterMetadataDocument document;
  document.identity.class_id = kClass;
  document.identity.name = "menu";
  document.restore = RestoreRules{.method = RestoreMethod::restore_if_can_replace,
                                  .writer_restore = WriterRestore::never};
  document.components.emplace_back().name = "recipes";
  document.components[0].files.emplace_back().path = "/var/lib/menu";
  return document;
}

Errc verdict(const std::function<void(WriterMetadataDocument&)>& change) {
  WriterMetadataDocument document = sound();
  change(document);
  const Status status = check_express(document);
  return status ? Errc::ok : status.error().code;
}

TEST_CASE("an express writer may have what needs nobody to act") {
  using D = WriterMetadataDocument;
  CHECK(verdict([](D&) {}) == Errc::ok);
  for (const UsageType usage : {UsageType::bootable_system_state, UsageType::system_service}) {
    CHECK(verdict([&](D& d) { d.identity.usage = usage; }) == Errc::ok);
  }
  CHECK(verdict([](D& d) { d.backup_schema = 0x410; }) == Errc::ok);
  CHECK(verdict([](D& d) { d.components[0].flags = component_flag::kNotSystemState; }) == Errc::ok);
  for (const std::uint32_t mask : {0xF0FU, 0x101U, 0x001U, 0U}) {
    CHECK(verdict([&](D& d) { d.components[0].files[0].backup_type_mask = mask; }) == Errc::ok);
  }
  CHECK(verdict([](D& d) { d.restore->method = RestoreMethod::restore_at_reboot; }) == Errc::ok);
  CHECK(verdict([](D& d) { d.restore.reset(); }) == Errc::ok);
  CHECK(verdict([](D& d) { d.excludes.emplace_back().path = "/var/lib/menu/tmp"; }) == Errc::ok);
  CHECK(verdict([](D& d) {
          d.components[0].dependencies.push_back({WriterClassId{Guid{{9}}}, "", "x"});
        }) == Errc::ok);
}

TEST_CASE("what an express writer cannot have is not supported") {
  using D = WriterMetadataDocument;
  constexpr Errc kNo = Errc::not_supported;
  CHECK(verdict([](D& d) { d.components[0].type = ComponentType::database; }) == kNo);
  for (const std::uint32_t flag : {0x1U, 0x2U, 0x3U}) {
    CHECK(verdict([&](D& d) { d.components[0].flags = flag; }) == kNo);
  }
  CHECK(verdict([](D& d) { d.components[0].files[0].alternate_path = "/srv"; }) == kNo);
  for (const std::uint32_t mask : {0x002U, 0x103U, 0x105U, 0x900U, 0xF0EU, 0x10F0FU}) {
    CHECK(verdict([&](D& d) { d.components[0].files[0].backup_type_mask = mask; }) == kNo);
  }
  for (const WriterRestore involved :
       {WriterRestore::undefined, WriterRestore::if_replace_fails, WriterRestore::always}) {
    CHECK(verdict([&](D& d) { d.restore->writer_restore = involved; }) == kNo);
  }
  for (const RestoreMethod method : {RestoreMethod::undefined, RestoreMethod::custom,
                                     RestoreMethod::restore_to_alternate_location}) {
    CHECK(verdict([&](D& d) { d.restore->method = method; }) == kNo);
  }
  CHECK(verdict([](D& d) {
          d.restore->alternate_locations.push_back({"/var/lib/menu", "*", false, "/srv"});
        }) == kNo);
  for (const std::uint32_t schema : {0x1U, 0x2U, 0x8U, 0x20U, 0x100U, 0x411U}) {
    CHECK(verdict([&](D& d) { d.backup_schema = schema; }) == kNo);
  }
  CHECK(verdict([](D& d) { d.excludes_from_snapshot.emplace_back().path = "/srv"; }) == kNo);
  for (const UsageType usage : {UsageType::undefined, UsageType::other}) {
    CHECK(verdict([&](D& d) { d.identity.usage = usage; }) == Errc::invalid_argument);
  }
  CHECK(verdict([](D& d) { d.identity.class_id = {}; }) == Errc::invalid_argument);
  CHECK(verdict([](D& d) { d.identity.name.clear(); }) == Errc::invalid_argument);
  CHECK(verdict([](D& d) { d.components[0].name = "a\\b"; }) == Errc::invalid_argument);
}

TEST_CASE("an express writer's instance id is its own or its class, for ever") {
  WriterMetadataDocument document = sound();
  settle_express_identity(document);
  CHECK(static_cast<Guid>(document.identity.instance_id) == static_cast<Guid>(kClass));
  const WriterInstanceId own{Guid{{7}}};
  document.identity.instance_id = own;
  settle_express_identity(document);
  CHECK(document.identity.instance_id == own);
}

TEST_CASE("the directory itself is an express writer") {
  const auto store = metadata_store_writer("/etc/umbra/writers.d");
  CHECK(check_express(store));
  CHECK(store.identity.class_id.to_string() == "75dfb225-e2e4-4d39-9ac9-ffaff65ddf06");
  CHECK(store.components[0].files[0].path == "/etc/umbra/writers.d");
}

// --- the directory ------------------------------------------------------------------------------

struct Directory {
  Directory() { path = temp / "writers.d"; }
  void put(const std::string& name, const std::string& text, mode_t mode = 0644) {
    std::filesystem::create_directories(path);
    std::ofstream(path + "/" + name) << text;
    REQUIRE(::chmod((path + "/" + name).c_str(), mode) == 0);
  }
  [[nodiscard]] ExpressWriters read() const {
    auto found = read_express_writers(path);
    REQUIRE(found);
    return std::move(*found);
  }
  test::TempDir temp;
  std::string path;
};

TEST_CASE("what is registered is read back, once, until it is unregistered",
          "[vss:IVssExpressWriter.Register][vss:IVssExpressWriter.Unregister]") {
  Directory directory;
  CHECK(directory.read().writers.empty());
  CHECK(unregister_express_writer(directory.path, kClass).error().code == Errc::object_not_found);
  REQUIRE(register_express_writer(directory.path, sound()));
  CHECK(register_express_writer(directory.path, sound()).error().code ==
        Errc::object_already_exists);
  const ExpressWriters found = directory.read();
  REQUIRE(found.writers.size() == 1);
  CHECK(found.refused.empty());
  CHECK(found.writers[0].file == kClass.to_string() + ".xml");
  CHECK(found.writers[0].document.components == sound().components);
  CHECK(parse_writer_metadata(found.writers[0].xml) == found.writers[0].document);
  // Nothing but the document is left.
  const std::filesystem::directory_iterator files(directory.path);
  CHECK(std::distance(begin(files), end(files)) == 1);
  CHECK(unregister_express_writer(directory.path, kClass));
  CHECK(directory.read().writers.empty());
  CHECK(unregister_express_writer(directory.path, kClass).error().code == Errc::object_not_found);
}

TEST_CASE("a refused document registers nothing, and a draft of a killed program is no obstacle") {
  Directory directory;
  WriterMetadataDocument wrong = sound();
  wrong.backup_schema = backup_schema::kLog;
  CHECK(register_express_writer(directory.path, wrong).error().code == Errc::not_supported);
  CHECK_FALSE(std::filesystem::exists(directory.path));
  directory.put("." + kClass.to_string() + ".xml.new", "half");
  CHECK(directory.read().writers.empty());
  CHECK(register_express_writer(directory.path, sound()));
  CHECK(directory.read().writers.size() == 1);
}

TEST_CASE("a package's file counts whatever its name, and is unregistered by class") {
  Directory directory;
  directory.put("menu.xml", to_xml(sound()));
  directory.put("README", "not a document");
  const ExpressWriters found = directory.read();
  REQUIRE(found.writers.size() == 1);
  CHECK(found.refused.empty());
  // Also what requesters are given has the instance id.
  CHECK(static_cast<Guid>(parse_writer_metadata(found.writers[0].xml)->identity.instance_id) ==
        static_cast<Guid>(kClass));
  CHECK(register_express_writer(directory.path, sound()).error().code ==
        Errc::object_already_exists);
  CHECK(unregister_express_writer(directory.path, kClass));
  CHECK(directory.read().writers.empty());
}

TEST_CASE("files that cannot be trusted or understood are named, and cost nobody else") {
  Directory directory;
  directory.put("a.xml", to_xml(sound()));
  directory.put("b.xml", to_xml(sound()));  // The same class.
  directory.put("c.xml", "<writer-metadata");
  WriterMetadataDocument wrong = sound();
  wrong.identity.class_id = WriterClassId{Guid{{3}}};
  wrong.components[0].type = ComponentType::database;
  directory.put("d.xml", to_xml(wrong));
  wrong = sound();
  wrong.identity.class_id = WriterClassId{Guid{{4}}};
  directory.put("e.xml", to_xml(wrong), 0666);
  std::filesystem::create_symlink(directory.path + "/a.xml", directory.path + "/f.xml");
  REQUIRE(::mkfifo((directory.path + "/g.xml").c_str(), 0600) == 0);
  const ExpressWriters found = directory.read();
  REQUIRE(found.writers.size() == 1);
  CHECK(found.writers[0].file == "a.xml");
  REQUIRE(found.refused.size() == 6);
  for (std::size_t i = 0; i < 6; ++i) {
    CHECK(found.refused[i].substr(0, 5) == std::string(1, static_cast<char>('b' + i)) + ".xml");
  }
}

TEST_CASE("a directory that others may write to speaks for nobody") {
  Directory directory;
  directory.put("a.xml", to_xml(sound()));
  REQUIRE(::chmod(directory.path.c_str(), 0777) == 0);
  CHECK(read_express_writers(directory.path).error().code == Errc::access_denied);
  WriterMetadataDocument other = sound();
  other.identity.class_id = WriterClassId{Guid{{3}}};
  CHECK(register_express_writer(directory.path, other).error().code == Errc::access_denied);
  CHECK(unregister_express_writer(directory.path, kClass).error().code == Errc::access_denied);
}

TEST_CASE("there is a bound on express writers") {
  Directory directory;
  for (std::size_t n = 0; n <= kExpressWritersMax; ++n) {
    WriterMetadataDocument one = sound();
    one.identity.class_id = WriterClassId::random();
    directory.put(std::to_string(n) + ".xml", to_xml(one));
  }
  CHECK(directory.read().writers.size() == kExpressWritersMax);
  CHECK(directory.read().refused.size() == 1);
}

TEST_CASE("the system's umbrad has its express writers in /etc") {
  CHECK(express_directory("/run/umbra") == "/etc/umbra/writers.d");
  CHECK(express_directory("/tmp/x") == "/tmp/x/writers.d");
}

}  // namespace
