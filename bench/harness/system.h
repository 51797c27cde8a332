// SPDX-License-Identifier: Apache-2.0
//
// What a bench needs of the system: programs that end when it ends, whichever way; a scratch
// directory; signals that unwind; the machine it runs on.
//
// Nothing outlives the bench, also after kill -9 of it but for the scratch directory: children get
// a signal when their parent dies, and mounts are made in a mount namespace of their own, on loop
// devices that go with their last user.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/platform/unique_fd.h"

namespace umbra::bench {

inline constexpr std::chrono::seconds kStartLimit{30};  // Of a server, until it listens.
inline constexpr std::chrono::seconds kStopLimit{15};   // From SIGTERM to SIGKILL.
inline constexpr std::chrono::minutes kProgramLimit{5};

/// From now on SIGINT and SIGTERM are noted (the second one of a kind kills), SIGPIPE is ignored.
void note_signals();
/// Throws Interrupted if one was noted.
void check_interrupted();

/// Mounts that this process and its children make from now on are theirs alone. False: not
/// permitted.
[[nodiscard]] bool isolate_mounts() noexcept;

/// Where the programs of the build are: beside this one.
[[nodiscard]] std::string own_directory();
/// "" if there is none in PATH or the system's sbin directories.
[[nodiscard]] std::string find_program(const std::string& name);
/// Throws Skipped, with what to install.
[[nodiscard]] std::string require_program(const std::string& name, const std::string& package);
[[nodiscard]] bool is_root() noexcept;

struct ChildOptions {
  std::string log_path;                  // Its output, appended; empty: thrown away.
  std::vector<std::string> environment;  // "NAME=value", beside ours.
  bool orderly = false;  // If we die it gets SIGTERM, to clean up, instead of SIGKILL.
};

/// A program in a process group of its own. Threads: one at a time; start() from the main thread,
/// whose end is what ends the child.
class Child {
 public:
  Child() noexcept = default;
  static Child start(const std::vector<std::string>& words, const ChildOptions& options);
  Child(Child&& other) noexcept;
  Child& operator=(Child&& other) noexcept;
  ~Child() { stop(); }

  [[nodiscard]] bool started() const noexcept { return pid_ > 0; }
  /// Waits for its end; false: it still runs. Throws Interrupted.
  bool wait(std::chrono::milliseconds limit);
  [[nodiscard]] int exit_status() const noexcept { return status_; }  // 128 + signal if killed.
  /// SIGTERM, and SIGKILL after kStopLimit; returns when it has ended.
  void stop() noexcept;
  [[nodiscard]] int pid() const noexcept { return pid_; }
  /// Waits until it takes connections there. Throws Failed with the end of its log.
  void wait_until_listening(const std::string& socket_path);
  /// Throws Failed: what it said last, and why we ask.
  [[noreturn]] void fail(const std::string& why) const;

 private:
  bool reap(int milliseconds) noexcept;
  int pid_ = -1;
  int status_ = -1;
  UniqueFd pidfd_;
  std::string name_;
  std::string log_path_;
};

/// What another process has. Zeroes: it is gone.
struct ProcessUse {
  std::uint64_t resident_bytes = 0;
  std::uint64_t descriptors = 0;
};
[[nodiscard]] ProcessUse process_use(int pid);
/// A child of that process which runs the program of this name. 0: there is none now.
[[nodiscard]] int child_of(int pid, const std::string& program);
/// Zombies are not.
[[nodiscard]] bool is_alive(int pid);
void kill_at_once(int pid) noexcept;

/// Runs it to its end; throws Failed with its output unless it exits with 0. Returns its output.
std::string run_program(const std::vector<std::string>& words);

/// A connection to a local socket, -1 if nobody listens.
[[nodiscard]] UniqueFd connect_local(const std::string& path) noexcept;
/// Waits a moment between two looks at something that nobody tells us of.
void pause_briefly();
/// The same in a thread, which the signal is not for.
void rest_briefly() noexcept;

/// A directory that goes with the object, with all that is in it.
class Scratch {
 public:
  explicit Scratch(const std::string& parent);
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] std::string path(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

/// A file system in a file, mounted through a loop device while the object lives. Root.
class LoopMount {
 public:
  /// `make`: mkfs.xfs or mkfs.btrfs. Throws Skipped where that cannot be had.
  LoopMount(const Scratch& scratch, const std::string& name, const std::string& make,
            const std::string& package, std::uint64_t size_bytes);
  ~LoopMount();
  LoopMount(const LoopMount&) = delete;
  LoopMount& operator=(const LoopMount&) = delete;
  [[nodiscard]] std::string path(const std::string& name) const { return directory_ + "/" + name; }

 private:
  std::string image_;
  std::string directory_;
};

/// Sets a file's size, all of it touched. Throws Failed.
void make_touched_file(const std::string& path, std::uint64_t size_bytes);
/// The same without blocks.
void make_sparse_file(const std::string& path, std::uint64_t size_bytes);
/// Writes a file back and lets the page cache forget it. False: some of it is still there, as
/// always where the files are in memory.
[[nodiscard]] bool evict_file(const std::string& path);
/// Into the page cache.
void read_all(const std::string& path);
/// The blocks of `from` shared under a new name. Throws Failed.
void clone_file(const std::string& from, const std::string& to);
/// 0: unknown.
[[nodiscard]] std::uint64_t free_bytes(const std::string& directory) noexcept;
/// "tmpfs, page cache", "ext4, page cache".
[[nodiscard]] std::string medium_of(const std::string& directory);
/// Where files go if nobody says otherwise: memory if there is enough, else the temporary one.
[[nodiscard]] std::string default_directory(std::uint64_t bytes_needed);

struct MachineCard {
  std::string cpu;
  unsigned cores = 0;
  std::uint64_t memory_bytes = 0;
  std::string kernel;
  std::string file_system;  // Of the directory.
  std::string commit;       // "" if this is not run in its tree.
  std::string compiler;
  double load = 0;  // Of the last minute: how quiet it is.
};
[[nodiscard]] MachineCard machine_card(const std::string& directory);

}  // namespace umbra::bench
