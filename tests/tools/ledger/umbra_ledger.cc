// SPDX-License-Identifier: Apache-2.0
//
// umbra-ledger: an application that keeps writing to an SQLite database, and the check of any copy
// of it (ledger.h says what is proved).
//
//   umbra-ledger run FILE [--threads 2] [--accounts 100] [--journal wal] [--seed N]
//                         [--seconds N | --until-stdin-closes]
//     Prints one JSON object for each line "count" on standard input, and one at the end:
//       acknowledged       the last commit that SQLite acknowledged; every copy of a later moment
//                          has it
//       transfers, reads   how many since the start; readers run beside the writers
//       longest_commit_us, longest_read_us   the longest wait since the answer before
//     Exit status: 0, or 1 if the database failed or a reader saw a wrong sum.
//   umbra-ledger check FILE [--in-place] [--commits-min N] [--commits-max N]
//     Checks a copy made in a scratch directory, or the file itself. Prints one JSON object. Exit
//     status: 0 if it is good, 1 if not.
//   A wrong call: exit status 2.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <iostream>
#include <limits>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "engine/platform/log.h"
#include "tests/tools/ledger/ledger.h"

namespace {

using umbra::ledger::Connection;
using umbra::ledger::Teller;
using SteadyClock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kReadInterval{2};

struct RunOptions {
  std::string file;
  unsigned threads = 2;
  std::uint32_t accounts = 100;
  std::string journal = "wal";
  std::uint64_t seed = 1;
  unsigned seconds = 0;
  bool until_stdin_closes = false;
};

struct CheckOptions {
  std::string file;
  bool in_place = false;
  std::uint64_t commits_min = 0;
  std::uint64_t commits_max = std::numeric_limits<std::uint64_t>::max();
};

void raise_to(std::atomic<std::uint64_t>& maximum, std::uint64_t value) {
  auto seen = maximum.load();
  while (seen < value && !maximum.compare_exchange_weak(seen, value)) {
  }
}

std::uint64_t microseconds_since(SteadyClock::time_point begin) {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::microseconds>(SteadyClock::now() - begin).count());
}

// Shared by the threads of a run.
class Load {
 public:
  explicit Load(const RunOptions& options) : options_(options) {}

  void start() {
    for (unsigned i = 0; i < options_.threads; ++i) {
      threads_.emplace_back([this, i](const std::stop_token& stop) { write(stop, i); });
    }
    threads_.emplace_back([this](const std::stop_token& stop) { read(stop); });
  }

  void stop() { threads_.clear(); }

  /// False once the time is up or something failed.
  bool wait_until(SteadyClock::time_point end) {
    std::unique_lock lock(mutex_);
    return !changed_.wait_until(lock, end, [this] { return failed_; });
  }

  [[nodiscard]] bool has_failed() {
    const std::lock_guard lock(mutex_);
    return failed_;
  }

  void answer() {
    (void)std::printf(
        R"({"acknowledged":%llu,"transfers":%llu,"reads":%llu,"longest_commit_us":%llu,)"
        R"("longest_read_us":%llu,"failed":%s})"
        "\n",
        static_cast<unsigned long long>(acknowledged_.load()),
        static_cast<unsigned long long>(transfers_.load()),
        static_cast<unsigned long long>(reads_.load()),
        static_cast<unsigned long long>(longest_commit_us_.exchange(0)),
        static_cast<unsigned long long>(longest_read_us_.exchange(0)),
        has_failed() ? "true" : "false");
    (void)std::fflush(stdout);
  }

 private:
  void write(const std::stop_token& stop, unsigned number) {
    auto teller = Teller::open(options_.file, options_.seed * 1000 + number);
    if (!teller) return fail(teller.error().to_string());
    while (!stop.stop_requested()) {
      const auto begin = SteadyClock::now();
      const auto commit = teller->transfer();
      if (!commit) return fail(commit.error().to_string());
      raise_to(longest_commit_us_, microseconds_since(begin));
      raise_to(acknowledged_, *commit);
      ++transfers_;
    }
  }

