// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "engine/documents/ranges.h"

#include <algorithm>
#include <charconv>

namespace umbra::documents {
namespace {

constexpr std::size_t kShownBytesMax = 64;  // Of a peer's word in a message.
constexpr std::size_t kNumberBytes = 8;
constexpr std::uint64_t kEndMax = std::uint64_t{1} << 63U;

bool is_sound(const ByteRange& range) {
  return range.length > 0 && range.length <= kEndMax && range.offset <= kEndMax - range.length;
}

std::uint64_t number_at(std::string_view bytes, std::size_t at) {
  std::uint64_t number = 0;
  for (std::size_t i = kNumberBytes; i > 0; --i)
    number = (number << 8U) | static_cast<unsigned char>(bytes[at + i - 1]);
  return number;
}

void append_number(std::string& bytes, std::uint64_t number) {
  for (std::size_t i = 0; i < kNumberBytes; ++i) {
    bytes.push_back(static_cast<char>(number & 0xFFU));
    number >>= 8U;
  }
}

}  // namespace

Result<std::vector<ByteRange>> parse_ranges(std::string_view text) {
  const auto wrong = [&] {
    return fail(Errc::invalid_argument, "ranges '" + std::string(text.substr(0, kShownBytesMax)) +
                                            "': expected offset:length, offset:length...");
  };
  const auto number = [](std::string_view& rest, std::uint64_t& value) {
    const bool hexadecimal = rest.starts_with("0x") || rest.starts_with("0X");
    if (hexadecimal) rest.remove_prefix(2);
    const char* end = rest.data() + rest.size();
    const auto parsed = std::from_chars(rest.data(), end, value, hexadecimal ? 16 : 10);
    if (parsed.ec != std::errc{}) return false;
    rest.remove_prefix(static_cast<std::size_t>(parsed.ptr - rest.data()));
    return true;
  };
  std::vector<ByteRange> ranges;
  for (std::string_view rest = text;;) {
    ByteRange range;
    if (!number(rest, range.offset) || !rest.starts_with(':')) return wrong();
    rest.remove_prefix(1);
    if (!number(rest, range.length)) return wrong();
    if (!is_sound(range) || ranges.size() >= kRangesPerFileMax) return wrong();
    ranges.push_back(range);
    if (rest.empty()) return ranges;
    if (rest.front() != ',') return wrong();
    rest.remove_prefix(1);
    rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
  }
}

std::string_view ranges_file(std::string_view text) noexcept {
  constexpr std::string_view kByFile = "File=";
  if (text.starts_with(kByFile)) return text.substr(kByFile.size());
  return text.starts_with('/') ? text : std::string_view{};
}

Result<std::vector<ByteRange>> decode_ranges(std::string_view bytes) {
  const auto wrong = [](const char* why) {
    return fail(Errc::invalid_argument, std::string("file of ranges: ") + why);
  };
  if (bytes.size() < kNumberBytes) return wrong("too short");
  const std::uint64_t count = number_at(bytes, 0);
  if (count > kRangesPerFileMax) return wrong("more than 1000000 ranges");
  if (bytes.size() != kNumberBytes + count * 2 * kNumberBytes)
    return wrong("its length does not fit the number of ranges");
  std::vector<ByteRange> ranges;
  ranges.reserve(count);
  for (std::size_t at = kNumberBytes; at < bytes.size(); at += 2 * kNumberBytes) {
    const ByteRange range{number_at(bytes, at), number_at(bytes, at + kNumberBytes)};
    if (!is_sound(range)) return wrong("a range is empty or passes 2^63");
    ranges.push_back(range);
  }
  return ranges;
}

std::string encode_ranges(const std::vector<ByteRange>& ranges) {
  std::string bytes;
  append_number(bytes, ranges.size());
  for (const ByteRange& range : ranges) {
    append_number(bytes, range.offset);
    append_number(bytes, range.length);
  }
  return bytes;
}

std::vector<ByteRange> normalized(std::vector<ByteRange> ranges, std::uint64_t file_bytes) {
  std::sort(ranges.begin(), ranges.end(),
            [](const ByteRange& a, const ByteRange& b) { return a.offset < b.offset; });
  std::vector<ByteRange> result;
  for (ByteRange range : ranges) {
    if (range.offset >= file_bytes) break;
    range.length = std::min(range.length, file_bytes - range.offset);
    if (!result.empty() && range.offset <= result.back().offset + result.back().length) {
      const std::uint64_t end =
          std::max(result.back().offset + result.back().length, range.offset + range.length);
      result.back().length = end - result.back().offset;
    } else {
      result.push_back(range);
    }
  }
  return result;
}

Status check_directed_target(const DirectedTarget& target) {
  for (const std::string* directory : {&target.source_path, &target.destination_path}) {
    if (directory->starts_with('/') && directory->find('\0') == std::string::npos) continue;
    return fail(Errc::invalid_argument,
                "directed target: directory '" + *directory + "' must be absolute, without NUL");
  }
  for (const std::string* file : {&target.source_file, &target.destination_file}) {
    constexpr std::string_view kNotInNames("*?/\0", 4);
    const bool name = !file->empty() && file->find_first_of(kNotInNames) == std::string::npos &&
                      *file != "." && *file != "..";
    if (!name) {
      return fail(Errc::invalid_argument,
                  "directed target: '" + *file + "' must be a file's name, without wildcards");
    }
  }
  if (!ranges_file(target.source_ranges).empty() || !ranges_file(target.destination_ranges).empty())
    return {};
  const auto from = parse_ranges(target.source_ranges);
  if (!from) return fail(from.error(), "directed target, source");
  const auto to = parse_ranges(target.destination_ranges);
  if (!to) return fail(to.error(), "directed target, destination");
  const auto same_length = [](const ByteRange& a, const ByteRange& b) {
    return a.length == b.length;
  };
  if (!std::equal(from->begin(), from->end(), to->begin(), to->end(), same_length)) {
    return fail(Errc::invalid_argument,
                "directed target: ranges of source and destination differ in number or length");
  }
  return {};
}

}  // namespace umbra::documents
