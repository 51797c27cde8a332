// SPDX-License-Identifier: Apache-2.0
//
// A real guardian with a probe in umbra-cowd's place, and real ext4 file systems in image files on
// loop devices. Whatever a case did, the destructors end every process, thaw and unmount.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "engine/platform/unique_fd.h"

namespace umbra::test {

/// Polls until true; false after `limit`.
[[nodiscard]] bool eventually(const std::function<bool()>& condition,
                              std::chrono::milliseconds limit = std::chrono::seconds(20));

class ScratchDirectory {
 public:
  ScratchDirectory();
  ~ScratchDirectory();
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

class Ext4 {
 public:
  /// Makes an image and mounts it under `directory`.
  Ext4(const std::filesystem::path& directory, const std::string& name);
  /// The same on a device that exists.
  Ext4(const std::filesystem::path& directory, const std::string& name, const std::string& device);
  ~Ext4();
  Ext4(const Ext4&) = delete;
  Ext4& operator=(const Ext4&) = delete;

  [[nodiscard]] std::uint64_t device() const { return device_; }
  [[nodiscard]] std::string text() const { return std::to_string(device_); }
  [[nodiscard]] const std::string& mount_path() const { return mount_path_; }
  [[nodiscard]] bool frozen() const;
  [[nodiscard]] bool freeze() const;  // As another program would.
  [[nodiscard]] bool thaw() const;
  void unmount(bool lazily);
  void close_root() { root_.reset(); }  // Nothing of ours keeps it in use.

 private:
  void mount_it(const std::string& what);

  std::string mount_path_;
  std::uint64_t device_ = 0;
  UniqueFd root_;  // Closed by unmount(false): it would be busy.
};

class GuardianUnit {
 public:
  explicit GuardianUnit(const std::filesystem::path& directory,
                        const std::vector<std::string>& options = {},
                        const std::vector<std::string>& probe_arguments = {});
  ~GuardianUnit() { end(); }
  GuardianUnit(const GuardianUnit&) = delete;
  GuardianUnit& operator=(const GuardianUnit&) = delete;

  void start();
  /// Kills everything and waits for it.
  void end();
  /// Waits for a probe to connect. False if none does.
  [[nodiscard]] bool await_probe();
  /// What the probe answers; "no answer" after `limit` or when it has died.
  std::string ask(const std::string& line,
                  std::chrono::milliseconds limit = std::chrono::seconds(20));
  void tell(const std::string& line);  // Without waiting.
  std::string answer(std::chrono::milliseconds limit = std::chrono::seconds(20));

  [[nodiscard]] pid_t guardian() const { return guardian_; }
  [[nodiscard]] pid_t probe() const { return probe_; }
  [[nodiscard]] std::vector<pid_t> holders() const;
  [[nodiscard]] std::string log() const;
  [[nodiscard]] bool has_records() const;
  void signal_guardian(int number) const;
  void signal_probe(int number) const;
  /// The guardian's wait status; -1 if it does not end.
  int await_end();

 private:
  std::filesystem::path directory_;
  std::vector<std::string> options_;
  std::vector<std::string> probe_arguments_;
  UniqueFd listener_;
  UniqueFd control_;
  pid_t guardian_ = -1;
  pid_t probe_ = -1;
  std::vector<pid_t> probes_;
};

}  // namespace umbra::test
