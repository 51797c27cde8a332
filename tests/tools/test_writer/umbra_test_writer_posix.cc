// SPDX-License-Identifier: Apache-2.0
//
// umbra-test-writer: a writer that misbehaves on request, at any event, and notes every event in a
// file, one JSON object a line: {"event": "freeze", "session": GUID, "set": GUID, "at_us": N,
// "volumes": [NAME...], "components": [PATH...]}; at_us is CLOCK_MONOTONIC. It prints "ready" once
// it is registered and ends on SIGTERM.
//
//   umbra-test-writer --record FILE [--name N] [--component PATH[=DIRECTORY]]...
//       [--at EVENT=ACTION]...
//   umbra-test-writer --record FILE [--name N] --config FILE [--at EVENT=ACTION]...
//
// The configuration file is in the vocabulary of VSS's test writer: docs/tools/test-writer.md.
//
// EVENT: identify, prepare_for_backup, prepare_for_snapshot, freeze, thaw, post_snapshot, abort,
// backup_complete, backup_shutdown, pre_restore, post_restore. ACTION (several for one event are
// done in order):
//   delay:MS          answer later; ends early when the SDK asks to stop
//   veto[:CODE]       fail; CODE: retryable (default), nonretryable, timeout, outofresources,
//                     inconsistentsnapshot
//   report[:CODE]     succeed and report a failure
//   stamp:TEXT        set the backup stamp of every component
//   metadata:TEXT     set the backup metadata (pre_restore: the restore metadata) of each
//   target:TARGET     pre_restore: set the restore target of each selected component
//   message:TEXT      set the failure message of every (selected) component
//   silence           do not answer until the SDK asks to stop
//   hang              do not answer at all
//   throw             leave the callback by an exception (not from thaw, abort and shutdown)
//   die               SIGKILL to itself
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <map>
#include <mutex>
#include <stdexcept>

#include "engine/platform/clock.h"
#include "tests/tools/test_writer/behaviour.h"
#include "umbra/writer/writer.h"

namespace {

using namespace umbra;

struct Action {
  std::string name;
  std::string argument;
};
using Script = std::map<std::string, std::vector<Action>>;

constexpr std::array kEvents{"identify",
                             "prepare_for_backup",
                             "prepare_for_snapshot",
                             "freeze",
                             "thaw",
                             "post_snapshot",
                             "abort",
                             "backup_complete",
                             "backup_shutdown",
                             "pre_restore",
                             "post_restore"};
constexpr std::array kActions{"delay",   "veto",    "report", "stamp", "metadata", "target",
                              "message", "silence", "hang",   "throw", "die"};

Errc code_named(const std::string& name) {
  if (name == "nonretryable") return Errc::writererror_nonretryable;
  if (name == "timeout") return Errc::writererror_timeout;
  if (name == "outofresources") return Errc::writererror_outofresources;
  if (name == "inconsistentsnapshot") return Errc::writererror_inconsistentsnapshot;
  return Errc::writererror_retryable;
}

// JSON text of a string of ours: names and paths of tests, without control characters.
std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char letter : text) {
    if (letter == '"' || letter == '\\') out.push_back('\\');
    out.push_back(letter);
  }
  return out + "\"";
}

class Record {
 public:
  void open(const std::string& path) { file_.open(path, std::ios::app); }
  [[nodiscard]] bool is_open() const { return file_.is_open(); }
  void note(const std::string& event, const writer::Context* context) {
    const std::lock_guard lock(mutex_);
    const auto now = system_clock().now().time_since_epoch();
    file_ << "{\"event\":" << quoted(event)
          << ",\"at_us\":" << std::chrono::duration_cast<std::chrono::microseconds>(now).count();
    if (context != nullptr) describe(*context);
    file_ << "}" << std::endl;  // On the disk's side of this process before anything happens.
  }

