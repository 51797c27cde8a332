// SPDX-License-Identifier: Apache-2.0 OR MIT
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "provider-sdk/examples/files.h"

namespace example {
namespace {

using umbra::Errc;
using umbra::fail;

constexpr std::size_t kPieceBytes = 1U << 20U;  // Between two looks at the clock.

class Fd {
 public:
  explicit Fd(int fd) noexcept : fd_(fd) {}
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  explicit operator bool() const noexcept { return fd_ >= 0; }
  [[nodiscard]] int get() const noexcept { return fd_; }
  [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

tl::unexpected<umbra::Error> failed(const std::string& path) {
  const int error = errno;
  const bool full = error == ENOSPC || error == EDQUOT;
  return fail(full ? Errc::insufficient_storage : Errc::io_error,
              path + ": " + std::strerror(error));
}

Fd open_file(const std::string& path, int flags) {
  return Fd(::open(path.c_str(), flags | O_CLOEXEC, 0600));
}

Status write_all(const Fd& fd, const std::string& path, const char* bytes, std::size_t size) {
  while (size > 0) {
    const ssize_t written = ::write(fd.get(), bytes, size);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return failed(path);
    bytes += written;
    size -= static_cast<std::size_t>(written);
  }
  return {};
}

std::string directory_of(const std::string& path) {
  return std::filesystem::path(path).parent_path().string();
}

}  // namespace

// --- gates --------------------------------------------------------------------------------------

Result<std::optional<Gate>> Gate::try_shut(const std::string& path) {
  Fd fd = open_file(path, O_RDONLY);
  if (!fd) return failed(path);
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) == 0) return Gate(fd.release());
  if (errno == EWOULDBLOCK || errno == EINTR) return std::optional<Gate>{};
  return failed(path);
}

Gate::Gate(Gate&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
Gate& Gate::operator=(Gate&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}
Gate::~Gate() {
  if (fd_ >= 0) ::close(fd_);
}

// --- copies -------------------------------------------------------------------------------------

Status copy_file(const std::string& from, const std::string& to, Clock::time_point until) {
  const Fd source = open_file(from, O_RDONLY);
  if (!source) return failed(from);
  const Fd target = open_file(to, O_WRONLY | O_CREAT | O_TRUNC);
  if (!target) return failed(to);
  if (::ioctl(target.get(), FICLONE, source.get()) == 0) return {};
  std::vector<char> piece(kPieceBytes);
  while (true) {
    if (Clock::now() >= until)
      return fail(Errc::hold_writes_timeout, from + " is too large to be copied in the hold");
    const ssize_t count = ::read(source.get(), piece.data(), piece.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return failed(from);
    if (count == 0) return {};
    if (const Status written = write_all(target, to, piece.data(), static_cast<std::size_t>(count));
        !written)
      return written;
  }
}

Status make_durable(const std::string& path) {
  const Fd fd = open_file(path, O_RDONLY);
  if (!fd || ::fsync(fd.get()) != 0) return failed(path);
  return {};
}

Status set_writable(const std::string& path, bool writable) {
  if (::chmod(path.c_str(), writable ? 0600 : 0400) != 0) return failed(path);
  return {};
}

// --- text ---------------------------------------------------------------------------------------

Status write_text(const std::string& path, const std::string& text) {
  const std::string draft = path + ".new";
  {
    const Fd fd = open_file(draft, O_WRONLY | O_CREAT | O_TRUNC);
    if (!fd) return failed(draft);
    if (const Status written = write_all(fd, draft, text.data(), text.size()); !written)
      return written;
    if (::fsync(fd.get()) != 0) return failed(draft);
  }
  if (::rename(draft.c_str(), path.c_str()) != 0) return failed(path);
  return make_durable(directory_of(path));
}

Result<std::string> read_text(const std::string& path) {
  const Fd fd = open_file(path, O_RDONLY);
  if (!fd) return failed(path);
  std::string text;
  char piece[4096];
  while (true) {
    const ssize_t count = ::read(fd.get(), piece, sizeof piece);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return failed(path);
    if (count == 0) return text;
    text.append(piece, static_cast<std::size_t>(count));
  }
}

Result<std::uint64_t> size_of(const std::string& path) {
  struct stat facts {};
  if (::stat(path.c_str(), &facts) != 0) return failed(path);
  if (!S_ISREG(facts.st_mode)) return fail(Errc::invalid_argument, path + " is no file");
  return static_cast<std::uint64_t>(facts.st_size);
}

Result<std::vector<std::string>> list_directory(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  std::vector<std::string> names;
  std::filesystem::directory_iterator entry(path, error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error))
    names.push_back(entry->path().filename().string());
  if (error) return fail(Errc::io_error, path + ": " + error.message());
  return names;
}

Status remove_file(const std::string& path) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return failed(path);
  return make_durable(directory_of(path));
}

}  // namespace example
