// SPDX-License-Identifier: Apache-2.0
//
// Reads a copy through SnapshotReader, and compares it with a file that says what it shows, in
// pieces of random offset and size, again and again.
//
//   umbra-read-copy --socket PATH --snapshot ID --image FILE --seed N
//
// Prints "ready" when the copy is open and was compared once as a whole. Goes on until standard
// input ends, or a read fails. Last line: "reads=N bytes=N error=TEXT". Exit status: 0 if nothing
// differed, 1 if something did (says where), 2 if the copy cannot be opened.
#include <poll.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "engine/platform/prng.h"
#include "umbra/requester/snapshot_reader.h"

using namespace umbra;

namespace {

constexpr std::uint64_t kReadBytesMax = 1U << 20U;

bool input_has_ended() {
  pollfd input{0, POLLIN, 0};
  return ::poll(&input, 1, 0) > 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::string socket;
  std::string id_text;
  std::string image_path;
  std::uint64_t seed = 1;
  CLI::App app{"Reads a copy beside its provider and compares it with a file."};
  app.add_option("--socket", socket)->required();
  app.add_option("--snapshot", id_text)->required();
  app.add_option("--image", image_path)->required();
  app.add_option("--seed", seed);
  CLI11_PARSE(app, argc, argv);

  const auto guid = Guid::parse(id_text);
  std::ifstream file(image_path, std::ios::binary);
  const std::vector<char> image((std::istreambuf_iterator<char>(file)),
                                std::istreambuf_iterator<char>());
  if (!guid || image.empty()) return 2;
  const auto reader = requester::SnapshotReader::open(SnapshotId{*guid}, {.socket_path = socket});
  if (!reader) {
    std::printf("reads=0 bytes=0 error=%s\n", reader.error().to_string().c_str());
    return 2;
  }
  if (reader->size_bytes() != image.size()) return 2;

  Prng random(seed);
  std::vector<std::byte> seen(image.size());
  std::uint64_t reads = 0;
  std::uint64_t bytes = 0;
  std::string error;
  std::uint64_t at = 0;
  std::uint64_t size = image.size();
  while (true) {
    const Status read = reader->read(at, {seen.data(), size});
    if (!read) {
      error = read.error().to_string();
      break;
    }
    if (std::memcmp(seen.data(), image.data() + at, size) != 0) {
      std::printf("differs between byte %llu and %llu\n", static_cast<unsigned long long>(at),
                  static_cast<unsigned long long>(at + size));
      return 1;
    }
    if (++reads == 1) {
      std::puts("ready");
      (void)std::fflush(stdout);
    }
    bytes += size;
    if (input_has_ended()) break;
    at = random.below(image.size());
    size = 1 + random.below(std::min<std::uint64_t>(image.size() - at, kReadBytesMax));
  }
  std::printf("reads=%llu bytes=%llu error=%s\n", static_cast<unsigned long long>(reads),
              static_cast<unsigned long long>(bytes), error.c_str());
  return 0;
}
