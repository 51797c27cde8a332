// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Where the files of a component go in a restore, and who is asked (writer-and-documents 7,
// requester-and-coordinator 2.7). Pure: what is on the disk comes in as facts.
//
//   new target (requester) > directed, alternate, original location (writer) > restore method

#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "umbra/documents.h"
#include "umbra/result.h"

namespace umbra::documents {

enum class Place : std::uint8_t {
  refused,     ///< Nowhere; the decision says why.
  own,         ///< Where they were.
  alternate,   ///< By the alternate location mappings, all of them.
  directed,    ///< By the writer's directed targets; files these do not name to their own place.
  new_target,  ///< Where the requester says.
  at_reboot,   ///< Staged, and put to their own place when the machine starts.
};

/// What one component, or one file set of it, is decided by.
struct PlaceFacts {
  RestoreMethod method = RestoreMethod::undefined;
  RestoreTarget target = RestoreTarget::original;  ///< What the writer asked for in PreRestore.
  bool has_new_target = false;
  bool any_exists = false;       ///< One of its files is at its own place.
  bool all_replaceable = true;   ///< Those that are there can be replaced.
  bool all_mapped = false;       ///< Every file set has an alternate location.
  bool may_replace = false;      ///< The requester replaces also where the rules do not say so.
  bool replaces_in_use = false;  ///< The system can replace files that are in use: no reboot.
};

struct PlaceDecision {
  Place place = Place::refused;
  Errc code = Errc::ok;       ///< With `refused`.
  std::string_view why{};     ///< With `refused`. Static storage.
  bool stop_before = false;   ///< Its service is stopped before and started after the files.
  bool stop_after = false;    ///< Its service is stopped and started after PostRestore.
  bool needs_reboot = false;  ///< Its files are in use only after a reboot.

  friend bool operator==(const PlaceDecision&, const PlaceDecision&) = default;
};

/// VSS's rules, total. Codes: not_supported (an alternate location that is needed was not
/// declared); object_already_exists (files are in the way); writererror_nonretryable (the writer
/// named no target); access_denied (they cannot be replaced).
[[nodiscard]] PlaceDecision decide(const PlaceFacts& facts) noexcept;

/// Whether the writer takes part (VSS_WRITERRESTORE_ENUM): `always` always, `if_replace_fails` if
/// files cannot be replaced without it, `never` never. `undefined` is a writer's mistake; it is
/// asked.
[[nodiscard]] bool takes_part(WriterRestore rule, bool all_replaceable) noexcept;

/// "Option=Value, of this part".
struct RestoreOption {
  std::string component{};  ///< Path relative to the component; empty: all of it.
  std::string name{};
  std::string value{};

  friend bool operator==(const RestoreOption&, const RestoreOption&) = default;
};
/// `["Component":]"Option"="Value", ...`; blanks between the parts do not count. Errors:
/// invalid_argument (another form).
[[nodiscard]] Result<std::vector<RestoreOption>> parse_restore_options(std::string_view text);
/// The inverse; no text may hold a quotation mark.
[[nodiscard]] std::string restore_options_text(const std::vector<RestoreOption>& options);
/// Values of an option for the part at `path` (relative; empty: the component itself): what is said
/// of all, of it, and of what is above it. Names in any case.
[[nodiscard]] std::vector<std::string> values_of(const std::vector<RestoreOption>& options,
                                                 std::string_view path, std::string_view name);

}  // namespace umbra::documents
