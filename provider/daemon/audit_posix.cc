// SPDX-License-Identifier: Apache-2.0
#include "provider/daemon/audit_posix.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <system_error>
#include <utility>

#include "engine/platform/unique_fd.h"

namespace umbra::cowd {
namespace {

namespace fs = std::filesystem;

constexpr mode_t kMode = 0600;

std::string time_text(std::int64_t filetime) {
  constexpr std::int64_t kUnixEpochSeconds = 11'644'473'600;
  constexpr std::int64_t kTicksPerSecond = 10'000'000;
  const std::time_t seconds = filetime / kTicksPerSecond - kUnixEpochSeconds;
  std::tm parts{};
  if (::gmtime_r(&seconds, &parts) == nullptr) return "-";
  std::array<char, 32> date{};
  if (std::strftime(date.data(), date.size(), "%Y-%m-%dT%H:%M:%S", &parts) == 0) return "-";
  std::string fraction = std::to_string(1000 + filetime % kTicksPerSecond / 10'000).substr(1);
  return std::string(date.data()) + "." + fraction + "Z";
}

// One line stays one line, whatever somebody calls himself.
std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += static_cast<unsigned char>(c) < 0x20 ? '?' : c;
  }
  return out + "\"";
}

void rotate(const std::string& path) {
  std::error_code ignored;
  for (int i = AuditLog::kFilesKept; i > 1; --i) {
    fs::rename(path + "." + std::to_string(i - 1), path + "." + std::to_string(i), ignored);
  }
  fs::rename(path, path + ".1", ignored);
}

int write_synced(const std::string& path, const std::string& line) {
  const UniqueFd file(::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, kMode));
  if (!file) return errno;
  const ssize_t written = ::write(file.get(), line.data(), line.size());
  if (written != static_cast<ssize_t>(line.size())) return written < 0 ? errno : ENOSPC;
  return ::fsync(file.get()) == 0 ? 0 : errno;
}

}  // namespace

std::string audit_line(const cow::Event& event) {
  const bool deleted = event.kind == cow::EventKind::snapshot_deleted;
  const bool lost = event.kind == cow::EventKind::snapshot_lost;
  const bool fault = event.kind == cow::EventKind::protection_fault ||
                     event.kind == cow::EventKind::protection_cleared;
  if (!deleted && !lost && !fault) return {};
  std::string line = time_text(event.time_filetime);
  line += std::string(" ") + name_of(event.kind) + " volume=" + event.volume.to_string();
  if (deleted || lost) {
    line += " snapshot=" + event.snapshot.to_string() + " set=" + event.set.to_string();
  }
  if (deleted)
    line += std::string(" reason=") + name_of(event.removal) + " who=" + quoted(event.who);
  if (fault && event.fault != cow::Fault::none)
    line += std::string(" fault=") + name_of(event.fault);
  if (lost) line += " why=" + quoted(event.text);
  return line;
}

AuditLog::AuditLog(std::string path, Log& log, std::function<void(const cow::Event&)> handler)
    : path_(std::move(path)),
      log_(log, "audit"),
      handler_(std::move(handler)),
      thread_([this] { run(); }) {}

AuditLog::~AuditLog() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    holds_ = 0;
  }
  changed_.notify_all();
  thread_.join();
}

void AuditLog::on_event(const cow::Event& event) noexcept {
  {
    const std::lock_guard lock(mutex_);
    dropped_ += event.events_dropped;
    if (waiting_.size() == kQueuedMax) {
      ++dropped_;
      return;
    }
    waiting_.push_back(event);
  }
  changed_.notify_all();
}

void AuditLog::hold(std::chrono::milliseconds limit) {
  std::unique_lock lock(mutex_);
  ++holds_;
  (void)changed_.wait_for(lock, limit, [this] { return !writing_; });
}

void AuditLog::release() {
  {
    const std::lock_guard lock(mutex_);
    if (holds_ > 0) --holds_;
  }
  changed_.notify_all();
}

void AuditLog::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || (!waiting_.empty() && holds_ == 0); });
    if (waiting_.empty()) return;
    const cow::Event event = std::move(waiting_.front());
    waiting_.pop_front();
    const std::uint64_t dropped = std::exchange(dropped_, 0);
    writing_ = true;
    lock.unlock();
    if (dropped > 0) {
      append(time_text(event.time_filetime) + " events_dropped count=" + std::to_string(dropped));
    }
    if (const std::string line = audit_line(event); !line.empty()) append(line);
    lock.lock();
    writing_ = false;
    changed_.notify_all();
    lock.unlock();
    if (handler_) handler_(event);
    lock.lock();
  }
}

void AuditLog::append(const std::string& line) {
  log_.info(line);
  std::error_code none;
  if (const auto size = fs::file_size(path_, none); !none && size >= kFileBytesMax) rotate(path_);
  if (const int error = write_synced(path_, line + "\n"); error != 0) {
    log_.error("the audit cannot be written",
               {{"path", path_}, {"error", std::generic_category().message(error)}});
  }
}

}  // namespace umbra::cowd
