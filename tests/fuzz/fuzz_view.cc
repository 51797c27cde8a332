// SPDX-License-Identifier: Apache-2.0
//
// A view of any bytes is refused or read within its bounds; so is what readers and umbra-cowd say
// to each other. The first byte chooses.

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "engine/platform/aligned.h"
#include "engine/platform/assert.h"
#include "engine/shm/view_reader.h"
#include "engine/shm/wire.h"

namespace {

using namespace umbra;

constexpr std::size_t kMemoryBytesMax = 1U << 20U;
constexpr std::uint64_t kStorageBytes = 256U << 10U;

// Whatever is asked of it lies in the buffer that is to be filled: the sanitizer looks.
class Zeroes final : public shm::Storage {
 public:
  int read_origin(std::uint64_t at, std::span<std::byte> out) noexcept override {
    return fill(at, out);
  }
  int read_diff_area(std::uint64_t at, std::span<std::byte> out) noexcept override {
    return fill(at, out);
  }
  bool is_alive() noexcept override { return true; }

 private:
  static int fill(std::uint64_t at, std::span<std::byte> out) noexcept {
    if (at > kStorageBytes || out.size() > kStorageBytes - at) return EIO;
    std::fill(out.begin(), out.end(), std::byte{0});
    return 0;
  }
};

void read(std::span<const std::byte> input) {
  if (input.size() < 16 || input.size() > kMemoryBytesMax) return;
  std::uint64_t at = 0;
  std::uint64_t size = 0;
  std::memcpy(&at, input.data(), 8);
  std::memcpy(&size, input.data() + 8, 8);
  input = input.subspan(16);
  // A small view, so that what is left of the input is its homes.
  const std::size_t bytes = (input.size() + 4095) / 4096 * 4096 + 3 * 4096;
  const AlignedBuffer memory = make_aligned_zeroes(bytes);
  std::memcpy(memory.get(), input.data(), input.size());
  const auto layout = shm::parse_view({memory.get(), bytes});
  if (!layout) return;
  UMBRA_ASSERT(layout->total_bytes() <= bytes);
  const shm::View view(*layout, {memory.get(), bytes});
  std::vector<std::byte> out(std::min<std::uint64_t>(size, kStorageBytes));
  Zeroes storage;
  (void)shm::read_view(view, storage, at, out);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::span<const std::byte> input(reinterpret_cast<const std::byte*>(data) + 1, size - 1);
  if (data[0] % 3 == 0) {
    read(input);
  } else if (data[0] % 3 == 1 && input.size() >= shm::kRequestBytes) {
    (void)shm::decode_request(input.first<shm::kRequestBytes>());
  } else if (input.size() >= shm::kAnswerHeadBytes) {
    const auto head = shm::decode_answer_head(input.first<shm::kAnswerHeadBytes>());
    UMBRA_ASSERT(!head || head->text_bytes <= shm::kAnswerTextBytesMax);
  }
  return 0;
}
