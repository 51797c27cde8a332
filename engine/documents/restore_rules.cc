// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "engine/documents/restore_rules.h"

#include <algorithm>

#include "engine/documents/rules.h"

namespace umbra::documents {
namespace {

PlaceDecision refused(Errc code, std::string_view why) noexcept {
  return {.place = Place::refused, .code = code, .why = why};
}

PlaceDecision alternate(const PlaceFacts& facts, PlaceDecision otherwise) noexcept {
  return facts.all_mapped ? PlaceDecision{.place = Place::alternate} : otherwise;
}

PlaceDecision mapped(const PlaceFacts& facts) noexcept {
  return alternate(facts,
                   refused(Errc::not_supported, "an alternate location for it was not declared"));
}

PlaceDecision if_can_replace(const PlaceFacts& facts) noexcept {
  if (!facts.any_exists || facts.all_replaceable) return {.place = Place::own};
  return alternate(facts, refused(Errc::access_denied, "files are there that cannot be replaced"));
}

PlaceDecision at_reboot(const PlaceFacts& facts) noexcept {
  if (facts.replaces_in_use && facts.all_replaceable)
    return {.place = Place::own, .needs_reboot = true};
  return {.place = Place::at_reboot, .needs_reboot = true};
}

PlaceDecision by_method(const PlaceFacts& facts) noexcept {
  PlaceDecision decision;
  switch (facts.method) {
    case RestoreMethod::restore_if_not_there:
      if (!facts.any_exists || facts.may_replace) return {.place = Place::own};
      return alternate(facts, refused(Errc::object_already_exists,
                                      "files are there already, and its rules forbid to replace "
                                      "them"));
    case RestoreMethod::restore_if_can_replace: return if_can_replace(facts);
    case RestoreMethod::stop_restore_start:
      decision = if_can_replace(facts);
      decision.stop_before = decision.place != Place::refused;
      return decision;
    case RestoreMethod::restore_stop_start:
      decision = if_can_replace(facts);
      decision.stop_after = decision.place != Place::refused;
      return decision;
    case RestoreMethod::restore_to_alternate_location: return mapped(facts);
    case RestoreMethod::restore_at_reboot: return at_reboot(facts);
    case RestoreMethod::restore_at_reboot_if_cannot_replace:
      if (!facts.any_exists || facts.all_replaceable) return {.place = Place::own};
      return at_reboot(facts);
    case RestoreMethod::custom:
    case RestoreMethod::undefined: break;
  }
  if (!facts.any_exists || facts.may_replace) return {.place = Place::own};
  return refused(Errc::object_already_exists,
                 "files are there already, and its rules do not say that they may be replaced");
}

std::string_view without_blanks(std::string_view text) noexcept {
  text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
  return text;
}

// Takes one quoted word off the front.
std::optional<std::string> take_word(std::string_view& text) {
  text = without_blanks(text);
  if (!text.starts_with('"')) return std::nullopt;
  const std::size_t end = text.find('"', 1);
  if (end == std::string_view::npos) return std::nullopt;
  std::string word(text.substr(1, end - 1));
  text = without_blanks(text.substr(end + 1));
  return word;
}

bool take_sign(std::string_view& text, char sign) {
  if (!text.starts_with(sign)) return false;
  text = without_blanks(text.substr(1));
  return true;
}

}  // namespace

PlaceDecision decide(const PlaceFacts& facts) noexcept {
  if (facts.has_new_target) {
    if (!facts.any_exists || facts.may_replace) return {.place = Place::new_target};
    return refused(Errc::object_already_exists,
                   "files are there already; say that they may be replaced");
  }
  // Reboot methods are not affected by targets.
  if (facts.method == RestoreMethod::restore_at_reboot ||
      facts.method == RestoreMethod::restore_at_reboot_if_cannot_replace) {
    return by_method(facts);
  }
  switch (facts.target) {
    case RestoreTarget::alternate: return mapped(facts);
    case RestoreTarget::directed: return {.place = Place::directed};
    case RestoreTarget::original_location: return {.place = Place::own};
    case RestoreTarget::undefined:
      return refused(Errc::writererror_nonretryable, "the writer named no restore target");
    case RestoreTarget::original: break;
  }
  return by_method(facts);
}

bool takes_part(WriterRestore rule, bool all_replaceable) noexcept {
  switch (rule) {
    case WriterRestore::never: return false;
    case WriterRestore::if_replace_fails: return !all_replaceable;
    case WriterRestore::always:
    case WriterRestore::undefined: break;
  }
  return true;
}

Result<std::vector<RestoreOption>> parse_restore_options(std::string_view text) {
  const std::string_view whole = text;
  const auto wrong = [&] {
    return fail(Errc::invalid_argument, "restore options, byte " +
                                            std::to_string(whole.size() - text.size()) +
                                            R"(: expected ["Component":]"Option"="Value", ...)");
  };
  std::vector<RestoreOption> options;
  text = without_blanks(text);
  if (text.empty()) return options;
  while (true) {
    RestoreOption option;
    auto word = take_word(text);
    if (!word) return wrong();
    if (take_sign(text, ':')) {
      option.component = std::move(*word);
      word = take_word(text);
      if (!word) return wrong();
    }
    option.name = std::move(*word);
    if (option.name.empty() || !take_sign(text, '=')) return wrong();
    word = take_word(text);
    if (!word) return wrong();
    option.value = std::move(*word);
    options.push_back(std::move(option));
    if (text.empty()) return options;
    if (!take_sign(text, ',')) return wrong();
  }
}

std::string restore_options_text(const std::vector<RestoreOption>& options) {
  std::string text;
  const auto word = [&text](const std::string& one) { text.append("\"").append(one).append("\""); };
  for (const RestoreOption& option : options) {
    if (!text.empty()) text += ",";
    if (!option.component.empty()) {
      word(option.component);
      text += ":";
    }
    word(option.name);
    text += "=";
    word(option.value);
  }
  return text;
}

std::vector<std::string> values_of(const std::vector<RestoreOption>& options, std::string_view path,
                                   std::string_view name) {
  std::vector<std::string> values;
  for (const RestoreOption& option : options) {
    const bool of_it = option.component.empty() || same_path(option.component, path) ||
                       is_ancestor(option.component, path);
    if (of_it && same_path(option.name, name)) values.push_back(option.value);
  }
  return values;
}

}  // namespace umbra::documents
