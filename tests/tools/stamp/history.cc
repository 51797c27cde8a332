// SPDX-License-Identifier: Apache-2.0
#include "tests/tools/stamp/history.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <istream>
#include <ostream>

namespace umbra::stamp {
namespace {

constexpr std::uint64_t kMagic = 0x504D415453425244U;
constexpr std::size_t kWords = kSectorBytes / sizeof(std::uint64_t);
using Words = std::array<std::uint64_t, kWords>;

std::uint64_t mix(std::uint64_t value) noexcept {
  value = (value ^ (value >> 31)) * 0x9E3779B97F4A7C15U;
  return value ^ (value >> 29);
}

std::uint64_t checksum(const Words& words) noexcept {
  std::uint64_t sum = kMagic;
  for (std::size_t i = 0; i + 1 < kWords; ++i) sum = mix(sum ^ words[i]) + i;
  return sum;
}

// magic, sector, sequence, seed, filler that depends on all of them, checksum.
Words stamp_of(std::uint64_t sector, std::uint64_t sequence, std::uint64_t seed) noexcept {
  Words words{kMagic, sector, sequence, seed};
  std::uint64_t filler = mix(sector ^ mix(sequence ^ seed));
  for (std::size_t i = 4; i + 1 < kWords; ++i) words[i] = filler += 0x9E3779B97F4A7C15U;
  words[kWords - 1] = checksum(words);
  return words;
}

constexpr std::uint64_t kReadSectors = 2048;
constexpr const char* kJournal = "umbra-stamp-journal-1";

}  // namespace

void fill(std::span<std::byte> buffer, std::uint64_t first_sector, std::uint64_t sequence,
          std::uint64_t seed) noexcept {
  for (std::size_t at = 0; at < buffer.size(); at += kSectorBytes) {
    const Words words = stamp_of(first_sector + at / kSectorBytes, sequence, seed);
    std::memcpy(buffer.data() + at, words.data(), kSectorBytes);
  }
}

Sector look(std::span<const std::byte, kSectorBytes> bytes, std::uint64_t sector,
            std::uint64_t seed) noexcept {
  Words words{};
  std::memcpy(words.data(), bytes.data(), kSectorBytes);
  if (std::all_of(words.begin(), words.end(), [](std::uint64_t word) { return word == 0; })) {
    return {Sector::Kind::zero, 0};
  }
  if (words != stamp_of(sector, words[2], seed)) return {Sector::Kind::garbage, 0};
  return {Sector::Kind::stamped, words[2]};
}

std::optional<std::uint64_t> History::issue(Kind kind, std::uint64_t first_sector,
                                            std::uint64_t sectors, std::int64_t now_ns) {
  const std::lock_guard lock(mutex_);
  for (const auto other : in_flight_) {
    const auto& record = records_[other - 1];
    if (first_sector < record.first_sector + record.sectors &&
        record.first_sector < first_sector + sectors) {
      return std::nullopt;
    }
  }
  records_.push_back({first_sector, static_cast<std::uint32_t>(sectors), kind, now_ns, 0});
  in_flight_.push_back(records_.size());
  return records_.size();
}

void History::acknowledged(std::uint64_t sequence, std::int64_t now_ns) {
  const std::lock_guard lock(mutex_);
  records_[sequence - 1].acknowledged_ns = now_ns;
  std::erase(in_flight_, sequence);
}

std::uint64_t History::issued() const {
  const std::lock_guard lock(mutex_);
  return records_.size();
}

std::optional<History::Times> History::times_of(std::span<const std::byte, kSectorBytes> bytes,
                                                std::uint64_t sector) const {
  const Sector seen = look(bytes, sector, seed_);
  const std::lock_guard lock(mutex_);
  if (seen.kind != Sector::Kind::stamped || seen.sequence == 0 || seen.sequence > records_.size()) {
    return std::nullopt;
  }
  const Record& record = records_[seen.sequence - 1];
  return Times{record.issued_ns, record.acknowledged_ns};
}

void History::write_journal(std::ostream& out) const {
  const std::lock_guard lock(mutex_);
  out << kJournal << ' ' << sector_count_ << ' ' << seed_ << '\n';
  for (const auto& record : records_) {
    out << (record.kind == Kind::zero ? 'z' : 'w') << ' ' << record.first_sector << ' '
        << record.sectors << ' ' << record.issued_ns << ' ' << record.acknowledged_ns << '\n';
  }
}

std::unique_ptr<History> History::read_journal(std::istream& in) {
  std::string word;
  std::uint64_t sectors = 0;
  std::uint64_t seed = 0;
  if (!(in >> word >> sectors >> seed) || word != kJournal) return nullptr;
  auto history = std::make_unique<History>(sectors, seed);
  char kind = 0;
  Record record{};
  while (in >> kind >> record.first_sector >> record.sectors >> record.issued_ns >>
         record.acknowledged_ns) {
    record.kind = kind == 'z' ? Kind::zero : Kind::write;
    if (record.first_sector + record.sectors > sectors) return nullptr;
    history->records_.push_back(record);
  }
  return history;
}

std::vector<History::Bounds> History::bounds(std::int64_t begin_ns, std::int64_t end_ns) const {
  std::vector<Bounds> all(sector_count_);
  const std::lock_guard lock(mutex_);
  std::uint32_t sequence = 0;
  for (const auto& record : records_) {
    ++sequence;
    if (record.issued_ns >= end_ns) continue;
    const bool certain = record.acknowledged_ns != 0 && record.acknowledged_ns < begin_ns;
    for (std::uint64_t i = 0; i < record.sectors; ++i) {
      auto& sector = all[record.first_sector + i];
      const bool zero = record.kind == Kind::zero;
      sector.youngest = sequence;
      if (certain) {
        sector.oldest = sequence;
        sector.zero_allowed = zero;
      } else {
        sector.zero_allowed = sector.zero_allowed || zero;
      }
    }
  }
  return all;
}

Verdict History::verify(const Read& read, std::int64_t begin_ns, std::int64_t end_ns) const {
  const auto windows = bounds(begin_ns, end_ns);
  Verdict verdict;
  const auto wrong = [&](std::uint64_t sector, const std::string& what) {
    ++verdict.wrong;
    if (verdict.first_wrong.empty()) {
      verdict.first_wrong = "sector " + std::to_string(sector) + " " + what + ", expected [" +
                            std::to_string(windows[sector].oldest) + ", " +
                            std::to_string(windows[sector].youngest) + "]";
    }
  };
  std::vector<std::byte> buffer(kReadSectors * kSectorBytes);
  for (std::uint64_t first = 0; first < sector_count_; first += kReadSectors) {
    const auto count = std::min(kReadSectors, sector_count_ - first);
    const auto part = std::span(buffer).first(count * kSectorBytes);
    if (!read(first, part)) {
      wrong(first, "could not be read");
      return verdict;
    }
    for (std::uint64_t i = 0; i < count; ++i) {
      const std::uint64_t at = first + i;
      const auto seen =
          look(std::span<const std::byte, kSectorBytes>(&part[i * kSectorBytes], kSectorBytes), at,
               seed_);
      ++verdict.sectors;
      if (seen.kind == Sector::Kind::garbage) wrong(at, "holds garbage");
      if (seen.kind == Sector::Kind::zero && !windows[at].zero_allowed) wrong(at, "holds zeroes");
      if (seen.kind != Sector::Kind::stamped) continue;
      ++verdict.stamped;
      if (seen.sequence < windows[at].oldest || seen.sequence > windows[at].youngest) {
        wrong(at, "shows write " + std::to_string(seen.sequence));
      }
    }
  }
  return verdict;
}

}  // namespace umbra::stamp
