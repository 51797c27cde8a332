// SPDX-License-Identifier: Apache-2.0
#include "bench/load/background_load.h"

#include <libnbd.h>
#include <poll.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <mutex>
#include <thread>
#include <utility>

#include "bench/harness/failure.h"
#include "bench/load/nbd_load.h"
#include "bench/load/subject.h"
#include "engine/platform/prng.h"

namespace umbra::bench {
namespace {

using Clock = std::chrono::steady_clock;

class Load;

// Two writes in flight never meet: each slot has granules of its own.
struct Slot {
  Load* load = nullptr;
  std::size_t line = 0;
  std::size_t number = 0;
  std::vector<std::byte> buffer;
  Clock::time_point begin;
  std::uint64_t offset = 0;
  bool busy = false;
  bool again = false;  // Was not answered before the connection was lost: which write is there is
                       // not known until it is written once more.
};

struct Line {
  explicit Line(const BackgroundOptions& options, std::uint64_t seed)
      : content(options.size_bytes, seed), answered(options.size_bytes, seed), random(seed) {}
  ~Line() {
    if (handle != nullptr) nbd_close(handle);
  }
  Line(const Line&) = delete;
  Line& operator=(const Line&) = delete;
  nbd_handle* handle = nullptr;
  Content content;
  Content answered;
  int error = 0;  // Of a request.
  Prng random;
  std::vector<Slot> slots;
};

class Load final : public BackgroundLoad {
 public:
  explicit Load(const BackgroundOptions& options) : options_(options) {
    for (std::size_t i = 0; i < options.uris.size(); ++i) {
      lines_.push_back(std::make_unique<Line>(options, options.seed + i));
      connect(i);
    }
    thread_ = std::thread([this] { run(); });
  }
  ~Load() override {
    if (!thread_.joinable()) return;
    note_failure("given up");  // Something else has failed: what is in flight is not waited for.
    thread_.join();
  }

  [[nodiscard]] double seconds() const override { return since(Clock::now()); }

  [[nodiscard]] std::uint64_t completed() const override {
    throw_failure();
    return completed_.load();
  }

  void stop() override {
    stopping_.store(true);
    if (thread_.joinable()) thread_.join();
    throw_failure();
  }

  [[nodiscard]] std::uint32_t verify() override {
    std::uint32_t digest = 0;
    for (std::size_t i = 0; i < lines_.size(); ++i) {
      digest = verify_uri(options_.uris[i], lines_[i]->content, digest,
                          "volume " + std::to_string(i + 1) + " of the load");
    }
    return digest;
  }

  [[nodiscard]] const std::vector<Sample>& samples() const override { return samples_; }

  [[nodiscard]] std::vector<Sample> take_samples() override {
    const std::lock_guard lock(mutex_);
    return std::exchange(samples_, {});
  }

  [[nodiscard]] ContentBetween content(std::size_t line) const override {
    const std::lock_guard lock(mutex_);
    return {lines_[line]->answered, lines_[line]->content};
  }

 private:
  // Verifying needs every byte to be known, so all of it is written once, before the clock starts.
  void connect(std::size_t number) {
    Line& line = *lines_[number];
    Plan filling;
    filling.request_bytes = 64U << 10U;
    for (std::uint64_t at = 0; at < options_.size_bytes; at += filling.request_bytes) {
      filling.offsets.push_back(at);
    }
    (void)NbdLoad(options_.uris[number]).run(filling, line.content);
    line.answered = line.content;
    line.handle = nbd_create();
    if (line.handle == nullptr ||
        nbd_connect_uri(line.handle, options_.uris[number].c_str()) != 0) {
      give_up("connecting to " + options_.uris[number] + ": " + nbd_get_error());
    }
    line.slots.resize(options_.depth);
    for (std::size_t i = 0; i < line.slots.size(); ++i) {
      Slot& slot = line.slots[i];
      slot.load = this;
      slot.line = number;
      slot.number = i;
      slot.buffer.resize(options_.request_bytes);
      line.content.prepare_buffer(slot.buffer);
    }
  }

  [[nodiscard]] double since(Clock::time_point now) const {
    return std::chrono::duration<double>(now - begin_).count();
  }

  void run() {
    std::vector<pollfd> waits(lines_.size());
    auto last_progress = Clock::now();
    std::uint64_t seen = 0;
    while (!failed_.load() && !(stopping_.load() && is_settled())) {
      for (std::size_t i = 0; i < lines_.size(); ++i) {
        fill(*lines_[i]);
        const unsigned direction = nbd_aio_get_direction(lines_[i]->handle);
        waits[i] = {nbd_aio_get_fd(lines_[i]->handle), 0, 0};
        if ((direction & LIBNBD_AIO_DIRECTION_READ) != 0) waits[i].events |= POLLIN;
        if ((direction & LIBNBD_AIO_DIRECTION_WRITE) != 0) waits[i].events |= POLLOUT;
      }
      if (!std::any_of(lines_.begin(), lines_.end(), is_lost) &&
          ::poll(waits.data(), waits.size(), 1000) < 0 && errno != EINTR) {
        note_failure(std::strerror(errno));
      }
      for (std::size_t i = 0; i < lines_.size(); ++i) {
        if (!is_lost(lines_[i])) notify(*lines_[i], waits[i]);
        if (is_lost(lines_[i])) {
          reconnect(i);
        } else if (lines_[i]->error != 0) {
          note_failure(std::strerror(lines_[i]->error));
        }
      }
      if (completed_.load() != seen) {
        seen = completed_.load();
        last_progress = Clock::now();
      } else if (Clock::now() - last_progress > std::chrono::seconds(kStallSecondsMax)) {
        note_failure("the server does not answer any more");
      }
    }
  }

