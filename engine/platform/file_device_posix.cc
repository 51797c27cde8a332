// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Opening and locking, blocking I/O, and the engine of threads.
#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "engine/platform/assert.h"
#include "engine/platform/file_device_engine.h"

namespace umbra {
namespace file_device {
namespace {

constexpr std::uint32_t kFileBlockBytes = 512;
constexpr std::uint32_t kDirectBlockBytes = 4096;
constexpr int kRetriesMax = 1000;
constexpr std::size_t kZeroesBytes = 64U << 10U;
constexpr int kHeldTries = 50;  // A quarter of a second in all.
constexpr int kHeldWaitMs = 5;
constexpr int kInlineDepthMax = 16;
constexpr std::uint64_t kInlineBytesMax = 256U << 10U;  // Some 50 us of copying.
constexpr mode_t kCreateMode = 0600;  // The diff area shows the volume's whole history.

alignas(4096) const std::byte g_zeroes[kZeroesBytes] = {};

[[nodiscard]] tl::unexpected<Error> open_failure(const std::string& path, int error) {
  switch (error) {
    case ENOENT: return fail(Errc::object_not_found, path + ": " + error_text(error));
    case EACCES:
    case EPERM:
    case EROFS: return fail(Errc::access_denied, path + ": " + error_text(error));
    case EBUSY:
      return fail(Errc::volume_attached, path + ": mounted, or in use by another program");
    default: return fail(Errc::io_error, path + ": " + error_text(error));
  }
}

// 0, or errno. What says that somebody else has the file is asked again for a moment: after a
// ring's end, the more so a killed process's, the kernel may hold its file a little longer.
template <class Attempt>
[[nodiscard]] int once_released(const Attempt& attempt) {
  for (int tries = 0;; ++tries) {
    if (attempt()) return 0;
    const int error = errno;
    if ((error != EBUSY && error != EWOULDBLOCK) || tries == kHeldTries) return error;
    (void)::poll(nullptr, 0, kHeldWaitMs);
  }
}

[[nodiscard]] tl::unexpected<Error> space_failure(const std::string& path, int error) {
  const Errc code = error == ENOSPC || error == EDQUOT || error == EFBIG
                        ? Errc::insufficient_storage
                        : Errc::io_error;
  return fail(code, path + ": " + error_text(error));
}

// The class of thread-pool devices. If `apart`, some threads make the blocking calls and others,
// which have the process's descriptors, complete the requests.
class ThreadDevice final : public Base {
 public:
  ThreadDevice(OpenFile file, unsigned threads, bool apart) : Base(std::move(file)), apart_(apart) {
    for (unsigned i = 0; i < threads; ++i) {
      if (!apart_) {
        threads_.emplace_back([this] { serve(); });
        continue;
      }
      threads_.emplace_back([this] {
        keep_only(fd());
        serve();
        // The lock goes with the last descriptor: not after whoever joins us.
        (void)::close(fd());
      });
      threads_.emplace_back([this] { complete(); });
    }
  }
  ~ThreadDevice() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    arrived_.notify_all();
    done_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }
  [[nodiscard]] const char* engine_name() const noexcept override { return "threads"; }

  [[nodiscard]] Status resize(std::uint64_t size_bytes) override {
    if (!apart_) return Base::resize(size_bytes);
    Resize job{size_bytes};
    return run_apart(job);
  }
  [[nodiscard]] Status allocate(std::uint64_t offset_bytes, std::uint64_t size_bytes) override {
    if (!apart_) return Base::allocate(offset_bytes, size_bytes);
    Resize job{size_bytes, offset_bytes};
    return run_apart(job);
  }

  // Looking for holes may wait as well, and callers do it on any thread.
  [[nodiscard]] std::size_t extents(std::uint64_t offset_bytes, std::uint64_t size_bytes,
                                    std::span<block::Extent> out) const noexcept override {
    if (!apart_) return Base::extents(offset_bytes, size_bytes, out);
    // All data, without a look at the file, which is the point of passing over the parent.
    // NOLINTNEXTLINE(bugprone-parent-virtual-call)
    return Device::extents(offset_bytes, size_bytes, out);
  }

