// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Linux: block devices, hole punching, and the engine over io_uring.
//
// The io_uring engine has one ring per device. Submission and completion each have a lock; nobody
// waits inside one. Whoever submits also collects what has completed meanwhile, so that I/O in the
// page cache needs no other thread; a thread of the device's own waits on an eventfd for the rest.
#include <fcntl.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "engine/platform/assert.h"
#include "engine/platform/file_device_engine.h"

namespace umbra::file_device {

int direct_flag() noexcept { return O_DIRECT; }

Status describe_block_device(OpenFile& file) {
  std::uint64_t size_bytes = 0;
  int sector_bytes = 0;
  if (::ioctl(file.fd.get(), BLKGETSIZE64, &size_bytes) != 0 ||
      ::ioctl(file.fd.get(), BLKSSZGET, &sector_bytes) != 0) {
    return fail(Errc::io_error,
                file.path + ": its size cannot be read: errno " + std::to_string(errno));
  }
  file.geometry.size_bytes = size_bytes;
  file.geometry.block_bytes = static_cast<std::uint32_t>(sector_bytes);
  file.geometry.alignment_bytes = static_cast<std::uint32_t>(sector_bytes);
  return {};
}

int zero_range(int fd, const block::Request& request) noexcept {
  const auto offset = static_cast<off_t>(request.offset_bytes);
  const auto size = static_cast<off_t>(request.size_bytes);
  if (!request.no_hole &&
      ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, size) == 0) {
    return 0;
  }
  if (::fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset, size) == 0) return 0;
  return errno == EINVAL || errno == ENODEV ? EOPNOTSUPP : errno;
}

int discard_range(int fd, bool block_device, const block::Request& request) noexcept {
  int error = 0;
  if (block_device) {
    std::array<std::uint64_t, 2> range = {request.offset_bytes, request.size_bytes};
    if (::ioctl(fd, BLKDISCARD, range.data()) != 0) error = errno;
  } else if (::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                         static_cast<off_t>(request.offset_bytes),
                         static_cast<off_t>(request.size_bytes)) != 0) {
    error = errno;
  }
  return error == EOPNOTSUPP ? 0 : error;
}

bool lies_in_memory(int fd) noexcept {
  struct statfs facts {};
  return ::fstatfs(fd, &facts) == 0 && (facts.f_type == TMPFS_MAGIC || facts.f_type == RAMFS_MAGIC);
}

std::uint64_t read_cached(int fd, const block::Request& request) noexcept {
  iovec piece{request.buffer, request.size_bytes};
  const ssize_t moved =
      ::preadv2(fd, &piece, 1, static_cast<off_t>(request.offset_bytes), RWF_NOWAIT);
  return moved == static_cast<ssize_t>(request.size_bytes) ? request.size_bytes : 0;
}

namespace {

constexpr unsigned kRingEntries = 256;
constexpr std::size_t kReapMax = 64;

class UringDevice final : public Base {
 public:
  UringDevice(OpenFile file, io_uring ring, UniqueFd event)
      : Base(std::move(file)),
        ring_(ring),
        event_(std::move(event)),
        thread_([this] { serve(); }) {}
  ~UringDevice() override {
    stopping_.store(true);
    wake();
    thread_.join();
    ::io_uring_queue_exit(&ring_);
  }
  [[nodiscard]] const char* engine_name() const noexcept override { return "io_uring"; }

  void submit(block::Request& first) noexcept override {
    const block::Geometry shape = geometry();
    block::Request* queue_head = nullptr;
    block::Request** queue_tail = &queue_head;
    for (block::Request* request = &first; request != nullptr;) {
      block::Request* const next = std::exchange(request->next, nullptr);
      request->error = 0;
      int error = block::check(shape, *request);
      if (request->op == block::Op::flush && flush_failed()) error = EIO;
      if (error != 0 || (request->op != block::Op::flush && request->size_bytes == 0)) {
        block::finish(*request, error);
      } else {
        *queue_tail = request;
        queue_tail = &request->next;
      }
      request = next;
    }
    if (queue_head == nullptr) return;
    enqueue(queue_head);
    collect();
  }

 private:
  // The kernel takes at most kRingEntries at a time; what is over waits in backlog_.
  void enqueue(block::Request* list) noexcept {
    const std::lock_guard lock(submit_mutex_);
    while (list != nullptr) {
      block::Request& request = *list;
      list = std::exchange(request.next, nullptr);
      (backlog_tail_ != nullptr ? backlog_tail_->next : backlog_) = &request;
      backlog_tail_ = &request;
    }
    push_backlog();
  }

  void push_backlog() noexcept {  // submit_mutex_
    bool pushed = false;
    while (backlog_ != nullptr && in_kernel_ < kRingEntries) {
      io_uring_sqe* sqe = ::io_uring_get_sqe(&ring_);
      if (sqe == nullptr) break;
      block::Request& request = *backlog_;
      backlog_ = std::exchange(request.next, nullptr);
      if (backlog_ == nullptr) backlog_tail_ = nullptr;
      fill(*sqe, request);
      ++in_kernel_;
      pushed = true;
    }
    if (!pushed) return;
    // The submission queue has room for all; EAGAIN and EBUSY pass as completions are collected.
    while (::io_uring_submit(&ring_) < 0) std::this_thread::yield();
  }

