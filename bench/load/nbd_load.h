// SPDX-License-Identifier: Apache-2.0
//
// Load on an NBD server, by libnbd: the same client for all servers. One connection, requests kept
// in flight up to a depth, the time of each taken.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "bench/load/content.h"

struct nbd_handle;

namespace umbra::bench {

inline constexpr int kStallSecondsMax = 60;  // Without any answer: the bench fails.

struct NbdClose {
  void operator()(nbd_handle* handle) const noexcept;
};
using NbdHandle = std::unique_ptr<nbd_handle, NbdClose>;
/// Connects to a server that is away or does not know the volume yet, as soon as it can be had.
/// Null: not within the limit, or `given_up` has answered true, which it is asked all the time.
[[nodiscard]] NbdHandle connect_again(const std::string& uri, std::chrono::milliseconds limit,
                                      const std::function<bool()>& given_up);

enum class Work : std::uint8_t { write, read };

/// Requests of one size, drawn before the clock starts.
struct Plan {
  Work work = Work::write;
  std::uint32_t request_bytes = 16U << 10U;  // A multiple of kGranule.
  std::size_t depth = 16;
  std::size_t flush_every = 0;  // After so many writes all are waited for and flushed; 0: never.
  std::vector<std::uint64_t> offsets;
};

struct Measured {
  double seconds = 0;
  std::vector<std::uint32_t> latencies_ns;  // In the order of completion.
  [[nodiscard]] double seconds_each() const {
    return seconds / static_cast<double>(latencies_ns.size());
  }
};

/// Threads: one at a time. Everything throws Failed with the server's words, or Interrupted.
class NbdLoad {
 public:
  explicit NbdLoad(const std::string& uri);
  ~NbdLoad();
  NbdLoad(const NbdLoad&) = delete;
  NbdLoad& operator=(const NbdLoad&) = delete;

  [[nodiscard]] std::uint64_t size_bytes() const;
  /// Writes go into `content`, reads are compared with it at a glance (Content::looks_right).
  Measured run(const Plan& plan, Content& content);
  /// All of it, compared in full; the digest on top of `digest`.
  [[nodiscard]] std::uint32_t verify(const Content& content, std::uint32_t digest,
                                     const std::string& what);
  /// The same by Content::check_since.
  [[nodiscard]] std::uint32_t verify_since(const Content& earliest, const Content& latest,
                                           std::uint32_t digest, const std::string& what);

 private:
  class Flight;
  NbdHandle handle_;  // Null after a run() that was left by an exception.
};

}  // namespace umbra::bench