 private:
  void describe(const writer::Context& context) {
    file_ << ",\"session\":" << quoted(context.session_id().to_string())
          << ",\"set\":" << quoted(context.snapshot_set_id().to_string()) << ",\"volumes\":[";
    const char* comma = "";
    for (const auto& volume : context.volumes()) {
      file_ << std::exchange(comma, ",") << quoted(volume.name);
    }
    file_ << "],\"components\":[";
    comma = "";
    if (context.components() != nullptr) {
      for (const auto& component : context.components()->components) {
        file_ << std::exchange(comma, ",") << quoted(component.name);
      }
    }
    file_ << "],\"restore\":[";
    comma = "";
    if (context.components() != nullptr) {
      for (const auto& component : context.components()->components) {
        if (!component.selected_for_restore) continue;
        file_ << std::exchange(comma, ",") << "{\"name\":" << quoted(component.name)
              << ",\"status\":" << static_cast<int>(component.file_restore_status)
              << ",\"options\":" << quoted(component.restore_options.value_or(""))
              << ",\"backup_metadata\":" << quoted(component.backup_metadata.value_or(""))
              << ",\"stamp\":" << quoted(component.backup_stamp.value_or(""))
              << ",\"restore_metadata\":" << quoted(component.restore_metadata.value_or(""))
              << ",\"new_targets\":" << component.new_targets.size()
              << ",\"alternate_locations\":" << component.alternate_locations.size()
              << ",\"more_follow\":" << (component.additional_restores ? "true" : "false") << "}";
      }
    }
    file_ << "]";
  }
  std::mutex mutex_;
  std::ofstream file_;
};

class TestWriter final : public writer::Writer {
 public:
  struct Declared {
    std::vector<std::string> components;
    std::uint32_t schema = 0;
    int method = 2;
    int writer_restore = 3;
    std::string alternate;  // Destination of the alternate locations of all file sets.
  };
  // `configured`: instead of what is declared; null without a configuration file.
  TestWriter(Script script, Declared declared, test_writer::Behaviour* configured, Record& record)
      : script_(std::move(script)),
        declared_(std::move(declared)),
        configured_(configured),
        record_(record) {}

  Status on_identify(writer::MetadataBuilder& metadata) override {
    record_.note("identify", nullptr);
    if (Status done = act("identify", nullptr); !done) return done;
    if (configured_ != nullptr) return configured_->describe(metadata);
    metadata.set_backup_schema(declared_.schema);
    RestoreRules rules;
    rules.method = static_cast<RestoreMethod>(declared_.method);
    rules.service = "umbra-test.service";
    rules.writer_restore = static_cast<WriterRestore>(declared_.writer_restore);
    for (const std::string& text : declared_.components) {
      const std::size_t equals = text.find('=');
      ComponentInfo component;
      component.name = text.substr(0, equals);
      if (equals != std::string::npos) {
        component.files.emplace_back().path = text.substr(equals + 1);
        component.files.back().recursive = true;
        if (!declared_.alternate.empty()) {
          rules.alternate_locations.push_back(
              {text.substr(equals + 1), "*", true, declared_.alternate});
        }
      }
      if (Status added = metadata.add_component(std::move(component)); !added) return added;
    }
    return metadata.set_restore_rules(std::move(rules));
  }
  Status on_prepare_for_backup(writer::Context& context) override {
    return handle("prepare_for_backup", context);
  }
  Status on_prepare_for_snapshot(writer::Context& context) override {
    return handle("prepare_for_snapshot", context);
  }
  Status on_freeze(writer::Context& context) override { return handle("freeze", context); }
  void on_thaw(writer::Context& context) noexcept override {
    if (const Status done = handle("thaw", context); !done) {
      context.report_failure({done.error().code, 0, done.error().context});
    }
  }
  Status on_post_snapshot(writer::Context& context) override {
    return handle("post_snapshot", context);
  }
  void on_abort(writer::Context& context) noexcept override {
    const Status ignored = handle("abort", context);
    static_cast<void>(ignored);
  }
  Status on_backup_complete(writer::Context& context) override {
    return handle("backup_complete", context);
  }
  Status on_pre_restore(writer::Context& context) override {
    return handle("pre_restore", context);
  }
  Status on_post_restore(writer::Context& context) override {
    return handle("post_restore", context);
  }
  void on_backup_shutdown(const SnapshotSetId&) noexcept override {
    record_.note("backup_shutdown", nullptr);
    const Status ignored = act("backup_shutdown", nullptr);
    static_cast<void>(ignored);
  }

 private:
  Status handle(const std::string& event, writer::Context& context) {
    record_.note(event, &context);
    return act(event, &context);
  }

