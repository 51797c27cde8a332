// SPDX-License-Identifier: Apache-2.0
//
// umbra-ping-pong: the load that tells one instant from two. It writes n to A, waits, writes n to
// B, and so on with n + 1: at any instant A >= B >= A - 1.
//
//   umbra-ping-pong write A B   says "on" when every place was written once; goes on until the end
//                               of standard input, and says the last n
//   umbra-ping-pong read X      says the largest number that X holds
//
// A, B and X are NBD URIs, block devices (written with O_DIRECT) or files (written with O_DSYNC,
// made if missing). The numbers go to kSlots places in turn, so that most writes are first touches
// of a chunk. Exit status: 0; 1 if a request failed; 2 for a wrong call.

#include <fcntl.h>
#include <libnbd.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

namespace {

constexpr std::uint64_t kSlots = 64;
constexpr std::uint64_t kStrideBytes = 16U << 10U;  // A chunk.
constexpr std::size_t kBlockBytes = 4096;

class Target {
 public:
  virtual ~Target() = default;
  virtual bool write(const void* bytes, std::uint64_t offset) = 0;
  virtual bool read(void* bytes, std::uint64_t offset) = 0;
};

class NbdTarget final : public Target {
 public:
  explicit NbdTarget(nbd_handle* handle) : handle_(handle) {}
  ~NbdTarget() override { nbd_close(handle_); }
  NbdTarget(const NbdTarget&) = delete;
  NbdTarget& operator=(const NbdTarget&) = delete;
  bool write(const void* bytes, std::uint64_t offset) override {
    return nbd_pwrite(handle_, bytes, kBlockBytes, offset, 0) == 0;
  }
  bool read(void* bytes, std::uint64_t offset) override {
    return nbd_pread(handle_, bytes, kBlockBytes, offset, 0) == 0;
  }

 private:
  nbd_handle* handle_;
};

class FileTarget final : public Target {
 public:
  explicit FileTarget(int fd) : fd_(fd) {}
  ~FileTarget() override { ::close(fd_); }
  FileTarget(const FileTarget&) = delete;
  FileTarget& operator=(const FileTarget&) = delete;
  bool write(const void* bytes, std::uint64_t offset) override {
    return ::pwrite(fd_, bytes, kBlockBytes, static_cast<off_t>(offset)) == kBlockBytes;
  }
  bool read(void* bytes, std::uint64_t offset) override {
    return ::pread(fd_, bytes, kBlockBytes, static_cast<off_t>(offset)) == kBlockBytes;
  }

 private:
  int fd_;
};

std::unique_ptr<Target> open_nbd(const std::string& uri) {
  nbd_handle* const handle = nbd_create();
  if (handle != nullptr && nbd_connect_uri(handle, uri.c_str()) == 0) {
    return std::make_unique<NbdTarget>(handle);
  }
  (void)std::fprintf(stderr, "umbra-ping-pong: %s: %s\n", uri.c_str(), nbd_get_error());
  if (handle != nullptr) nbd_close(handle);
  return nullptr;
}

std::unique_ptr<Target> open_file(const std::string& path, bool writable) {
  struct stat about = {};
  const bool exists = ::stat(path.c_str(), &about) == 0;
  const int how = exists && S_ISBLK(about.st_mode) ? O_DIRECT : O_DSYNC;
  const int fd = ::open(path.c_str(), writable ? O_RDWR | O_CREAT | how : O_RDONLY, 0600);
  if (fd < 0) {
    (void)std::fprintf(stderr, "umbra-ping-pong: %s: %s\n", path.c_str(), std::strerror(errno));
    return nullptr;
  }
  // All blocks exist before the game begins: its writes change data only.
  if (writable && !exists) {
    const std::string zeroes(kSlots * kStrideBytes, '\0');
    if (::pwrite(fd, zeroes.data(), zeroes.size(), 0) != static_cast<ssize_t>(zeroes.size())) {
      ::close(fd);
      return nullptr;
    }
  }
  return std::make_unique<FileTarget>(fd);
}

std::unique_ptr<Target> open_target(const std::string& name, bool writable) {
  return name.rfind("nbd", 0) == 0 ? open_nbd(name) : open_file(name, writable);
}

std::uint64_t place(std::uint64_t number) { return number % kSlots * kStrideBytes; }

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};
using Block = std::unique_ptr<void, Free>;
Block new_block() {
  Block block(std::aligned_alloc(kBlockBytes, kBlockBytes));
  std::memset(block.get(), 0, kBlockBytes);
  return block;
}

bool input_has_ended() {
  pollfd input{STDIN_FILENO, POLLIN, 0};
  char byte = 0;
  return ::poll(&input, 1, 0) > 0 && ::read(STDIN_FILENO, &byte, 1) == 0;
}

int play(Target& a, Target& b) {
  const Block block = new_block();
  std::uint64_t number = 0;
  while (!input_has_ended()) {
    ++number;
    std::memcpy(block.get(), &number, sizeof number);
    if (!a.write(block.get(), place(number)) || !b.write(block.get(), place(number))) {
      (void)std::fprintf(stderr, "umbra-ping-pong: write %llu failed\n",
                         static_cast<unsigned long long>(number));
      return 1;
    }
    if (number == kSlots) {
      (void)std::puts("on");
      (void)std::fflush(stdout);
    }
  }
  (void)std::printf("%llu\n", static_cast<unsigned long long>(number));
  return 0;
}

int look(Target& at) {
  const Block block = new_block();
  std::uint64_t largest = 0;
  for (std::uint64_t slot = 0; slot < kSlots; ++slot) {
    if (!at.read(block.get(), place(slot))) return 1;
    std::uint64_t number = 0;
    std::memcpy(&number, block.get(), sizeof number);
    largest = std::max(largest, number);
  }
  (void)std::printf("%llu\n", static_cast<unsigned long long>(largest));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string command = argc > 1 ? argv[1] : "";
  if (command == "write" && argc == 4) {
    const auto a = open_target(argv[2], true);
    const auto b = open_target(argv[3], true);
    return a && b ? play(*a, *b) : 1;
  }
  if (command == "read" && argc == 3) {
    const auto at = open_target(argv[2], false);
    return at ? look(*at) : 1;
  }
  (void)std::fprintf(stderr, "usage: umbra-ping-pong write A B | read X\n");
  return 2;
}
