// SPDX-License-Identifier: Apache-2.0
#include "bench/harness/system.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "bench/harness/failure.h"

namespace umbra::bench {
namespace {

namespace fs = std::filesystem;

std::atomic<int> noted_signal{0};

void on_signal(int number) {
  noted_signal.store(number);
  // A second one means it: whoever waits for us does not want to wait for the clean-up.
  (void)::signal(number, SIG_DFL);
}

std::string errno_text(const std::string& what) { return what + ": " + std::strerror(errno); }

std::string tail_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  if (!in) return {};
  constexpr std::streamoff kTailBytes = 2000;
  const std::streamoff size = in.tellg();
  in.seekg(std::max<std::streamoff>(0, size - kTailBytes));
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string first_line(const std::string& path, const std::string& beginning) {
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    if (line.rfind(beginning, 0) == 0) return line.substr(beginning.size());
  }
  return {};
}

}  // namespace

void note_signals() {
  struct sigaction action = {};
  action.sa_handler = on_signal;
  (void)::sigaction(SIGINT, &action, nullptr);
  (void)::sigaction(SIGTERM, &action, nullptr);
  (void)::signal(SIGPIPE, SIG_IGN);
}

void check_interrupted() {
  if (const int number = noted_signal.load(); number != 0) throw Interrupted(number);
}

bool isolate_mounts() noexcept {
  return ::unshare(CLONE_NEWNS) == 0 &&
         ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
}

std::string own_directory() {
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  return self.parent_path().string();
}

std::string find_program(const std::string& name) {
  const char* path = std::getenv("PATH");
  std::string places = (path != nullptr ? std::string(path) : std::string()) + ":/usr/sbin:/sbin";
  for (std::size_t at = 0; at < places.size();) {
    const std::size_t end = std::min(places.find(':', at), places.size());
    const std::string candidate = places.substr(at, end - at) + "/" + name;
    if (end > at && ::access(candidate.c_str(), X_OK) == 0) return candidate;
    at = end + 1;
  }
  return {};
}

std::string require_program(const std::string& name, const std::string& package) {
  std::string found = find_program(name);
  if (found.empty()) throw Skipped(name + " is not installed (Debian package " + package + ")");
  return found;
}

bool is_root() noexcept { return ::geteuid() == 0; }

// --- children --------------------------------------------------------------------------------