  Status act(const std::string& event, writer::Context* context) {
    const auto found = script_.find(event);
    if (found != script_.end()) {
      for (const Action& action : found->second) {
        if (Status done = act(action, event, context); !done) return done;
      }
    }
    return configured_ == nullptr ? Status{} : act_as_configured(event, context);
  }

  Status act_as_configured(const std::string& event, writer::Context* context) {
    const auto& delays = configured_->config().delays;
    if (const auto delay = delays.find(event); delay != delays.end()) wait(delay->second, context);
    if (Status wanted = configured_->fail_if_asked(event); !wanted) return wanted;
    return context == nullptr ? Status{} : configured_->act(event, *context);
  }

  Status act(const Action& action, const std::string& event, writer::Context* context) {
    if (action.name == "delay") {
      wait(std::chrono::milliseconds(std::stoul(action.argument)), context);
    } else if (action.name == "silence") {
      wait(std::chrono::hours(24), context);
    } else if (action.name == "hang") {
      wait(std::chrono::hours(24), nullptr);
    } else if (action.name == "die") {
      ::kill(::getpid(), SIGKILL);
    } else if (action.name == "throw") {
      throw std::runtime_error("as asked, at " + event);
    } else if (action.name == "veto") {
      return fail(code_named(action.argument), "vetoed as asked, at " + event);
    } else if (action.name == "report" && context != nullptr) {
      context->report_failure({code_named(action.argument), 4711, "reported as asked"});
    } else if (context != nullptr && context->components() != nullptr) {
      const bool restoring = event == "pre_restore" || event == "post_restore";
      // A copy: each change replaces what components() points to.
      const std::vector<BackupComponent> components = context->components()->components;
      for (const BackupComponent& component : components) {
        if (restoring && !component.selected_for_restore) continue;
        if (Status done = edit(action, event, *context, component); !done) return done;
      }
    }
    return {};
  }

  static Status edit(const Action& action, const std::string& event, writer::Context& context,
                     const BackupComponent& component) {
    const writer::ComponentName name{component.logical_path, component.name};
    if (action.name == "stamp") return context.set_backup_stamp(name, action.argument);
    if (action.name == "message") return context.set_failure_message(name, action.argument);
    if (action.name == "metadata") {
      return event == "pre_restore" ? context.set_restore_metadata(name, action.argument)
                                    : context.set_backup_metadata(name, action.argument);
    }
    constexpr std::array kTargets{"", "original", "alternate", "directed", "original-location"};
    const auto target = std::find(kTargets.begin(), kTargets.end(), action.argument);
    if (action.name != "target" || target == kTargets.end()) return {};
    return context.set_restore_target(name, static_cast<RestoreTarget>(target - kTargets.begin()));
  }

  // Until `limit` has passed or, with a context, the SDK asks to stop.
  void wait(std::chrono::milliseconds limit, const writer::Context* context) {
    const auto end = std::chrono::steady_clock::now() + limit;
    std::unique_lock lock(mutex_);
    while (std::chrono::steady_clock::now() < end) {
      if (context != nullptr && context->stop_requested()) return;
      never_.wait_until(
          lock, std::min(end, std::chrono::steady_clock::now() + std::chrono::milliseconds(5)));
    }
  }

  const Script script_;
  const Declared declared_;
  test_writer::Behaviour* configured_;
  Record& record_;
  std::mutex mutex_;
  std::condition_variable never_;  // Only its time-outs matter.
};

bool is_one_of(const auto& list, const std::string& name) {
  return std::find(list.begin(), list.end(), name) != list.end();
}

// "freeze=delay:500" into the script. False: not of that form.
bool add_to(Script& script, const std::string& text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos) return false;
  const std::string event = text.substr(0, equals);
  const std::string rest = text.substr(equals + 1);
  const std::size_t colon = rest.find(':');
  Action action{rest.substr(0, colon), colon == std::string::npos ? "" : rest.substr(colon + 1)};
  if (!is_one_of(kEvents, event) || !is_one_of(kActions, action.name)) return false;
  const bool number = !action.argument.empty() &&
                      action.argument.find_first_not_of("0123456789") == std::string::npos &&
                      action.argument.size() < 9;
  if (action.name == "delay" && !number) return false;
  script[event].push_back(std::move(action));
  return true;
}

