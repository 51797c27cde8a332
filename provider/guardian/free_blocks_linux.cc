// SPDX-License-Identifier: Apache-2.0
#include "provider/guardian/free_blocks_linux.h"

#include <linux/fsmap.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <string>

namespace umbra::guardian {
namespace {

namespace fs = std::filesystem;

constexpr std::uint32_t kAtATime = 256;
constexpr std::uint64_t kSectorBytes = 512;  // Of sysfs, whatever the device's.

// As the kernel puts a device number into 32 bits.
[[nodiscard]] std::uint64_t device_of(std::uint32_t encoded) noexcept {
  return makedev(encoded >> 8U & 0xFFFU, (encoded & 0xFFU) | (encoded >> 12U & 0xFFF00U));
}

// The ioctl's buffer: a head, and records behind it.
struct Question {
  Question() noexcept {
    head().fmh_count = kAtATime;
    fsmap& end = head().fmh_keys[1];
    end.fmr_device = ~std::uint32_t{0};
    end.fmr_flags = ~std::uint32_t{0};
    end.fmr_physical = ~std::uint64_t{0};
    end.fmr_owner = ~std::uint64_t{0};
    end.fmr_offset = ~std::uint64_t{0};
  }
  [[nodiscard]] fsmap_head& head() noexcept { return *reinterpret_cast<fsmap_head*>(bytes.data()); }
  [[nodiscard]] std::span<const fsmap> records() noexcept {
    const auto* first = reinterpret_cast<const fsmap*>(bytes.data() + sizeof(fsmap_head));
    return {first, std::min(head().fmh_entries, kAtATime)};
  }
  alignas(8) std::array<std::byte, sizeof(fsmap_head) + kAtATime * sizeof(fsmap)> bytes{};
};

[[nodiscard]] std::optional<std::uint64_t> number_in(const fs::path& path) {
  std::ifstream file(path);
  std::uint64_t number = 0;
  if (!(file >> number)) return std::nullopt;
  return number;
}

}  // namespace

std::optional<Placement> placement_of(std::uint64_t device, std::span<const std::uint64_t> volumes,
                                      const fs::path& sysfs) {
  const auto is_volume = [&](std::uint64_t number) {
    return std::find(volumes.begin(), volumes.end(), number) != volumes.end();
  };
  if (is_volume(device)) return Placement{device, 0};
  std::error_code error;
  const std::string name = std::to_string(major(device)) + ":" + std::to_string(minor(device));
  const auto entry = fs::canonical(sysfs / "dev/block" / name, error);
  if (error || !fs::exists(entry / "partition", error)) return std::nullopt;
  std::ifstream parent(entry.parent_path() / "dev");
  unsigned parent_major = 0;
  unsigned parent_minor = 0;
  char colon = 0;
  if (!(parent >> parent_major >> colon >> parent_minor)) return std::nullopt;
  const std::uint64_t whole = makedev(parent_major, parent_minor);
  const auto start = number_in(entry / "start");
  if (!start || !is_volume(whole)) return std::nullopt;
  return Placement{whole, *start * kSectorBytes};
}

std::unique_ptr<FreeBlocks> FreeBlocks::make() {
  UniqueFd file(memfd_create("umbra-free-blocks", MFD_CLOEXEC));
  if (!file || ftruncate(file.get(), kFreeListBytesMax) != 0) return nullptr;
  void* const bytes = mmap(nullptr, kFreeListBytesMax, PROT_READ | PROT_WRITE,
                           MAP_SHARED | MAP_POPULATE, file.get(), 0);
  if (bytes == MAP_FAILED) return nullptr;
  return std::unique_ptr<FreeBlocks>(
      new FreeBlocks(std::move(file), static_cast<std::byte*>(bytes)));
}

FreeBlocks::~FreeBlocks() { (void)munmap(bytes_, kFreeListBytesMax); }

void FreeBlocks::list(int fd, std::uint64_t device, const Placement& placement) noexcept {
  Question question;
  std::array<contract::FreeExtent, kAtATime> extents;
  for (;;) {
    if (!take({})) return;
    if (ioctl(fd, FS_IOC_GETFSMAP, question.bytes.data()) != 0) return;
    const auto records = question.records();
    if (records.empty()) return;
    std::size_t free = 0;
    for (const fsmap& record : records) {
      const bool is_free = (record.fmr_flags & FMR_OF_SPECIAL_OWNER) != 0 &&
                           record.fmr_owner == FMR_OWN_FREE &&
                           device_of(record.fmr_device) == device && record.fmr_length > 0;
      if (!is_free) continue;
      extents[free++] = {placement.device, placement.offset_bytes + record.fmr_physical,
                         record.fmr_length};
    }
    if (!take({extents.data(), free})) return;
    if ((records.back().fmr_flags & FMR_OF_LAST) != 0) return;
    question.head().fmh_keys[0] = records.back();
  }
}

// One batch is in or not: what the kernel said before close() was said of a frozen file system.
bool FreeBlocks::take(std::span<const contract::FreeExtent> extents) noexcept {
  const std::lock_guard lock(mutex_);
  if (closed_ || count_ + extents.size() > kFreeExtentsMax) return false;
  for (const contract::FreeExtent& extent : extents) {
    encode_free_extent(extent, {bytes_ + 8 + count_ * kFreeExtentBytes, kFreeExtentBytes});
    ++count_;
  }
  return true;
}

void FreeBlocks::close() noexcept {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  encode_free_count(count_, {bytes_, 8});
}

int FreeBlocks::file() const noexcept {
  const std::lock_guard lock(mutex_);
  return closed_ && count_ > 0 ? file_.get() : -1;
}

Result<std::vector<contract::FreeExtent>> read_free_list(int fd) {
  struct stat status {};
  if (fstat(fd, &status) != 0 || status.st_size < 8) {
    return fail(Errc::protocol_violation, "a list of free blocks is cut short");
  }
  std::vector<std::byte> bytes(
      std::min<std::size_t>(static_cast<std::size_t>(status.st_size), kFreeListBytesMax));
  for (std::size_t at = 0; at < bytes.size();) {
    const ssize_t got = pread(fd, bytes.data() + at, bytes.size() - at, static_cast<off_t>(at));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail(Errc::io_error, "reading a list of free blocks");
    if (got == 0) bytes.resize(at);
    at += static_cast<std::size_t>(got);
  }
  return decode_free_list(bytes);
}

}  // namespace umbra::guardian
