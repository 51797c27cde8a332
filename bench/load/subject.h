// SPDX-License-Identifier: Apache-2.0
//
// What is measured: a volume behind an NBD server, ours or a rival's, that can take a snapshot of
// itself. And the load on it, with the memory of what it and its snapshot have to show.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bench/harness/pairs.h"
#include "bench/harness/scenario.h"
#include "bench/load/content.h"
#include "bench/load/nbd_load.h"
#include "engine/platform/prng.h"

namespace umbra::bench {

/// Threads: one at a time. Everything throws.
class Subject {
 public:
  virtual ~Subject() = default;
  /// "nbdkit file": for the reader of a figure.
  [[nodiscard]] virtual std::string name() const = 0;
  [[nodiscard]] virtual std::string medium() const = 0;
  /// Of the live volume; changes with protect() and release(). Nobody may be connected at those.
  [[nodiscard]] virtual std::string uri() const = 0;
  /// From now on what the volume holds at this moment is kept.
  virtual void protect() = 0;
  /// Reads what the last protect() keeps, all of it, and compares; the digest on top of `digest`.
  [[nodiscard]] virtual std::uint32_t verify_copy(const Content& content, std::uint32_t digest) = 0;
  /// What was kept goes; returns when nothing works on that any more.
  virtual void release() = 0;
  /// False: what was written since protect() goes with release().
  [[nodiscard]] virtual bool keeps_writes() const { return true; }
};

struct Shape {
  std::uint32_t request_bytes = 16U << 10U;
  std::size_t depth = 16;
  std::size_t flush_every = 0;
  /// One write in each of these, at a random place of it; 0: request_bytes, that is every byte.
  std::uint64_t stride_bytes = 0;
  std::size_t writes_max = 0;  // Of those, so many, at random; 0: all.
};

/// Fills the volume at construction. Threads: one at a time.
class Driver {
 public:
  Driver(Subject& subject, std::uint64_t size_bytes, std::uint64_t seed);

  [[nodiscard]] Subject& subject() noexcept { return subject_; }
  /// Writes of the shape, once each, in random order. Seconds each.
  double write(const Shape& shape);
  /// As many reads at random places as would fill `bytes`.
  double read(const Shape& shape, std::uint64_t bytes);
  /// protect(), write(), release().
  double first_write(const Shape& shape);
  /// Protects, writes half, compares live volume and copy with what they have to show, releases. A
  /// digest of both.
  [[nodiscard]] std::uint32_t verify(const Shape& shape);
  [[nodiscard]] std::uint32_t verify_live(std::uint32_t digest);

  [[nodiscard]] const Content& content() const noexcept { return content_; }
  /// The subject holds again what it held then.
  void went_back_to(const Content& older) { content_.become(older); }
  /// From here on latencies count.
  void forget_latencies() { latencies_.clear(); }
  /// Of nothing: nothing is added.
  void add_latency(const std::string& of, std::vector<Latency>& to);
  [[nodiscard]] std::vector<std::uint64_t> draw(const Shape& shape);
  double run(const Plan& plan);

 private:
  Subject& subject_;
  Content content_;
  Prng prng_;
  std::vector<std::uint32_t> latencies_;
};

[[nodiscard]] Latency latency_of(const std::string& of, std::vector<std::uint32_t>& nanoseconds);

/// Reads a file and compares all of it.
[[nodiscard]] std::uint32_t verify_file(const std::string& path, const Content& content,
                                        std::uint32_t digest, const std::string& what);
[[nodiscard]] std::uint32_t verify_uri(const std::string& uri, const Content& content,
                                       std::uint32_t digest, const std::string& what);

/// A figure for people: "plain 8.1 us per request".
[[nodiscard]] std::string each_text(const std::string& name, const std::vector<double>& seconds);

}  // namespace umbra::bench
