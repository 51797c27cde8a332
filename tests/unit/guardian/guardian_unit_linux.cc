// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/guardian/guardian_unit_linux.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

#include "tests/support/catch.h"

namespace umbra::test {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

int run(const std::string& command) { return std::system((command + " >/dev/null 2>&1").c_str()); }

// Processes named `name` whose parent is `parent`, or with parent 0: any.
std::vector<pid_t> children(pid_t parent, const std::string& name) {
  std::vector<pid_t> found;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const auto number = entry.path().filename().string();
    if (number.find_first_not_of("0123456789") != std::string::npos) continue;
    std::ifstream file(entry.path() / "stat");
    std::string text;
    std::getline(file, text);
    const auto open = text.find('(');
    const auto close = text.rfind(')');
    if (close == std::string::npos || text.substr(open + 1, close - open - 1) != name) continue;
    std::istringstream rest(text.substr(close + 1));
    char state = 0;
    pid_t its_parent = 0;
    rest >> state >> its_parent;
    if (state != 'Z' && its_parent == parent) found.push_back(std::stoi(number));
  }
  return found;
}

}  // namespace

bool eventually(const std::function<bool()>& condition, std::chrono::milliseconds limit) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    (void)poll(nullptr, 0, 5);
  }
  return true;
}

ScratchDirectory::ScratchDirectory() {
  std::string name = (fs::temp_directory_path() / "umbra-guardian-XXXXXX").string();
  REQUIRE(mkdtemp(name.data()) != nullptr);
  path_ = name;
}

ScratchDirectory::~ScratchDirectory() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

Ext4::Ext4(const fs::path& directory, const std::string& name)
    : mount_path_((directory / name).string()) {
  const std::string image = mount_path_ + ".img";
  REQUIRE(run("truncate -s 16M " + image) == 0);
  REQUIRE(run("mkfs.ext4 -q -F " + image) == 0);
  mount_it("-o loop " + image);
}

Ext4::Ext4(const fs::path& directory, const std::string& name, const std::string& device)
    : mount_path_((directory / name).string()) {
  REQUIRE(run("mkfs.ext4 -q -F " + device) == 0);
  mount_it(device);
}

