// SPDX-License-Identifier: Apache-2.0
#include "provider/daemon/changed_contexts.h"

#include <algorithm>
#include <limits>
#include <string>

#include "engine/platform/wire_text.h"
#include "provider/frontend/nbd/protocol.h"

namespace umbra::cowd {
namespace {

constexpr std::string_view kNamespace = "qemu:dirty-bitmap:";

// Clean and dirty parts from `begin` on, as long as there is room for them.
class Answer {
 public:
  Answer(std::uint64_t begin, std::span<nbd::StatusExtent> out) : at_(begin), out_(out) {}

  /// [at, begin) is clean, [begin, end) dirty. False: there is no room for more.
  bool add(std::uint64_t begin, std::uint64_t end) {
    return extend(begin, 0) && extend(end, nbd::kStateDirty);
  }
  bool extend(std::uint64_t end, std::uint32_t flags) {
    if (end <= at_) return true;
    if (count_ == out_.size()) return false;
    out_[count_++] = {end - at_, flags};
    at_ = end;
    return true;
  }
  [[nodiscard]] std::size_t count() const { return count_; }

 private:
  std::uint64_t at_;
  std::span<nbd::StatusExtent> out_;
  std::size_t count_ = 0;
};

class ChangedSince final : public nbd::Context {
 public:
  ChangedSince(std::weak_ptr<cow::Volume> volume, std::uint64_t chunk_bytes, const Guid& since,
               const std::optional<SnapshotId>& until)
      : volume_(std::move(volume)), chunk_bytes_(chunk_bytes), since_(since), until_(until) {}

  std::size_t extents(std::uint64_t offset_bytes, std::uint64_t size_bytes,
                      std::span<nbd::StatusExtent> out) noexcept override {
    const auto volume = volume_.lock();
    const std::uint64_t end = offset_bytes + std::min(size_bytes, kChunksAskedMax * chunk_bytes_);
    Answer answer(offset_bytes, out);
    const auto take = [&](std::span<const cow::ChangedRange> ranges) {
      return std::all_of(ranges.begin(), ranges.end(), [&](const cow::ChangedRange& range) {
        const auto first = std::clamp(range.offset_bytes, offset_bytes, end);
        return answer.add(first, std::clamp(range.offset_bytes + range.size_bytes, first, end));
      });
    };
    const bool is_known =
        volume != nullptr && volume->changed_blocks(since_, until_, take, offset_bytes, end);
    if (!is_known) {
      out[0] = {size_bytes, nbd::kStateDirty};
      return 1;
    }
    (void)answer.extend(end, 0);
    return answer.count();
  }

 private:
  const std::weak_ptr<cow::Volume> volume_;
  const std::uint64_t chunk_bytes_;
  const Guid since_;
  const std::optional<SnapshotId> until_;
};

class ChangedContexts final : public nbd::Contexts {
 public:
  ChangedContexts(const std::shared_ptr<cow::Volume>& volume, const std::optional<SnapshotId>& copy)
      : volume_(volume), copy_(copy) {}

  // The checkpoints, then the youngest copies.
  std::vector<std::string> list() const override {
    std::vector<std::string> names;
    const auto volume = volume_.lock();
    const auto end = volume != nullptr ? end_epoch(*volume) : std::nullopt;
    if (!end) return names;
    for (const auto& checkpoint : volume->list_checkpoints()) {
      if (is_offered(checkpoint, *end)) names.push_back(name_of(checkpoint));
    }
    auto copies = volume->list();
    std::erase_if(copies, [&](const auto& copy) { return !is_offered(copy, *end); });
    const auto room = nbd::kContextsListedMax - names.size();
    const auto skipped = copies.size() - std::min(copies.size(), room);
    for (std::size_t i = skipped; i < copies.size(); ++i) {
      names.push_back(std::string(kNamespace) + copies[i].id.to_string());
    }
    return names;
  }

  std::shared_ptr<nbd::Context> open(std::string_view name) const override {
    if (!name.starts_with(kNamespace)) return nullptr;
    name.remove_prefix(kNamespace.size());
    const auto volume = volume_.lock();
    const auto end = volume != nullptr ? end_epoch(*volume) : std::nullopt;
    if (!end) return nullptr;
    const auto id = Guid::parse(name);
    if (id) {
      const auto copy = volume->find(SnapshotId{*id});
      if (copy) return is_offered(*copy, *end) ? since(volume, *id) : nullptr;
    }
    for (const auto& checkpoint : volume->list_checkpoints()) {
      const bool is_meant =
          id ? static_cast<const Guid&>(checkpoint.id) == *id : checkpoint.name == name;
      if (is_meant && is_offered(checkpoint, *end)) return since(volume, checkpoint.id);
    }
    return nullptr;
  }

 private:
  // Up to which point in time is told. Nothing: nothing is known of it.
  [[nodiscard]] std::optional<std::uint64_t> end_epoch(const cow::Volume& volume) const {
    if (!copy_) return std::numeric_limits<std::uint64_t>::max();
    const auto record = volume.find(*copy_);
    if (!record || record->stage != cow::Stage::created || record->lost) return std::nullopt;
    return record->epoch;
  }
  [[nodiscard]] static bool is_offered(const cow::SnapshotRecord& copy, std::uint64_t end) {
    return copy.stage == cow::Stage::created && !copy.lost && copy.epoch < end;
  }
  [[nodiscard]] static bool is_offered(const cow::CheckpointRecord& checkpoint, std::uint64_t end) {
    return !checkpoint.everything && checkpoint.epoch <= end;
  }
  // By its id where its name cannot be said over NBD, or would be taken for an id.
  [[nodiscard]] static std::string name_of(const cow::CheckpointRecord& checkpoint) {
    const bool is_plain = is_utf8(checkpoint.name) && !Guid::parse(checkpoint.name);
    return std::string(kNamespace) + (is_plain ? checkpoint.name : checkpoint.id.to_string());
  }
  [[nodiscard]] std::shared_ptr<nbd::Context> since(const std::shared_ptr<cow::Volume>& volume,
                                                    const Guid& point) const {
    return std::make_shared<ChangedSince>(volume, volume->statistics().chunk_bytes, point, copy_);
  }

  const std::weak_ptr<cow::Volume> volume_;
  const std::optional<SnapshotId> copy_;
};

}  // namespace

std::shared_ptr<nbd::Contexts> changed_contexts(const std::shared_ptr<cow::Volume>& volume,
                                                const std::optional<SnapshotId>& copy) {
  return std::make_shared<ChangedContexts>(volume, copy);
}

}  // namespace umbra::cowd
