// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "engine/platform/clock.h"
#include "provider/guardian/channel_linux.h"
#include "provider/guardian/client.h"
#include "provider/guardian/free_blocks_linux.h"

namespace umbra::guardian {
namespace {

using contract::Thawed;
using std::chrono::milliseconds;

constexpr milliseconds kAnswerLimit{5'000};     // For what the guardian answers from memory.
constexpr milliseconds kAnswerGrace{10'000};    // Beyond a request's own limit.
constexpr milliseconds kHolderPatience{2'000};  // Then we thaw beside a holder that does not.
constexpr milliseconds kLeaseGrace{1'000};      // The holder's own timer comes first.
constexpr milliseconds kThawLimit{60'000};      // What thaw() waits at most.
constexpr milliseconds kThawRetryPause{500};
constexpr int kThawTries = 120;
constexpr std::size_t kOutcomesKept = 64;  // For a thaw() that is repeated.

/// A thaw in the holder's place. Shared with its threads, which may outlive the client: FITHAW
/// waits for the volume.
struct OwnThaw {
  explicit OwnThaw(std::size_t count) : left(count) {}
  std::atomic<std::size_t> left;
  std::atomic<bool> held{true};  // Nobody else had thawed.
};

std::thread start_quiet_thread(auto body) {
  sigset_t all;
  sigset_t before;
  (void)sigfillset(&all);
  (void)pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread thread(std::move(body));
  (void)pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return thread;
}

// Owns nothing but `mount` and its share of `thaw` and `wake`.
void thaw_in_own_thread(UniqueFd mount, std::shared_ptr<OwnThaw> thaw,
                        std::shared_ptr<UniqueFd> wake) {
  start_quiet_thread([mount = std::move(mount), thaw, wake] {
    for (int i = 0; i < kThawTries; ++i) {
      if (ioctl(mount.get(), FITHAW, 0) == 0) break;
      thaw->held = false;
      if (errno == EINVAL) break;  // Not frozen: the holder was faster, or somebody else.
      (void)poll(nullptr, 0, static_cast<int>(kThawRetryPause.count()));
    }
    --thaw->left;
    (void)eventfd_write(wake->get(), 1);
  }).detach();
}

}  // namespace

class GuardianClient::Impl {
 public:
  Impl(UniqueFd channel, Log& log)
      : channel_(std::move(channel)),
        wake_(std::make_shared<UniqueFd>(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK))),
        log_(log, "guardian_client"),
        thread_(start_quiet_thread([this] { serve(); })) {}

  // Closing the holders' sockets is their sign to thaw.
  ~Impl() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    poke();
    thread_.join();
  }

  Result<Received> call(Message request, milliseconds limit, std::span<const int> fds = {},
                        const std::stop_token& stop = {});
  Status freeze(Message request, milliseconds limit, milliseconds lease,
                const std::stop_token& stop);
  Result<Thawed> thaw(const SnapshotSetId& set);
  [[nodiscard]] bool connected() const {
    const std::lock_guard lock(mutex_);
    return connected_;
  }

 private:
  struct Frozen {
    UniqueFd holder;
    std::vector<UniqueFd> mounts;
    TimePoint lease_end;
    std::shared_ptr<OwnThaw> own_thaw;  // Set: the holder failed us.
  };

  void serve();
  [[nodiscard]] int poll_timeout_ms() const;
  void on_answer();
  void on_holder(const SnapshotSetId& set);
  void look_at_own_thaws();
  void thaw_ourselves(const SnapshotSetId& set, Frozen& frozen, std::string_view why);
  void settle(const SnapshotSetId& set, Thawed outcome);
  void poke() const { (void)eventfd_write(wake_->get(), 1); }

  UniqueFd channel_;
  std::shared_ptr<UniqueFd> wake_;  // With the threads that thaw.
  Logger log_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;  // Anything below.
  bool connected_ = true;
  bool stopping_ = false;
  std::uint32_t next_id_ = 1;
  std::map<std::uint32_t, std::optional<Received>> calls_;
  std::map<SnapshotSetId, Frozen> frozen_;
  std::deque<std::pair<SnapshotSetId, Thawed>> outcomes_;

  std::thread thread_;  // Last: it uses everything above.
};

Result<Received> GuardianClient::Impl::call(Message request, milliseconds limit,
                                            std::span<const int> fds, const std::stop_token& stop) {
  // Made before the lock is taken, since it may call at once.
  const std::stop_callback wake(stop, [this] {
    const std::lock_guard lock(mutex_);
    changed_.notify_all();
  });
  std::unique_lock lock(mutex_);
  if (!connected_) return fail(Errc::coordinator_lost, "the guardian is gone");
  const auto id = request.id = next_id_++;
  if (auto sent = send(channel_.get(), request, fds); !sent) {
    return fail(sent.error(), "request to the guardian");
  }
  calls_[id] = std::nullopt;
  (void)changed_.wait_for(
      lock, limit, [&] { return calls_[id].has_value() || !connected_ || stop.stop_requested(); });
  auto answer = std::move(calls_.extract(id).mapped());
  if (!answer && stop.stop_requested()) {
    (void)send(channel_.get(), {.kind = Kind::cancel, .id = next_id_++, .devices = {id}});
    return fail(Errc::bad_state, "stopped");
  }
  if (!answer) {
    return fail(Errc::coordinator_lost,
                connected_ ? "the guardian does not answer" : "the guardian is gone");
  }
  const Message& message = answer->message;
  if (message.code != Errc::ok) {
    return fail(message.code, message.texts.empty() ? "" : message.texts[0]);
  }
  return std::move(*answer);
}

Status GuardianClient::Impl::freeze(Message request, milliseconds limit, milliseconds lease,
                                    const std::stop_token& stop) {
  const auto set = request.set;
  const auto begin = system_clock().now();
  auto answer = call(std::move(request), limit + kAnswerGrace, {}, stop);
  if (!answer) return fail(answer.error());
  if (answer->fds.empty()) {
    return fail(Errc::protocol_violation, "the guardian froze without telling who holds it");
  }
  const std::lock_guard lock(mutex_);
  Frozen& frozen = frozen_[set];
  frozen.holder = std::move(answer->fds[0]);
  std::move(answer->fds.begin() + 1, answer->fds.end(), std::back_inserter(frozen.mounts));
  // Not earlier than the holder's: that began after ours.
  frozen.lease_end = std::max(begin, system_clock().now()) + lease;
  std::erase_if(outcomes_, [&](const auto& outcome) { return outcome.first == set; });
  poke();
  return {};
}

Result<Thawed> GuardianClient::Impl::thaw(const SnapshotSetId& set) {
  std::unique_lock lock(mutex_);
  const auto outcome = [&]() -> Thawed {
    const auto found = std::find_if(outcomes_.begin(), outcomes_.end(),
                                    [&](const auto& entry) { return entry.first == set; });
    if (found == outcomes_.end()) return {};
    Thawed last = std::move(found->second);
    found->second = {.held_throughout = last.held_throughout, .why = last.why};
    return last;
  };
  const auto settled = [&] { return !frozen_.contains(set); };
  if (settled()) return outcome();
  const auto give_up = system_clock().now() + kThawLimit;
  (void)send(frozen_[set].holder.get(), {.kind = Kind::thaw, .set = set});
  if (!changed_.wait_for(lock, kHolderPatience, settled)) {
    thaw_ourselves(set, frozen_[set], "the holder does not answer");
    if (!changed_.wait_until(lock, give_up, settled)) {
      return fail(Errc::freeze_failed, "the file systems of the set are still frozen");
    }
  }
  return outcome();
}

void GuardianClient::Impl::serve() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    std::vector<pollfd> sources{{wake_->get(), POLLIN, 0},
                                {connected_ ? channel_.get() : -1, POLLIN, 0}};
    std::vector<SnapshotSetId> sets;
    for (const auto& [set, frozen] : frozen_) {
      sources.push_back({frozen.holder.get(), POLLIN, 0});
      sets.push_back(set);
    }
    const int timeout_ms = poll_timeout_ms();
    lock.unlock();
    const int ready = poll(sources.data(), sources.size(), timeout_ms);
    lock.lock();
    eventfd_t ignored = 0;
    (void)eventfd_read(wake_->get(), &ignored);
    look_at_own_thaws();
    if (ready <= 0) continue;
    for (std::size_t i = 0; i < sets.size(); ++i) {
      if (sources[i + 2].revents != 0) on_holder(sets[i]);
    }
    if (sources[1].revents != 0) on_answer();
  }
}

int GuardianClient::Impl::poll_timeout_ms() const {
  auto next = TimePoint::max();
  for (const auto& [set, frozen] : frozen_) {
    if (!frozen.own_thaw) next = std::min(next, frozen.lease_end + kLeaseGrace);
  }
  if (next == TimePoint::max()) return -1;
  const auto left = std::chrono::ceil<milliseconds>(next - system_clock().now()).count();
  return static_cast<int>(std::clamp<milliseconds::rep>(left, 0, 60'000));
}

void GuardianClient::Impl::on_answer() {
  Received received;
  const auto arrival = receive(channel_.get(), received);
  if (arrival && *arrival == Arrival::nothing) return;
  if (arrival && *arrival == Arrival::message) {
    // An answer that comes too late is dropped, and with it a holder's socket: it thaws.
    const auto call = calls_.find(received.message.id);
    if (call != calls_.end()) call->second = std::move(received);
  } else {
    connected_ = false;
    log_.error("the guardian is gone; nothing can be frozen any more",
               {{"why", arrival ? "end of file" : arrival.error().to_string()}});
  }
  changed_.notify_all();
}

void GuardianClient::Impl::on_holder(const SnapshotSetId& set) {
  const auto frozen = frozen_.find(set);
  if (frozen == frozen_.end()) return;
  Received received;
  const auto arrival = receive(frozen->second.holder.get(), received);
  if (arrival && *arrival == Arrival::nothing) return;
  if (arrival && *arrival == Arrival::message) {
    auto& message = received.message;
    if (message.kind != Kind::thawed) return;
    Thawed outcome{.held_throughout = message.flag,
                   .why = message.texts.empty() ? "" : std::move(message.texts[0])};
    if (message.flag && !received.fds.empty()) {
      auto free = read_free_list(received.fds.front().get());
      if (free) outcome.free = std::move(*free);
      if (!free) log_.warning("free blocks are not known", {{"why", free.error().to_string()}});
    }
    settle(set, std::move(outcome));
    return;
  }
  frozen->second.holder.reset();
  thaw_ourselves(set, frozen->second, "the holder is dead");
}

void GuardianClient::Impl::look_at_own_thaws() {
  std::vector<std::pair<SnapshotSetId, bool>> done;
  const auto time = system_clock().now();
  for (auto& [set, frozen] : frozen_) {
    if (!frozen.own_thaw && time >= frozen.lease_end + kLeaseGrace) {
      thaw_ourselves(set, frozen, "the lease is over and the holder has not thawed");
      frozen.own_thaw->held = false;
    }
    if (frozen.own_thaw && frozen.own_thaw->left == 0)
      done.emplace_back(set, frozen.own_thaw->held);
  }
  for (const auto& [set, held] : done) settle(set, {.held_throughout = held});
}

void GuardianClient::Impl::thaw_ourselves(const SnapshotSetId& set, Frozen& frozen,
                                          std::string_view why) {
  if (frozen.own_thaw) return;
  log_.warning("thawing beside the guardian", {{"set", set.to_string()}, {"why", why}});
  frozen.own_thaw = std::make_shared<OwnThaw>(frozen.mounts.size());
  for (auto mount = frozen.mounts.rbegin(); mount != frozen.mounts.rend(); ++mount) {
    thaw_in_own_thread(std::move(*mount), frozen.own_thaw, wake_);
  }
  poke();
}

void GuardianClient::Impl::settle(const SnapshotSetId& set, Thawed outcome) {
  frozen_.erase(set);
  outcomes_.emplace_back(set, std::move(outcome));
  if (outcomes_.size() > kOutcomesKept) outcomes_.pop_front();
  changed_.notify_all();
}

// --- the public face ---------------------------------------------------------------------------

namespace {

// The codes that contract::Freezer promises.
Error as_freezer_error(Error error) {
  if (error.code == Errc::coordinator_lost) error.code = Errc::freeze_failed;
  return error;
}

}  // namespace

Result<std::unique_ptr<GuardianClient>> GuardianClient::connect(UniqueFd fd, Log& log) {
  if (!fd || fcntl(fd.get(), F_SETFD, FD_CLOEXEC) != 0) {
    return fail(Errc::invalid_argument, "--guardian-fd: not an open descriptor");
  }
  auto impl = std::make_unique<Impl>(std::move(fd), log);
  if (auto answer = impl->call({.kind = Kind::hello}, kAnswerLimit); !answer) {
    return fail(answer.error(), "hello to the guardian");
  }
  return std::unique_ptr<GuardianClient>(new GuardianClient(std::move(impl)));
}

GuardianClient::GuardianClient(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
GuardianClient::~GuardianClient() = default;

Status GuardianClient::keep(std::string_view name, int fd, std::string_view payload) {
  if (name.empty() || name.size() > kKeptNameBytesMax || payload.size() > kKeptPayloadBytesMax) {
    return fail(Errc::invalid_argument, "keep: the name is empty, or name or payload too long");
  }
  auto answer =
      impl_->call({.kind = Kind::keep, .texts = {std::string(name), std::string(payload)}},
                  kAnswerLimit, std::array{fd});
  if (!answer) return fail(answer.error());
  return {};
}

Result<std::vector<KeptDescriptor>> GuardianClient::kept() {
  std::vector<KeptDescriptor> all;
  for (std::uint64_t index = 0; index < kKeptCountMax; ++index) {
    auto answer = impl_->call({.kind = Kind::kept, .devices = {index}}, kAnswerLimit);
    if (!answer && answer.error().code == Errc::object_not_found) break;
    if (!answer) return fail(answer.error());
    if (answer->message.texts.size() != 2 || answer->fds.size() != 1) {
      return fail(Errc::protocol_violation, "the guardian's answer to `kept`");
    }
    all.push_back({.name = std::move(answer->message.texts[0]),
                   .fd = std::move(answer->fds[0]),
                   .payload = std::move(answer->message.texts[1])});
  }
  return all;
}

Status GuardianClient::drop(std::string_view name) {
  auto answer = impl_->call({.kind = Kind::drop, .texts = {std::string(name)}}, kAnswerLimit);
  if (!answer) return fail(answer.error());
  return {};
}

Status GuardianClient::serving() {
  auto answer = impl_->call({.kind = Kind::serving}, kAnswerLimit);
  if (!answer) return fail(answer.error());
  return {};
}

bool GuardianClient::connected() const noexcept { return impl_->connected(); }

namespace {

std::uint32_t wire_ms(milliseconds time) {
  return static_cast<std::uint32_t>(std::clamp<milliseconds::rep>(time.count(), 0, 3'600'000));
}

}  // namespace

Status GuardianClient::flush(const std::vector<std::uint64_t>& devices, milliseconds limit,
                             std::stop_token stop) {
  auto answer = impl_->call({.kind = Kind::flush, .limit_ms = wire_ms(limit), .devices = devices},
                            limit + kAnswerGrace, {}, stop);
  if (!answer) return fail(as_freezer_error(answer.error()));
  return {};
}

Status GuardianClient::freeze(const SnapshotSetId& set, const std::vector<std::uint64_t>& devices,
                              milliseconds limit, milliseconds lease, std::stop_token stop) {
  auto frozen = impl_->freeze({.kind = Kind::freeze,
                               .set = set,
                               .limit_ms = wire_ms(limit),
                               .lease_ms = wire_ms(lease),
                               .devices = devices},
                              limit, lease, stop);
  if (!frozen) return fail(as_freezer_error(frozen.error()));
  return {};
}

Result<Thawed> GuardianClient::thaw(const SnapshotSetId& set) { return impl_->thaw(set); }

}  // namespace umbra::guardian