  void read(const std::stop_token& stop) {
    auto connection = Connection::open(options_.file, false);
    if (!connection) return fail(connection.error().to_string());
    while (!stop.stop_requested()) {
      const auto begin = SteadyClock::now();
      const auto difference = umbra::ledger::imbalance(*connection);
      if (!difference) return fail(difference.error().to_string());
      if (*difference != 0)
        return fail("a reader saw a sum that is off by " + std::to_string(*difference));
      raise_to(longest_read_us_, microseconds_since(begin));
      ++reads_;
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, stop, kReadInterval, [] { return false; });
    }
  }

  void fail(const std::string& text) {
    (void)std::fprintf(stderr, "umbra-ledger: %s\n", text.c_str());
    const std::lock_guard lock(mutex_);
    failed_ = true;
    changed_.notify_all();
  }

  const RunOptions& options_;
  std::atomic<std::uint64_t> acknowledged_{0};
  std::atomic<std::uint64_t> transfers_{0};
  std::atomic<std::uint64_t> reads_{0};
  std::atomic<std::uint64_t> longest_commit_us_{0};
  std::atomic<std::uint64_t> longest_read_us_{0};
  std::mutex mutex_;
  std::condition_variable_any changed_;
  bool failed_ = false;                // Under mutex_.
  std::vector<std::jthread> threads_;  // Last: they use the members above.
};

int run(const RunOptions& options) {
  auto made = umbra::ledger::create(options.file, options.journal, options.accounts);
  if (!made) {
    (void)std::fprintf(stderr, "umbra-ledger: %s\n", made.error().to_string().c_str());
    return 1;
  }
  Load load(options);
  load.start();
  if (options.until_stdin_closes) {
    for (std::string line; std::getline(std::cin, line);) {
      if (line == "count") {
        load.answer();
      } else {
        (void)std::fprintf(stderr, "umbra-ledger: unknown command '%s'; there is: count\n",
                           umbra::printable(line).c_str());
      }
    }
  } else {
    (void)load.wait_until(SteadyClock::now() + std::chrono::seconds(options.seconds));
  }
  load.stop();
  load.answer();
  return load.has_failed() ? 1 : 0;
}

int check(const CheckOptions& options) {
  auto verdict = options.in_place ? umbra::ledger::check(options.file)
                                  : umbra::ledger::check_copy(options.file);
  if (!verdict) {
    (void)std::fprintf(stderr, "umbra-ledger: %s\n", verdict.error().to_string().c_str());
    return 1;
  }
  if (verdict->commits < options.commits_min) {
    verdict->problems.push_back("commit " + std::to_string(options.commits_min) +
                                " was acknowledged and is not there");
  }
  if (verdict->commits > options.commits_max) {
    verdict->problems.push_back("there are commits later than " +
                                std::to_string(options.commits_max));
  }
  std::string problems;
  for (const auto& problem : verdict->problems) {
    problems += (problems.empty() ? "\"" : ",\"") + umbra::printable(problem) + "\"";
  }
  (void)std::printf(R"({"ok":%s,"commits":%llu,"accounts":%llu,"problems":[%s]})"
                    "\n",
                    verdict->problems.empty() ? "true" : "false",
                    static_cast<unsigned long long>(verdict->commits),
                    static_cast<unsigned long long>(verdict->accounts), problems.c_str());
  return verdict->problems.empty() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("A load on an SQLite database whose copies can be proved good", "umbra-ledger");
  app.require_subcommand(1);

  RunOptions run_options;
  auto* run_command = app.add_subcommand("run", "Make transfers until told to stop");
  run_command->add_option("FILE", run_options.file)->required();
  run_command->add_option("--threads", run_options.threads)->check(CLI::Range(1, 64));
  run_command->add_option("--accounts", run_options.accounts)->check(CLI::Range(2, 100'000));
  run_command->add_option("--journal", run_options.journal)
      ->check(CLI::IsMember({"wal", "delete", "truncate", "persist"}));
  run_command->add_option("--seed", run_options.seed);
  auto* seconds = run_command->add_option("--seconds", run_options.seconds);
  auto* until = run_command->add_flag("--until-stdin-closes", run_options.until_stdin_closes);
  seconds->excludes(until);

  CheckOptions check_options;
  auto* check_command = app.add_subcommand("check", "Prove a database good or bad");
  check_command->add_option("FILE", check_options.file)->required();
  check_command->add_flag("--in-place", check_options.in_place);
  check_command->add_option("--commits-min", check_options.commits_min);
  check_command->add_option("--commits-max", check_options.commits_max);

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  if (*check_command) return check(check_options);
  if (run_options.seconds == 0 && !run_options.until_stdin_closes) {
    (void)std::fprintf(stderr, "umbra-ledger: say --seconds N or --until-stdin-closes\n");
    return 2;
  }
  return run(run_options);
}
