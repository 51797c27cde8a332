// SPDX-License-Identifier: Apache-2.0
//
// umbra-stamp: a load that can prove what a snapshot may contain. It keeps many stamped writes,
// zeroes and verified reads of 512 B to 256 KiB in flight on an NBD export, and checks snapshots of
// it while it runs.
//
//   umbra-stamp URI [--connections 4] [--depth 32] [--seed N] [--sectors-max 512] [--journal FILE]
//
// Commands, one per line on standard input; one JSON object per answer on standard output:
//   verify NAME URI BEGIN_NS END_NS   the image at URI against the hold (CLOCK_MONOTONIC)
//   control NAME URI BEGIN_NS END_NS  the same with another copy's hold: it has to be wrong
//   verify-now NAME                   pauses the load and checks the live volume exactly
//   count                             how many requests so far
//   flush                             flushes the volume under the load; says when it was asked for
//   now                               the time of that clock, for callers that cannot read it
//   stop                              waits for what is in flight, checks the live volume, ends
// The journal, written at the end, says what was written when (stamp::History::read_journal).
// Exit status: 0 if every check was right and no request failed; 1 if not; 2 for a wrong call.

#include <libnbd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "engine/platform/prng.h"
#include "tests/tools/stamp/history.h"

namespace {

using umbra::Prng;
using umbra::stamp::History;
using umbra::stamp::kSectorBytes;

// As NBD_NULL_COMPLETION, which is a compound literal of C.
constexpr nbd_completion_callback kNoCallback{nullptr, nullptr, nullptr};

std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

struct CloseNbd {
  void operator()(nbd_handle* handle) const { nbd_close(handle); }
};
using Nbd = std::unique_ptr<nbd_handle, CloseNbd>;

Nbd connect(const std::string& uri) {
  Nbd handle(nbd_create());
  if (handle && nbd_connect_uri(handle.get(), uri.c_str()) == 0) return handle;
  (void)std::fprintf(stderr, "umbra-stamp: %s: %s\n", uri.c_str(), nbd_get_error());
  return nullptr;
}

struct Options {
  std::string uri;
  unsigned connections = 4;
  unsigned depth = 32;
  std::uint64_t seed = 1;
  std::uint64_t sectors_max = 512;
  std::string journal;
};

// Shared by the connections' threads and the command loop.
struct Load {
  Options options;
  std::uint64_t sector_count = 0;
  std::unique_ptr<History> history;
  std::atomic<bool> stopping{false};
  std::atomic<bool> failed{false};
  std::atomic<std::uint64_t> completed{0};

  // Pausing: no thread issues while paused; idle counts those with nothing in flight.
  std::mutex mutex;
  std::condition_variable changed;
  bool paused = false;
  unsigned idle = 0;
};

enum class Kind : std::uint8_t { write, zero, flush };

struct Slot {
  bool busy = false;
  Kind kind = Kind::write;
  std::uint64_t sequence = 0;
  std::int64_t cookie = 0;
  std::vector<std::byte> buffer;
};

class Connection {
 public:
  Connection(Load& load, unsigned number)
      : load_(load), random_(load.options.seed * 1000 + number) {}

  void run() {
    handle_ = connect(load_.options.uri);
    slots_.resize(std::max(1U, load_.options.depth / load_.options.connections));
    for (auto& slot : slots_) slot.buffer.resize(load_.options.sectors_max * kSectorBytes);
    while (handle_ && !load_.failed && !(load_.stopping && in_flight_ == 0)) {
      if (wait_if_paused()) continue;
      if (!load_.stopping) fill_slots();
      if (in_flight_ > 0 && nbd_poll(handle_.get(), 1000) < 0) fail("poll");
      reap();
    }
    if (!handle_) load_.failed = true;
    const std::lock_guard lock(load_.mutex);
    ++load_.idle;  // For good.
    load_.changed.notify_all();
  }

 private:
  // While the load is paused: drains, then sleeps. True if it did anything.
  bool wait_if_paused() {
    std::unique_lock lock(load_.mutex);
    if (!load_.paused) return false;
    lock.unlock();
    while (in_flight_ > 0 && !load_.failed) {
      if (nbd_poll(handle_.get(), 1000) < 0) fail("poll");
      reap();
    }
    lock.lock();
    ++load_.idle;
    load_.changed.notify_all();
    load_.changed.wait(lock, [&] { return !load_.paused; });
    --load_.idle;
    return true;
  }