  [[nodiscard]] bool is_settled() const {
    return in_flight_ == 0 && std::all_of(lines_.begin(), lines_.end(), [](const auto& line) {
             return std::none_of(line->slots.begin(), line->slots.end(),
                                 [](const Slot& slot) { return slot.again; });
           });
  }

  static bool is_lost(const std::unique_ptr<Line>& line) {
    return nbd_aio_is_dead(line->handle) == 1 || nbd_aio_is_closed(line->handle) == 1;
  }

  void notify(Line& line, const pollfd& wait) {
    const unsigned direction = nbd_aio_get_direction(line.handle);
    int status = 0;
    if ((wait.revents & (POLLIN | POLLHUP | POLLERR)) != 0 &&
        (direction & LIBNBD_AIO_DIRECTION_READ) != 0) {
      status = nbd_aio_notify_read(line.handle);
    } else if ((wait.revents & POLLOUT) != 0 && (direction & LIBNBD_AIO_DIRECTION_WRITE) != 0) {
      status = nbd_aio_notify_write(line.handle);
    }
    if (status != 0 && !reconnects()) note_failure(nbd_get_error());
  }

  [[nodiscard]] bool reconnects() const { return options_.reconnect_limit.count() > 0; }

  // The server is away, or another one is there already that does not know the volume yet.
  void reconnect(std::size_t number) {
    if (!reconnects()) return note_failure("the connection is lost");
    Line& line = *lines_[number];
    nbd_close(std::exchange(line.handle, nullptr));
    line.error = 0;
    for (Slot& slot : line.slots) {
      if (!std::exchange(slot.busy, false)) continue;
      slot.again = true;
      --in_flight_;
    }
    line.handle = connect_again(options_.uris[number], options_.reconnect_limit, [this] {
                    return failed_.load();
                  }).release();
    if (line.handle == nullptr) note_failure("the server does not come back");
  }

  // When it stops, what has to be written again still is.
  void fill(Line& line) {
    for (Slot& slot : line.slots) {
      if (slot.busy || failed_.load() || (stopping_.load() && !slot.again)) continue;
      if (!slot.again) {
        const std::uint64_t places =
            options_.size_bytes / options_.request_bytes / line.slots.size();
        const std::uint64_t place = line.random.below(places) * line.slots.size() + slot.number;
        slot.offset = place * options_.request_bytes;
      }
      issue(line, slot);
    }
  }

  void issue(Line& line, Slot& slot) {
    {
      const std::lock_guard lock(mutex_);
      line.content.begin_writes();
      line.content.write(slot.offset, slot.buffer);
    }
    nbd_completion_callback done = {};
    done.callback = &Load::on_completion;
    done.user_data = &slot;
    slot.busy = true;
    slot.again = false;
    ++in_flight_;
    slot.begin = Clock::now();
    if (nbd_aio_pwrite(line.handle, slot.buffer.data(), slot.buffer.size(), slot.offset, done, 0) <
            0 &&
        !reconnects()) {
      note_failure(nbd_get_error());
    }
  }

  static int on_completion(void* user_data, int* error) noexcept {
    Slot& slot = *static_cast<Slot*>(user_data);
    Load& load = *slot.load;
    Line& line = *load.lines_[slot.line];
    slot.busy = false;
    --load.in_flight_;
    if (*error != 0) {
      line.error = *error;
      slot.again = load.reconnects();
      return 1;
    }
    load.completed_.fetch_add(1);
    const auto now = Clock::now();
    const std::lock_guard lock(load.mutex_);
    line.answered.follow(line.content, slot.offset, slot.buffer.size());
    if (load.options_.note_each) {
      const auto taken = std::chrono::nanoseconds(now - slot.begin).count();
      load.samples_.push_back({load.since(now), static_cast<std::uint32_t>(taken)});
    }
    return 1;
  }

  void note_failure(const char* why) {
    const std::lock_guard lock(mutex_);
    if (failure_.empty()) failure_ = why != nullptr ? why : "unknown";
    failed_.store(true);
  }
  void throw_failure() const {
    if (!failed_.load()) return;
    const std::lock_guard lock(mutex_);
    give_up("the load has failed: " + failure_);
  }

  BackgroundOptions options_;
  Clock::time_point begin_ = Clock::now();
  std::vector<std::unique_ptr<Line>> lines_;
  std::size_t in_flight_ = 0;
  std::vector<Sample> samples_;
  std::atomic<std::uint64_t> completed_{0};
  std::atomic<bool> stopping_{false};
  std::atomic<bool> failed_{false};
  mutable std::mutex mutex_;
  std::string failure_;
  std::thread thread_;
};

}  // namespace

std::unique_ptr<BackgroundLoad> BackgroundLoad::start(const BackgroundOptions& options) {
  return std::make_unique<Load>(options);
}

}  // namespace umbra::bench
