// SPDX-License-Identifier: Apache-2.0
#include <poll.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <list>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "engine/platform/clock.h"
#include "engine/platform/descriptor_passing.h"
#include "engine/platform/local_stream.h"
#include "engine/shm/wire.h"
#include "provider/frontend/shm/server.h"

namespace umbra::shm {
namespace {

// A peer that takes no more than its socket holds does not get it: an answer is smaller.
bool send_answer(int socket, const std::vector<std::byte>& answer, std::span<const int> fds) {
  const ssize_t sent = send_with_descriptors(socket, answer, fds);
  return sent == static_cast<ssize_t>(answer.size());
}

class PollingServer final : public Server {
 public:
  PollingServer(LocalListener listener, Waker waker, int life, Views& views, Log& log)
      : listener_(std::move(listener)),
        waker_(std::move(waker)),
        life_(life),
        views_(views),
        log_(log, "readers"),
        thread_([this] { serve(); }) {}
  ~PollingServer() override {
    stopping_.store(true);
    waker_.wake();
    thread_.join();
  }

 private:
  struct Reader {
    LocalStream stream;
    TimePoint ask_by{};
    std::size_t received = 0;
    std::array<std::byte, kRequestBytes> request{};
    std::shared_ptr<void> claim{};  // Set: it was answered.
  };

  void serve() {
    sigset_t all;
    (void)sigfillset(&all);
    (void)::pthread_sigmask(SIG_BLOCK, &all, nullptr);
    while (!stopping_.load()) {
      std::vector<pollfd> waiting = {{waker_.native(), POLLIN, 0}, {listener_.native(), POLLIN, 0}};
      for (const Reader& reader : readers_) waiting.push_back({reader.stream.native(), POLLIN, 0});
      if (::poll(waiting.data(), waiting.size(), timeout_ms()) < 0 && errno != EINTR) {
        log_.error("readers of snapshots are served no more", {{"errno", errno}});
        break;
      }
      if (waiting[0].revents != 0) waker_.drain();
      std::size_t at = 2;
      for (auto reader = readers_.begin(); reader != readers_.end();) {
        const bool ready = waiting[at++].revents != 0;
        const bool late = !reader->claim && system_clock().now() >= reader->ask_by;
        const bool stays = !late && (!ready || hear(*reader));
        reader = stays ? std::next(reader) : readers_.erase(reader);
      }
      if (waiting[1].revents != 0) admit();
    }
    readers_.clear();
  }

  [[nodiscard]] int timeout_ms() const {
    const bool asking = std::any_of(readers_.begin(), readers_.end(),
                                    [](const Reader& reader) { return !reader.claim; });
    return asking ? 1000 : -1;
  }

  void admit() {
    auto stream = listener_.accept();
    if (!stream || !*stream) {
      if (!stream) log_.warning("a reader is not let in", {{"reason", stream.error().context}});
      return;
    }
    const auto peer = (*stream)->peer();
    if (!peer || (peer->uid != 0 && peer->uid != ::geteuid())) {
      refuse((*stream)->native(), Errc::access_denied,
             "reading past umbra-cowd shows the volume's whole history: only root may");
      return;
    }
    if (readers_.size() >= kReadersMax) {
      refuse((*stream)->native(), Errc::limit_reached,
             std::to_string(kReadersMax) + " readers are connected");
      return;
    }
    readers_.push_back(
        {std::move(**stream), system_clock().now() + std::chrono::seconds(kRequestSecondsMax)});
  }

  // False: it goes.
  bool hear(Reader& reader) {
    if (reader.claim) return false;  // It says nothing more: it has closed.
    std::array<char, kRequestBytes> bytes{};
    const auto count = reader.stream.read_some({bytes.data(), kRequestBytes - reader.received});
    if (!count || (*count && **count == 0)) return false;
    if (!*count) return true;
    std::memcpy(reader.request.data() + reader.received, bytes.data(), **count);
    reader.received += **count;
    return reader.received < kRequestBytes || answer(reader);
  }

  bool answer(Reader& reader) {
    const auto snapshot = decode_request(reader.request);
    if (!snapshot) return refuse(reader.stream.native(), snapshot.error());
    auto opened = views_.open(*snapshot);
    if (!opened) return refuse(reader.stream.native(), opened.error());
    const std::array<int, kDescriptors> fds = {opened->view, life_, opened->origin.get(),
                                               opened->diff_area.get()};
    if (!send_answer(reader.stream.native(), encode_answer(Errc::ok, {}), fds)) return false;
    reader.claim = std::move(opened->claim);
    log_.info("a reader has opened a snapshot", {{"snapshot", snapshot->to_string()}});
    return true;
  }

  bool refuse(int socket, const Error& why) { return refuse(socket, why.code, why.context); }
  bool refuse(int socket, Errc code, const std::string& text) {
    log_.info("a reader is refused", {{"reason", text}});
    (void)send_answer(socket, encode_answer(code, text), {});
    return false;
  }

  LocalListener listener_;
  Waker waker_;
  const int life_;
  Views& views_;
  Logger log_;
  std::atomic<bool> stopping_ = false;
  std::list<Reader> readers_;  // The thread's.
  std::thread thread_;
};

}  // namespace

Result<std::unique_ptr<Server>> Server::start(const ServerOptions& options, Views& views,
                                              Log& log) {
  auto listener = LocalListener::listen(options.socket_path, 0600);
  if (!listener) return fail(listener.error());
  auto waker = Waker::create();
  if (!waker) return fail(waker.error());
  return std::make_unique<PollingServer>(std::move(*listener), std::move(*waker),
                                         options.life_descriptor, views, log);
}

}  // namespace umbra::shm
