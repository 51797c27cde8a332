// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// The engine of file devices over io_uring.
//
// One ring and one thread per device. Callers push their requests on a stack without a lock and
// wake the thread if it sleeps; the thread alone talks to the ring: it submits what has come in one
// call, waits in the same call, and completes. Nothing blocks in it; what takes several calls (the
// rest of a short one, zeroes where no hole can be punched, the sync after a `fua` write) are
// further operations of the same request.
//
// Callers do not submit by themselves, for two reasons. What cannot be done at once goes to the
// kernel's workers of the *submitting* thread, of which there are few: with a front end's thread as
// submitter, one stalled device would take all of them and starve the others. And the kernel
// cancels what an ending thread has submitted.
//
// At most kRingEntries requests are in the kernel; the rest waits in a list. A device that goes
// gives the ring, its own reference to the file included, back before the file is closed, so that
// the lock goes with the device. That of a killed process stays until all it had in flight has
// ended: the kernel ends the ring after that.
#include <fcntl.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <thread>

#include "engine/platform/assert.h"
#include "engine/platform/file_device_engine.h"

namespace umbra::file_device {
namespace {

constexpr unsigned kRingEntries = 256;  // Requests in the kernel.
constexpr unsigned kRingSpare = 2;      // The flush and the event.
constexpr unsigned kReapMax = 64;
constexpr unsigned kRetriesMax = 1000;  // Of one request that the kernel puts off.
constexpr int kRetryMs = 1;             // The kernel has no memory for a submission.
constexpr std::uint64_t kWakeData = ~std::uint64_t{0};

enum class Step : std::uint8_t { transfer, punch, zero_range, zeroes, discard, flush };

// What a request in the kernel needs besides itself.
struct Slot {
  block::Request* request = nullptr;
  std::uint64_t done_bytes = 0;
  std::uint64_t asked_bytes = 0;
  unsigned retries = 0;
  int injected = 0;  // A test wants this result.
  Step step = Step::transfer;
  std::uint16_t next_free = 0;
};

class UringDevice final : public Base {
 public:
  explicit UringDevice(OpenFile file) : Base(std::move(file)) {
    for (unsigned i = 0; i < kRingEntries; ++i) {
      slots_[i].next_free = static_cast<std::uint16_t>(i + 1);
    }
  }
  ~UringDevice() override {
    if (!thread_.joinable()) return;
    stopping_.store(true);
    wake();
    thread_.join();
  }
  // 0, or errno: then nothing runs.
  [[nodiscard]] int start() {
    event_.reset(::eventfd(0, EFD_CLOEXEC));
    if (!event_) return errno;
    thread_ = std::thread([this] { run(); });
    started_.wait(kStarting);
    const int error = started_.load();
    if (error != 0) thread_.join();
    return error;
  }
  using Base::take_file;
  [[nodiscard]] const char* engine_name() const noexcept override { return "io_uring"; }
  [[nodiscard]] bool shares() const noexcept override { return false; }

  void submit(block::Request& first) noexcept override {
    const block::Geometry shape = geometry();
    block::Request* head = nullptr;  // Newest first, as the stack is.
    block::Request* tail = nullptr;
    for (block::Request* request = &first; request != nullptr;) {
      block::Request* const next = std::exchange(request->next, nullptr);
      request->error = 0;
      const int error = block::check(shape, *request);
      if (error != 0 || (request->op != block::Op::flush && request->size_bytes == 0)) {
        block::finish(*request, error);
      } else if (request->op == block::Op::share) {
        block::finish(*request, EOPNOTSUPP);  // It has no operation for that.
      } else if (!finish_here(*request)) {
        request->next = std::exchange(head, request);
        if (tail == nullptr) tail = request;
      }
      request = next;
    }
    if (head == nullptr) return;
    block::Request* top = arrived_.load(std::memory_order_relaxed);
    do {
      tail->next = top;
    } while (!arrived_.compare_exchange_weak(top, head));
    // Sequentially consistent on both sides: either we see it asleep, or it sees what has come.
    if (asleep_.load() && asleep_.exchange(false)) wake();
  }

 private:
  struct List {
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

