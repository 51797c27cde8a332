// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// A writer with auto-recovery: an application whose transactions are long, so that it cannot wait
// for their end in Freeze. The copy is taken in the middle of one, and while it is still writable
// the writer rolls back in the copy what was not committed, and deletes scratch files there.
// Whoever mounts the copy later finds a ledger that needs no recovery; the live one is not touched.
//
//   recovering_writer FILE        then, elsewhere: umbra create shadow PATH
//
// It mounts the copy, so it runs as root.
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <mutex>
#include <vector>

#include "umbra/writer/exclusions.h"
#include "umbra/writer/writer.h"

using namespace umbra;
namespace fs = std::filesystem;

extern char** environ;

// The application: transactions of many lines, "begin N", "entry", ..., "commit N".
class Ledger {
 public:
  explicit Ledger(const fs::path& path) : file_(path, std::ios::app) {}
  void write(const std::string& line) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::minutes(2), [this] { return !paused_; });
    file_ << line << std::endl;
    changed_.wait_for(lock, std::chrono::microseconds(200));  // No hurry.
  }
  void pause(bool paused) {
    const std::lock_guard lock(mutex_);
    paused_ = paused;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::ofstream file_;
  bool paused_ = false;
};

// The application's own recovery: what follows the last commit goes.
Status roll_back(const fs::path& ledger) {
  std::ifstream file(ledger);
  std::uintmax_t good = 0;
  for (std::string line; std::getline(file, line) && !file.eof();) {
    if (line.starts_with("commit ")) good = static_cast<std::uintmax_t>(file.tellg());
  }
  std::error_code error;
  fs::resize_file(ledger, good, error);
  if (error) return fail(Errc::writererror_nonretryable, ledger.string() + ": " + error.message());
  return {};
}

Status run(std::vector<std::string> words) {
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  pid_t child = -1;
  int status = 0;
  const bool ended =
      posix_spawnp(&child, arguments[0], nullptr, nullptr, arguments.data(), environ) == 0 &&
      waitpid(child, &status, 0) == child && status == 0;
  if (!ended)
    return fail(Errc::writererror_nonretryable, words[0] + " " + words.back() + " failed");
  return {};
}

// The directory on which the volume of `path` is mounted.
fs::path mount_point_of(fs::path path) {
  struct stat own {};
  struct stat above {};
  path = path.parent_path();
  while (path.has_relative_path() && stat(path.c_str(), &own) == 0 &&
         stat(path.parent_path().c_str(), &above) == 0 && own.st_dev == above.st_dev) {
    path = path.parent_path();
  }
  return path;
}

class RecoveringWriter final : public writer::Writer {
 public:
  RecoveringWriter(Ledger& ledger, fs::path path) : ledger_(ledger), path_(std::move(path)) {}

  // The flags tell requesters that copies are of no use without what we do in PostSnapshot.
  Status on_identify(writer::MetadataBuilder& metadata) override {
    ComponentInfo component;
    component.name = "ledger";
    component.flags = component_flag::kBackupRecovery | component_flag::kAppRollbackRecovery;
    FileSet& files = component.files.emplace_back();
    files.path = path_.parent_path();
    files.pattern = path_.filename();
    if (Status added = metadata.add_component(std::move(component)); !added) return added;
    FileSet scratch;
    scratch.path = path_.parent_path();
    scratch.pattern = "*.scratch";
    return metadata.add_exclude_files_from_snapshot(
        std::move(scratch));  // It is we who delete them.
  }
  Status on_prepare_for_snapshot(writer::Context&) override { return {}; }
  // In the middle of a transaction, if it must be: nobody waits for its end.
  Status on_freeze(writer::Context&) override {
    ledger_.pause(true);
    return {};
  }
  void on_thaw(writer::Context&) noexcept override { ledger_.pause(false); }
  void on_abort(writer::Context&) noexcept override { ledger_.pause(false); }

  // The copy exists and can be written, now and never again.
  Status on_post_snapshot(writer::Context& context) override {
    if (!context.is_path_affected(path_)) return {};
    if ((context.snapshot_context() & attribute::kNoAutorecovery) != 0) return {};
    const auto device = context.snapshot_device(path_);
    if (!device) return fail(device.error());
    std::string pattern = fs::temp_directory_path() / "recovering-writer-XXXXXX";
    if (mkdtemp(pattern.data()) == nullptr) {
      return fail(Errc::writererror_retryable, "no directory to mount the copy on");
    }
    const fs::path copy(pattern);
    Status done = run({"mount", fs::is_block_file(*device) ? "-orw" : "-orw,loop", *device, copy});
    if (done) {
      const fs::path volume = mount_point_of(path_);
      done = roll_back(copy / path_.lexically_relative(volume));
      const auto* described = context.metadata();
      if (done && described != nullptr) {
        const auto deleted =
            writer::delete_excluded_files(described->excludes_from_snapshot, {volume, copy});
        if (!deleted) done = fail(deleted.error());
      }
      const Status unmounted = run({"umount", copy});
      if (done) done = unmounted;
    }
    std::error_code ignored;
    fs::remove(copy, ignored);
    return done;
  }

 private:
  Ledger& ledger_;
  const fs::path path_;
};

static volatile std::sig_atomic_t stopped = 0;

int main(int argc, char** argv) {
  if (argc != 2 || argv[1][0] != '/') {
    std::cerr << "usage: recovering_writer /ABSOLUTE/FILE\n";
    return 2;
  }
  const fs::path path(argv[1]);
  Ledger ledger(path);
  RecoveringWriter recovering(ledger, path);

  writer::Options options;
  options.class_id = *WriterClassId::parse("c1f4e2d8-5a7b-4a53-8e0f-94c1d2b6a7e3");  // uuidgen
  options.name = "ledger with recovery";
  options.level = ApplicationLevel::back_end;
  options.log = [](LogLevel, std::string_view line) { std::cerr << line << "\n"; };
  Result<writer::Session> session = writer::Session::connect(recovering, options);
  if (!session) {
    std::cerr << session.error().to_string() << "\n";
    return 1;
  }
  std::signal(SIGTERM, [](int) { stopped = 1; });
  std::signal(SIGINT, [](int) { stopped = 1; });
  for (int number = 0; stopped == 0; ++number) {
    ledger.write("begin " + std::to_string(number));
    for (int entry = 0; stopped == 0 && entry < 2'000; ++entry) ledger.write("entry");
    ledger.write("commit " + std::to_string(number));
  }
  return session->stop() ? 0 : 1;
}