Child Child::start(const std::vector<std::string>& words, const ChildOptions& options) {
  // Everything is made before fork(): between it and exec() nothing may allocate.
  std::vector<char*> argv;
  for (const auto& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  std::vector<char*> environment;
  for (const auto& one : options.environment) environment.push_back(const_cast<char*>(one.c_str()));
  for (char** ours = ::environ; *ours != nullptr; ++ours) environment.push_back(*ours);
  environment.push_back(nullptr);
  const std::string log = options.log_path.empty() ? "/dev/null" : options.log_path;
  const UniqueFd output(::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  const UniqueFd input(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (!output || !input) give_up(errno_text(log));
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) give_up(errno_text("fork"));
  if (pid == 0) {
    (void)::setpgid(0, 0);  // The terminal's SIGINT is for us alone: we end them, in our order.
    (void)::prctl(PR_SET_PDEATHSIG, options.orderly ? SIGTERM : SIGKILL);
    if (::getppid() != parent) ::_exit(127);
    for (const int number : {SIGINT, SIGTERM, SIGPIPE}) (void)::signal(number, SIG_DFL);
    if (::dup2(input.get(), 0) < 0 || ::dup2(output.get(), 1) < 0 || ::dup2(output.get(), 2) < 0) {
      ::_exit(127);
    }
    ::execve(argv[0], argv.data(), environment.data());
    ::_exit(127);
  }
  Child child;
  child.pid_ = pid;
  child.pidfd_.reset(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  child.name_ = fs::path(words[0]).filename().string();
  child.log_path_ = options.log_path;
  if (!child.pidfd_) give_up(errno_text("pidfd_open"));
  return child;
}

Child::Child(Child&& other) noexcept { *this = std::move(other); }

Child& Child::operator=(Child&& other) noexcept {
  if (this == &other) return *this;
  stop();
  pid_ = std::exchange(other.pid_, -1);
  status_ = other.status_;
  pidfd_ = std::move(other.pidfd_);
  name_ = std::move(other.name_);
  log_path_ = std::move(other.log_path_);
  return *this;
}

bool Child::reap(int milliseconds) noexcept {
  if (pid_ <= 0) return true;
  pollfd ended{pidfd_.get(), POLLIN, 0};
  if (::poll(&ended, 1, milliseconds) <= 0) return false;
  int status = 0;
  if (::waitpid(pid_, &status, 0) == pid_) {
    status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  pid_ = -1;
  return true;
}

bool Child::wait(std::chrono::milliseconds limit) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!reap(static_cast<int>(std::min<std::int64_t>(limit.count(), 100)))) {
    check_interrupted();
    if (std::chrono::steady_clock::now() >= end) return false;
  }
  return true;
}

void Child::stop() noexcept {
  if (pid_ <= 0) return;
  (void)::kill(pid_, SIGTERM);
  const auto end = std::chrono::steady_clock::now() + kStopLimit;
  while (!reap(100)) {
    if (std::chrono::steady_clock::now() < end) continue;
    (void)::kill(pid_, SIGKILL);
    (void)reap(-1);
  }
}

void Child::fail(const std::string& why) const {
  give_up(name_ + ": " + why + (log_path_.empty() ? "" : "; it said: " + tail_of(log_path_)));
}

void Child::wait_until_listening(const std::string& socket_path) {
  const auto end = std::chrono::steady_clock::now() + kStartLimit;
  while (!connect_local(socket_path)) {
    if (wait(std::chrono::milliseconds(5))) fail("it ended with " + std::to_string(status_));
    if (std::chrono::steady_clock::now() > end) {
      fail("it does not listen after " + std::to_string(kStartLimit.count()) + " s");
    }
  }
}

ProcessUse process_use(int pid) {
  const std::string directory = "/proc/" + std::to_string(pid);
  ProcessUse use;
  // In KiB.
  use.resident_bytes =
      std::strtoull(first_line(directory + "/status", "VmRSS:").c_str(), nullptr, 10) * 1024;
  std::error_code error;
  for (fs::directory_iterator one(directory + "/fd", error); !error && one != fs::end(one);
       one.increment(error)) {
    ++use.descriptors;
  }
  return use;
}

int child_of(int pid, const std::string& program) {
  const std::string mother = std::to_string(pid);
  std::ifstream children("/proc/" + mother + "/task/" + mother + "/children");
  for (int child = 0; children >> child;) {
    std::ifstream words("/proc/" + std::to_string(child) + "/cmdline");
    std::string name;
    (void)std::getline(words, name, '\0');
    if (fs::path(name).filename() == program) return child;
  }
  return 0;
}

bool is_alive(int pid) {
  const std::string state = first_line("/proc/" + std::to_string(pid) + "/status", "State:\t");
  // A zombie may wait for a process 1 that never asks for it.
  return pid > 0 && !state.empty() && state[0] != 'Z' && state[0] != 'X';
}

void kill_at_once(int pid) noexcept {
  if (pid > 0) (void)::kill(pid, SIGKILL);
}

std::string run_program(const std::vector<std::string>& words) {
  std::string log = fs::temp_directory_path().string() + "/umbra-bench.XXXXXX";
  UniqueFd made(::mkstemp(log.data()));
  if (!made) give_up(errno_text(log));
  Child child = Child::start(words, {.log_path = log, .environment = {}});
  bool ended = false;
  try {
    ended = child.wait(kProgramLimit);
  } catch (...) {
    (void)::unlink(log.c_str());
    throw;
  }
  child.stop();
  std::ifstream in(log);
  std::string output{std::istreambuf_iterator<char>(in), {}};
  (void)::unlink(log.c_str());
  if (!ended || child.exit_status() != 0) {
    std::string line;
    for (const auto& word : words) line += word + " ";
    give_up(line + (ended ? "failed: " : "did not end: ") + output);
  }
  return output;
}

UniqueFd connect_local(const std::string& path) noexcept {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return {};
  std::memcpy(address.sun_path, path.data(), path.size());
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return {};
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return {};
  }
  return fd;
}

void pause_briefly() {
  check_interrupted();
  rest_briefly();
}

void rest_briefly() noexcept { (void)::poll(nullptr, 0, 2); }

// --- files -----------------------------------------------------------------------------------

Scratch::Scratch(const std::string& parent) : path_(parent + "/umbra-bench.XXXXXX") {
  if (::mkdtemp(path_.data()) == nullptr) give_up(errno_text(path_));
}

Scratch::~Scratch() {
  std::error_code ignored;
  (void)fs::remove_all(path_, ignored);
}

LoopMount::LoopMount(const Scratch& scratch, const std::string& name, const std::string& make,
                     const std::string& package, std::uint64_t size_bytes)
    : image_(scratch.path(name + ".fs")), directory_(scratch.path(name)) {
  const std::string maker = require_program(make, package);
  if (!is_root()) throw Skipped("mounting needs root");
  if (::access("/dev/loop-control", R_OK | W_OK) != 0) throw Skipped("there are no loop devices");
  make_touched_file(image_, size_bytes);
  (void)run_program({maker, "-q", "-f", image_});
  fs::create_directory(directory_);
  (void)run_program({require_program("mount", "mount"), "-o", "loop", image_, directory_});
}

LoopMount::~LoopMount() {
  if (::umount2(directory_.c_str(), 0) != 0) (void)::umount2(directory_.c_str(), MNT_DETACH);
  std::error_code ignored;
  (void)fs::remove(image_, ignored);
  (void)fs::remove(directory_, ignored);
}

void make_touched_file(const std::string& path, std::uint64_t size_bytes) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!fd) give_up(errno_text(path));
  std::vector<char> zeroes(std::size_t{1} << 20U);
  for (std::uint64_t at = 0; at < size_bytes;) {
    const std::size_t piece = std::min<std::uint64_t>(zeroes.size(), size_bytes - at);
    const ssize_t written = ::write(fd.get(), zeroes.data(), piece);
    if (written <= 0) give_up(errno_text(path));
    at += static_cast<std::uint64_t>(written);
    check_interrupted();
  }
}

