// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// What the two documents' reader does not know, and what nobody's text may make it do.
//
// check_text() looks at the bytes before anything is built from them, in one pass and without
// memory; check_tree() at what was built. Together they bound what a stranger's document can cost:
// 16 MiB of text gave at most 280 MiB for less than a second, the values that were read included,
// whatever was in it (elements, attributes, text, file sets; measured with `umbra list files`).

#pragma once

#include <pugixml.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "umbra/result.h"

namespace umbra::documents {

/// invalid_xml_document, and why.
[[nodiscard]] tl::unexpected<Error> invalid(std::string why);

/// Length, UTF-8, characters and references that XML forbids, a document type, entities (only the
/// five of XML itself exist), the number of elements and attributes. Errors: invalid_xml_document.
[[nodiscard]] Status check_text(std::string_view xml);

/// Depth, attributes of one element, an attribute that is there twice. Errors:
/// invalid_xml_document.
[[nodiscard]] Status check_tree(pugi::xml_node root);

/// Attributes and elements of `node` that are none of `known`, as one element; empty if there are
/// none. Text, comments and processing instructions beside them are not kept; those inside of an
/// unknown element are text only.
[[nodiscard]] std::string take_unknown(pugi::xml_node node, const std::vector<const char*>& known);

/// The inverse: adds them to `node`. What is no such element adds nothing.
void put_unknown(pugi::xml_node node, const std::string& unknown);

/// Collects what pugixml writes.
struct StringWriter final : pugi::xml_writer {
  void write(const void* data, std::size_t size) override {
    text.append(static_cast<const char*>(data), size);
  }
  std::string text;
};

}  // namespace umbra::documents
