// SPDX-License-Identifier: Apache-2.0
//
// Blobs: named pieces of metadata that outlive the process, such as a change checkpoint. Private to
// provider/cow.
//
// A blob is found by its kind and key. It lies in a slot of the snapshot table, with its bytes if
// they are few, else with a list of slots in segments that are set aside for blobs, where the bytes
// are twice. A change is whole or not there, wherever it is cut: the bytes go to free slots and are
// flushed, then the table slot is written, then what the blob occupied before is free. Bytes that
// are damaged are reported, never returned.
//
// Threads: every member requires table_mutex_. Calls block for disk operations.

#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "provider/cow/core.h"

namespace umbra::cow {

/// What a blob is about; it decides what its key is and what its bytes mean.
enum class BlobKind : std::uint32_t {
  exemption = 1,          // Chunks that were free at a snapshot. Key: the snapshot's id.
  change_checkpoint = 2,  // Key: the checkpoint's id.
  leftovers = 3,          // Events and audit lines that are not delivered yet.
  fingerprint = 4,        // Details of the origin's fingerprint.
  noted_changes = 5,      // Regions that changed since checkpoints were saved. Key: nil.
};

class Volume::Impl::Blobs {
 public:
  explicit Blobs(Impl& impl) noexcept : impl_(impl) {}

  /// Makes it or replaces it. Durable on success. Errors: invalid_argument (larger than
  /// format::kBlobBytesMax); insufficient_storage; io_error. On failure the old one is what get()
  /// returns; after a crash then, either.
  [[nodiscard]] Status put(BlobKind kind, const Guid& key, std::span<const std::byte> bytes);
  /// Errors: object_not_found; diff_area_corrupt (its bytes are damaged, in both places);
  /// io_error.
  [[nodiscard]] Result<std::vector<std::byte>> get(BlobKind kind, const Guid& key) const;
  /// Ascending.
  [[nodiscard]] std::vector<Guid> list(BlobKind kind) const;
  /// Durable on success. Errors: object_not_found; io_error (still there; after a crash perhaps).
  [[nodiscard]] Status remove(BlobKind kind, const Guid& key);

  // --- scrub -----------------------------------------------------------------------------------

  using Name = std::pair<std::uint32_t, Guid>;
  struct Looked {
    std::array<bool, 2> good{};
    std::uint64_t offset_bytes = 0;  // Of the first copy.
  };
  [[nodiscard]] static std::string describe(const Name& name);
  /// With their sizes.
  [[nodiscard]] std::vector<std::pair<Name, std::uint64_t>> names() const;
  /// The one that is in this slot of the table.
  [[nodiscard]] std::optional<Name> at(std::uint32_t table_slot) const;
  /// Reads both copies. Nothing: it is gone, not certain, or in its table slot.
  [[nodiscard]] std::optional<Looked> look_at(const Name& name) const;
  /// Writes one copy anew from the other one.
  [[nodiscard]] Status mend(const Name& name, std::uint32_t bad_copy);

  // --- open() ----------------------------------------------------------------------------------

  /// A slot of state blob that was found. False: there is one of its kind and key already.
  [[nodiscard]] bool restore(const format::SnapshotSlot& slot);
  [[nodiscard]] bool holds(std::uint32_t segment) const { return segments_.count(segment) != 0; }
  /// Sets those that hold blobs.
  void mark_slots(std::vector<bool>& used) const;

 private:
  using Extents = std::vector<format::BlobExtent>;
  struct Entry {
    std::uint32_t slot = 0;  // Of the table.
    std::uint64_t epoch = 0;
    std::uint64_t size_bytes = 0;
    std::uint32_t checksum = 0;
    bool in_doubt = false;  // Its first write failed: it does not exist, but its slot is taken.
    bool damaged = false;   // Its extents make no sense.
    Extents extents;
  };

  [[nodiscard]] std::uint64_t slots_of(std::uint64_t size_bytes) const noexcept;  // Of one copy.
  [[nodiscard]] bool sane(const Entry& entry) const;
  void mark(const Extents& extents, bool used);
  /// Marked as used.
  [[nodiscard]] Result<Extents> allocate(std::uint64_t slots);
  void take_from(std::uint32_t segment, std::uint64_t& wanted, Extents& out) const;
  /// Nothing durable speaks of them any more.
  void release(const Extents& extents);
  [[nodiscard]] Status write_bytes(const Extents& extents, std::uint32_t copy,
                                   std::span<const std::byte> bytes);
  [[nodiscard]] Status read_bytes(const Entry& entry, std::uint32_t copy,
                                  std::span<std::byte> out) const;
  [[nodiscard]] Result<std::vector<std::byte>> read_inline(const Entry& entry) const;
  [[nodiscard]] Status write_entry(const Name& name, const Entry& entry,
                                   std::span<const std::byte> inline_bytes);
  [[nodiscard]] Result<std::uint32_t> free_table_slot();

  Impl& impl_;
  std::map<Name, Entry> entries_;
  std::map<std::uint32_t, std::vector<bool>> segments_;  // Those set aside; which slots are used.
};

}  // namespace umbra::cow