  void fill_slots() {
    for (auto& slot : slots_) {
      if (!slot.busy) issue(slot);
    }
  }

  void issue(Slot& slot) {
    const auto dice = random_.below(100);
    slot.kind = dice < 1 ? Kind::flush : dice < 5 ? Kind::zero : Kind::write;
    slot.sequence = 0;
    auto* handle = handle_.get();
    if (slot.kind == Kind::flush) {
      slot.cookie = nbd_aio_flush(handle, kNoCallback, 0);
    } else if (!issue_change(slot, handle, dice)) {
      return;  // Would overlap; another place the next time.
    }
    if (slot.cookie < 0) return fail("issue");
    slot.busy = true;
    ++in_flight_;
  }

  bool issue_change(Slot& slot, nbd_handle* handle, std::uint64_t dice) {
    // Small ones are as frequent as large ones: a random number of doublings.
    const auto limit = std::min(load_.options.sectors_max, load_.sector_count);
    std::uint64_t sectors = std::uint64_t{1} << random_.below(10);
    sectors = std::min(limit, sectors + random_.below(sectors));
    const auto first = random_.below(load_.sector_count - sectors + 1);
    const auto kind = slot.kind == Kind::zero ? History::Kind::zero : History::Kind::write;
    const auto sequence = load_.history->issue(kind, first, sectors, now_ns());
    if (!sequence) return false;
    slot.sequence = *sequence;
    const std::uint32_t flags = dice == 99 ? LIBNBD_CMD_FLAG_FUA : 0;
    const auto bytes = sectors * kSectorBytes;
    if (slot.kind == Kind::zero) {
      slot.cookie = nbd_aio_zero(handle, bytes, first * kSectorBytes, kNoCallback, flags);
      return true;
    }
    umbra::stamp::fill(std::span(slot.buffer).first(bytes), first, slot.sequence,
                       load_.options.seed);
    slot.cookie =
        nbd_aio_pwrite(handle, slot.buffer.data(), bytes, first * kSectorBytes, kNoCallback, flags);
    return true;
  }

  void reap() {
    for (auto& slot : slots_) {
      if (!slot.busy) continue;
      const int done =
          nbd_aio_command_completed(handle_.get(), static_cast<std::uint64_t>(slot.cookie));
      if (done == 0) continue;
      if (done < 0) return fail("request");
      if (slot.sequence != 0) load_.history->acknowledged(slot.sequence, now_ns());
      slot.busy = false;
      --in_flight_;
      ++load_.completed;
    }
  }

  void fail(const char* what) {
    (void)std::fprintf(stderr, "umbra-stamp: %s failed: %s\n", what, nbd_get_error());
    load_.failed = true;
  }

