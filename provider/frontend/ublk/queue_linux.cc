// SPDX-License-Identifier: Apache-2.0
#include "provider/frontend/ublk/queue_linux.h"

#include <linux/capability.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "engine/platform/assert.h"

namespace umbra::ublk {
namespace {

constexpr std::uint64_t kEventData = ~std::uint64_t{0};
constexpr std::size_t kPage = 4096;
constexpr unsigned kReapMax = 64;

std::string reason(int error) { return std::generic_category().message(error); }

std::size_t descriptions_bytes(std::uint16_t depth) {
  return (depth * sizeof(ublksrv_io_desc) + kPage - 1) / kPage * kPage;
}

// Where the kernel has put those of one queue: as if each were as deep as can be.
off_t descriptions_at(std::uint16_t queue) {
  return static_cast<off_t>(UBLKSRV_CMD_BUF_OFFSET +
                            queue * (UBLK_MAX_QUEUE_DEPTH * sizeof(ublksrv_io_desc)));
}

// Takes a capability away from this thread and gives it back; see device.h for why.
class WithoutSysAdmin {
 public:
  WithoutSysAdmin() {
    if (::syscall(SYS_capget, &header_, before_) != 0) return;
    __user_cap_data_struct less[2] = {before_[0], before_[1]};
    less[CAP_TO_INDEX(CAP_SYS_ADMIN)].effective &= ~CAP_TO_MASK(CAP_SYS_ADMIN);
    taken_ = ::syscall(SYS_capset, &header_, less) == 0;
  }
  ~WithoutSysAdmin() {
    if (taken_) (void)::syscall(SYS_capset, &header_, before_);
  }
  WithoutSysAdmin(const WithoutSysAdmin&) = delete;
  WithoutSysAdmin& operator=(const WithoutSysAdmin&) = delete;

