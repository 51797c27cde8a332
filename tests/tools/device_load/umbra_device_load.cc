// SPDX-License-Identifier: Apache-2.0
//
// umbra-device-load FILE [options]: random reads or writes through a file device, as the store does
// them, with a fixed number in flight. Says "opened ENGINE" and, at the end, one line of figures:
// requests per second, and the median and 99th percentile of the time of one in microseconds.
// Exit status: 0; 1 for errors; 3 if FILE is locked by somebody.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/platform/aligned.h"
#include "engine/platform/file_device.h"
#include "engine/platform/prng.h"

namespace {

using namespace umbra;
using Clock = std::chrono::steady_clock;

struct Arguments {
  std::string path;
  FileEngine engine = FileEngine::automatic;
  bool direct = false;
  bool write = false;
  bool flush = false;
  std::uint64_t block_bytes = 4096;
  std::uint64_t depth = 1;
  std::uint64_t requests = 10'000;
  std::uint64_t seed = 1;
};

class Load {
 public:
  Load(block::Device& device, const Arguments& arguments)
      : device_(device), arguments_(arguments), prng_(arguments.seed), lanes_(arguments.depth) {
    const std::size_t bytes = arguments.depth * arguments.block_bytes;
    memory_ = make_aligned(bytes);
    std::fill_n(memory_.get(), bytes, std::byte{0x5a});
    took_ns_.reserve(arguments.requests);
  }

  int run() {
    const auto begin = Clock::now();
    for (std::size_t i = 0; i < lanes_.size(); ++i) {
      lanes_[i].load = this;
      lanes_[i].request.buffer = memory_.get() + i * arguments_.block_bytes;
      next(lanes_[i]);
    }
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return ended_ == lanes_.size(); });
    const std::chrono::duration<double> took = Clock::now() - begin;
    if (error_ != 0) {
      std::cerr << "umbra-device-load: errno " << error_ << "\n";
      return 1;
    }
    std::sort(took_ns_.begin(), took_ns_.end());
    const double rate = static_cast<double>(took_ns_.size()) / took.count();
    (void)std::printf("%.0f per second, p50 %.1f us, p99 %.1f us\n", rate,
                      microseconds(took_ns_.size() / 2), microseconds(took_ns_.size() * 99 / 100));
    return 0;
  }

 private:
  struct Lane {
    Load* load = nullptr;
    block::Request request;
    Clock::time_point begin;
  };

  [[nodiscard]] double microseconds(std::size_t index) const {
    return static_cast<double>(took_ns_[index]) / 1000;
  }

  void next(Lane& lane) {
    {
      const std::lock_guard lock(mutex_);
      if (issued_ == arguments_.requests || error_ != 0) {
        ++ended_;
        changed_.notify_all();
        return;
      }
      ++issued_;
      const std::uint64_t blocks = device_.geometry().size_bytes / arguments_.block_bytes;
      lane.request.offset_bytes = prng_.below(blocks) * arguments_.block_bytes;
    }
    lane.request.op = arguments_.write ? block::Op::write : block::Op::read;
    if (arguments_.flush) lane.request.op = block::Op::flush;
    lane.request.size_bytes = arguments_.block_bytes;
    lane.request.owner = &lane;
    lane.request.complete = [](block::Request& request) noexcept {
      auto& done = *static_cast<Lane*>(request.owner);
      done.load->completed(done);
    };
    lane.begin = Clock::now();
    device_.submit(lane.request);
  }

  void completed(Lane& lane) noexcept {
    const auto took = Clock::now() - lane.begin;
    {
      const std::lock_guard lock(mutex_);
      if (lane.request.error != 0) error_ = lane.request.error;
      took_ns_.push_back(static_cast<std::uint64_t>(std::chrono::nanoseconds(took).count()));
    }
    next(lane);
  }

  block::Device& device_;
  const Arguments& arguments_;
  std::mutex mutex_;
  std::condition_variable changed_;
  Prng prng_;                           // mutex_
  std::uint64_t issued_ = 0;            // mutex_
  std::size_t ended_ = 0;               // mutex_
  int error_ = 0;                       // mutex_
  std::vector<std::uint64_t> took_ns_;  // mutex_
  AlignedBuffer memory_;
  std::vector<Lane> lanes_;
};

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  CLI::App app{"Random reads or writes through a file device."};
  const std::map<std::string, FileEngine> engines = {{"auto", FileEngine::automatic},
                                                     {"threads", FileEngine::threads},
                                                     {"io_uring", FileEngine::io_uring}};
  app.add_option("file", arguments.path)->required();
  app.add_option("--engine", arguments.engine)->transform(CLI::CheckedTransformer(engines));
  app.add_flag("--direct", arguments.direct, "O_DIRECT");
  app.add_flag("--write", arguments.write);
  app.add_flag("--flush", arguments.flush, "Syncs instead of reads or writes");
  app.add_option("--block", arguments.block_bytes);
  app.add_option("--depth", arguments.depth, "Requests in flight")->check(CLI::Range(1, 4096));
  app.add_option("--requests", arguments.requests);
  app.add_option("--seed", arguments.seed);
  CLI11_PARSE(app, argc, argv);
  FileDeviceOptions options;
  options.engine = arguments.engine;
  options.direct = arguments.direct;
  auto device = open_file_device(arguments.path, options);
  if (!device) {
    std::cerr << "umbra-device-load: " << device.error().to_string() << "\n";
    return device.error().code == Errc::volume_attached ? 3 : 1;
  }
  (void)std::printf("opened %s\n", (*device)->io_text().c_str());
  (void)std::fflush(stdout);
  return Load(**device, arguments).run();
}
