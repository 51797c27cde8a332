// SPDX-License-Identifier: Apache-2.0
//
// The guardian: main process of the provider's unit. It starts umbra-cowd and restarts it, keeps
// descriptors for it over a restart, and has every freeze, thaw and flush done by holder processes
// (holder_linux.h), so that its own loop never waits for a volume. docs/guardian.md says what is
// bounded by what.
//
// One thread, one poll loop. Everything it waits for has a deadline; at the end of a lease:
//   at once                 the holder thaws by itself
//   if that waits           a stopped umbra-cowd or holder gets SIGCONT
//   each `patience` later   an umbra-cowd that makes no progress is killed, at most kLeaseKillsMax
//                           times; its successor serves what the thaw has to write. One that waits
//                           for its own storage is left alone: the disk is slow, with or without us
//   kAbortPatience later    without progress still: gives up (below)
// A successor has `serve_limit` to serve what is kept; then it is killed, which counts as a
// failure. Giving up, also after too many failures of umbra-cowd and when asked to stop again after
// `patience`: the sessions are aborted and what is kept is closed, so that whoever waits for a
// device gets an error instead of waiting for ever.

#pragma once

#include <poll.h>

#include <filesystem>
#include <list>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "engine/platform/clock.h"
#include "engine/platform/log.h"
#include "provider/guardian/channel_linux.h"
#include "provider/guardian/guardian_log_linux.h"
#include "provider/guardian/holder_linux.h"
#include "provider/guardian/restart_policy.h"

namespace umbra::guardian {

inline constexpr int kLeaseKillsMax = 2;
inline constexpr int kAbortPatience = 12;  // Times `patience`, 60 s by default.
inline constexpr std::chrono::milliseconds kEndPatience{30'000};  // For thaws, before it exits.
inline constexpr std::chrono::milliseconds kLeaseMax{60'000};
inline constexpr std::chrono::milliseconds kFlushMax{600'000};
inline constexpr std::size_t kHoldersMax = 256;

struct GuardianOptions {
  std::filesystem::path run_dir;
  std::vector<std::string> command;  // umbra-cowd and its arguments.
  /// Its name begins with "@", as ours does: the last kill of a shutdown spares such processes.
  bool spared = false;
  RestartLimits restart;
  std::chrono::milliseconds patience{5'000};
  std::chrono::milliseconds serve_limit{120'000};
};

/// Threads: one; the process must have no other. Signals SIGCHLD, SIGTERM, SIGINT, SIGHUP must be
/// blocked; `signals` is their signalfd.
class Guardian {
 public:
  Guardian(GuardianOptions options, int signals, GuardianLog& log);

  /// Thaws leftovers, starts umbra-cowd, and returns the unit's exit status when it is over.
  [[nodiscard]] int run();

 private:
  enum class Stage : std::uint8_t { working, freezing, frozen, thawing };
  struct Worker {
    pid_t pid = -1;
    HolderMode mode = HolderMode::freeze;
    Stage stage = Stage::working;
    SnapshotSetId set{};
    std::uint32_t request = 0;  // Unanswered, of the present umbra-cowd; 0: none.
    std::chrono::milliseconds lease{0};
    UniqueFd socket{};
    UniqueFd client_end{};  // Until umbra-cowd gets it.
    std::vector<Mount> mounts{};
    std::string record_path{};
    TimePoint answer_by{};                 // working: without a word by then it is given up.
    std::optional<TimePoint> lease_end{};  // None for leftovers: nobody counts.
    std::optional<TimePoint> act_at{};     // The next escalation.
    int kills = 0;
    bool said_stalled = false;
    std::string progress{};  // Of umbra-cowd, when last looked at.
  };
  using Workers = std::list<Worker>;

  void thaw_leftovers();
  bool start_child();
  [[nodiscard]] bool over();
  [[nodiscard]] int poll_timeout_ms() const;
  void act_on_time();
  void wait();
  void finish(int status);
  void give_up();
  void abort_sessions();
  void on_not_serving();
  void look_at_dying();

  void on_signals();
  void ask_for_new();
  void reap();
  void on_child_end(Ending ending);
  void on_child_message();
  void dispatch(Received& received);
  void keep(Received& received);
  void give_kept(const Message& request);
  void start_work(const Message& request);
  void cancel(const Message& request);
  void refuse(std::uint32_t request, Errc code, std::string context);
  void answer(const Message& message, std::span<const int> fds = {});

  void on_worker_message(Workers::iterator worker);
  void on_opened(Worker& worker, Received& received);
  [[nodiscard]] Status check_opened(const Worker& worker);
  void on_frozen(Worker& worker);
  void on_failed(Worker& worker, const Message& message);
  void on_thawed(Worker& worker, const Message& message);
  void on_worker_end(Workers::iterator worker);
  void tell(Worker& worker, Kind kind);
  void escalate(Worker& worker, TimePoint now);
  void thaw_all();
  void hold_log();
  bool spawn(Worker worker, HolderTask task);

  GuardianOptions options_;
  int signals_;
  GuardianLog& log_sink_;
  Logger log_;
  RestartPolicy policy_;
  std::filesystem::path frozen_dir_;

  pid_t child_ = -1;
  UniqueFd channel_;
  std::optional<TimePoint> start_at_;
  std::optional<TimePoint> dying_at_;  // Its channel has ended: whether it can die is seen then.
  std::optional<TimePoint> serve_by_;  // Until the successor serves what is kept.
  bool killed_ = false;                // The child, for not serving.
  bool renewing_ = false;              // It was killed so that what its file holds now is started.
  std::optional<TimePoint> stop_asked_;  // When first.
  std::optional<int> status_;            // Set: over, once the holders are done.
  std::optional<TimePoint> over_by_;     // Or by then.

  struct Kept {
    UniqueFd fd;
    std::string payload;
  };
  std::map<std::string, Kept, std::less<>> kept_;
  Workers workers_;
};

}  // namespace umbra::guardian