  void submit(block::Request& first) noexcept override {
    const block::Geometry shape = geometry();
    unsigned added = 0;
    for (block::Request* request = &first; request != nullptr;) {
      block::Request* const next = std::exchange(request->next, nullptr);
      request->error = 0;
      const int error = block::check(shape, *request);
      if (error != 0 || (request->op != block::Op::flush && request->size_bytes == 0)) {
        block::finish(*request, error);
      } else if (apart_ || !finish_here(*request)) {
        const std::lock_guard lock(mutex_);
        (request->op == block::Op::flush ? flushes_ : waiting_).push(*request);
        ++added;
      }
      request = next;
    }
    if (added == 1) arrived_.notify_one();
    if (added > 1) arrived_.notify_all();
  }

 private:
  void serve() noexcept {
    std::unique_lock lock(mutex_);
    for (;;) {
      arrived_.wait(lock, [this] {
        return stopping_ || waiting_.head || (flushes_.head && !flushing_) || !resizes_.empty();
      });
      if (flushes_.head != nullptr && !flushing_) {
        flush_all(lock);
        continue;
      }
      if (!resizes_.empty()) {
        Resize& job = *resizes_.back();
        resizes_.pop_back();
        lock.unlock();
        job.status = job.allocate_at ? Base::allocate(*job.allocate_at, job.size_bytes)
                                     : Base::resize(job.size_bytes);
        lock.lock();
        job.done = true;
        resized_.notify_all();
        continue;
      }
      if (waiting_.head == nullptr) return;
      block::Request& request = waiting_.pop();
      lock.unlock();
      request.error = perform(request);
      if (!apart_) block::finish(request, request.error);
      lock.lock();
      if (apart_) finished_.push(request);
      if (apart_) done_.notify_one();
    }
  }

  // One sync for all that wait for one; who comes meanwhile waits for the next, on no thread.
  void flush_all(std::unique_lock<std::mutex>& lock) noexcept {
    Queue served = std::exchange(flushes_, {});
    flushing_ = true;
    lock.unlock();
    const int error = flush();
    lock.lock();
    flushing_ = false;
    while (served.head != nullptr) {
      block::Request& request = served.pop();
      request.error = error;
      if (apart_) {
        finished_.push(request);
        done_.notify_one();
        continue;
      }
      lock.unlock();
      block::finish(request, error);
      lock.lock();
    }
  }

  void complete() noexcept {
    std::unique_lock lock(mutex_);
    for (;;) {
      done_.wait(lock, [this] { return stopping_ || finished_.head != nullptr; });
      if (finished_.head == nullptr) return;
      block::Request& request = finished_.pop();
      lock.unlock();
      block::finish(request, request.error);
      lock.lock();
    }
  }

  struct Queue {
    block::Request* head = nullptr;
    block::Request* tail = nullptr;
    void push(block::Request& request) noexcept {
      request.next = nullptr;
      (tail != nullptr ? tail->next : head) = &request;
      tail = &request;
    }
    [[nodiscard]] block::Request& pop() noexcept {
      block::Request& first = *head;
      head = std::exchange(first.next, nullptr);
      if (head == nullptr) tail = nullptr;
      return first;
    }
  };
  struct Resize {
    std::uint64_t size_bytes = 0;
    std::optional<std::uint64_t> allocate_at{};  // Then it is no resize.
    Status status{};
    bool done = false;
  };
  [[nodiscard]] Status run_apart(Resize& job) {
    std::unique_lock lock(mutex_);
    resizes_.push_back(&job);
    arrived_.notify_all();
    resized_.wait(lock, [&] { return job.done; });
    return std::move(job.status);
  }