  Load& load_;
  Prng random_;
  Nbd handle_;
  std::vector<Slot> slots_;
  std::size_t in_flight_ = 0;
};

void answer(const std::string& name, const umbra::stamp::Verdict& verdict) {
  (void)std::printf(
      R"({"verify":"%s","sectors":%llu,"stamped":%llu,"wrong":%llu,"first_wrong":"%s"})"
      "\n",
      name.c_str(), static_cast<unsigned long long>(verdict.sectors),
      static_cast<unsigned long long>(verdict.stamped),
      static_cast<unsigned long long>(verdict.wrong), verdict.first_wrong.c_str());
  (void)std::fflush(stdout);
}

// Checks the export at `uri`; false if anything is wrong with it.
bool verify(Load& load, const std::string& name, const std::string& uri, std::int64_t begin_ns,
            std::int64_t end_ns) {
  const Nbd handle = connect(uri);
  if (!handle) return false;
  const auto read = [&](std::uint64_t first, std::span<std::byte> buffer) {
    return nbd_pread(handle.get(), buffer.data(), buffer.size(), first * kSectorBytes, 0) == 0;
  };
  const auto verdict = load.history->verify(read, begin_ns, end_ns);
  answer(name, verdict);
  return verdict.wrong == 0;
}

bool verify_paused(Load& load, const std::string& name, unsigned connections) {
  {
    std::unique_lock lock(load.mutex);
    load.paused = true;
    load.changed.wait(lock, [&] { return load.idle == connections; });
  }
  const auto now = now_ns();
  const bool right = verify(load, name, load.options.uri, now, now);
  const std::lock_guard lock(load.mutex);
  load.paused = false;
  load.changed.notify_all();
  return right;
}

bool flush(const Load& load) {
  const Nbd handle = connect(load.options.uri);
  const auto begin = now_ns();
  if (!handle || nbd_flush(handle.get(), 0) != 0) return false;
  (void)std::printf("{\"flush_begin_ns\":%lld}\n", static_cast<long long>(begin));
  (void)std::fflush(stdout);
  return true;
}

// Returns whether everything that was asked for was right.
bool obey(Load& load) {
  bool right = true;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string command;
    std::string name;
    words >> command;
    if (command == "stop") break;
    if (command == "count") {
      (void)std::printf("{\"completed\":%llu,\"failed\":%s}\n",
                        static_cast<unsigned long long>(load.completed.load()),
                        load.failed ? "true" : "false");
      (void)std::fflush(stdout);
    } else if (command == "now") {
      (void)std::printf("{\"now_ns\":%lld}\n", static_cast<long long>(now_ns()));
      (void)std::fflush(stdout);
    } else if (command == "flush") {
      if (!flush(load)) return false;
    } else if (command == "verify-now" && words >> name) {
      right = verify_paused(load, name, load.options.connections) && right;
    } else if (std::string uri; command == "verify" || command == "control") {
      std::int64_t begin = 0;
      std::int64_t end = 0;
      if (!(words >> name >> uri >> begin >> end)) return false;
      right = verify(load, name, uri, begin, end) == (command == "verify") && right;
    } else {
      (void)std::fprintf(stderr, "umbra-stamp: unknown command: %s\n", line.c_str());
      return false;
    }
  }
  return right;
}

bool parse(int argc, char** argv, Options& options) {
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word.rfind("--", 0) != 0) {
      options.uri = word;
      continue;
    }
    if (i + 1 >= argc) return false;
    if (word == "--journal") {
      options.journal = argv[++i];
      continue;
    }
    const std::uint64_t value = std::strtoull(argv[++i], nullptr, 10);
    if (value == 0) return false;
    if (word == "--connections") {
      options.connections = static_cast<unsigned>(value);
    } else if (word == "--depth") {
      options.depth = static_cast<unsigned>(value);
    } else if (word == "--seed") {
      options.seed = value;
    } else if (word == "--sectors-max") {
      options.sectors_max = value;
    } else {
      return false;
    }
  }
  return !options.uri.empty();
}

int run(const Options& options) {
  Load load;
  load.options = options;
  {
    const Nbd handle = connect(options.uri);
    if (!handle) return 1;
    const auto size = nbd_get_size(handle.get());
    if (size < static_cast<std::int64_t>(kSectorBytes)) return 1;
    load.sector_count = static_cast<std::uint64_t>(size) / kSectorBytes;
  }
  load.history = std::make_unique<History>(load.sector_count, options.seed);
  std::vector<std::unique_ptr<Connection>> connections;
  std::vector<std::jthread> threads;
  for (unsigned i = 0; i < options.connections; ++i) {
    connections.push_back(std::make_unique<Connection>(load, i));
    threads.emplace_back([connection = connections.back().get()] { connection->run(); });
  }
  bool right = obey(load);
  load.stopping = true;
  threads.clear();
  if (!options.journal.empty()) {
    std::ofstream journal(options.journal);
    load.history->write_journal(journal);
    journal.close();
    right = right && !journal.fail();
  }
  const auto now = now_ns();
  right = verify(load, "end", options.uri, now, now) && right;
  return right && !load.failed ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  if (!parse(argc, argv, options)) {
    (void)std::fprintf(stderr,
                       "usage: umbra-stamp URI [--connections N] [--depth N] [--seed N] "
                       "[--sectors-max N] [--journal FILE]\n");
    return 2;
  }
  return run(options);
}