 private:
  __user_cap_header_struct header_{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct before_[2]{};
  bool taken_ = false;
};

}  // namespace

Queue::Queue(std::uint16_t index, const Shape& shape, bool encoded, block::Device& served,
             const Logger& log)
    : index_(index),
      shape_(shape),
      encoded_(encoded),
      served_(served),
      log_(log),
      slots_(shape.depth) {}

Queue::~Queue() {
  abandoned_.store(true);
  if (thread_.joinable()) {
    Phase expected = Phase::prepared;
    (void)phase_.compare_exchange_strong(expected, Phase::ended);
    phase_.notify_all();
    wake();
    thread_.join();
  }
  while (pushing_.load() != 0) std::this_thread::yield();
  if (descriptions_ != nullptr) {
    (void)::munmap(const_cast<ublksrv_io_desc*>(descriptions_), descriptions_bytes(shape_.depth));
  }
  if (arena_ != nullptr) (void)::munmap(arena_, slots_.size() * shape_.payload_bytes);
}

Status Queue::prepare() {
  const std::size_t bytes = slots_.size() * shape_.payload_bytes;
  void* arena = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (arena == MAP_FAILED) return fail(Errc::out_of_memory, "ublk buffers: " + reason(errno));
  arena_ = static_cast<std::byte*>(arena);
  if (::mlock(arena_, bytes) != 0) {
    log_.warning("cannot lock the request buffers; a kill while memory is short may cost errors",
                 {{"errno", errno}});
  }
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    Slot& slot = slots_[i];
    slot.queue = this;
    slot.tag = static_cast<std::uint16_t>(i);
    slot.buffer = arena_ + i * shape_.payload_bytes;
    slot.io.owner = &slot;
    slot.io.complete = completed;
  }
  event_.reset(::eventfd(0, EFD_CLOEXEC));
  if (!event_) return fail(Errc::io_error, "eventfd: " + reason(errno));
  thread_ = std::thread([this] { run(); });
  phase_.wait(Phase::preparing);
  if (phase_.load() == Phase::prepared) return {};
  return fail(Errc::missing_kernel_feature, "io_uring: " + reason(error_));
}

Status Queue::fetch(int device) {
  void* at = ::mmap(nullptr, descriptions_bytes(shape_.depth), PROT_READ, MAP_SHARED | MAP_POPULATE,
                    device, descriptions_at(index_));
  if (at == MAP_FAILED) return fail(Errc::io_error, "a ublk queue: " + reason(errno));
  descriptions_ = static_cast<const ublksrv_io_desc*>(at);
  device_ = device;
  phase_.store(Phase::fetching);
  phase_.notify_all();
  return {};
}

void Queue::end() { phase_.wait(Phase::fetching); }

// --- whoever completes --------------------------------------------------------------------------

void Queue::completed(block::Request& io) noexcept {
  Slot& slot = *static_cast<Slot*>(io.owner);
  Queue& self = *slot.queue;
  self.pushing_.fetch_add(1);
  Slot* top = self.done_.load(std::memory_order_relaxed);
  do {
    slot.next = top;
  } while (!self.done_.compare_exchange_weak(top, &slot));
  // Sequentially consistent on both sides: either we see it asleep, or it sees what is done.
  if (self.asleep_.load() && self.asleep_.exchange(false)) self.wake();
  self.pushing_.fetch_sub(1);
}

void Queue::wake() const noexcept {
  const std::uint64_t one = 1;
  (void)!::write(event_.get(), &one, sizeof one);
}

// --- the thread ---------------------------------------------------------------------------------

void Queue::run() noexcept {
  sigset_t all;
  sigfillset(&all);
  (void)pthread_sigmask(SIG_BLOCK, &all, nullptr);
  error_ = set_up();
  if (error_ == 0) {
    Phase expected = Phase::preparing;
    (void)phase_.compare_exchange_strong(expected, Phase::prepared);
    phase_.notify_all();
    phase_.wait(Phase::prepared);
    if (phase_.load() == Phase::fetching) serve();
    // Its reference to the character device goes with the ring, before anybody is told.
    (void)::io_uring_unregister_files(&ring_);
    ::io_uring_queue_exit(&ring_);
  }
  phase_.store(Phase::ended);
  phase_.notify_all();
}

int Queue::set_up() noexcept {
  const unsigned entries = shape_.depth + 1U;  // And the event.
  int error = ::io_uring_queue_init(entries, &ring_,
                                    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN);
  if (error == -EINVAL) error = ::io_uring_queue_init(entries, &ring_, 0);
  return -error;
}

// There is always one: a request or the event has at most one at a time.
io_uring_sqe& Queue::next_entry() noexcept {
  io_uring_sqe* entry = ::io_uring_get_sqe(&ring_);
  UMBRA_ASSERT(entry != nullptr);
  std::memset(entry, 0, sizeof *entry);
  return *entry;
}

void Queue::ask(Slot& slot, unsigned command, std::int32_t result) noexcept {
  io_uring_sqe& entry = next_entry();
  entry.opcode = IORING_OP_URING_CMD;
  entry.flags = IOSQE_FIXED_FILE;
  entry.fd = 0;
  entry.cmd_op = io_number(command, encoded_);
  entry.user_data = slot.tag;
  const ublksrv_io_cmd body{.q_id = index_,
                            .tag = slot.tag,
                            .result = result,
                            .addr = reinterpret_cast<std::uint64_t>(slot.buffer)};
  std::memcpy(entry.cmd, &body, sizeof body);
  ++with_kernel_;
}

void Queue::listen() noexcept {
  io_uring_sqe& entry = next_entry();
  ::io_uring_prep_read(&entry, event_.get(), &event_count_, sizeof event_count_, 0);
  entry.user_data = kEventData;
}

void Queue::serve() noexcept {
  if (const int error = ::io_uring_register_files(&ring_, &device_, 1); error < 0) {
    log_.error("a ublk queue cannot be served", {{"queue", index_}, {"errno", -error}});
    return;
  }
  listen();
  for (Slot& slot : slots_) ask(slot, UBLK_IO_FETCH_REQ, -1);
  {
    const WithoutSysAdmin for_the_first_fetch;
    if (const int error = ::io_uring_submit(&ring_); error < 0) {
      log_.error("a ublk queue cannot be fetched from", {{"queue", index_}, {"errno", -error}});
    }
  }
  while (with_device_ > 0 || (with_kernel_ > 0 && !abandoned_.load())) {
    asleep_.store(true);
    const bool wait = done_.load() == nullptr;
    if (!wait) asleep_.store(false);
    const int error = wait ? ::io_uring_submit_and_wait(&ring_, 1) : ::io_uring_submit(&ring_);
    asleep_.store(false);
    if (error < 0 && error != -EINTR && error != -EAGAIN && error != -EBUSY) {
      log_.error("submitting to a ublk queue failed", {{"queue", index_}, {"errno", -error}});
    }
    reap();
    answer_done();
  }
}

void Queue::reap() noexcept {
  io_uring_cqe* entries[kReapMax];
  block::Request* first = nullptr;
  block::Request** last = &first;
  unsigned count = 0;
  bool heard = false;
  while ((count = ::io_uring_peek_batch_cqe(&ring_, entries, kReapMax)) > 0) {
    for (unsigned i = 0; i < count; ++i) {
      const std::uint64_t data = entries[i]->user_data;
      const std::int32_t result = entries[i]->res;
      if (data == kEventData) {
        heard = true;
        continue;
      }
      --with_kernel_;
      if (result != UBLK_IO_RES_OK) {  // UBLK_IO_RES_ABORT: the device is stopped.
        if (result != UBLK_IO_RES_ABORT) {
          log_.error("the kernel refused a request's answer",
                     {{"queue", index_}, {"tag", data}, {"errno", -result}});
        }
        continue;
      }
      if (abandoned_.load(std::memory_order_relaxed)) continue;  // The next server gets it again.
      Slot& slot = slots_[data];
      const ublksrv_io_desc& raw = descriptions_[data];
      ++with_device_;
      slot.io.buffer = slot.buffer;
      const int refused =
          decode({raw.op_flags, raw.nr_sectors, raw.start_sector}, shape_.payload_bytes, slot.io);
      if (refused != 0) {
        block::finish(slot.io, refused);
        continue;
      }
      *last = &slot.io;
      last = &slot.io.next;
    }
    ::io_uring_cq_advance(&ring_, count);
  }
  if (heard) listen();
  if (first != nullptr) served_.submit(*first);
}

void Queue::answer_done() noexcept {
  Slot* slot = done_.exchange(nullptr);
  while (slot != nullptr) {
    Slot* const next = std::exchange(slot->next, nullptr);
    --with_device_;
    ask(*slot, UBLK_IO_COMMIT_AND_FETCH_REQ, result_of(slot->io));
    slot = next;
  }
}

}  // namespace umbra::ublk
