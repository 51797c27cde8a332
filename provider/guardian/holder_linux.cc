// SPDX-License-Identifier: Apache-2.0
#include "provider/guardian/holder_linux.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

#include "engine/platform/clock.h"
#include "provider/guardian/channel_linux.h"
#include "provider/guardian/free_blocks_linux.h"

namespace umbra::guardian {
namespace {

using std::chrono::milliseconds;

// FITHAW fails with anything but EINVAL only when the file system cannot write; it stays frozen.
constexpr milliseconds kThawRetryPause{500};
constexpr int kThawTries = 120;

std::string reason(int error) { return std::generic_category().message(error); }

enum class At : std::uint8_t { open, freezing, frozen, thawing, settled };

struct Item {
  const Mount* mount = nullptr;
  std::optional<Placement> placement{};  // Of its file system, where it is certain.
  At at = At::open;
  int error = 0;  // Of the operation that ended last.
};

int thaw_patiently(int fd) {
  int error = 0;
  for (int i = 0; i < kThawTries; ++i) {
    error = ioctl(fd, FITHAW, 0) == 0 ? 0 : errno;
    if (error == 0 || error == EINVAL) return error;
    (void)poll(nullptr, 0, static_cast<int>(kThawRetryPause.count()));
  }
  return error;
}

class Holder {
 public:
  explicit Holder(HolderTask task) : task_(std::move(task)), wake_(eventfd(0, EFD_CLOEXEC)) {}

  void run() {
    if (task_.mounts.empty() && !open_all()) return;
    for (const auto& mount : task_.mounts) items_.push_back(Item{.mount = &mount});
    switch (task_.mode) {
      case HolderMode::flush: flush(); return;
      case HolderMode::freeze:
        if (!wait_for_go()) return;
        freeze();
        break;
      case HolderMode::thaw:
        for (auto& item : items_) item.at = At::frozen;
        break;
    }
    thaw();
  }

 private:
  bool open_all() {
    const bool thawing = task_.mode == HolderMode::thaw;
    auto found = open_mounts(task_.devices, thawing ? Depth::exact : Depth::stacked);
    if (found && !thawing && !found->unreachable.empty()) {
      found = fail(found->unreachable.front());
    }
    if (!found) {
      tell_failure(found.error());
      if (task_.mode == HolderMode::freeze) report({.kind = Kind::thawed, .flag = false});
      return false;
    }
    for (const auto& error : found->unreachable) odd_.push_back(error.context);
    unreachable_ = !found->unreachable.empty();
    unmounted_ = std::move(found->unmounted);
    task_.mounts = std::move(found->mounts);
    return true;
  }

  bool wait_for_go() {
    Message opened{.kind = Kind::opened, .set = task_.set};
    std::vector<int> fds;
    for (const auto& mount : task_.mounts) {
      opened.devices.push_back(mount.device);
      opened.texts.push_back(mount.path);
      fds.push_back(mount.fd.get());
    }
    if (!send(task_.guardian.get(), opened, fds)) return false;
    while (!go_ && !thaw_asked_ && task_.guardian) wait(std::nullopt);
    return go_ && !thaw_asked_;
  }

  void freeze() {
    const auto begin = system_clock().now();
    const auto lease_end = begin + task_.lease;
    const auto deadline = std::min(begin + task_.limit, lease_end);
    if (const Item* failed = freeze_all(deadline)) {
      return tell_failure(why_not_frozen(*failed, begin));
    }
    for (const auto device : unmounted_) {
      if (!has_file_system_in_use(device)) continue;
      return tell_failure({Errc::freeze_failed,
                           "a file system was mounted from a volume of the "
                           "set while that was being frozen; try again"});
    }
    report({.kind = Kind::frozen, .set = task_.set});
    held_ = true;
    while (!thaw_asked_ && system_clock().now() < lease_end) wait(lease_end);
    if (!thaw_asked_) {
      held_ = false;
      odd_.emplace_back("the lease ended");
    }
  }

