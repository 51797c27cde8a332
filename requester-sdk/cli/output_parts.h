// SPDX-License-Identifier: Apache-2.0
//
// Private to output*.cc: values as JSON.

#pragma once

#include <boost/json/string.hpp>
#include <boost/json/value.hpp>
#include <string>
#include <string_view>

#include "umbra/errc.h"
#include "umbra/ids.h"

namespace umbra::cli {

[[nodiscard]] std::string code_text(Errc code);  // "0x80042301"
/// Bytes that are not UTF-8 become U+FFFD.
[[nodiscard]] boost::json::string text_json(std::string_view text);
/// Of ours: UTF-8 for sure.
[[nodiscard]] boost::json::string view_json(std::string_view text);

template <class Tag>
[[nodiscard]] boost::json::value id_json(const Id<Tag>& id) {
  if (id.is_nil()) return nullptr;
  return boost::json::value(id.to_string());
}

}  // namespace umbra::cli
