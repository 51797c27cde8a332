// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <system_error>

#include "provider/frontend/device_users.h"

namespace umbra::frontend {
namespace {

namespace fs = std::filesystem;

constexpr int kPollMs = 5;
constexpr std::chrono::seconds kLetGoLimit{2};

std::string reason(int error) { return std::generic_category().message(error); }

class Deadline {
 public:
  explicit Deadline(std::chrono::milliseconds limit)
      : end_(std::chrono::steady_clock::now() + limit) {}
  [[nodiscard]] bool over() const { return std::chrono::steady_clock::now() >= end_; }

 private:
  std::chrono::steady_clock::time_point end_;
};

bool is_open_somewhere(const std::string& device) {
  std::error_code ignored;
  for (const auto& process : fs::directory_iterator("/proc", ignored)) {
    const std::string name = process.path().filename().string();
    if (name.empty() || name.front() < '0' || name.front() > '9') continue;
    std::error_code gone;
    for (const auto& file : fs::directory_iterator(process.path() / "fd", gone)) {
      const fs::path target = fs::read_symlink(file.path(), gone);
      // " (deleted)" follows once the device is gone.
      if (!gone && (target == device || target == device + " (deleted)")) return true;
    }
  }
  return false;
}

}  // namespace

bool is_let_go(const std::string& device) {
  const Deadline deadline(kLetGoLimit);
  while (is_open_somewhere(device)) {
    if (deadline.over()) return false;
    (void)::poll(nullptr, 0, kPollMs);
  }
  return true;
}

Result<UniqueFd> claim(const std::string& device) {
  const Deadline deadline(kLetGoLimit);
  for (;;) {
    UniqueFd file(::open(device.c_str(), O_RDONLY | O_EXCL | O_CLOEXEC));
    if (file || errno == ENOENT || errno == ENXIO || errno == ENODEV) return file;
    const int error = errno;
    if (error != EBUSY) return fail(Errc::io_error, device + ": " + reason(error));
    if (deadline.over()) return fail(Errc::volume_in_use, device + " is mounted or in use");
    (void)::poll(nullptr, 0, kPollMs);
  }
}

Result<UniqueFd> claim_unused(const std::string& device) {
  if (!is_let_go(device)) return fail(Errc::volume_in_use, device + " is open somewhere");
  auto claimed = claim(device);
  if (claimed && *claimed && ::fsync(claimed->get()) != 0) {
    return fail(Errc::io_error, device + ": " + reason(errno));
  }
  return claimed;
}

}  // namespace umbra::frontend
