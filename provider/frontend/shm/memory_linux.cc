// SPDX-License-Identifier: Apache-2.0
#include "provider/frontend/shm/memory_linux.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "engine/shm/layout.h"

namespace umbra::shm {
namespace {

std::string error_text(int error) { return std::generic_category().message(error); }

void set_state(std::byte* word, State state) noexcept {
  reinterpret_cast<std::atomic<std::uint32_t>*>(word)->store(static_cast<std::uint32_t>(state));
}

std::byte* map(int fd, std::size_t bytes) noexcept {
  void* const memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  return memory == MAP_FAILED ? nullptr : static_cast<std::byte*>(memory);
}

// The page of a process that is gone, or of this one's former life.
Status end_page(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (!fd) {
    if (errno == ENOENT) return {};
    return fail(Errc::io_error, path + ": " + error_text(errno));
  }
  constexpr auto kEnded = static_cast<std::uint32_t>(State::ended);
  const ssize_t written = ::pwrite(fd.get(), &kEnded, sizeof kEnded, 0);
  if (written != sizeof kEnded || ::unlink(path.c_str()) != 0) {
    return fail(Errc::io_error, path + ": " + error_text(errno));
  }
  return {};
}

}  // namespace

// --- SealedMemory -------------------------------------------------------------------------------

SealedMemory::SealedMemory(UniqueFd fd, std::span<std::byte> bytes) noexcept
    : fd_(std::move(fd)), bytes_(bytes) {}
SealedMemory::SealedMemory(SealedMemory&& other) noexcept
    : fd_(std::move(other.fd_)), bytes_(std::exchange(other.bytes_, {})) {}
SealedMemory::~SealedMemory() {
  if (!bytes_.empty()) (void)::munmap(bytes_.data(), bytes_.size());
}

Result<SealedMemory> SealedMemory::create(const std::string& name, std::size_t bytes) {
  UniqueFd fd(::memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return fail(Errc::missing_kernel_feature, "memfd_create: " + error_text(errno));
  if (::fallocate(fd.get(), 0, 0, static_cast<off_t>(bytes)) != 0) {
    return fail(Errc::limit_reached,
                std::to_string(bytes) + " bytes of memory: " + error_text(errno));
  }
  std::byte* const memory = map(fd.get(), bytes);
  if (memory == nullptr) return fail(Errc::limit_reached, "mmap: " + error_text(errno));
  SealedMemory made(std::move(fd), {memory, bytes});
  // So that a first touch later finds its page table as well; where it is not to be had, it costs a
  // little time then.
  (void)::madvise(memory, bytes, MADV_POPULATE_WRITE);
  constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;
  if (::fcntl(made.descriptor(), F_ADD_SEALS, kSeals) != 0) {
    return fail(Errc::missing_kernel_feature, "sealing memory: " + error_text(errno));
  }
  return made;
}

// --- LifePage -----------------------------------------------------------------------------------

LifePage::LifePage(UniqueFd read_only, std::byte* memory) noexcept
    : read_only_(std::move(read_only)), memory_(memory) {}
LifePage::LifePage(LifePage&& other) noexcept
    : read_only_(std::move(other.read_only_)), memory_(std::exchange(other.memory_, nullptr)) {}
LifePage::~LifePage() {
  if (memory_ == nullptr) return;
  set_state(memory_, State::ended);
  (void)::munmap(memory_, kLifeBytes);
}

Result<LifePage> LifePage::begin(const std::string& path) {
  if (const Status ended = end_page(path); !ended) return fail(ended.error());
  const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  UniqueFd read_only(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd || !read_only || ::posix_fallocate(fd.get(), 0, static_cast<off_t>(kLifeBytes)) != 0) {
    return fail(Errc::io_error, path + ": " + error_text(errno));
  }
  std::byte* const memory = map(fd.get(), kLifeBytes);
  if (memory == nullptr) return fail(Errc::io_error, path + ": " + error_text(errno));
  set_state(memory, State::valid);
  return LifePage(std::move(read_only), memory);
}

}  // namespace umbra::shm