void make_sparse_file(const std::string& path, std::uint64_t size_bytes) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!fd || ::ftruncate(fd.get(), static_cast<off_t>(size_bytes)) != 0) give_up(errno_text(path));
}

bool evict_file(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat stat = {};
  if (!fd || ::fsync(fd.get()) != 0 || ::fstat(fd.get(), &stat) != 0) give_up(errno_text(path));
  if (stat.st_size == 0) return true;
  (void)::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED);
  const auto size = static_cast<std::size_t>(stat.st_size);
  void* const map = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd.get(), 0);
  if (map == MAP_FAILED) give_up(errno_text(path));
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  std::vector<unsigned char> pages((size + page - 1) / page);
  const bool is_known = ::mincore(map, size, pages.data()) == 0;
  (void)::munmap(map, size);
  return is_known && std::none_of(pages.begin(), pages.end(),
                                  [](unsigned char one) { return (one & 1U) != 0; });
}

void read_all(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::vector<char> buffer(std::size_t{1} << 20U);
  while (in.read(buffer.data(), static_cast<std::streamsize>(buffer.size()))) check_interrupted();
  if (!in.eof()) give_up(errno_text(path));
}

void clone_file(const std::string& from, const std::string& to) {
  const UniqueFd source(::open(from.c_str(), O_RDONLY | O_CLOEXEC));
  const UniqueFd target(::open(to.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!source || !target) give_up(errno_text(to));
  if (::ioctl(target.get(), FICLONE, source.get()) != 0) give_up(errno_text("FICLONE " + to));
}

std::uint64_t free_bytes(const std::string& directory) noexcept {
  struct statvfs stat = {};
  if (::statvfs(directory.c_str(), &stat) != 0) return 0;
  return std::uint64_t{stat.f_bavail} * stat.f_frsize;
}

std::string medium_of(const std::string& directory) {
  struct statfs stat = {};
  if (::statfs(directory.c_str(), &stat) != 0) return "unknown";
  switch (static_cast<std::uint64_t>(stat.f_type)) {
    case 0x01021994: return "files on tmpfs (page cache)";
    case 0xEF53: return "files on ext4, page cache";
    case 0x58465342: return "files on XFS, page cache";
    case 0x9123683E: return "files on btrfs, page cache";
    default: return "files, page cache";
  }
}

std::string default_directory(std::uint64_t bytes_needed) {
  const std::string memory = "/dev/shm";
  if (::access(memory.c_str(), W_OK) == 0 && free_bytes(memory) > bytes_needed) return memory;
  std::error_code ignored;
  return fs::temp_directory_path(ignored).string();
}

MachineCard machine_card(const std::string& directory) {
  MachineCard card;
  const std::string model = first_line("/proc/cpuinfo", "model name");
  card.cpu = model.empty() ? "unknown" : model.substr(std::min(model.find(": ") + 2, model.size()));
  card.cores = std::thread::hardware_concurrency();
  const std::string total = first_line("/proc/meminfo", "MemTotal:");
  card.memory_bytes = std::strtoull(total.c_str(), nullptr, 10) * 1024;
  utsname system = {};
  if (::uname(&system) == 0) card.kernel = std::string(system.sysname) + " " + system.release;
  card.file_system = medium_of(directory);
  if (const std::string git = find_program("git"); !git.empty()) {
    try {
      card.commit = run_program({git, "-C", own_directory(), "describe", "--always", "--dirty"});
      while (!card.commit.empty() && card.commit.back() == '\n') card.commit.pop_back();
    } catch (const Failed&) {
      card.commit = "unknown";  // Not run in its tree.
    }
  }
  card.compiler = UMBRA_COMPILER;
  double averages[1] = {};
  if (::getloadavg(averages, 1) == 1) card.load = averages[0];
  return card;
}

}  // namespace umbra::bench