  void wake() const noexcept {
    const std::uint64_t one = 1;
    (void)!::write(event_.get(), &one, sizeof one);
  }

  // --- the thread ----------------------------------------------------------------------------

  void run() noexcept {
    const int error = set_up();
    started_.store(error);
    started_.notify_all();
    if (error != 0) return;
    while (!stopping_.load() || in_kernel_ != 0 || backlog_.head != nullptr ||
           arrived_.load() != nullptr) {
      take_arrivals();
      fill_ring();
      enter();
      reap();
    }
    // What is left is the read of the event, which goes with the ring. The file is given back
    // first, and its lock before that: a worker of the kernel's that ran one of the last requests
    // may hold the file for a moment longer than the request.
    (void)::flock(fd(), LOCK_UN);
    (void)::io_uring_unregister_files(&ring_);
    ::io_uring_queue_exit(&ring_);
  }

  [[nodiscard]] int set_up() noexcept {
    int error = ::io_uring_queue_init(kRingEntries + kRingSpare, &ring_,
                                      IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
    if (error == -EINVAL) error = ::io_uring_queue_init(kRingEntries + kRingSpare, &ring_, 0);
    if (error < 0) return -error;
    const int file = fd();
    error = ::io_uring_register_files(&ring_, &file, 1);
    if (error < 0) {
      ::io_uring_queue_exit(&ring_);
      return -error;
    }
    return 0;
  }

  void take_arrivals() noexcept {
    block::Request* newest = arrived_.exchange(nullptr);
    block::Request* oldest = nullptr;
    while (newest != nullptr) {
      block::Request* const next = newest->next;
      newest->next = std::exchange(oldest, newest);
      newest = next;
    }
    while (oldest != nullptr) {
      block::Request& request = *oldest;
      oldest = request.next;
      (request.op == block::Op::flush ? flush_waiting_ : backlog_).push(request);
    }
  }

  void fill_ring() noexcept {
    start_flush();
    while (backlog_.head != nullptr && first_free_ != kRingEntries) {
      block::Request& request = backlog_.pop();
      Slot& slot = slots_[first_free_];
      first_free_ = slot.next_free;
      slot = {.request = &request};
      switch (request.op) {
        case block::Op::read:
        case block::Op::write: slot.step = Step::transfer; break;
        case block::Op::write_zeroes:
          slot.step = request.no_hole ? Step::zero_range : Step::punch;
          break;
        case block::Op::discard: slot.step = Step::discard; break;
        case block::Op::share:
        case block::Op::flush: UMBRA_UNREACHABLE();
      }
      ++in_kernel_;
      put(slot);
    }
  }

  // One sync at a time, for all that wait for one: the kernel tells one caller of a failure.
  void start_flush() noexcept {
    if (flushing_ || flush_waiting_.head == nullptr) return;
    flush_served_ = std::exchange(flush_waiting_, {});
    if (flush_failed()) {
      end_flush(EIO);
      return;
    }
    flushing_ = true;
    ++in_kernel_;
    flush_slot_ = {.step = Step::flush};
    flush_slot_.injected = faults() != nullptr ? -faults()->flush() : 0;
    put(flush_slot_);
  }

  void end_flush(int error) noexcept {
    List served = std::exchange(flush_served_, {});
    while (served.head != nullptr) {
      block::finish(served.pop(), error);
    }
  }

  // The ring has an entry for every slot, for the flush and for the event: there is always one,
  // even if the kernel takes none for a while.
  [[nodiscard]] io_uring_sqe* next_entry() noexcept {
    io_uring_sqe* sqe = ::io_uring_get_sqe(&ring_);
    UMBRA_ASSERT(sqe != nullptr);
    return sqe;
  }

  void put(Slot& slot) noexcept {
    io_uring_sqe* sqe = next_entry();
    if (slot.injected == 0 && faults() != nullptr && slot.step == Step::transfer) inject(slot);
    if (slot.injected != 0) {
      ::io_uring_prep_nop(sqe);
    } else {
      prepare(*sqe, slot);
      sqe->fd = 0;  // Of the registered files.
      sqe->flags |= IOSQE_FIXED_FILE;
    }
    ::io_uring_sqe_set_data(sqe, &slot);
  }

  void inject(Slot& slot) noexcept {
    const std::uint64_t left = slot.request->size_bytes - slot.done_bytes;
    const std::int64_t answer = faults()->transfer(*slot.request, left);
    slot.asked_bytes = answer > 0 ? static_cast<std::uint64_t>(answer) : 0;
    slot.injected = answer < 0 ? static_cast<int>(answer) : 0;
  }

  void prepare(io_uring_sqe& sqe, Slot& slot) noexcept {
    if (slot.step == Step::flush) {
      ::io_uring_prep_fsync(&sqe, 0, IORING_FSYNC_DATASYNC);
      return;
    }
    const block::Request& request = *slot.request;
    const std::uint64_t offset = request.offset_bytes + slot.done_bytes;
    const std::uint64_t left = request.size_bytes - slot.done_bytes;
    const auto range = [&](int mode) {
      ::io_uring_prep_fallocate(&sqe, 0, mode | FALLOC_FL_KEEP_SIZE,
                                static_cast<off_t>(request.offset_bytes),
                                static_cast<off_t>(request.size_bytes));
    };
    switch (slot.step) {
      case Step::transfer: {
        const auto size = static_cast<unsigned>(slot.asked_bytes != 0 ? slot.asked_bytes : left);
        if (request.op == block::Op::read) {
          ::io_uring_prep_read(&sqe, 0, request.buffer + slot.done_bytes, size, offset);
        } else {
          ::io_uring_prep_write(&sqe, 0, request.buffer + slot.done_bytes, size, offset);
        }
        break;
      }
      case Step::punch:
      case Step::discard: range(FALLOC_FL_PUNCH_HOLE); break;
      case Step::zero_range: range(FALLOC_FL_ZERO_RANGE); break;
      case Step::zeroes: {
        const auto from = zeroes();
        ::io_uring_prep_write(&sqe, 0, from.data(),
                              static_cast<unsigned>(std::min<std::uint64_t>(from.size(), left)),
                              offset);
        break;
      }
      case Step::flush: UMBRA_UNREACHABLE();
    }
  }

  // Submits, and waits for a completion or for requests unless something is to be done at once.
  void enter() noexcept {
    if (!event_armed_) arm_event();
    const bool work = arrived_.load() != nullptr || stopping_.load() ||
                      (backlog_.head != nullptr && first_free_ != kRingEntries) ||
                      (!flushing_ && flush_waiting_.head != nullptr);
    unsigned wait = 0;
    if (!work) {
      asleep_.store(true);
      if (arrived_.load() == nullptr && !stopping_.load()) wait = 1;
    } else if (stopping_.load() && in_kernel_ > 0) {
      wait = 1;
    }
    int result = faults() != nullptr ? faults()->enter() : 0;
    if (result == 0) {
      result = wait != 0 ? ::io_uring_submit_and_wait(&ring_, wait)
                         : ::io_uring_submit_and_get_events(&ring_);
    }
    asleep_.store(false);
    // EINTR passes. Otherwise there was no memory, or completions have to be taken first.
    if (result == -EAGAIN || result == -EBUSY || result == -ENOMEM) {
      if (::io_uring_cq_ready(&ring_) == 0) (void)::poll(nullptr, 0, kRetryMs);
    }
  }

  void arm_event() noexcept {
    io_uring_sqe* sqe = next_entry();
    ::io_uring_prep_read(sqe, event_.get(), &event_count_, sizeof event_count_, 0);
    sqe->user_data = kWakeData;
    event_armed_ = true;
  }

  void reap() noexcept {
    for (std::array<io_uring_cqe*, kReapMax> cqes{};;) {
      const unsigned count = ::io_uring_peek_batch_cqe(&ring_, cqes.data(), kReapMax);
      std::array<Slot*, kReapMax> slots{};
      std::array<int, kReapMax> results{};
      for (unsigned i = 0; i < count; ++i) {
        results[i] = cqes[i]->res;
        if (cqes[i]->user_data == kWakeData) {
          event_armed_ = false;
        } else {
          slots[i] = static_cast<Slot*>(::io_uring_cqe_get_data(cqes[i]));
        }
      }
      ::io_uring_cq_advance(&ring_, count);
      for (unsigned i = 0; i < count; ++i) {
        if (slots[i] != nullptr) completed(*slots[i], results[i]);
      }
      if (count < kReapMax) return;
    }
  }

  // --- one operation has ended -----------------------------------------------------------------

  void completed(Slot& slot, int result) noexcept {
    if (slot.injected != 0) result = std::exchange(slot.injected, 0);
    const int error = result < 0 ? -result : 0;
    // Put off, or cancelled because a thread of the kernel's ended: nothing has happened.
    if ((error == EINTR || error == EAGAIN || error == ECANCELED) && ++slot.retries < kRetriesMax) {
      put(slot);
      return;
    }
    switch (slot.step) {
      case Step::flush:
        --in_kernel_;
        flushing_ = false;
        note_flush(error);
        end_flush(flush_failed() ? (error != 0 ? error : EIO) : 0);
        return;
      case Step::transfer:
      case Step::zeroes: moved(slot, result); return;
      case Step::punch:
        if (error != 0) return next_step(slot, Step::zero_range);
        break;
      case Step::zero_range:
        if (error == EOPNOTSUPP || error == EINVAL || error == ENODEV) {
          return next_step(slot, Step::zeroes);
        }
        break;
      case Step::discard: return done(slot, error == EOPNOTSUPP ? 0 : error);  // A hint.
    }
    done(slot, error);
  }

  void next_step(Slot& slot, Step step) noexcept {
    slot.step = step;
    put(slot);
  }

  void moved(Slot& slot, int result) noexcept {
    if (result <= 0) {
      done(slot, result < 0 ? -result : EIO);  // Nothing moved: somebody cut the file.
      return;
    }
    slot.done_bytes += static_cast<std::uint64_t>(result);
    slot.asked_bytes = 0;
    if (slot.done_bytes < slot.request->size_bytes) {
      put(slot);
    } else {
      done(slot, 0);
    }
  }

  void done(Slot& slot, int error) noexcept {
    block::Request& request = *std::exchange(slot.request, nullptr);
    slot.next_free = first_free_;
    first_free_ = static_cast<std::uint16_t>(&slot - slots_.data());
    --in_kernel_;
    if (error == 0 && request.fua && request.op != block::Op::read &&
        request.op != block::Op::discard) {
      flush_waiting_.push(request);  // Ends with the next sync.
      return;
    }
    block::finish(request, error);
  }

  static constexpr int kStarting = -1;

  UniqueFd event_;
  std::atomic<int> started_ = kStarting;
  std::atomic<block::Request*> arrived_ = nullptr;  // A stack.
  std::atomic<bool> asleep_ = false;
  std::atomic<bool> stopping_ = false;

  // The thread's.
  io_uring ring_{};
  std::array<Slot, kRingEntries> slots_;
  Slot flush_slot_;
  std::uint16_t first_free_ = 0;
  unsigned in_kernel_ = 0;  // Requests, not the event.
  List backlog_;
  List flush_waiting_;
  List flush_served_;
  bool flushing_ = false;
  bool event_armed_ = false;
  std::uint64_t event_count_ = 0;
  std::thread thread_;
};

std::string why_no_ring(int error) {
  switch (error) {
    case ENOSYS: return "this kernel has no io_uring";
    case EPERM:
    case EACCES:
      return "io_uring is not permitted here (sysctl kernel.io_uring_disabled, or seccomp)";
    case ENOMEM: return "io_uring needs more locked memory than is allowed (ulimit -l)";
    default: return "io_uring cannot be set up: " + error_text(error);
  }
}

}  // namespace

std::unique_ptr<FileDevice> make_uring_device(OpenFile& file, std::string& why_not) {
  auto device = std::make_unique<UringDevice>(std::move(file));
  const int error = device->start();
  if (error == 0) return device;
  why_not = why_no_ring(error);
  file = device->take_file();
  return nullptr;
}

}  // namespace umbra::file_device
