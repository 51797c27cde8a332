// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "engine/shm/view_reader.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <system_error>

#include "engine/platform/aligned.h"
#include "engine/platform/crc32c.h"

namespace umbra::shm {
namespace {

// A piece that does not fit the storage's alignment goes through memory of our own.
constexpr std::uint64_t kBounceBytes = 256U << 10U;

class Reading {
 public:
  Reading(const View& view, Storage& storage) noexcept
      : view_(view), layout_(view.layout()), storage_(storage) {}

  [[nodiscard]] Status read(std::uint64_t at, std::span<std::byte> out) {
    while (!out.empty()) {
      const std::uint64_t chunk = at / layout_.chunk_bytes;
      const Home home = look(chunk);
      std::uint64_t done = 0;
      if (home.kind == Home::Kind::origin) {
        const auto read = from_origin(at, out);
        if (!read) return fail(read.error());
        done = *read;
      } else if (home.kind == Home::Kind::data) {
        done = run_of_data(chunk, home, at, out.size());
        if (const Status read = from_diff_area(home, at, out.first(done)); !read) return read;
      } else {
        done = std::min<std::uint64_t>(layout_.chunk_bytes - at % layout_.chunk_bytes, out.size());
        if (const Status read = zeroes(out.first(done)); !read) return read;
      }
      at += done;
      out = out.subspan(done);
    }
    return {};
  }

 private:
  [[nodiscard]] Home look(std::uint64_t chunk) const noexcept {
    return Home::of(view_.home(chunk).load(std::memory_order_acquire));
  }

  // After a read: what it has read is what the homes meant.
  [[nodiscard]] Status still_valid() const {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (view_.state().load(std::memory_order_acquire) == static_cast<std::uint32_t>(State::valid) &&
        storage_.is_alive()) {
      return {};
    }
    return fail(Errc::snapshot_lost,
                "the view of snapshot " + layout_.snapshot.to_string() +
                    " has ended: the snapshot was deleted or lost, its volume detached or its diff "
                    "area moved, or umbra-cowd has gone; open it again");
  }

  [[nodiscard]] Status zeroes(std::span<std::byte> out) const {
    std::memset(out.data(), 0, out.size());
    return still_valid();
  }

  // How much of what was wanted was read; 0 if its first chunk is no longer there.
  [[nodiscard]] Result<std::uint64_t> from_origin(std::uint64_t at, std::span<std::byte> out) {
    const std::uint64_t first = at / layout_.chunk_bytes;
    const std::uint64_t end = at + out.size();
    std::uint64_t until = first + 1;
    while (until * layout_.chunk_bytes < end && look(until).kind == Home::Kind::origin) ++until;
    const std::uint64_t wanted = std::min(until * layout_.chunk_bytes, end) - at;
    const int error = read_aligned(true, layout_.origin_alignment_bytes, at, out.first(wanted));
    if (const Status valid = still_valid(); !valid) return fail(valid.error());
    for (std::uint64_t chunk = first; chunk < until; ++chunk) {
      if (look(chunk).kind == Home::Kind::origin) continue;
      if (chunk > first) return chunk * layout_.chunk_bytes - at;
      return 0;  // Preserved just now: it is read again, where it is.
    }
    if (error != 0) return failed("the origin", at, error);
    return wanted;
  }

  // Chunks that lie one after the other in the diff area too.
  [[nodiscard]] std::uint64_t run_of_data(std::uint64_t chunk, const Home& home, std::uint64_t at,
                                          std::uint64_t wanted) const noexcept {
    std::uint64_t size = layout_.chunk_bytes - at % layout_.chunk_bytes;
    for (std::uint64_t next = 1; size < wanted; ++next) {
      const Home there = look(chunk + next);
      if (there.kind != Home::Kind::data || there.unchecked != home.unchecked ||
          there.offset_bytes != home.offset_bytes + next * layout_.chunk_bytes) {
        break;
      }
      size += layout_.chunk_bytes;
    }
    return std::min(size, wanted);
  }

