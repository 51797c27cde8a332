// SPDX-License-Identifier: Apache-2.0
#include "bench/load/subject.h"

#include <algorithm>
#include <cstdio>
#include <fstream>

#include "bench/harness/failure.h"

namespace umbra::bench {

Driver::Driver(Subject& subject, std::uint64_t size_bytes, std::uint64_t seed)
    : subject_(subject), content_(size_bytes, seed), prng_(seed) {
  Shape filling;
  filling.request_bytes = 64U << 10U;
  (void)write(filling);
  forget_latencies();
}

std::vector<std::uint64_t> Driver::draw(const Shape& shape) {
  const std::uint64_t stride = shape.stride_bytes == 0 ? shape.request_bytes : shape.stride_bytes;
  std::vector<std::uint64_t> offsets;
  for (std::uint64_t at = 0; at + stride <= content_.size_bytes(); at += stride) {
    offsets.push_back(at + prng_.below(stride / shape.request_bytes) * shape.request_bytes);
  }
  for (std::size_t i = offsets.size(); i > 1; --i)
    std::swap(offsets[i - 1], offsets[prng_.below(i)]);
  if (shape.writes_max != 0 && offsets.size() > shape.writes_max) offsets.resize(shape.writes_max);
  return offsets;
}

double Driver::run(const Plan& plan) {
  NbdLoad load(subject_.uri());
  if (load.size_bytes() < content_.size_bytes()) give_up(subject_.name() + " is too small");
  Measured measured = load.run(plan, content_);
  const double each = measured.seconds_each();
  latencies_.insert(latencies_.end(), measured.latencies_ns.begin(), measured.latencies_ns.end());
  return each;
}

double Driver::write(const Shape& shape) {
  return run({Work::write, shape.request_bytes, shape.depth, shape.flush_every, draw(shape)});
}

double Driver::read(const Shape& shape, std::uint64_t bytes) {
  const std::uint64_t places = content_.size_bytes() / shape.request_bytes;
  std::vector<std::uint64_t> offsets(bytes / shape.request_bytes);
  for (auto& offset : offsets) offset = prng_.below(places) * shape.request_bytes;
  return run({Work::read, shape.request_bytes, shape.depth, 0, std::move(offsets)});
}

double Driver::first_write(const Shape& shape) {
  subject_.protect();
  const Content before = content_;
  const double each = write(shape);
  subject_.release();
  if (!subject_.keeps_writes()) content_ = before;
  return each;
}

std::uint32_t Driver::verify(const Shape& shape) {
  std::vector<std::uint64_t> offsets = draw(shape);
  offsets.resize(std::max<std::size_t>(1, offsets.size() / 2));
  subject_.protect();
  const Content before = content_;
  (void)run({Work::write, shape.request_bytes, shape.depth, shape.flush_every, offsets});
  std::uint32_t digest = verify_live(0);
  digest = subject_.verify_copy(before, digest);
  subject_.release();
  if (!subject_.keeps_writes()) content_ = before;
  return digest;
}

std::uint32_t Driver::verify_live(std::uint32_t digest) {
  return verify_uri(subject_.uri(), content_, digest, subject_.name() + ", the live volume,");
}

void Driver::add_latency(const std::string& of, std::vector<Latency>& to) {
  if (!latencies_.empty()) to.push_back(latency_of(of, latencies_));
}

Latency latency_of(const std::string& of, std::vector<std::uint32_t>& nanoseconds) {
  const auto microseconds = [&](double fraction) { return quantile(nanoseconds, fraction) / 1e3; };
  return {of, microseconds(0.5), microseconds(0.99), microseconds(0.999)};
}

std::uint32_t verify_file(const std::string& path, const Content& content, std::uint32_t digest,
                          const std::string& what) {
  std::ifstream in(path, std::ios::binary);
  if (!in) give_up(what + ": cannot open " + path);
  std::vector<char> buffer(std::size_t{1} << 20U);
  for (std::uint64_t at = 0; at < content.size_bytes();) {
    const std::size_t piece = std::min<std::uint64_t>(buffer.size(), content.size_bytes() - at);
    if (!in.read(buffer.data(), static_cast<std::streamsize>(piece))) {
      give_up(what + ": " + path + " is too short");
    }
    digest = content.check(at, std::as_bytes(std::span(buffer.data(), piece)), digest, what);
    at += piece;
  }
  return digest;
}

std::uint32_t verify_uri(const std::string& uri, const Content& content, std::uint32_t digest,
                         const std::string& what) {
  return NbdLoad(uri).verify(content, digest, what);
}

std::string each_text(const std::string& name, const std::vector<double>& seconds) {
  char text[32];
  (void)std::snprintf(text, sizeof text, " %.4g us each", summarise(seconds).median * 1e6);
  return name + text;
}

}  // namespace umbra::bench
