// SPDX-License-Identifier: Apache-2.0
// What the reader of the documents does not know is kept; what would harm is refused.
#include "engine/documents/xml.h"
#include "tests/support/catch.h"

namespace {

using namespace umbra;
using namespace umbra::documents;
using Catch::Contains;

constexpr const char* kId = "11111111-2222-3333-4444-555555555555";

std::string metadata_with(const std::string& inside, const std::string& attributes = {}) {
  return "<writer-metadata version=\"1.0\"" + attributes + "><identity name=\"w\"/>" + inside +
         "</writer-metadata>";
}

std::string components_with(const std::string& inside, const std::string& attributes = {}) {
  return "<backup-components version=\"1.0\"" + attributes + "><writer-components class-id=\"" +
         std::string(kId) + "\">" + inside + "</writer-components></backup-components>";
}

void check_refused(const std::string& xml, const std::string& part) {
  INFO(part);
  const auto result = parse_writer_metadata(xml);
  REQUIRE_FALSE(result);
  CHECK(result.error().code == Errc::invalid_xml_document);
  CHECK_THAT(result.error().context, Contains(part));
}

TEST_CASE("what a newer version says at any element of a metadata document is written again",
          "[vss:IVssExamineWriterMetadata.SaveAsXML]") {
  const std::string xml = metadata_with(
      "<plan a=\"1\"><step>two &lt; <b/>three</step><![CDATA[<raw>]]></plan>"
      "<restore method=\"custom\" color=\"&quot;red&quot;\"><alternate-location path=\"/a\" "
      "pattern=\"*\" destination=\"/b\" speed=\"&#10;9\"/></restore>"
      "<component name=\"c\" z=\"\"><files path=\"/a\" compressed=\"yes\"><why/></files>"
      "<dependency writer=\"11111111-2222-3333-4444-555555555556\" component=\"x\" until=\"3\"/>"
      "</component><exclude path=\"/x\" since=\"5\"/><plan/>",
      " xmlns=\"x-schema:#later\"");
  const auto document = parse_writer_metadata(xml);
  REQUIRE(document);
  CHECK(document->components[0].files[0].pattern == "*");
  const std::string again = to_xml(*document);
  CHECK_THAT(again, Contains("xmlns=\"x-schema:#later\""));
  CHECK_THAT(again, Contains("<step>two &lt; <b />three</step>"));
  CHECK_THAT(again, Contains("<![CDATA[<raw>]]>"));
  CHECK_THAT(again, Contains("color=\"&quot;red&quot;\""));
  CHECK_THAT(again, Contains("speed=\"&#10;9\""));
  CHECK_THAT(again, Contains("z=\"\""));
  CHECK_THAT(again, Contains("compressed=\"yes\""));
  CHECK_THAT(again, Contains("<why />"));
  CHECK_THAT(again, Contains("until=\"3\""));
  CHECK_THAT(again, Contains("since=\"5\""));
  const auto back = parse_writer_metadata(again);
  REQUIRE(back);
  CHECK(*back == *document);
  CHECK(to_xml(*back) == again);
}

TEST_CASE("so it is in the components document, by writer and in the bundle") {
  const std::string inside =
      "<component name=\"c\" caption=\"d\" priority=\"1\"><failure code=\"0x00000000\" n=\"1\"/>"
      "<partial-file path=\"/a\" file-name=\"f\" ranges=\"0:1\" n=\"2\"/>"
      "<differenced-file path=\"/a\" pattern=\"*\" lsn=\"3\"/><roll-forward type=\"none\" n=\"4\"/>"
      "<restore-subcomponent name=\"s\" repair=\"yes\" n=\"5\"/>"
      "<new-target path=\"/a\" pattern=\"*\" destination=\"/b\" n=\"6\"/>"
      "<directed-target source-path=\"/a\" n=\"7\"/></component><lun n=\"8\"/>";
  const auto document = parse_backup_components(components_with(inside, " n=\"9\""));
  REQUIRE(document);
  CHECK(document->writers[0].components[0].caption == "d");
  CHECK(document->writers[0].components[0].restore_subcomponents[0].repair);
  const std::string again = to_xml(*document);
  for (const char* kept : {"priority=\"1\"", "n=\"1\"", "n=\"2\"", "lsn=\"3\"", "n=\"4\"",
                           "n=\"5\"", "n=\"6\"", "n=\"7\"", "<lun n=\"8\"", "n=\"9\""})
    CHECK_THAT(again, Contains(kept));
  CHECK(*parse_backup_components(again) == *document);
  const auto part = parse_writer_components(to_xml(document->writers[0]));
  REQUIRE(part);
  CHECK(*part == document->writers[0]);

  const auto bundle = parse_bundle(
      "<umbra-backup version=\"1.0\" tape=\"4\"><volume name=\"v\" n=\"1\"><mount point=\"/\" "
      "n=\"2\"/></volume><resolved-path path=\"/a\" real=\"/b\" n=\"3\"/><backup-components "
      "n=\"4\"/>"
      "<writer-metadata n=\"5\"><identity n=\"6\"/></writer-metadata><key/></umbra-backup>");
  REQUIRE(bundle);
  const std::string kept = to_xml(*bundle);
  for (const char* what :
       {"tape=\"4\"", "n=\"1\"", "n=\"2\"", "n=\"3\"", "n=\"4\"", "n=\"5\"", "n=\"6\"", "<key />"})
    CHECK_THAT(kept, Contains(what));
  CHECK(*parse_bundle(kept) == *bundle);
}

TEST_CASE("a document without anything unknown carries nothing of it") {
  const auto document = parse_writer_metadata(metadata_with("text<!-- c --><?pi x?>"));
  REQUIRE(document);
  CHECK(document->unknown.empty());
  CHECK(document->identity.unknown.empty());
}

TEST_CASE("what is no unknown element in a value adds nothing and breaks nothing") {
  WriterMetadataDocument document;
  document.unknown = "<a";
  CHECK(parse_writer_metadata(to_xml(document))->unknown.empty());
  document.unknown = "<unknown version=\"7.0\" backup-schema=\"x\" good=\"1\"/>";
  const auto back = parse_writer_metadata(to_xml(document));
  REQUIRE(back);
  CHECK(back->unknown == "<unknown good=\"1\"/>");
}

TEST_CASE("entities, document types and what is no character are refused before they cost") {
  std::string bomb = "<!DOCTYPE bomb [<!ENTITY a \"aaaaaaaaaa\">";
  for (char name = 'b'; name < 'k'; ++name) {
    bomb += std::string("<!ENTITY ") + name + " \"";
    for (int i = 0; i < 10; ++i) bomb += std::string("&") + static_cast<char>(name - 1) + ";";
    bomb += "\">";
  }
  check_refused(bomb + "]>" + metadata_with("<a x=\"&j;\"/>"), "document type");
  check_refused("<!doctype x>" + metadata_with(""), "document type");
  check_refused(metadata_with("<!ENTITY a \"b\">"), "document type");
  check_refused(metadata_with("<exclude path=\"/&j;\"/>"), "entity or character");
  for (const char* reference : {"&#0;", "&#x0;", "&#00;", "&#1;", "&#xD800;", "&#x110000;",
                                "&#99999999999;", "&#;", "&#x;", "&", "&amp", "&lt", "&nbsp;"}) {
    CAPTURE(reference);
    check_refused(metadata_with("<exclude path=\"/" + std::string(reference) + "\"/>"),
                  "entity or character");
  }
  check_refused(metadata_with("<exclude path=\"/\x01\"/>"), "control character");
  check_refused(metadata_with(std::string("<!-- \0 -->", 10)), "NUL");
  CHECK(parse_writer_metadata(metadata_with("<!-- & --><exclude path=\"/&#x41;&amp;&#66;\"/>"))
            ->excludes[0]
            .path == "/A&B");
}

TEST_CASE("attributes and single elements are there once") {
  check_refused(metadata_with("<component name=\"a\" name=\"b\"/>"), "attribute name twice");
  check_refused(metadata_with("<later a=\"1\" b=\"2\" a=\"1\"/>"), "attribute a twice");
  check_refused(metadata_with("", " version=\"1.0\""), "attribute version twice");
  check_refused(metadata_with("<identity name=\"x\"/>"), "identity more than once");
  check_refused(metadata_with("<restore/><restore/>"), "restore more than once");
  std::string many;
  for (std::size_t i = 0; i <= kAttributesPerElementMax; ++i)
    many += " a" + std::to_string(i) + "=\"\"";
  check_refused(metadata_with("<later" + many + "/>"), "too many attributes");
}

TEST_CASE("markup in a value is refused, and text is no attribute") {
  for (const char* value : {"<", "<!--", "<![CDATA[", "<?", "<a/>", "<!-- -->"}) {
    CAPTURE(value);
    check_refused(metadata_with("<a b=\"" + std::string(value) + "\"/>"), "inside of a tag");
  }
  // What only looks like a comment hides no control character and no element from the reader.
  check_refused(metadata_with("<a b=\"<?\" c=\"&#6;\"/>"), "inside of a tag");
  check_refused(metadata_with("<!-- \x06 -->"), "control character");
  std::string wide;
  for (std::size_t i = 0; i <= 2 * kElementsMax; ++i) wide += "<a/>";
  check_refused(metadata_with(wide), "too many elements");
  std::string many = "<a";
  for (std::size_t i = 0; i <= kAttributesMax; ++i) many += " b=''";
  check_refused(metadata_with(many + "/>"), "too many attributes");
  CHECK(parse_writer_metadata(metadata_with("<a>" + std::string(kAttributesMax + 1, '=') +
                                            "</a><!-- <a b= --><exclude path=\"/'>=\"/>"))
            ->excludes[0]
            .path == "/'>=");
}

TEST_CASE("a document of 100 MiB is refused by its length") {
  check_refused(std::string(std::size_t{100} << 20U, '<'), "longer than");
}

TEST_CASE("elements in any order, and between unknown ones, are found") {
  const auto document = parse_writer_metadata(
      "<writer-metadata version=\"1.7\"><exclude path=\"/x\"/><later><deep><deeper/></deep></later>"
      "<component name=\"b\"/><restore method=\"custom\"/><exclude path=\"/y\"/><other/>"
      "<component name=\"a\"/><identity name=\"w\"/></writer-metadata>");
  REQUIRE(document);
  CHECK(document->components[0].name == "b");
  CHECK(document->components[1].name == "a");
  CHECK(document->excludes[1].path == "/y");
  CHECK(document->restore->method == RestoreMethod::custom);
}

}  // namespace
