// SPDX-License-Identifier: Apache-2.0
#include "provider/frontend/nbd_device/device.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "engine/platform/unique_fd.h"
#include "provider/frontend/nbd/connection_posix.h"
#include "provider/frontend/nbd_device/plan.h"

namespace umbra::nbd_device {
namespace {

constexpr std::chrono::milliseconds kPoll{5};

struct Pair {
  UniqueFd ours;
  UniqueFd kernels;
};

Result<Pair> make_pair() {
  int ends[2] = {-1, -1};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return fail(Errc::io_error, "socketpair: " + std::generic_category().message(errno));
  }
  return Pair{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

// Whether our end is the only one that is left.
bool is_alone(const UniqueFd& ours) {
  pollfd wait{ours.get(), POLLIN, 0};
  return ::poll(&wait, 1, 0) == 1 && (wait.revents & POLLHUP) != 0;
}

// Three threads: the connection's two, and one that gives the kernel another connection when it has
// dropped one without a goodbye. It does so rightly when its memory runs short, and wrongly (seen
// with Linux 6.1) right after a successor's first: if sending noticed the end of the former one
// before receiving did, receiving ends the one that has taken its place.
class KernelDevice final : public Device {
 public:
  KernelDevice(const Parameters& parameters, Owner owner, std::shared_ptr<block::Device> served,
               Log& log)
      : parameters_(parameters),
        owner_(std::move(owner)),
        served_(std::move(served)),
        raw_log_(log),
        log_(log, "nbd") {}

  ~KernelDevice() override {
    {
      const std::lock_guard lock(mutex_);
      stops_ = true;
      changed_.notify_all();
    }
    if (keeper_.joinable()) keeper_.join();
    connection_.reset();  // Joins.
  }

  // Served before the kernel has it, which may ask at once.
  Status make() {
    auto pair = make_pair();
    if (!pair) return fail(pair.error());
    if (const Status served = serve(std::move(pair->ours)); !served) return served;
    const auto made = connect(parameters_, owner_.identifier, pair->kernels.get());
    if (!made) return fail(made.error());
    id_ = *made;
    start_keeper();
    return {};
  }

  Status take(std::uint32_t id) {
    id_ = id;
    if (const Status taken = take_once(); !taken) return taken;
    start_keeper();
    return {};
  }

  std::uint32_t id() const noexcept override { return id_; }

 private:
  enum class Link : std::uint8_t { up, dropped, ended };

  // The kernel takes a socket only in the place of one of which it knows that it has ended, and
  // does not say what it did. What it did not take nobody has when we have closed it.
  Status take_once() {
    const auto limit = std::chrono::steady_clock::now() + kTakeOverLimit;
    for (;;) {
      auto pair = make_pair();
      if (!pair) return fail(pair.error());
      const Status told = reconnect(id_, owner_.identifier, pair->kernels.get());
      if (!told) return told;
      pair->kernels.reset();
      if (!is_alone(pair->ours)) return serve(std::move(pair->ours));
      if (std::chrono::steady_clock::now() >= limit) {
        return fail(Errc::bad_state, block_path(id_) + " is still served by somebody");
      }
      std::unique_lock lock(mutex_);  // Nobody tells.
      if (changed_.wait_for(lock, kPoll, [&] { return stops_; })) {
        return fail(Errc::bad_state, block_path(id_) + " is given up");
      }
    }
  }

  Status serve(UniqueFd socket) {
    UniqueFd kept(::fcntl(socket.get(), F_DUPFD_CLOEXEC, 0));
    if (!kept) return fail(Errc::io_error, "dup: " + std::generic_category().message(errno));
    nbd::Connection::Host host;
    host.agreed = agreement_for(parameters_, owner_.identifier);
    host.claim = [this](nbd::Connection&, const std::string&) { return served_; };
    host.finished = [this](nbd::Connection& connection) {
      const std::lock_guard lock(mutex_);
      link_ = connection.said_goodbye() ? Link::ended : Link::dropped;
      changed_.notify_all();
    };
    const std::lock_guard lock(mutex_);
    if (stops_) return fail(Errc::bad_state, block_path(id_) + " is given up");
    link_ = Link::up;
    server_end_ = std::move(kept);
    connection_ = std::make_unique<nbd::Connection>(std::move(socket), std::move(host), raw_log_);
    connection_->start();
    return {};
  }

  void start_keeper() {
    owner_.keep(id_, server_end_.get());
    keeper_ = std::thread([this] { keep_up(); });
  }

  void keep_up() noexcept {
    nbd::block_signals_of_thread();
    for (;;) {
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return stops_ || link_ != Link::up; });
        if (stops_) return;
        if (link_ == Link::ended) {
          log_.info("the kernel has said goodbye to a device", {{"device", block_path(id_)}});
          return;
        }
      }
      log_.warning("the kernel has dropped the connection of a device; it gets another one",
                   {{"device", block_path(id_)}});
      connection_.reset();  // Joins: nothing of it is in flight any more.
      if (const Status taken = take_once(); !taken) {
        log_.error("a device stands still",
                   {{"device", block_path(id_)}, {"reason", taken.error().context}});
        return;
      }
      owner_.keep(id_, server_end_.get());
    }
  }

  const Parameters parameters_;
  const Owner owner_;
  const std::shared_ptr<block::Device> served_;
  Log& raw_log_;
  Logger log_;
  std::atomic<std::uint32_t> id_{0};
  std::mutex mutex_;  // Guards stops_ and link_.
  std::condition_variable changed_;
  bool stops_ = false;
  Link link_ = Link::up;
  UniqueFd server_end_;  // This and the next: the keeper's, once it runs.
  std::unique_ptr<nbd::Connection> connection_;
  std::thread keeper_;
};

}  // namespace

Result<std::unique_ptr<Device>> Device::create(Owner owner, std::shared_ptr<block::Device> served,
                                               Log& log) {
  const auto parameters = parameters_for(served->geometry());
  if (!parameters) return fail(parameters.error());
  auto device =
      std::make_unique<KernelDevice>(*parameters, std::move(owner), std::move(served), log);
  if (const Status made = device->make(); !made) return fail(made.error());
  return device;
}

Result<std::unique_ptr<Device>> Device::take_over(Owner owner, const Predecessor& predecessor,
                                                  std::shared_ptr<block::Device> served, Log& log) {
  const auto state = parse_state(predecessor.saved_state);
  if (!state) return fail(state.error());
  if (state->identifier != owner.identifier || identifier_of(state->id) != owner.identifier) {
    return fail(Errc::bad_state, block_path(state->id) + " is not ours any more, or was ended");
  }
  const auto parameters = parameters_for(served->geometry());
  if (!parameters) return fail(parameters.error());
  if (predecessor.server_end >= 0) (void)::shutdown(predecessor.server_end, SHUT_RDWR);
  auto device =
      std::make_unique<KernelDevice>(*parameters, std::move(owner), std::move(served), log);
  if (const Status taken = device->take(state->id); !taken) return fail(taken.error());
  return device;
}

}  // namespace umbra::nbd_device