void Ext4::mount_it(const std::string& what) {
  fs::create_directory(mount_path_);
  REQUIRE(run("mount " + what + " " + mount_path_) == 0);
  root_.reset(open(mount_path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  struct stat status {};
  REQUIRE(fstat(root_.get(), &status) == 0);
  device_ = status.st_dev;
}

Ext4::~Ext4() {
  if (root_) (void)ioctl(root_.get(), FITHAW, 0);
  root_.reset();
  (void)umount2(mount_path_.c_str(), MNT_DETACH);
}

// Freezing what is frozen is refused; freezing what is not is undone at once.
bool Ext4::frozen() const {
  if (ioctl(root_.get(), FIFREEZE, 0) == 0) {
    (void)ioctl(root_.get(), FITHAW, 0);
    return false;
  }
  return errno == EBUSY;
}

bool Ext4::freeze() const { return ioctl(root_.get(), FIFREEZE, 0) == 0; }
bool Ext4::thaw() const { return ioctl(root_.get(), FITHAW, 0) == 0; }

void Ext4::unmount(bool lazily) {
  if (!lazily) root_.reset();
  REQUIRE(umount2(mount_path_.c_str(), lazily ? MNT_DETACH : 0) == 0);
}

GuardianUnit::GuardianUnit(const fs::path& directory, const std::vector<std::string>& options,
                           const std::vector<std::string>& probe_arguments)
    : directory_(directory), options_(options), probe_arguments_(probe_arguments) {
  // What the guardian orphans comes to us, so that nothing is left behind.
  (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
  listener_.reset(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  (void)std::strncpy(address.sun_path, (directory / "control").c_str(),
                     sizeof(address.sun_path) - 1);
  REQUIRE(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
  REQUIRE(listen(listener_.get(), 8) == 0);
  start();
}

void GuardianUnit::end() {
  for (const pid_t pid : children(guardian_, "umbra-holder")) (void)kill(pid, SIGCONT);
  if (guardian_ > 0) (void)kill(guardian_, SIGKILL);
  for (const pid_t pid : probes_) (void)kill(pid, SIGKILL);
  // Holders see both their ends closed, thaw and end; as orphans they are our children.
  const auto gone = [&] {
    while (waitpid(-1, nullptr, WNOHANG) > 0) {
    }
    const auto ended = [](pid_t pid) { return kill(pid, 0) != 0; };
    return (guardian_ <= 0 || ended(guardian_)) &&
           std::all_of(probes_.begin(), probes_.end(), ended) &&
           children(getpid(), "umbra-holder").empty();
  };
  if (!eventually(gone, 10s)) {
    for (const pid_t pid : children(getpid(), "umbra-holder")) (void)kill(pid, SIGKILL);
    (void)eventually(gone, 2s);
  }
  guardian_ = -1;
  probes_.clear();
}

void GuardianUnit::start() {
  guardian_ = fork();
  if (guardian_ != 0) return;
  std::vector<std::string> words{UMBRA_GUARDIAN, "--run-dir", directory_.string(), "--log-file",
                                 (directory_ / "log").string()};
  words.insert(words.end(), options_.begin(), options_.end());
  words.insert(words.end(), {"--", UMBRA_PROBE, (directory_ / "control").string()});
  words.insert(words.end(), probe_arguments_.begin(), probe_arguments_.end());
  std::vector<char*> argv;
  for (auto& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  (void)execv(argv[0], argv.data());
  _exit(127);
}

bool GuardianUnit::await_probe() {
  // The last probe lives as long as its connection, so that one stays until there is another.
  UniqueFd next;
  const auto connected = [&] {
    next.reset(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    return static_cast<bool>(next);
  };
  if (!eventually(connected, 10s)) return false;
  control_ = std::move(next);
  const std::string pid = answer();
  if (pid.find_first_not_of("0123456789") != std::string::npos) return false;
  probe_ = std::stoi(pid);
  probes_.push_back(probe_);
  return true;
}

void GuardianUnit::tell(const std::string& line) {
  REQUIRE(send(control_.get(), line.data(), line.size(), MSG_NOSIGNAL) ==
          static_cast<ssize_t>(line.size()));
}

std::string GuardianUnit::answer(std::chrono::milliseconds limit) {
  pollfd source{control_.get(), POLLIN, 0};
  if (poll(&source, 1, static_cast<int>(limit.count())) <= 0) return "no answer";
  std::array<char, 4096> line{};
  const ssize_t length = recv(control_.get(), line.data(), line.size(), 0);
  return length > 0 ? std::string(line.data(), static_cast<std::size_t>(length)) : "no answer";
}

std::string GuardianUnit::ask(const std::string& line, std::chrono::milliseconds limit) {
  tell(line);
  return answer(limit);
}

std::vector<pid_t> GuardianUnit::holders() const { return children(guardian_, "umbra-holder"); }

std::string GuardianUnit::log() const {
  std::ifstream file(directory_ / "log");
  return {std::istreambuf_iterator<char>(file), {}};
}

bool GuardianUnit::has_records() const {
  return fs::exists(directory_ / "frozen") && !fs::is_empty(directory_ / "frozen");
}

void GuardianUnit::signal_guardian(int number) const { REQUIRE(kill(guardian_, number) == 0); }
void GuardianUnit::signal_probe(int number) const { REQUIRE(kill(probe_, number) == 0); }

int GuardianUnit::await_end() {
  int status = -1;
  const auto ended = [&] { return waitpid(guardian_, &status, WNOHANG) == guardian_; };
  if (!eventually(ended)) return -1;
  guardian_ = -1;
  return status;
}

}  // namespace umbra::test