  // Nothing, or the first that is not frozen: one that failed before one that is only slow.
  const Item* freeze_all(TimePoint deadline) {
    const auto is = [](At at) { return [at](const Item& item) { return item.at == at; }; };
    free_ = FreeBlocks::make();
    for (auto& item : items_) {
      item.placement = placement_of(item.mount->device, task_.devices);
    }
    for (auto& item : items_) {
      item.at = At::freezing;
      start(
          item, [fd = item.mount->fd.get()] { return ioctl(fd, FIFREEZE, 0); },
          [this, &item] { list_free(item); });
    }
    while (std::any_of(items_.begin(), items_.end(), is(At::freezing)) &&
           std::none_of(items_.begin(), items_.end(), is(At::settled)) && !thaw_asked_ &&
           system_clock().now() < deadline) {
      wait(deadline);
    }
    for (const At at : {At::settled, At::freezing}) {
      const auto found = std::find_if(items_.begin(), items_.end(), is(at));
      if (found != items_.end()) return &*found;
    }
    return nullptr;
  }

  Error why_not_frozen(const Item& item, TimePoint begin) const {
    const auto& path = item.mount->path;
    if (item.at == At::freezing) {
      if (thaw_asked_) return {Errc::freeze_failed, "told to thaw while " + path + " was freezing"};
      const auto spent = std::chrono::duration_cast<milliseconds>(system_clock().now() - begin);
      return {Errc::flush_writes_timeout, "freezing " + path + " has taken " +
                                              std::to_string(spent.count()) +
                                              " ms; it will be thawed when it is done"};
    }
    if (item.error == EBUSY) {
      return {Errc::freeze_failed, path + " has been frozen by somebody else; see fsfreeze -u"};
    }
    if (item.error == EOPNOTSUPP) {
      return {Errc::freeze_failed, "the file system on " + path + " cannot be frozen"};
    }
    return {Errc::freeze_failed, "freezing " + path + ": " + reason(item.error)};
  }

  // On the thread that has frozen it, while the others go on.
  void list_free(const Item& item) noexcept {
    if (!free_ || !item.placement) return;
    free_->list(item.mount->fd.get(), item.mount->device, *item.placement);
  }

  void thaw() {
    if (free_) free_->close();
    const auto unsettled = [](const Item& item) {
      return item.at != At::open && item.at != At::settled;
    };
    for (;;) {
      for (auto item = items_.rbegin(); item != items_.rend(); ++item) {
        if (item->at == At::frozen) start_thaw(*item);
      }
      if (std::none_of(items_.begin(), items_.end(), unsettled)) break;
      wait(std::nullopt);  // Also for a FIFREEZE that has not returned yet.
    }
    if (!task_.record_path.empty() && !unreachable_) (void)unlink(task_.record_path.c_str());
    report({.kind = Kind::thawed, .flag = held_, .set = task_.set, .texts = odd_});
  }

  void start_thaw(Item& item) {
    item.at = At::thawing;
    start(item, [fd = item.mount->fd.get()] {
      errno = thaw_patiently(fd);
      return errno == 0 ? 0 : -1;
    });
  }

  void flush() {
    const auto deadline = system_clock().now() + task_.limit;
    for (auto& item : items_) {
      item.at = At::freezing;  // Success ends in `frozen`, failure in `settled`.
      start(item, [fd = item.mount->fd.get()] { return syncfs(fd); });
    }
    for (auto& item : items_) {
      while (item.at == At::freezing && task_.guardian && system_clock().now() < deadline) {
        wait(deadline);
      }
      if (item.at == At::freezing) {
        return tell_failure(
            {Errc::flush_writes_timeout, "flushing " + item.mount->path + " took more than " +
                                             std::to_string(task_.limit.count()) + " ms"});
      }
      if (item.error != 0) {
        return tell_failure(
            {Errc::io_error, "flushing " + item.mount->path + ": " + reason(item.error)});
      }
    }
    report({.kind = Kind::flushed, .set = task_.set});
  }

  template <class Operation>
  void start(Item& item, Operation operation, std::function<void()> after = {}) {
    std::thread([this, &item, operation, after = std::move(after)] {
      const int error = operation() == 0 ? 0 : errno;
      {
        const std::lock_guard lock(results_mutex_);
        results_.emplace_back(&item, error);
        (void)eventfd_write(wake_.get(), 1);
      }
      if (error == 0 && after) after();
    }).detach();  // It may never return; the process ends by _exit, which does not wait for it.
  }

