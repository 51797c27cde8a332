// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "engine/documents/xml_unknown.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "engine/documents/xml.h"
#include "engine/platform/wire_text.h"

namespace umbra::documents {
namespace {

constexpr const char* kUnknown = "unknown";
// As the document's own reader, so that what is kept stays what it was.
constexpr unsigned kParse =
    pugi::parse_escapes | pugi::parse_wconv_attribute | pugi::parse_eol | pugi::parse_cdata;

bool is_char(std::uint32_t code) {
  if (code == '\t' || code == '\n' || code == '\r') return true;
  const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
  return code >= 0x20 && !surrogate && code != 0xFFFE && code != 0xFFFF && code <= 0x10FFFF;
}

// `text` begins after an ampersand.
bool is_reference(std::string_view text) {
  const std::string_view name = text.substr(0, std::min<std::size_t>(text.find(';'), 10));
  if (!name.starts_with('#')) {
    constexpr std::array<std::string_view, 5> kPredefined{"amp", "lt", "gt", "quot", "apos"};
    return std::find(kPredefined.begin(), kPredefined.end(), name) != kPredefined.end();
  }
  const bool hexadecimal = name.starts_with("#x");
  const std::string_view digits = name.substr(hexadecimal ? 2 : 1);
  std::uint32_t code = 0;
  const char* const end = digits.data() + digits.size();
  const auto parsed = std::from_chars(digits.data(), end, code, hexadecimal ? 16 : 10);
  return !digits.empty() && parsed.ec == std::errc{} && parsed.ptr == end && is_char(code);
}

// How long the piece is that markup does not count in; 0: none begins here.
std::size_t opaque_length(std::string_view text) {
  struct Kind {
    std::string_view begin;
    std::string_view end;
  };
  constexpr std::array kKinds{Kind{"<!--", "-->"}, Kind{"<![CDATA[", "]]>"}, Kind{"<?", "?>"}};
  for (const Kind& kind : kKinds) {
    if (!text.starts_with(kind.begin)) continue;
    const std::size_t end = text.find(kind.end, kind.begin.size());
    return end == std::string_view::npos ? text.size() : end + kind.end.size();
  }
  return 0;
}

Status check_element(pugi::xml_node node) {
  std::array<std::string_view, kAttributesPerElementMax> names;
  std::size_t count = 0;
  for (const pugi::xml_attribute attribute : node.attributes()) {
    const std::string_view name = attribute.name();
    const auto end = names.begin() + static_cast<std::ptrdiff_t>(count);
    if (std::find(names.begin(), end, name) != end) {
      return invalid(std::string(node.name()).substr(0, 64) + " has the attribute " +
                     std::string(name).substr(0, 64) + " twice");
    }
    if (count == names.size()) return invalid("an element has too many attributes");
    names.at(count++) = name;
  }
  return {};
}

}  // namespace

tl::unexpected<Error> invalid(std::string why) {
  return fail(Errc::invalid_xml_document, std::move(why));
}

Status check_text(std::string_view xml) {
  if (xml.size() > kDocumentBytesMax) return invalid("the document is longer than 16 MiB");
  if (!is_utf8(xml)) return invalid("the document is not UTF-8");
  for (std::size_t i = 0; i < xml.size(); ++i) {
    const auto code = static_cast<unsigned char>(xml[i]);
    if (code >= 0x20 || is_char(code)) continue;
    return invalid((code == 0 ? "the document holds a NUL at byte "
                              : "a control character that XML forbids at byte ") +
                   std::to_string(i));
  }
  std::size_t tags = 0;
  std::size_t attributes = 0;
  bool in_tag = false;
  char quote = 0;  // In an attribute's value: what ends it.
  for (std::size_t i = 0; i < xml.size(); ++i) {
    const char letter = xml[i];
    if (letter == '&' && !is_reference(xml.substr(i + 1))) {
      return invalid("a reference to an entity or character that does not exist at byte " +
                     std::to_string(i));
    }
    if (letter == '<') {
      // The parser would take it for a part of the value, and read what this function passes over.
      if (in_tag) return invalid("'<' inside of a tag at byte " + std::to_string(i));
      if (const std::size_t length = opaque_length(xml.substr(i)); length > 0) {
        i += length - 1;
        continue;
      }
      if (xml.substr(i).starts_with("<!")) return invalid("a document type is not allowed");
      in_tag = true;
      ++tags;
    } else if (in_tag && quote != 0) {
      if (letter == quote) quote = 0;
    } else if (in_tag) {
      if (letter == '"' || letter == '\'') quote = letter;
      if (letter == '=') ++attributes;
      if (letter == '>') in_tag = false;
    }
  }
  if (tags > 2 * kElementsMax) return invalid("the document has too many elements");
  if (attributes > kAttributesMax) return invalid("the document has too many attributes");
  return {};
}

// Iterative: the depth is a stranger's choice.
Status check_tree(pugi::xml_node root) {
  std::size_t depth = 1;
  pugi::xml_node node = root;
  while (true) {
    if (depth > kElementDepthMax) return invalid("elements are nested too deep");
    if (Status sound = check_element(node); !sound) return sound;
    if (const pugi::xml_node child = node.first_child()) {
      node = child;
      ++depth;
      continue;
    }
    while (node != root && !node.next_sibling()) {
      node = node.parent();
      --depth;
    }
    if (node == root) return {};
    node = node.next_sibling();
  }
}

std::string take_unknown(pugi::xml_node node, const std::vector<const char*>& known) {
  const auto is_known = [&](std::string_view name) {
    return std::any_of(known.begin(), known.end(), [&](const char* one) { return name == one; });
  };
  pugi::xml_document kept;
  pugi::xml_node element;
  const auto target = [&] {
    if (!element) element = kept.append_child(kUnknown);
    return element;
  };
  for (const pugi::xml_attribute attribute : node.attributes())
    if (!is_known(attribute.name())) target().append_copy(attribute);
  for (const pugi::xml_node child : node.children()) {
    if (child.type() == pugi::node_element && !is_known(child.name())) target().append_copy(child);
  }
  if (!element) return {};
  StringWriter out;
  kept.save(out, "", pugi::format_raw | pugi::format_no_declaration, pugi::encoding_utf8);
  return std::move(out.text);
}

void put_unknown(pugi::xml_node node, const std::string& unknown) {
  if (unknown.empty()) return;
  pugi::xml_document kept;
  if (!kept.load_buffer(unknown.data(), unknown.size(), kParse, pugi::encoding_utf8)) return;
  const pugi::xml_node element = kept.document_element();
  for (const pugi::xml_attribute attribute : element.attributes())
    if (!node.attribute(attribute.name())) node.append_copy(attribute);
  for (const pugi::xml_node child : element.children())
    if (child.type() == pugi::node_element) node.append_copy(child);
}

}  // namespace umbra::documents
