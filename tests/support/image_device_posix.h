// SPDX-License-Identifier: Apache-2.0
//
// A device on an image file that stands still on demand: requests are taken and not answered until
// it goes on.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "engine/platform/block.h"
#include "engine/platform/unique_fd.h"

namespace umbra::test {

/// Threads: any.
class ImageDevice final : public block::Device {
 public:
  explicit ImageDevice(const std::string& path) : file_(open(path.c_str(), O_RDWR | O_CLOEXEC)) {}

  /// Called with every request that is held back. Set it before anybody uses the device.
  std::function<void()> on_held;

  /// Holds back every request, or only writes that begin before `below_bytes`, if that is not 0.
  void hang(std::uint64_t below_bytes = 0) {
    const std::lock_guard lock(mutex_);
    hangs_ = true;
    below_bytes_ = below_bytes;
  }
  void resume() {
    std::vector<block::Request*> held;
    {
      const std::lock_guard lock(mutex_);
      hangs_ = false;
      held.swap(held_);
    }
    for (auto* request : held) carry_out(*request);
  }
  [[nodiscard]] bool hangs() {
    const std::lock_guard lock(mutex_);
    return hangs_;
  }

  block::Geometry geometry() const noexcept override {
    struct stat status {};
    (void)fstat(file_.get(), &status);
    block::Geometry geometry;
    geometry.size_bytes = static_cast<std::uint64_t>(status.st_size);
    return geometry;
  }

  void submit(block::Request& first) noexcept override {
    for (block::Request* request = &first; request != nullptr;) {
      block::Request* next = std::exchange(request->next, nullptr);
      if (!hold(*request)) carry_out(*request);
      request = next;
    }
  }

 private:
  bool hold(block::Request& request) {
    {
      const std::lock_guard lock(mutex_);
      const bool writes = request.op == block::Op::write || request.op == block::Op::write_zeroes;
      const bool meant = below_bytes_ == 0 || (writes && request.offset_bytes < below_bytes_);
      if (!hangs_ || !meant) return false;
      held_.push_back(&request);
    }
    if (on_held) on_held();
    return true;
  }

  void carry_out(block::Request& request) noexcept {
    const auto offset = static_cast<off_t>(request.offset_bytes);
    ssize_t done = 0;
    if (request.op == block::Op::read) {
      done = pread(file_.get(), request.buffer, request.size_bytes, offset);
    } else if (request.op == block::Op::write) {
      done = pwrite(file_.get(), request.buffer, request.size_bytes, offset);
    } else if (request.op == block::Op::flush) {
      done = fdatasync(file_.get());
    } else {
      const std::vector<std::byte> zeroes(request.size_bytes);
      done = pwrite(file_.get(), zeroes.data(), zeroes.size(), offset);
    }
    request.error = done < 0 ? errno : 0;
    request.complete(request);
  }

  UniqueFd file_;
  std::mutex mutex_;
  bool hangs_ = false;
  std::uint64_t below_bytes_ = 0;
  std::vector<block::Request*> held_;
};

}  // namespace umbra::test