  // Returns when something has happened or `until` has come.
  void wait(std::optional<TimePoint> until) {
    std::array<pollfd, 3> sources{{{wake_.get(), POLLIN, 0},
                                   {task_.guardian.get(), POLLIN, 0},
                                   {task_.client.get(), POLLIN, 0}}};
    int timeout_ms = -1;
    if (until) {
      const auto left = std::chrono::ceil<milliseconds>(*until - system_clock().now());
      timeout_ms = static_cast<int>(std::max<milliseconds::rep>(left.count(), 0));
    }
    if (poll(sources.data(), sources.size(), timeout_ms) <= 0) return;
    if (sources[0].revents != 0) apply_results();
    if (sources[2].revents != 0 && !listen_to(task_.client)) {
      task_.client.reset();
      thaw_asked_ = true;
    }
    // The guardian asks only when something is wrong: the lease is over, or umbra-cowd gone.
    const bool asked_before = thaw_asked_;
    if (sources[1].revents != 0 && !listen_to(task_.guardian)) task_.guardian.reset();
    if (thaw_asked_ && !asked_before) held_ = false;
  }

  void apply_results() {
    eventfd_t ignored = 0;
    (void)eventfd_read(wake_.get(), &ignored);
    const std::lock_guard lock(results_mutex_);
    for (const auto& [item, error] : std::exchange(results_, {})) {
      item->error = error;
      if (item->at == At::freezing) {
        item->at = error == 0 ? At::frozen : At::settled;
        continue;
      }
      item->at = At::settled;
      if (error == 0) continue;
      if (error == EINVAL && task_.mode == HolderMode::thaw) continue;  // Thawed long ago.
      held_ = false;
      odd_.push_back(item->mount->path +
                     (error == EINVAL ? " was thawed by somebody else" : ": " + reason(error)));
    }
  }

  // False once the other side has closed its end.
  bool listen_to(const UniqueFd& socket) {
    Received received;
    const auto arrival = receive(socket.get(), received);
    if (!arrival || *arrival == Arrival::end) return false;
    if (*arrival == Arrival::message && received.message.kind == Kind::go) go_ = true;
    if (*arrival == Arrival::message && received.message.kind == Kind::thaw) thaw_asked_ = true;
    return true;
  }

  void tell_failure(const Error& error) {
    report({.kind = Kind::failed, .code = error.code, .set = task_.set, .texts = {error.context}});
  }

  // A side that has gone or does not read has its own means; nothing depends on the outcome.
  void report(const Message& message) {
    if (task_.client && message.kind == Kind::thawed) {
      const int list = free_ && message.flag ? free_->file() : -1;
      (void)send(task_.client.get(), message,
                 list >= 0 ? std::span<const int>(&list, 1) : std::span<const int>{});
    }
    if (task_.guardian) (void)send(task_.guardian.get(), message);
  }

  HolderTask task_;
  UniqueFd wake_;
  std::vector<Item> items_;
  bool go_ = false;
  bool thaw_asked_ = false;
  bool held_ = false;
  std::vector<std::string> odd_;
  bool unreachable_ = false;                // Something that should be thawed.
  std::vector<std::uint64_t> unmounted_{};  // Devices of the set with nothing to freeze.
  std::unique_ptr<FreeBlocks> free_{};

  std::mutex results_mutex_;
  std::vector<std::pair<Item*, int>> results_;
};

// Closes every descriptor but the task's, so that nothing else is kept alive.
void keep_only(const HolderTask& task) {
  std::vector<unsigned> kept;
  for (const int fd : {task.guardian.get(), task.client.get()}) {
    if (fd >= 0) kept.push_back(static_cast<unsigned>(fd));
  }
  for (const auto& mount : task.mounts) kept.push_back(static_cast<unsigned>(mount.fd.get()));
  std::sort(kept.begin(), kept.end());
  unsigned first = 3;
  for (const unsigned fd : kept) {
    if (fd > first) (void)close_range(first, fd - 1, 0);
    first = fd + 1;
  }
  (void)close_range(first, ~0U, 0);
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (const int fd : {0, 1, 2}) (void)dup2(null, fd);
  if (null > 2) (void)close(null);
}

}  // namespace

pid_t start_holder(HolderTask task) {
  const pid_t pid = fork();
  if (pid != 0) return pid;
  // A group of its own and no signal but SIGKILL: nothing that ends the unit politely ends a
  // holder before it has thawed.
  (void)setpgid(0, 0);
  sigset_t all;
  (void)sigfillset(&all);
  (void)sigprocmask(SIG_SETMASK, &all, nullptr);
  (void)prctl(PR_SET_NAME, "umbra-holder");
  keep_only(task);
  // Never destroyed: a thread that never returns still refers to it.
  auto* holder = new Holder(std::move(task));
  holder->run();
  _exit(0);
}

}  // namespace umbra::guardian