  // Whole granules, so that their checksums can be verified.
  [[nodiscard]] Status from_diff_area(const Home& home, std::uint64_t at,
                                      std::span<std::byte> out) {
    const std::uint64_t chunk_first = at / layout_.chunk_bytes * layout_.chunk_bytes;
    const auto place_of = [&](std::uint64_t byte) {
      return home.offset_bytes + byte - chunk_first;
    };
    while (!out.empty()) {
      const std::uint64_t skip = at % kGranuleBytes;
      const bool whole = skip == 0 && out.size() >= kGranuleBytes;
      const std::uint64_t piece = whole ? out.size() / kGranuleBytes * kGranuleBytes
                                        : std::min<std::uint64_t>(kGranuleBytes - skip, out.size());
      alignas(kGranuleBytes) std::array<std::byte, kGranuleBytes> granule;
      const std::span<std::byte> target = whole ? out.first(piece) : std::span<std::byte>(granule);
      const int error =
          read_aligned(false, layout_.diff_alignment_bytes, place_of(at - skip), target);
      if (const Status valid = still_valid(); !valid) return valid;
      if (error != 0) return failed("the diff area", place_of(at - skip), error);
      if (!home.unchecked && !verify(at - skip, target)) {
        return fail(Errc::diff_area_corrupt,
                    "preserved data of snapshot " + layout_.snapshot.to_string() +
                        " is damaged between byte " + std::to_string(at - skip) + " and " +
                        std::to_string(at - skip + target.size()) + " of the volume");
      }
      if (!whole) std::memcpy(out.data(), granule.data() + skip, piece);
      at += piece;
      out = out.subspan(piece);
    }
    return {};
  }

  [[nodiscard]] bool verify(std::uint64_t at, std::span<const std::byte> bytes) const noexcept {
    for (std::uint64_t done = 0; done < bytes.size(); done += kGranuleBytes) {
      const std::uint64_t byte = at + done;
      const std::uint32_t wanted =
          view_.checksums(byte / layout_.chunk_bytes)[byte % layout_.chunk_bytes / kGranuleBytes]
              .load(std::memory_order_relaxed);
      if (crc32c(bytes.subspan(done, kGranuleBytes)) != wanted) return false;
    }
    return true;
  }

  [[nodiscard]] int read_now(bool origin, std::uint64_t at, std::span<std::byte> out) noexcept {
    return origin ? storage_.read_origin(at, out) : storage_.read_diff_area(at, out);
  }

  [[nodiscard]] int read_aligned(bool origin, std::uint64_t alignment, std::uint64_t at,
                                 std::span<std::byte> out) {
    const auto fits = [&](std::uint64_t number) { return number % alignment == 0; };
    if (fits(at) && fits(out.size()) && fits(reinterpret_cast<std::uintptr_t>(out.data()))) {
      return read_now(origin, at, out);
    }
    if (!bounce_) bounce_ = make_aligned(kBounceBytes);
    while (!out.empty()) {
      const std::uint64_t skip = at % alignment;
      const std::uint64_t piece = std::min<std::uint64_t>(out.size(), kBounceBytes - skip);
      std::uint64_t whole = (skip + piece + alignment - 1) / alignment * alignment;
      if (origin) whole = std::min(whole, layout_.volume_bytes - (at - skip));
      if (const int error = read_now(origin, at - skip, {bounce_.get(), whole}); error != 0) {
        return error;
      }
      std::memcpy(out.data(), bounce_.get() + skip, piece);
      at += piece;
      out = out.subspan(piece);
    }
    return 0;
  }

  [[nodiscard]] static tl::unexpected<Error> failed(const char* what, std::uint64_t at, int error) {
    return fail(Errc::io_error, std::string("reading ") + what + " at byte " + std::to_string(at) +
                                    ": " + std::generic_category().message(error));
  }

  const View& view_;
  const Layout& layout_;
  Storage& storage_;
  AlignedBuffer bounce_;
};

}  // namespace

Status read_view(const View& view, Storage& storage, std::uint64_t offset_bytes,
                 std::span<std::byte> out) {
  const std::uint64_t size = view.layout().volume_bytes;
  if (offset_bytes > size || out.size() > size - offset_bytes) {
    return fail(Errc::invalid_argument, "bytes " + std::to_string(offset_bytes) + " to " +
                                            std::to_string(offset_bytes + out.size()) +
                                            " of a volume of " + std::to_string(size));
  }
  return Reading(view, storage).read(offset_bytes, out);
}

}  // namespace umbra::shm
