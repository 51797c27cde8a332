// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Byte ranges of files, in the two forms that VSS knows: as text in the document, and as a binary
// file that the text names. Pure.

#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "umbra/documents.h"
#include "umbra/result.h"

namespace umbra::documents {

inline constexpr std::size_t kRangesPerFileMax = 1'000'000;

/// Bytes of a file.
struct ByteRange {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;

  friend bool operator==(const ByteRange&, const ByteRange&) = default;
};

/// "offset:length, offset:length": decimal or 0x hexadecimal, blanks allowed after a comma. Errors:
/// invalid_argument (another form, an empty range, one that passes 2^63; "File=PATH" names a file
/// of ranges, which is for the requester to read).
[[nodiscard]] Result<std::vector<ByteRange>> parse_ranges(std::string_view text);

/// The file that the text names, "File=PATH" or the bare absolute path; empty: the ranges are in
/// the text itself.
[[nodiscard]] std::string_view ranges_file(std::string_view text) noexcept;

/// Such a file: a count, then as many pairs of offset and length, each number 64 bits, little
/// endian. Errors: invalid_argument (too short or too long for its count, more than
/// kRangesPerFileMax, an empty range, one that passes 2^63).
[[nodiscard]] Result<std::vector<ByteRange>> decode_ranges(std::string_view bytes);
/// The inverse. `ranges` must hold at most kRangesPerFileMax.
[[nodiscard]] std::string encode_ranges(const std::vector<ByteRange>& ranges);

/// The bytes that are to be copied, each once: in order, without overlaps, and none at or behind
/// `file_bytes`.
[[nodiscard]] std::vector<ByteRange> normalized(std::vector<ByteRange> ranges,
                                                std::uint64_t file_bytes);

/// Absolute directories, file names, and ranges of equal lengths pair by pair. Errors:
/// invalid_argument.
[[nodiscard]] Status check_directed_target(const DirectedTarget& target);

}  // namespace umbra::documents
