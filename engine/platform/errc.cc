// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "umbra/errc.h"

namespace umbra {

std::string_view code_name(Errc code) noexcept {
  switch (code) {
#define UMBRA_ERRC_NAME(name, number, text_name, remedy_class, text) \
  case Errc::name: return text_name;
    UMBRA_ERRC_TABLE(UMBRA_ERRC_NAME)
#undef UMBRA_ERRC_NAME
  }
  return "unknown";
}

std::string_view describe(Errc code) noexcept {
  switch (code) {
#define UMBRA_ERRC_TEXT(name, number, text_name, remedy_class, text) \
  case Errc::name: return text;
    UMBRA_ERRC_TABLE(UMBRA_ERRC_TEXT)
#undef UMBRA_ERRC_TEXT
  }
  return "an error this version does not know";
}

Remedy remedy(Errc code) noexcept {
  switch (code) {
#define UMBRA_ERRC_REMEDY(name, number, text_name, remedy_class, text) \
  case Errc::name: return Remedy::remedy_class;
    UMBRA_ERRC_TABLE(UMBRA_ERRC_REMEDY)
#undef UMBRA_ERRC_REMEDY
  }
  return Remedy::give_up;
}

}  // namespace umbra
