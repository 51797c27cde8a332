// SPDX-License-Identifier: Apache-2.0
#include "bench/load/nbd_load.h"

#include <libnbd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <new>

#include "bench/harness/failure.h"
#include "bench/harness/system.h"

namespace umbra::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kVerifyBytes = std::size_t{1} << 20U;
constexpr int kLookMs = 5;  // How often somebody is asked whether it is given up.
constexpr std::align_val_t kAlignment{4096};

[[noreturn]] void fail_nbd(const std::string& what) {
  const char* said = nbd_get_error();
  give_up(what + ": " + (said != nullptr ? said : "no reason given"));
}

struct AlignedDelete {
  void operator()(std::byte* memory) const noexcept { ::operator delete[](memory, kAlignment); }
};

}  // namespace

// One run: its slots, and what their completions do. Completions come inside our own calls of
// libnbd, never from another thread.
class NbdLoad::Flight {
 public:
  Flight(NbdHandle& handle, const Plan& plan, Content& content)
      : owner_(handle),
        handle_(handle.get()),
        plan_(plan),
        content_(content),
        slots_(std::min(plan.depth, std::max<std::size_t>(plan.offsets.size(), 1))) {
    memory_.reset(
        static_cast<std::byte*>(::operator new[](slots_.size() * plan.request_bytes, kAlignment)));
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      slots_[i].flight = this;
      slots_[i].buffer = {memory_.get() + i * plan.request_bytes, plan.request_bytes};
      content.prepare_buffer(slots_[i].buffer);
      free_.push_back(&slots_[i]);
    }
    measured_.latencies_ns.reserve(plan.offsets.size());
  }
  ~Flight() {
    // Left by an exception: nothing may be completed into memory that goes now.
    if (in_flight_ > 0) owner_.reset();
  }
  Flight(const Flight&) = delete;
  Flight& operator=(const Flight&) = delete;

  Measured run() {
    const auto begin = Clock::now();
    std::size_t next = 0;
    while (next < plan_.offsets.size()) {
      const std::size_t stop = plan_.flush_every == 0
                                   ? plan_.offsets.size()
                                   : std::min(next + plan_.flush_every, plan_.offsets.size());
      while (next < stop) {
        while (next < stop && !free_.empty()) issue(plan_.offsets[next++]);
        if (next < stop) await();
      }
      while (in_flight_ > 0) await();
      if (plan_.flush_every != 0 && nbd_flush(handle_, 0) != 0) fail_nbd("a flush");
    }
    measured_.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    return std::move(measured_);
  }

 private:
  struct Slot {
    Flight* flight = nullptr;
    std::span<std::byte> buffer;
    std::uint64_t offset = 0;
    Clock::time_point begin;
  };

  void issue(std::uint64_t offset) {
    Slot* const slot = free_.back();
    free_.pop_back();
    slot->offset = offset;
    if (plan_.work == Work::write) content_.write(offset, slot->buffer);
    nbd_completion_callback done = {};
    done.callback = &Flight::completed;
    done.user_data = slot;
    ++in_flight_;
    slot->begin = Clock::now();
    const auto cookie =
        plan_.work == Work::write
            ? nbd_aio_pwrite(handle_, slot->buffer.data(), slot->buffer.size(), offset, done, 0)
            : nbd_aio_pread(handle_, slot->buffer.data(), slot->buffer.size(), offset, done, 0);
    if (cookie < 0) fail_nbd("a request");
  }

  static int completed(void* user_data, int* error) noexcept {
    Slot* const slot = static_cast<Slot*>(user_data);
    Flight& flight = *slot->flight;
    const auto taken = Clock::now() - slot->begin;
    flight.measured_.latencies_ns.push_back(
        static_cast<std::uint32_t>(std::chrono::nanoseconds(taken).count()));
    if (*error != 0) flight.error_ = *error;
    if (*error == 0 && flight.plan_.work == Work::read &&
        !flight.content_.looks_right(slot->offset, slot->buffer)) {
      flight.wrong_ = true;
    }
    --flight.in_flight_;
    flight.free_.push_back(slot);
    return 1;  // libnbd may forget the request.
  }

  void await() {
    const std::size_t before = measured_.latencies_ns.size();
    const int moved = nbd_poll(handle_, 1000);
    if (moved < 0 && nbd_get_errno() != EINTR) fail_nbd("the connection");
    check_interrupted();
    if (error_ != 0) give_up(std::string("a request failed: ") + std::strerror(error_));
    if (wrong_) give_up("wrong data was read");
    stalled_ = measured_.latencies_ns.size() == before && moved == 0 ? stalled_ + 1 : 0;
    if (stalled_ >= kStallSecondsMax) give_up("the server does not answer any more");
  }

  NbdHandle& owner_;
  nbd_handle* handle_;
  const Plan& plan_;
  Content& content_;
  std::unique_ptr<std::byte[], AlignedDelete> memory_;
  std::vector<Slot> slots_;
  std::vector<Slot*> free_;
  std::size_t in_flight_ = 0;
  int error_ = 0;
  bool wrong_ = false;
  int stalled_ = 0;
  Measured measured_;
};