std::atomic<writer::Session*> the_session{nullptr};  // For the signal handler.

void stop_on_signal(int) {
  writer::Session* session = the_session.load();
  if (session != nullptr) session->request_stop();
}

int serve(writer::Writer& test_writer, writer::Options options) {
  Result<writer::Session> session = writer::Session::connect(test_writer, std::move(options));
  if (!session) {
    std::cerr << "umbra-test-writer: " << session.error().to_string() << "\n";
    return 1;
  }
  the_session.store(&*session);
  struct sigaction on_signal {};
  on_signal.sa_handler = stop_on_signal;
  ::sigaction(SIGTERM, &on_signal, nullptr);
  ::sigaction(SIGINT, &on_signal, nullptr);
  std::puts("ready");
  std::fflush(stdout);
  const Status ended = session->run();
  the_session.store(nullptr);
  if (!ended) {
    std::cerr << "umbra-test-writer: " << ended.error().to_string() << "\n";
    ::_exit(1);  // A callback hangs as asked: leaving in order would wait for it.
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  writer::Options options;
  options.name = "test-writer";
  std::string class_id = "5f0c8d3e-2b52-4d7e-9a43-6f8e1b0c7a11";
  std::string record_path;
  std::string config_path;
  TestWriter::Declared declared;
  declared.components = {"data"};
  std::vector<std::string> behaviour;
  std::uint32_t window_ms = 60'000;
  int level = 3;
  bool wait = false;
  CLI::App app("A writer that misbehaves on request (see the top of umbra_test_writer_posix.cc)");
  app.add_option("--socket", options.socket_path, "umbrad's socket");
  app.add_option("--record", record_path, "file to note events in")->required();
  app.add_option("--config", config_path, "what to declare and do: docs/tools/test-writer.md");
  app.add_option("--subscription", options.subscription, "2 backup events, 4 restore events, 6");
  app.add_option("--name", options.name, "writer name");
  app.add_option("--instance", options.instance_name, "instance name");
  app.add_option("--class-id", class_id, "writer class id");
  app.add_option("--component", declared.components, "NAME or NAME=DIRECTORY");
  app.add_option("--schema", declared.schema, "Backup schema, a number");
  app.add_option("--restore-method", declared.method, "VSS's number (default: 2)");
  app.add_option("--writer-restore", declared.writer_restore, "1 never, 2 if replace fails, 3");
  app.add_option("--alternate", declared.alternate, "Alternate location of every file set");
  app.add_option("--at", behaviour, "EVENT=ACTION[:ARGUMENT]");
  app.add_option("--freeze-window-ms", window_ms, "1 to 60000");
  app.add_option("--level", level, "1 system, 2 back end, 3 front end, 4 system RM")
      ->check(CLI::Range(1, 4));
  app.add_flag("--wait", wait, "start without umbrad and wait for it");
  CLI11_PARSE(app, argc, argv);

  Script script;
  for (const std::string& text : behaviour) {
    if (add_to(script, text)) continue;
    std::cerr << "umbra-test-writer: --at " << text << ": expected EVENT=ACTION[:ARGUMENT]\n";
    return 2;
  }
  const Result<WriterClassId> parsed = WriterClassId::parse(class_id);
  Record record;
  record.open(record_path);
  if (!parsed || !record.is_open()) {
    std::cerr << "umbra-test-writer: " << (parsed ? "cannot write " + record_path : class_id)
              << (parsed ? "" : " is no class id") << "\n";
    return 2;
  }
  options.class_id = *parsed;
  options.freeze_window = std::chrono::milliseconds(window_ms);
  options.level = static_cast<ApplicationLevel>(level);
  options.coordinator_required = !wait;
  options.log = [](LogLevel, std::string_view text) { std::cerr << text << std::endl; };
  std::optional<test_writer::Behaviour> configured;
  if (!config_path.empty()) {
    auto config = test_writer::read_config(config_path);
    if (!config) {
      std::cerr << "umbra-test-writer: " << config.error().context << "\n";
      return 2;
    }
    options.usage = config->usage;
    configured.emplace(std::move(*config));
  }
  TestWriter testing(std::move(script), std::move(declared), configured ? &*configured : nullptr,
                     record);
  return serve(testing, std::move(options));
}
