// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// A whole writer: an application that appends to a file, and stops doing so while a snapshot is
// taken, so that the copy never ends in the middle of an entry.
//
//   notebook_writer FILE          then, elsewhere: umbra create shadow PATH
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <fstream>
#include <iostream>
#include <mutex>

#include "umbra/writer/writer.h"

using namespace umbra;

// The application: it knows nothing of snapshots but that it can be paused.
class Notebook {
 public:
  explicit Notebook(const std::string& path) : file_(path, std::ios::app) {}
  // Waits while paused, for a moment at most; false: still paused.
  bool append(const std::string& entry) {
    std::unique_lock lock(mutex_);
    const auto free = [this] { return !paused_; };
    if (!changed_.wait_for(lock, std::chrono::milliseconds(100), free)) return false;
    file_ << "begin " << entry << " end\n";
    return true;
  }
  void flush() {
    const std::lock_guard lock(mutex_);
    file_.flush();
  }
  void pause(bool paused) {
    const std::lock_guard lock(mutex_);
    paused_ = paused;
    file_.flush();
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::ofstream file_;
  bool paused_ = false;
};

// Between Umbra and the application.
class NotebookWriter final : public writer::Writer {
 public:
  NotebookWriter(Notebook& notebook, std::string directory)
      : notebook_(notebook), directory_(std::move(directory)) {}

  // What there is to back up.
  Status on_identify(writer::MetadataBuilder& metadata) override {
    ComponentInfo component;
    component.name = "notebook";
    component.files.emplace_back().path = directory_;
    return metadata.add_component(std::move(component));
  }
  // Slow work belongs here: nothing waits for us yet.
  Status on_prepare_for_snapshot(writer::Context&) override {
    notebook_.flush();
    return {};
  }
  // Every application on the volume waits for this call. Stop writing and return.
  Status on_freeze(writer::Context&) override {
    notebook_.pause(true);
    return {};
  }
  // One of these two follows, also if umbrad dies.
  void on_thaw(writer::Context&) noexcept override { notebook_.pause(false); }
  void on_abort(writer::Context&) noexcept override { notebook_.pause(false); }

 private:
  Notebook& notebook_;
  std::string directory_;
};

static volatile std::sig_atomic_t stopped = 0;

int main(int argc, char** argv) {
  if (argc != 2 || argv[1][0] != '/') {
    std::cerr << "usage: notebook_writer /ABSOLUTE/FILE\n";
    return 2;
  }
  const std::string path = argv[1];
  Notebook notebook(path);
  NotebookWriter notebook_writer(notebook, path.substr(0, path.find_last_of('/') + 1));

  writer::Options options;
  options.class_id = *WriterClassId::parse("2f8a3c14-9a0e-4a54-b1a5-9d6f2f0f6a31");  // uuidgen
  options.name = "notebook";
  options.log = [](LogLevel, std::string_view line) { std::cerr << line << "\n"; };
  Result<writer::Session> session = writer::Session::connect(notebook_writer, options);
  if (!session) {
    std::cerr << session.error().to_string() << "\n";
    return 1;
  }
  std::signal(SIGTERM, [](int) { stopped = 1; });
  std::signal(SIGINT, [](int) { stopped = 1; });
  for (int entry = 0; stopped == 0 && entry < 10'000'000;) {
    if (notebook.append(std::to_string(entry))) ++entry;
  }
  return session->stop() ? 0 : 1;
}
