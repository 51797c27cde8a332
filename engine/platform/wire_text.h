// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Bytes as text: a file name is any string of bytes, while JSON and XML carry only Unicode. The
// escape is one visible character, U+241B (SYMBOL FOR ESCAPE), followed by two hexadecimal digits:
// it stands for that byte. Escaped are bytes that are not well-formed UTF-8, control characters,
// U+FFFE and U+FFFF (XML forbids them), and U+241B itself, so that every string of bytes has
// exactly one escaped form and common names stay as they are. docs/wire.md is the reference.

#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace umbra {

/// Whether `text` is well-formed UTF-8 (RFC 3629: no surrogates, no overlong forms).
[[nodiscard]] bool is_utf8(std::string_view text) noexcept;

/// Any bytes as text. Total; the inverse of unescape_bytes().
[[nodiscard]] std::string escape_bytes(std::string_view bytes);

/// The bytes that `text` stands for; nothing if a U+241B is not followed by two hexadecimal digits.
[[nodiscard]] std::optional<std::string> unescape_bytes(std::string_view text);

/// `text` with every byte that is not part of well-formed UTF-8 replaced by U+FFFD: for messages
/// that people read, where losing a byte is better than losing the message.
[[nodiscard]] std::string to_utf8(std::string_view text);

}  // namespace umbra