  void fill(io_uring_sqe& sqe, block::Request& request) noexcept {
    const auto size = static_cast<unsigned>(request.size_bytes);
    switch (request.op) {
      case block::Op::read:
        ::io_uring_prep_read(&sqe, fd(), request.buffer, size, request.offset_bytes);
        break;
      case block::Op::write:
        ::io_uring_prep_write(&sqe, fd(), request.buffer, size, request.offset_bytes);
        if (request.fua) sqe.rw_flags = RWF_DSYNC;
        break;
      case block::Op::flush: ::io_uring_prep_fsync(&sqe, fd(), IORING_FSYNC_DATASYNC); break;
      case block::Op::write_zeroes:
      case block::Op::discard: {
        const bool zero = request.op == block::Op::write_zeroes && request.no_hole;
        const int mode = zero ? FALLOC_FL_ZERO_RANGE : FALLOC_FL_PUNCH_HOLE;
        ::io_uring_prep_fallocate(&sqe, fd(), mode | FALLOC_FL_KEEP_SIZE,
                                  static_cast<off_t>(request.offset_bytes),
                                  static_cast<off_t>(request.size_bytes));
        break;
      }
    }
    ::io_uring_sqe_set_data(&sqe, &request);
  }

  struct Done {
    block::Request* request = nullptr;
    int result = 0;
  };

  // Completes what has arrived. A callback that submits again does not get deeper: the outer call
  // goes on until nothing is left.
  void collect() noexcept {
    thread_local bool collecting = false;
    if (collecting) return;
    collecting = true;
    for (;;) {
      std::array<Done, kReapMax> done;
      const std::size_t count = take(done);
      if (count == 0) break;
      {
        const std::lock_guard lock(submit_mutex_);
        in_kernel_ -= static_cast<unsigned>(count);
        push_backlog();
      }
      for (std::size_t i = 0; i < count; ++i) finish_one(done[i]);
    }
    collecting = false;
  }

  std::size_t take(std::array<Done, kReapMax>& done) noexcept {
    const std::lock_guard lock(complete_mutex_);
    std::array<io_uring_cqe*, kReapMax> cqes{};
    const unsigned count = ::io_uring_peek_batch_cqe(&ring_, cqes.data(), kReapMax);
    for (unsigned i = 0; i < count; ++i) {
      done[i] = {static_cast<block::Request*>(::io_uring_cqe_get_data(cqes[i])), cqes[i]->res};
    }
    ::io_uring_cq_advance(&ring_, count);
    return count;
  }

  void finish_one(const Done& done) noexcept {
    block::Request& request = *done.request;
    int error = done.result < 0 ? -done.result : 0;
    if (request.op == block::Op::discard) {
      if (error == EOPNOTSUPP) error = 0;  // A hint.
    } else if (request.op == block::Op::write_zeroes) {
      if (error != 0 || request.fua) error = perform(request);  // Rare: other ways, and the flush.
    } else if (request.op == block::Op::flush) {
      note_flush(error);
    } else if (error == EINTR || error == EAGAIN) {
      error = perform(request);
    } else if (error == 0 && static_cast<std::uint64_t>(done.result) < request.size_bytes) {
      error = perform_rest(request, static_cast<std::uint64_t>(done.result));
      if (error == 0 && request.fua) error = flush();
    }
    block::finish(request, error);
  }

  void serve() noexcept {
    while (!stopping_.load()) {
      std::uint64_t events = 0;
      if (::read(event_.get(), &events, sizeof events) < 0 && errno != EINTR) break;
      collect();
    }
  }

  void wake() noexcept {
    const std::uint64_t one = 1;
    (void)!::write(event_.get(), &one, sizeof one);
  }

  io_uring ring_;
  std::mutex submit_mutex_;
  std::mutex complete_mutex_;
  block::Request* backlog_ = nullptr;       // submit_mutex_
  block::Request* backlog_tail_ = nullptr;  // submit_mutex_
  unsigned in_kernel_ = 0;                  // submit_mutex_
  UniqueFd event_;
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
};

}  // namespace

void keep_only(int fd) noexcept {
  if (::unshare(CLONE_FILES) != 0) return;  // For want of memory; all is as without.
  const auto kept = static_cast<unsigned>(fd);
  if (kept > 0) (void)::close_range(0, kept - 1, 0);
  (void)::close_range(kept + 1, ~0U, 0);
}

std::unique_ptr<FileDevice> make_uring_device(OpenFile& file) {
  io_uring ring{};
  if (::io_uring_queue_init(kRingEntries, &ring, 0) != 0) return nullptr;
  UniqueFd event(::eventfd(0, EFD_CLOEXEC));
  if (!event || ::io_uring_register_eventfd(&ring, event.get()) != 0) {
    ::io_uring_queue_exit(&ring);
    return nullptr;
  }
  return std::make_unique<UringDevice>(std::move(file), ring, std::move(event));
}

}  // namespace umbra::file_device
