// SPDX-License-Identifier: Apache-2.0
//
// Stands for umbra-cowd under the guardian: umbra-guardian-probe SOCKET --guardian-fd N connects to
// the test's socket, says "PID", then does what each datagram says and answers with one:
//   freeze SET LIMIT-MS LEASE-MS DEVICE...    thaw SET    flush DEVICE...
//   keep NAME FILE PAYLOAD    kept    drop NAME    exit STATUS
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <iostream>
#include <sstream>

#include "provider/guardian/client.h"

namespace {

using umbra::UniqueFd;
using umbra::guardian::GuardianClient;

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

std::string obey(GuardianClient& client, const std::string& line) {
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
  if (argc != 4 || std::string_view(argv[2]) != "--guardian-fd") return 2;
  const UniqueFd control = connect_to(argv[1]);
  auto client = GuardianClient::connect(UniqueFd(std::stoi(argv[3])), umbra::null_log());
  if (!control || !client) return 3;
  std::string answer = std::to_string(getpid());
  for (;;) {
    if (send(control.get(), answer.data(), answer.size(), MSG_NOSIGNAL) < 0) return 0;
    std::array<char, 4096> line{};
    const ssize_t length = recv(control.get(), line.data(), line.size(), 0);
    if (length <= 0) return 0;
    answer = obey(**client, std::string(line.data(), static_cast<std::size_t>(length)));
  }
}
