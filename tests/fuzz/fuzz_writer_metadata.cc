// SPDX-License-Identifier: Apache-2.0
//
// Anybody's text as a Writer Metadata Document: refused, or read to a value that survives being
// written and read again, with all that was unknown in it.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "engine/documents/xml.h"

namespace {

using namespace umbra;
using namespace umbra::documents;

template <class Document>
void check(const Result<Document>& document, Result<Document> (*parse)(std::string_view)) {
  if (!document) {
    if (document.error().code != Errc::invalid_xml_document) std::abort();
    return;
  }
  const auto again = parse(to_xml(*document));
  if (!again || !(*again == *document)) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  check(parse_writer_metadata(text), parse_writer_metadata);
  return 0;
}
