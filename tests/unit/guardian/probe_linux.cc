// SPDX-License-Identifier: Apache-2.0
//
// Stands for umbra-cowd under the guardian: umbra-guardian-probe SOCKET [IMAGE POINT] --guardian-fd
// N connects to the test's socket, says "PID", then does what each datagram says and answers with
// one:
//   freeze SET LIMIT-MS LEASE-MS DEVICE...    thaw SET    flush DEVICE...
//   keep NAME FILE PAYLOAD    kept    drop NAME    exit STATUS
//   hang (requests to the volume are taken and not answered)    resume
// With IMAGE it serves it as the FUSE file POINT, and leaves the session with the guardian. If
// there is a file IMAGE.hang, it hangs from its start.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <iostream>
#include <memory>
#include <mutex>
#include <sstream>
#include <vector>

#include "provider/frontend/fuse/session.h"
#include "provider/guardian/client.h"

namespace {

using umbra::UniqueFd;
using umbra::guardian::GuardianClient;

namespace block = umbra::block;

// An image file; every request is carried out and completed at once, unless it hangs.
class ImageDevice final : public block::Device {
 public:
  explicit ImageDevice(const std::string& path)
      : file_(open(path.c_str(), O_RDWR | O_CLOEXEC)),
        hangs_(access((path + ".hang").c_str(), F_OK) == 0) {}

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
      {
        const std::lock_guard lock(mutex_);
        if (hangs_) held_.push_back(std::exchange(request, nullptr));
      }
      if (request != nullptr) carry_out(*request);
      request = next;
    }
  }
  bool hangs() {
    const std::lock_guard lock(mutex_);
    return hangs_;
  }
  void hang(bool hangs) {
    std::vector<block::Request*> held;
    {
      const std::lock_guard lock(mutex_);
      hangs_ = hangs;
      if (!hangs) held.swap(held_);
    }
    for (auto* request : held) carry_out(*request);
  }

 private:
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
  bool hangs_;
  std::vector<block::Request*> held_;
};

// A new session, or that of the probe before us.
std::unique_ptr<umbra::fuse::Session> serve(GuardianClient& client, const std::string& point,
                                            std::shared_ptr<ImageDevice> device) {
  using umbra::fuse::Session;
  auto kept = client.kept();
  if (!kept) return nullptr;
  const bool successor = !kept->empty();
  auto session = successor ? Session::take_over(std::move(kept->front().fd), kept->front().payload,
                                                umbra::null_log())
                           : Session::create({point, umbra::fuse::Shape::one_file, 0, 0750},
                                             umbra::null_log());
  if (!session || !(*session)->add("", device, {}) || !(*session)->start()) {
    return nullptr;
  }
  if (!successor && !client.keep("fuse", (*session)->descriptor(), (*session)->saved_state())) {
    return nullptr;
  }
  if (!device->hangs() && !client.serving()) return nullptr;
  return std::move(*session);
}

std::string text(const umbra::Status& status) {
  return status ? "ok" : "error " + status.error().to_string();
}

std::vector<std::uint64_t> devices(std::istream& words) {
  std::vector<std::uint64_t> all;
  for (std::uint64_t device = 0; words >> device;) all.push_back(device);
  return all;
}

umbra::SnapshotSetId set(std::istream& words) {
  std::string id;
  words >> id;
  return umbra::SnapshotSetId::parse(id).value();
}

std::string list_kept(GuardianClient& client) {
  auto kept = client.kept();
  if (!kept) return "error " + kept.error().to_string();
  std::string list;
  for (const auto& entry : *kept) {
    struct stat status {};
    (void)fstat(entry.fd.get(), &status);
    list += entry.name + "=" + entry.payload + "@" + std::to_string(status.st_ino) + " ";
  }
  return list;
}

std::string obey(GuardianClient& client, ImageDevice* device, const std::string& line) {
  std::istringstream words(line);
  std::string verb;
  words >> verb;
  if (verb == "freeze") {
    const auto id = set(words);
    std::int64_t limit_ms = 0;
    std::int64_t lease_ms = 0;
    words >> limit_ms >> lease_ms;
    return text(client.freeze(id, devices(words), std::chrono::milliseconds(limit_ms),
                              std::chrono::milliseconds(lease_ms)));
  }
  if (verb == "thaw") {
    const auto held = client.thaw(set(words));
    if (!held) return "error " + held.error().to_string();
    return *held ? "held" : "not held";
  }
  if (verb == "flush") return text(client.flush(devices(words)));
  if (verb == "kept") return list_kept(client);
  if (verb == "hang" || verb == "resume") {
    device->hang(verb == "hang");
    return "ok";
  }
  std::string name;
  words >> name;
  if (verb == "drop") return text(client.drop(name));
  if (verb == "exit") _exit(std::stoi(name));
  std::string file;
  std::string payload;
  words >> file >> payload;
  const UniqueFd fd(open(file.c_str(), O_RDONLY | O_CLOEXEC));
  return text(client.keep(name, fd.get(), payload));
}

UniqueFd connect_to(const char* path) {
  UniqueFd socket_fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  (void)std::strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
  if (connect(socket_fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
    socket_fd.reset();
  }
  return socket_fd;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv, argv + argc);
  if ((argc != 4 && argc != 6) || words[words.size() - 2] != "--guardian-fd") return 2;
  const UniqueFd control = connect_to(argv[1]);
  auto client = GuardianClient::connect(UniqueFd(std::stoi(words.back())), umbra::null_log());
  if (!control || !client) return 3;
  std::shared_ptr<ImageDevice> device;
  std::unique_ptr<umbra::fuse::Session> session;
  if (argc == 6) {
    device = std::make_shared<ImageDevice>(words[2]);
    session = serve(**client, words[3], device);
    if (!session) return 4;
  }
  std::string answer = std::to_string(getpid());
  for (;;) {
    if (send(control.get(), answer.data(), answer.size(), MSG_NOSIGNAL) < 0) return 0;
    std::array<char, 4096> line{};
    const ssize_t length = recv(control.get(), line.data(), line.size(), 0);
    if (length <= 0) return 0;
    answer =
        obey(**client, device.get(), std::string(line.data(), static_cast<std::size_t>(length)));
  }
}