  const bool apart_;
  std::mutex mutex_;
  std::condition_variable arrived_;
  Queue waiting_;
  Queue flushes_;
  bool flushing_ = false;
  // If apart:
  std::condition_variable done_;
  std::condition_variable resized_;
  Queue finished_;
  std::vector<Resize*> resizes_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace

Base::Base(OpenFile file)
    : file_(std::move(file)),
      in_memory_(lies_in_memory(file_.fd.get()) && !file_.direct),
      size_bytes_(file_.geometry.size_bytes) {}

std::array<std::byte, 32> Base::lasting_identity() const noexcept {
  struct {
    std::uint32_t kind;
    std::uint32_t generation;
    std::uint64_t inode;
    std::uint64_t unused[2];
  } facts{is_block_device() ? 2U : 1U, 0, 0, {0, 0}};
  if (!is_block_device()) {
    facts.generation = file_generation(fd());
    facts.inode = file_.identity.inode;
  }
  std::array<std::byte, 32> bytes{};
  static_assert(sizeof facts == sizeof bytes);
  std::memcpy(bytes.data(), &facts, sizeof facts);
  return bytes;
}

std::int64_t Base::settled_change_time() noexcept {
  struct stat status {};
  if (is_block_device() || file_.apart || flush() != 0) return 0;
  // The time is not written back with the data alone.
  if (const std::lock_guard lock(flush_mutex_); ::fsync(fd()) != 0) {
    note_flush(EIO);
    return 0;
  }
  if (::fstat(fd(), &status) != 0) return 0;
  constexpr std::int64_t kNsPerSecond = 1'000'000'000;
  return std::int64_t{status.st_mtim.tv_sec} * kNsPerSecond + status.st_mtim.tv_nsec;
}

std::string Base::io_text() const {
  std::string text = engine_name();
  if (!file_.engine_note.empty()) text += " (" + file_.engine_note + ")";
  return text + (is_direct() ? ", O_DIRECT" : ", page cache");
}

block::Geometry Base::geometry() const noexcept {
  block::Geometry geometry = file_.geometry;
  geometry.size_bytes = size_bytes_.load(std::memory_order_relaxed);
  return geometry;
}

Status Base::resize(std::uint64_t size_bytes) {
  if (is_block_device()) return fail(Errc::not_supported, path() + ": a block device");
  if (file_.geometry.read_only) return fail(Errc::access_denied, path() + ": opened read-only");
  if (size_bytes % kFileBlockBytes != 0) {
    return fail(Errc::invalid_argument, "a size is a multiple of 512");
  }
  const std::uint64_t old = size_bytes_.load();
  int error = 0;
  if (size_bytes > old) {
    error = ::posix_fallocate(fd(), static_cast<off_t>(old), static_cast<off_t>(size_bytes - old));
  } else if (::ftruncate(fd(), static_cast<off_t>(size_bytes)) != 0) {
    error = errno;
  }
  if (error == 0 && ::fsync(fd()) != 0) error = errno;
  if (error == 0) {
    size_bytes_.store(size_bytes);
    return {};
  }
  if (size_bytes > old) (void)!::ftruncate(fd(), static_cast<off_t>(old));
  return space_failure(path(), error);
}

Status Base::allocate(std::uint64_t offset_bytes, std::uint64_t size_bytes) {
  if (is_block_device()) return {};
  const int error =
      ::posix_fallocate(fd(), static_cast<off_t>(offset_bytes), static_cast<off_t>(size_bytes));
  if (error == 0) return {};
  return space_failure(path(), error);
}

std::size_t Base::extents(std::uint64_t offset_bytes, std::uint64_t size_bytes,
                          std::span<block::Extent> out) const noexcept {
  if (is_block_device()) return Device::extents(offset_bytes, size_bytes, out);
  const std::uint64_t end = offset_bytes + size_bytes;
  std::size_t count = 0;
  std::uint64_t at = offset_bytes;
  while (at < end && count < out.size()) {
    const off_t data = ::lseek(fd(), static_cast<off_t>(at), SEEK_DATA);
    if (data < 0 && errno != ENXIO) break;
    // A hole up to the next data, or to the end.
    std::uint64_t next = data < 0 ? end : std::min(end, static_cast<std::uint64_t>(data));
    next = next / file_.geometry.block_bytes * file_.geometry.block_bytes;
    const bool hole = next > at;
    if (!hole) {
      const off_t after = ::lseek(fd(), static_cast<off_t>(at), SEEK_HOLE);
      if (after < 0) break;
      const std::uint64_t mask = file_.geometry.block_bytes - 1;
      next = std::min(end, (static_cast<std::uint64_t>(after) + mask) & ~mask);
      if (next <= at) break;
    }
    out[count++] = block::Extent{next - at, hole, hole};
    at = next;
  }
  return count > 0 ? count : Device::extents(offset_bytes, size_bytes, out);
}

bool Base::finish_here(block::Request& request) noexcept {
  thread_local int depth = 0;
  const bool read = request.op == block::Op::read;
  // With O_DIRECT everything waits for the device.
  if (is_direct() || depth == kInlineDepthMax || (!read && request.op != block::Op::write)) {
    return false;
  }
  int error = 0;
  if (in_memory_ && request.size_bytes <= kInlineBytesMax) {
    error = perform(request);
  } else if (faults() != nullptr || !read || read_cached(fd(), request) == 0) {
    return false;
  }
  ++depth;
  block::finish(request, error);
  --depth;
  return true;
}

int Base::perform(const block::Request& request) noexcept {
  int error = 0;
  switch (request.op) {
    case block::Op::read: return transfer(request);
    case block::Op::discard: return discard_range(fd(), is_block_device(), request);
    case block::Op::flush: return flush();
    case block::Op::write: error = transfer(request); break;
    case block::Op::write_zeroes: error = write_zeroes(request); break;
    case block::Op::share: error = share(request); break;
  }
  return error == 0 && request.fua ? flush() : error;
}

int Base::transfer(const block::Request& request) noexcept {
  int retries = 0;
  for (std::uint64_t done = 0; done < request.size_bytes;) {
    const auto offset = static_cast<off_t>(request.offset_bytes + done);
    std::size_t left = request.size_bytes - done;
    ssize_t moved = 1;
    if (faults() != nullptr) {
      moved = static_cast<ssize_t>(faults()->transfer(request, left));
      if (moved < 0) errno = static_cast<int>(-moved);
      if (moved > 0) left = static_cast<std::size_t>(moved);
    }
    if (moved > 0) {
      moved = request.op == block::Op::read ? ::pread(fd(), request.buffer + done, left, offset)
                                            : ::pwrite(fd(), request.buffer + done, left, offset);
    }
    if (moved < 0 && (errno == EINTR || errno == EAGAIN) && ++retries <= kRetriesMax) continue;
    if (moved < 0) return errno;
    if (moved == 0) return EIO;  // Somebody cut the file.
    done += static_cast<std::uint64_t>(moved);
  }
  return 0;
}

int Base::share(const block::Request& request) noexcept {
  const auto* source = dynamic_cast<Base*>(request.source);
  if (source == nullptr || file_.apart || source->file_.apart) return EOPNOTSUPP;
  return share_range(fd(), source->fd(), request);
}

Result<std::uint32_t> Base::share_unit(block::Device& source) {
  const auto* other = dynamic_cast<Base*>(&source);
  if (other == nullptr || is_block_device() || other->is_block_device()) {
    return Device::share_unit(source);
  }
  if (!shares() || file_.apart || other->file_.apart) {
    return fail(Errc::not_supported,
                path() +
                    ": cannot share blocks through io_uring, or with what this program serves "
                    "itself; attach with --preserve copy");
  }
  return try_sharing(fd(), path(), other->fd());
}

std::uint64_t Base::shared_bytes(std::uint64_t offset_bytes,
                                 std::uint64_t size_bytes) const noexcept {
  if (is_block_device()) return 0;
  return shared_in_range(fd(), offset_bytes, size_bytes);
}

int Base::flush() noexcept {
  // The kernel tells one caller of a failure: nobody else may ask at the same time.
  const std::lock_guard lock(flush_mutex_);
  if (flush_failed()) return EIO;
  int error = faults() != nullptr ? faults()->flush() : 0;
  if (error == 0 && ::fdatasync(fd()) != 0) error = errno;
  note_flush(error);
  return error;
}

int Base::write_zeroes(const block::Request& request) noexcept {
  const int error = zero_range(fd(), request);
  if (error != EOPNOTSUPP) return error;
  for (std::uint64_t done = 0; done < request.size_bytes;) {
    const std::size_t piece = std::min<std::uint64_t>(request.size_bytes - done, kZeroesBytes);
    const ssize_t moved =
        ::pwrite(fd(), g_zeroes, piece, static_cast<off_t>(request.offset_bytes + done));
    if (moved < 0 && errno == EINTR) continue;
    if (moved <= 0) return moved < 0 ? errno : EIO;
    done += static_cast<std::uint64_t>(moved);
  }
  return 0;
}

std::span<const std::byte> zeroes() noexcept { return g_zeroes; }
std::string error_text(int error) { return std::generic_category().message(error); }

namespace {

[[nodiscard]] Status describe(OpenFile& file, const FileDeviceOptions& options) {
  struct stat status {};
  if (::fstat(file.fd.get(), &status) != 0) return open_failure(file.path, errno);
  file.geometry.read_only = options.read_only;
  file.geometry.can_discard = true;
  if (S_ISBLK(status.st_mode)) {
    file.identity = {true, status.st_rdev, 0};
    return describe_block_device(file);
  }
  if (!S_ISREG(status.st_mode)) {
    return fail(Errc::invalid_argument, file.path + ": neither a file nor a block device");
  }
  file.identity = {false, status.st_dev, status.st_ino};
  file.geometry.size_bytes = static_cast<std::uint64_t>(status.st_size);
  file.geometry.block_bytes = kFileBlockBytes;
  if (options.direct) {
    const DirectAlignment alignment = direct_alignment(file.fd.get());
    const std::uint32_t offset =
        alignment.offset_bytes != 0 ? alignment.offset_bytes : kDirectBlockBytes;
    file.geometry.block_bytes = std::max(offset, kFileBlockBytes);
    // As of a block device: what is aligned in the file is in memory as well.
    file.geometry.alignment_bytes = std::max(file.geometry.block_bytes, alignment.memory_bytes);
  }
  if (file.geometry.size_bytes % file.geometry.block_bytes != 0) {
    return fail(Errc::invalid_argument, file.path + ": its size is no multiple of " +
                                            std::to_string(file.geometry.block_bytes) +
                                            (options.direct ? ", which O_DIRECT needs here" : ""));
  }
  return {};
}

}  // namespace

}  // namespace file_device

Result<std::unique_ptr<FileDevice>> open_file_device(const std::string& path,
                                                     const FileDeviceOptions& options) {
  using file_device::OpenFile;
  if (options.threads == 0 || options.threads > kFileThreadsMax) {
    return fail(Errc::invalid_argument, "1 to " + std::to_string(kFileThreadsMax) + " threads");
  }
  struct stat before {};
  const bool exists = ::stat(path.c_str(), &before) == 0;
  const bool is_block = exists && S_ISBLK(before.st_mode);
  if (exists && !is_block && !S_ISREG(before.st_mode)) {  // Opening a pipe could wait for ever.
    return fail(Errc::invalid_argument, path + ": neither a file nor a block device");
  }
  int flags = (options.read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY;
  if (options.direct || is_block) flags |= file_device::direct_flag();
  if (is_block && options.lock) flags |= O_EXCL;
  if (options.create && !exists) flags |= O_CREAT;
  OpenFile file;
  file.path = path;
  file.direct = options.direct || is_block;
  file.apart = options.apart;
  file.faults = options.faults;
  int error = file_device::once_released([&] {
    file.fd.reset(::open(path.c_str(), flags, file_device::kCreateMode));
    return bool(file.fd);
  });
  if (error == EINVAL && options.direct && !is_block) {
    return fail(
        Errc::not_supported,
        path + ": its file system cannot do without the page cache; use cache \"buffered\"");
  }
  if (error != 0) return file_device::open_failure(path, error);
  if (Status described = file_device::describe(file, options); !described) {
    return fail(described.error());
  }
  if (options.lock && !is_block) {
    error =
        file_device::once_released([&] { return ::flock(file.fd.get(), LOCK_EX | LOCK_NB) == 0; });
    if (error == EWOULDBLOCK) {
      return fail(Errc::volume_attached, path + ": locked by another program");
    }
    if (error != 0) return file_device::open_failure(path, error);
  }
  // In the page cache a pool is faster (io_uring hands buffered writes to threads of the kernel's).
  const bool ring_is_better = file.direct && !options.apart;
  if ((options.engine == FileEngine::io_uring && !options.apart) ||
      (options.engine == FileEngine::automatic && ring_is_better)) {
    std::string why_not;
    if (auto device = file_device::make_uring_device(file, why_not)) return device;
    if (options.engine == FileEngine::io_uring) {
      return fail(Errc::missing_kernel_feature, path + ": " + why_not);
    }
    file.engine_note = why_not;
  }
  return std::unique_ptr<FileDevice>(
      std::make_unique<file_device::ThreadDevice>(std::move(file), options.threads, options.apart));
}

Status check_distinct(const FileDevice& origin, const FileDevice& diff) {
  if (origin.identity() != diff.identity()) return {};
  return fail(Errc::invalid_argument,
              diff.path() + ": the diff area cannot be the origin itself; name another file");
}

}  // namespace umbra
