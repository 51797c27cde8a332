// SPDX-License-Identifier: Apache-2.0
//
// Metadata contexts: what can be asked of each block of an export beside base:allocation. The
// server knows their names and passes their flags on; what they mean is the business of whoever
// made them.

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace umbra::nbd {

/// Contexts that one connection may have selected, base:allocation included.
inline constexpr std::size_t kContextsMax = 16;
/// Names of contexts that are listed for one export.
inline constexpr std::size_t kContextsListedMax = 1024;

struct StatusExtent {
  std::uint64_t size_bytes = 0;
  std::uint32_t flags = 0;
};

/// One context of one export, as long as a connection has it selected. It keeps nothing alive that
/// anybody waits for: what it tells of may go meanwhile. Threads: any.
class Context {
 public:
  virtual ~Context() = default;
  /// Describes [offset, offset + size), which lies in the export and is not empty, from its start:
  /// fills at least one and at most out.size() extents, multiples of the export's blocks, and
  /// returns how many. They may cover less than the range, never more. May block for memory that
  /// others use, in bounded time whatever the range is; never fails: what is not known any more is
  /// told in the way that is safe for its users.
  [[nodiscard]] virtual std::size_t extents(std::uint64_t offset_bytes, std::uint64_t size_bytes,
                                            std::span<StatusExtent> out) noexcept = 0;
};

/// What there is for an export. Threads: any.
class Contexts {
 public:
  virtual ~Contexts() = default;
  /// Full names, at most kContextsListedMax. What is left out of a longer list can be opened.
  [[nodiscard]] virtual std::vector<std::string> list() const = 0;
  /// `name` is a client's, whole; more than one name may lead to a context. Null: none.
  [[nodiscard]] virtual std::shared_ptr<Context> open(std::string_view name) const = 0;
};

}  // namespace umbra::nbd
