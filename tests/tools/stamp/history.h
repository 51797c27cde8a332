// SPDX-License-Identifier: Apache-2.0
//
// What a stamping load wrote and when, and whether an image can be a snapshot of it.
//
// Every sector carries its own offset, the sequence number of the write and a checksum. Writes that
// overlap are never in flight at the same time, so for each sector the writes have an order. An
// image taken under a hold [begin, end] is right if, for every sector, the write it shows is
//   - not older than the last write to the sector that was acknowledged before `begin`, and
//   - not younger than the last write to the sector that was issued before `end`.
// Never-written sectors read as zeroes.

#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <iosfwd>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace umbra::stamp {

inline constexpr std::size_t kSectorBytes = 512;

/// Fills `buffer` (whole sectors) with stamps of write `sequence` at `first_sector`.
void fill(std::span<std::byte> buffer, std::uint64_t first_sector, std::uint64_t sequence,
          std::uint64_t seed) noexcept;

struct Sector {
  enum class Kind : std::uint8_t { zero, stamped, garbage } kind = Kind::garbage;
  std::uint64_t sequence = 0;  // stamped only.
};
/// What one sector of an image shows: garbage is anything that is neither zeroes nor a whole stamp
/// of this run for this very place.
[[nodiscard]] Sector look(std::span<const std::byte, kSectorBytes> bytes, std::uint64_t sector,
                          std::uint64_t seed) noexcept;

struct Verdict {
  std::uint64_t sectors = 0;
  std::uint64_t stamped = 0;
  std::uint64_t wrong = 0;
  std::string first_wrong;  // In words; empty if none.
};

/// Threads: any; one lock inside.
class History {
 public:
  History(std::uint64_t sector_count, std::uint64_t seed)
      : sector_count_(sector_count), seed_(seed) {}

  enum class Kind : std::uint8_t { write, zero };
  /// The next sequence number, for a request that is issued at `now_ns`; nothing if it would
  /// overlap one in flight (choose another place).
  [[nodiscard]] std::optional<std::uint64_t> issue(Kind kind, std::uint64_t first_sector,
                                                   std::uint64_t sectors, std::int64_t now_ns);
  void acknowledged(std::uint64_t sequence, std::int64_t now_ns);

  /// Reads the image with `read(first_sector, buffer)`; false from it ends the check as wrong.
  using Read = std::function<bool(std::uint64_t first_sector, std::span<std::byte> buffer)>;
  [[nodiscard]] Verdict verify(const Read& read, std::int64_t begin_ns, std::int64_t end_ns) const;

  [[nodiscard]] std::uint64_t issued() const;

  struct Times {
    std::int64_t issued_ns = 0;
    std::int64_t acknowledged_ns = 0;  // 0: it was not.
  };
  /// Of the write that a sector's bytes are from; nothing if they are from none.
  [[nodiscard]] std::optional<Times> times_of(std::span<const std::byte, kSectorBytes> bytes,
                                              std::uint64_t sector) const;

  /// All of it as text, for who judges images later and elsewhere; reading gives it back. Null: it
  /// is none.
  void write_journal(std::ostream& out) const;
  [[nodiscard]] static std::unique_ptr<History> read_journal(std::istream& in);
  [[nodiscard]] std::uint64_t sector_count() const noexcept { return sector_count_; }

 private:
  struct Record {
    std::uint64_t first_sector;
    std::uint32_t sectors;
    Kind kind;
    std::int64_t issued_ns;
    std::int64_t acknowledged_ns;  // 0: in flight.
  };
  // The window of one sector.
  struct Bounds {
    std::uint32_t oldest = 0;  // 0: never written before the hold began.
    std::uint32_t youngest = 0;
    bool zero_allowed = true;
  };
  [[nodiscard]] std::vector<Bounds> bounds(std::int64_t begin_ns, std::int64_t end_ns) const;

  const std::uint64_t sector_count_;
  const std::uint64_t seed_;
  mutable std::mutex mutex_;
  std::deque<Record> records_;            // Sequence n is at n - 1.
  std::vector<std::uint64_t> in_flight_;  // Sequences.
};

}  // namespace umbra::stamp
