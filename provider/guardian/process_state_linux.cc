// SPDX-License-Identifier: Apache-2.0
#include "provider/guardian/process_state_linux.h"

#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>
#include <vector>

namespace umbra::guardian {
namespace {

namespace fs = std::filesystem;

fs::path folder_of(pid_t pid) { return "/proc/" + std::to_string(pid); }

// The fields of stat from the state letter on; empty if the process or thread is gone.
std::vector<std::string> stat_fields(const fs::path& folder) {
  std::ifstream file(folder / "stat");
  std::string text;
  std::getline(file, text);
  std::istringstream rest(text.substr(std::min(text.rfind(')') + 1, text.size())));
  std::vector<std::string> fields;
  for (std::string field; rest >> field;) fields.push_back(field);
  return fields;
}

// A thread that waits in FUSE or NFS sleeps like any other; the call that it is in tells.
bool is_in_file_io(const fs::path& thread) {
  constexpr std::array kCalls{SYS_pread64,  SYS_pwrite64, SYS_preadv,    SYS_pwritev,  SYS_preadv2,
                              SYS_pwritev2, SYS_fsync,    SYS_fdatasync, SYS_fallocate};
  const auto fields = stat_fields(thread);
  if (!fields.empty() && fields[0] == "D") return true;
  std::ifstream file(thread / "syscall");  // "running", or the number and arguments.
  long number = -1;
  return file >> number && std::find(kCalls.begin(), kCalls.end(), number) != kCalls.end();
}

bool has_requests_in_flight(const fs::path& io_uring_info) {
  std::ifstream file(io_uring_info);
  std::uint32_t taken = 0;
  std::uint32_t completed = 0;
  for (std::string word; file >> word;) {
    if (word == "SqHead:") file >> taken;
    if (word == "CqTail:") file >> completed;
  }
  return taken != completed;
}

}  // namespace

bool is_stopped(pid_t pid) {
  const auto fields = stat_fields(folder_of(pid));
  return !fields.empty() && (fields[0] == "T" || fields[0] == "t");
}

bool has_main_thread_ended(pid_t pid) {
  const auto fields = stat_fields(folder_of(pid));
  return !fields.empty() && fields[0] == "Z";
}

std::string progress_of(pid_t pid) {
  const auto fields = stat_fields(folder_of(pid));
  std::string text = fields.size() > 12 ? fields[11] + " " + fields[12] : "";
  std::ifstream file(folder_of(pid) / "io");
  for (std::string line; std::getline(file, line);) text += " " + line;
  return text;
}

bool waits_for_storage(pid_t pid) {
  std::error_code ignored;
  for (const auto& thread : fs::directory_iterator(folder_of(pid) / "task", ignored)) {
    if (is_in_file_io(thread.path())) return true;
  }
  for (const auto& entry : fs::directory_iterator(folder_of(pid) / "fd", ignored)) {
    if (fs::read_symlink(entry.path(), ignored) != "anon_inode:[io_uring]") continue;
    if (has_requests_in_flight(folder_of(pid) / "fdinfo" / entry.path().filename())) return true;
  }
  return false;
}

}  // namespace umbra::guardian
