// SPDX-License-Identifier: Apache-2.0
#include "provider/frontend/nbd/buffer_pool.h"

#include <cstdint>

#include "tests/support/catch.h"

using umbra::nbd::BufferPool;

TEST_CASE("buffers are aligned, big enough and used again", "[nbd]") {
  BufferPool pool(1U << 20U);
  const auto first = pool.acquire(5000);
  REQUIRE(first.data != nullptr);
  CHECK(first.capacity == 8192);
  CHECK(reinterpret_cast<std::uintptr_t>(first.data) % BufferPool::kAlignment == 0);
  pool.release(first);
  CHECK(pool.acquire(8192).data == first.data);
  pool.release(first);
}

TEST_CASE("the budget holds, and kept buffers give way to other sizes", "[nbd]") {
  BufferPool pool(64 * 1024);
  const auto a = pool.acquire(32 * 1024);
  const auto b = pool.acquire(32 * 1024);
  CHECK(pool.acquire(1).data == nullptr);
  pool.release(a);
  pool.release(b);
  const auto whole = pool.acquire(64 * 1024);
  CHECK(whole.data != nullptr);
  CHECK(pool.used_bytes() == 64 * 1024);
  pool.release(whole);
}

TEST_CASE("big buffers are not kept", "[nbd]") {
  BufferPool pool(8U << 20U);
  const auto big = pool.acquire(4U << 20U);
  CHECK(pool.used_bytes() == 4U << 20U);
  pool.release(big);
  CHECK(pool.used_bytes() == 0);
}
