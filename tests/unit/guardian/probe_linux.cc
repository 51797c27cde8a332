// SPDX-License-Identifier: Apache-2.0
//
// Stands for umbra-cowd under the guardian: umbra-guardian-probe SOCKET [IMAGE POINT] --guardian-fd
// N connects to the test's socket, says "PID", then does what each datagram says and answers with
// one:
//   freeze SET LIMIT-MS LEASE-MS DEVICE...    thaw SET    flush LIMIT-MS DEVICE...
//   begin LINE (in a thread, answers "begun")    end (waits for it)    stop (stops it first)
//   free SET (thaws; says "DEVICE:OFFSET+SIZE " of each free extent)
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
#include <stop_token>
#include <thread>
#include <vector>

#include "provider/frontend/fuse/session.h"
#include "provider/guardian/client.h"
#include "tests/support/image_device_posix.h"

namespace {

using umbra::UniqueFd;
using umbra::guardian::GuardianClient;

using umbra::test::ImageDevice;

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

std::string obey(GuardianClient& client, ImageDevice* device, const std::string& line,
                 const std::stop_token& stop = {}) {
  std::istringstream words(line);
  std::string verb;
  words >> verb;
  if (verb == "freeze") {
    const auto id = set(words);
    std::int64_t limit_ms = 0;
    std::int64_t lease_ms = 0;
    words >> limit_ms >> lease_ms;
    return text(client.freeze(id, devices(words), std::chrono::milliseconds(limit_ms),
                              std::chrono::milliseconds(lease_ms), stop));
  }
  if (verb == "thaw") {
    const auto held = client.thaw(set(words));
    if (!held) return "error " + held.error().to_string();
    return held->held_throughout ? "held" : "not held " + held->why;
  }
  if (verb == "free") {
    const auto thawed = client.thaw(set(words));
    if (!thawed || !thawed->held_throughout) return "not held";
    std::string list;
    for (const auto& extent : thawed->free) {
      list += std::to_string(extent.device) + ":" + std::to_string(extent.offset_bytes) + "+" +
              std::to_string(extent.size_bytes) + " ";
    }
    return list.empty() ? "none" : list;
  }
  if (verb == "flush") {
    std::int64_t limit_ms = 0;
    words >> limit_ms;
    return text(client.flush(devices(words), std::chrono::milliseconds(limit_ms), stop));
  }
  if (verb == "kept") return list_kept(client);
  if (verb == "hang" || verb == "resume") {
    if (verb == "hang") device->hang();
    if (verb == "resume") device->resume();
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

// begin, end, stop.
class Background {
 public:
  // False: the line is none of these.
  bool obey_too(GuardianClient& client, const std::string& line, std::string& answer) {
    if (line.rfind("begin ", 0) == 0) {
      thread_ = std::jthread([this, &client, rest = line.substr(6)](const std::stop_token& stop) {
        outcome_ = obey(client, nullptr, rest, stop);
      });
      answer = "begun";
      return true;
    }
    if (line != "end" && line != "stop") return false;
    if (line == "stop") thread_.request_stop();
    thread_.join();
    answer = outcome_;
    return true;
  }

 private:
  std::string outcome_;
  std::jthread thread_;
};

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
    if (access((words[2] + ".hang").c_str(), F_OK) == 0) device->hang();
    session = serve(**client, words[3], device);
    if (!session) return 4;
  }
  Background background;
  std::string answer = std::to_string(getpid());
  for (;;) {
    if (send(control.get(), answer.data(), answer.size(), MSG_NOSIGNAL) < 0) return 0;
    std::array<char, 4096> line{};
    const ssize_t length = recv(control.get(), line.data(), line.size(), 0);
    if (length <= 0) return 0;
    const std::string text(line.data(), static_cast<std::size_t>(length));
    if (!background.obey_too(**client, text, answer)) answer = obey(**client, device.get(), text);
  }
}