void NbdClose::operator()(nbd_handle* handle) const noexcept { nbd_close(handle); }

NbdHandle connect_again(const std::string& uri, std::chrono::milliseconds limit,
                        const std::function<bool()>& given_up) {
  const auto end = Clock::now() + limit;
  const auto goes_on = [&] { return Clock::now() < end && !given_up(); };
  while (goes_on()) {
    NbdHandle handle(nbd_create());
    if (!handle) return {};
    if (nbd_aio_connect_uri(handle.get(), uri.c_str()) == 0) {
      while (nbd_aio_is_connecting(handle.get()) == 1 && goes_on()) {
        (void)nbd_poll(handle.get(), kLookMs);
      }
    }
    if (nbd_aio_is_ready(handle.get()) == 1) return handle;
    rest_briefly();
  }
  return {};
}

NbdLoad::NbdLoad(const std::string& uri) : handle_(nbd_create()) {
  if (!handle_) fail_nbd("libnbd");
  if (nbd_connect_uri(handle_.get(), uri.c_str()) != 0) fail_nbd("connecting to " + uri);
}

NbdLoad::~NbdLoad() {
  // A server that is told goodbye has let the export go when we come back.
  if (handle_ && nbd_aio_is_ready(handle_.get()) == 1) (void)nbd_shutdown(handle_.get(), 0);
}

std::uint64_t NbdLoad::size_bytes() const {
  const std::int64_t size = nbd_get_size(handle_.get());
  if (size < 0) fail_nbd("the size");
  return static_cast<std::uint64_t>(size);
}

Measured NbdLoad::run(const Plan& plan, Content& content) {
  if (plan.work == Work::write) content.begin_writes();
  return Flight(handle_, plan, content).run();
}

std::uint32_t NbdLoad::verify(const Content& content, std::uint32_t digest,
                              const std::string& what) {
  return verify_since(content, content, digest, what);
}

std::uint32_t NbdLoad::verify_since(const Content& earliest, const Content& latest,
                                    std::uint32_t digest, const std::string& what) {
  std::vector<std::byte> buffer(kVerifyBytes);
  for (std::uint64_t at = 0; at < latest.size_bytes();) {
    const std::size_t piece = std::min<std::uint64_t>(buffer.size(), latest.size_bytes() - at);
    if (nbd_pread(handle_.get(), buffer.data(), piece, at, 0) != 0) fail_nbd("reading " + what);
    digest = latest.check_since(earliest, at, {buffer.data(), piece}, digest, what);
    at += piece;
    check_interrupted();
  }
  return digest;
}

}  // namespace umbra::bench
