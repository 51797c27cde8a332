// SPDX-License-Identifier: Apache-2.0
#include "provider/guardian/guardian_linux.h"

#include <fcntl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <system_error>

#include "engine/platform/fuse_session.h"
#include "provider/guardian/client.h"
#include "provider/guardian/kernel_devices_linux.h"
#include "provider/guardian/process_state_linux.h"
#include "provider/guardian/record_linux.h"

namespace umbra::guardian {
namespace {

using std::chrono::milliseconds;

constexpr int kExecFailed = 127;
constexpr milliseconds kDyingPatience{200};  // For the last thread of a process that was killed.
constexpr milliseconds kHolderGrace{200};    // After a lease: the holder's own timer comes first.
constexpr const char* kFuseType = "fuse.umbra";

std::string reason(int error) { return std::generic_category().message(error); }

TimePoint now() { return system_clock().now(); }

[[noreturn]] void run_command(const std::vector<std::string>& command, bool spared, int channel) {
  sigset_t none;
  (void)sigemptyset(&none);
  (void)sigprocmask(SIG_SETMASK, &none, nullptr);
  (void)signal(SIGPIPE, SIG_DFL);
  (void)setpgid(0, 0);  // The terminal's Ctrl-C reaches the guardian, which passes it on once.
  (void)fcntl(channel, F_SETFD, 0);
  std::vector<std::string> words = command;
  words.emplace_back("--guardian-fd");
  words.push_back(std::to_string(channel));
  if (spared) words.front().insert(0, "@");
  std::vector<char*> argv;
  for (auto& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  (void)execvp(command.front().c_str(), argv.data());
  (void)std::fprintf(stderr, "umbra-guardian: cannot start %s: %s\n", command.front().c_str(),
                     reason(errno).c_str());
  _exit(kExecFailed);
}

}  // namespace

Guardian::Guardian(GuardianOptions options, int signals, GuardianLog& log)
    : options_(std::move(options)),
      signals_(signals),
      log_sink_(log),
      log_(log, "guardian"),
      policy_(options_.restart),
      frozen_dir_(options_.run_dir / "frozen") {}

int Guardian::run() {
  thaw_leftovers();
  start_at_ = now();
  while (!over()) {
    act_on_time();
    wait();
  }
  kept_.clear();
  log_sink_.hold(false);
  return *status_;
}

bool Guardian::over() {
  if (!status_) return false;
  return now() >= *over_by_ || (child_ <= 0 && workers_.empty());
}

// --- umbra-cowd --------------------------------------------------------------------------------

bool Guardian::start_child() {
  start_at_.reset();
  auto channel = make_channel();
  const pid_t pid = channel ? fork() : -1;
  if (pid == 0) run_command(options_.command, options_.spared, channel->second.get());
  if (pid < 0) {
    log_.error("cannot start umbra-cowd",
               {{"why", channel ? reason(errno) : channel.error().context}});
    on_child_end({.status = 1, .by_signal = true});
    return false;
  }
  child_ = pid;
  killed_ = false;
  if (!kept_.empty()) serve_by_ = now() + options_.serve_limit;
  channel_ = std::move(channel->first);
  log_.info("started umbra-cowd", {{"pid", pid}});
  return true;
}

void Guardian::on_child_end(Ending ending) {
  child_ = -1;
  dying_at_.reset();
  serve_by_.reset();
  channel_.reset();
  for (auto& worker : workers_) {
    worker.client_end.reset();  // To its holder: nobody is there to thaw.
    worker.request = 0;
  }
  thaw_all();
  if (std::exchange(renewing_, false) && ending.by_signal && !status_ && !stop_asked_) {
    start_at_ = now();
    return;
  }
  const Verdict verdict = policy_.ended(now(), ending);
  const bool clean = ending.status == 0 && !ending.by_signal;
  if (clean) {
    log_.info("umbra-cowd has ended");
  } else {
    log_.warning("umbra-cowd died", {{ending.by_signal ? "signal" : "status",
                                      ending.by_signal ? ending.status - 128 : ending.status}});
  }
  switch (verdict.what) {
    case Verdict::What::exit: return finish(verdict.status);
    case Verdict::What::restart: start_at_ = now() + verdict.pause; return;
    case Verdict::What::give_up: return give_up();
  }
}

void Guardian::finish(int status) {
  if (status_) return;
  status_ = status;
  over_by_ = now() + kEndPatience;
  start_at_.reset();
  serve_by_.reset();
  for (const auto& [name, kept] : kept_) {
    stop_kernel_device(name, kept.fd.get(), kept.payload);
  }
  kept_.clear();
  thaw_all();
}

void Guardian::give_up() {
  log_.error(
      "umbra-cowd keeps failing: giving up; what is mounted from its volumes gets I/O errors",
      {{"kept", kept_.size()}});
  policy_.stopping();
  if (child_ > 0) (void)kill(child_, SIGKILL);
  abort_sessions();
  finish(1);
}

// Closing what is kept ends a session only once umbra-cowd's own descriptor is closed too, and it
// may not be able to die. In a process of its own, since unmounting may wait.
void Guardian::abort_sessions() {
  if (fork() != 0) return;
  for (const auto& [name, kept] : kept_) {
    if (!is_kernel_device(name)) (void)abort_fuse_session(kept.fd.get());
  }
  unmount_by_force(options_.run_dir, kFuseType);
  _exit(0);
}

void Guardian::on_not_serving() {
  if (killed_) return give_up();  // It cannot even die: it waits for something itself.
  log_.error("umbra-cowd does not serve what it took over; killing it", {{"pid", child_}});
  killed_ = true;
  serve_by_ = now() + options_.serve_limit;
  (void)kill(child_, SIGKILL);
}

// Where volumes lie on each other, a thread of a killed umbra-cowd may wait in the kernel for a
// volume that only the successor serves. It has nothing open but the file it works on
// (FileDeviceOptions::apart): all else is closed, which is how we know, and can be taken over.
void Guardian::look_at_dying() {
  const bool main_thread_is_gone = has_main_thread_ended(child_);
  dying_at_ = now() + kDyingPatience;
  reap();
  if (!dying_at_ || !main_thread_is_gone) return;
  log_.warning("umbra-cowd was killed and cannot end before its successor serves",
               {{"pid", child_}});
  on_child_end({.status = 128 + SIGKILL, .by_signal = true});
}

void Guardian::on_signals() {
  signalfd_siginfo signal{};
  while (read(signals_, &signal, sizeof(signal)) == static_cast<ssize_t>(sizeof(signal))) {
    const int number = static_cast<int>(signal.ssi_signo);
    if (number == SIGCHLD) continue;  // reap() looks at every child.
    if (number == SIGHUP) {
      if (child_ > 0) (void)kill(child_, SIGHUP);
      continue;
    }
    if (number == SIGUSR1) {
      ask_for_new();
      continue;
    }
    log_.info("stopping", {{"signal", number}});
    if (!stop_asked_) stop_asked_ = now();
    if (child_ > 0 && now() - *stop_asked_ >= options_.patience) {
      log_.error("asked to stop again: not waiting for umbra-cowd any more");
      give_up();
      continue;
    }
    policy_.stopping();
    if (child_ <= 0) {
      finish(0);
      continue;
    }
    (void)kill(child_, SIGTERM);
    (void)kill(child_, SIGCONT);
  }
  reap();
}

// Killed and not asked to end: then it would take its volumes' devices along.
void Guardian::ask_for_new() {
  if (child_ <= 0 || stop_asked_ || status_) return;
  log_.info("a new umbra-cowd was asked for; its successor takes over", {{"pid", child_}});
  renewing_ = true;
  (void)kill(child_, SIGKILL);
}

void Guardian::reap() {
  int state = 0;
  for (pid_t pid = 0; (pid = waitpid(-1, &state, WNOHANG)) > 0;) {
    if (pid != child_) continue;  // A holder's end shows at its socket.
    const bool by_signal = WIFSIGNALED(state);
    on_child_end(
        {.status = by_signal ? 128 + WTERMSIG(state) : WEXITSTATUS(state), .by_signal = by_signal});
  }
}

void Guardian::on_child_message() {
  Received received;
  const auto arrival = receive(channel_.get(), received);
  if (!arrival) {
    log_.error("bad message from umbra-cowd", {{"why", arrival.error().to_string()}});
    // The other build says what it speaks by our answer's version; it must not go on.
    answer({.kind = Kind::reply, .code = arrival.error().code, .texts = {arrival.error().context}});
    channel_.reset();
    return thaw_all();
  }
  if (*arrival == Arrival::nothing) return;
  if (*arrival == Arrival::end) {
    channel_.reset();  // It is dying, or has closed its end: either way it thaws nothing more.
    dying_at_ = now() + kDyingPatience;
    return thaw_all();
  }
  dispatch(received);
}

void Guardian::dispatch(Received& received) {
  const Message& request = received.message;
  switch (request.kind) {
    case Kind::hello: policy_.said_hello(); break;
    case Kind::serving: serve_by_.reset(); break;
    case Kind::keep: return keep(received);
    case Kind::kept: return give_kept(request);
    case Kind::drop:
      if (!request.texts.empty()) {
        if (const auto found = kept_.find(request.texts[0]); found != kept_.end()) {
          kept_.erase(found);
        }
      }
      break;
    case Kind::flush:
    case Kind::freeze: return start_work(request);
    case Kind::cancel: cancel(request); break;
    default:
      return refuse(request.id, Errc::not_implemented, "the guardian does not know this request");
  }
  answer({.kind = Kind::reply, .id = request.id});
}

void Guardian::keep(Received& received) {
  const Message& request = received.message;
  if (request.texts.size() != 2 || received.fds.size() != 1 || request.texts[0].empty() ||
      request.texts[0].size() > kKeptNameBytesMax ||
      request.texts[1].size() > kKeptPayloadBytesMax) {
    return refuse(request.id, Errc::invalid_argument,
                  "keep: one name, one payload, one descriptor");
  }
  if (kept_.size() >= kKeptCountMax && !kept_.contains(request.texts[0])) {
    return refuse(request.id, Errc::limit_reached, "the guardian keeps too many descriptors");
  }
  kept_[request.texts[0]] =
      Kept{.fd = std::move(received.fds[0]), .payload = std::move(request.texts[1])};
  answer({.kind = Kind::reply, .id = request.id});
}

void Guardian::give_kept(const Message& request) {
  const auto index = request.devices.empty() ? 0 : request.devices[0];
  if (index >= kept_.size()) {
    return refuse(request.id, Errc::object_not_found, "no more is kept");
  }
  const auto& [name, kept] = *std::next(kept_.begin(), static_cast<std::ptrdiff_t>(index));
  answer({.kind = Kind::reply, .id = request.id, .texts = {name, kept.payload}},
         std::array{kept.fd.get()});
}

void Guardian::refuse(std::uint32_t request, Errc code, std::string context) {
  answer({.kind = Kind::reply, .id = request, .code = code, .texts = {std::move(context)}});
}

void Guardian::answer(const Message& message, std::span<const int> fds) {
  if (!channel_) return;
  if (const auto sent = send(channel_.get(), message, fds); !sent) {
    log_.warning("umbra-cowd does not take an answer", {{"why", sent.error().to_string()}});
  }
}

// --- holders -----------------------------------------------------------------------------------

void Guardian::thaw_leftovers() {
  for (auto& leftover : find_leftovers(frozen_dir_)) {
    if (leftover.devices.empty()) {
      (void)unlink(leftover.path.c_str());
      continue;
    }
    log_.warning("thawing what an earlier guardian left frozen", {{"record", leftover.path}});
    (void)spawn(
        {.mode = HolderMode::thaw,
         .stage = Stage::thawing,
         .record_path = leftover.path,
         .answer_by = TimePoint::max(),
         .act_at = now() + options_.patience},
        {.mode = HolderMode::thaw, .devices = leftover.devices, .record_path = leftover.path});
  }
  hold_log();
}

void Guardian::start_work(const Message& request) {
  const bool freezing = request.kind == Kind::freeze;
  const auto same = [&](const Worker& worker) {
    return worker.mode != HolderMode::flush && worker.set == request.set;
  };
  if (workers_.size() >= kHoldersMax) {
    return refuse(request.id, Errc::limit_reached, "too many freezes and flushes at once");
  }
  if (freezing && std::any_of(workers_.begin(), workers_.end(), same)) {
    return refuse(request.id, Errc::freeze_failed, "this set is frozen or being thawed");
  }
  Worker worker{.mode = freezing ? HolderMode::freeze : HolderMode::flush,
                .set = request.set,
                .request = request.id};
  HolderTask task{.mode = worker.mode, .set = request.set, .devices = request.devices};
  task.limit = std::min<milliseconds>(milliseconds(request.limit_ms), kFlushMax);
  task.lease = std::min<milliseconds>(milliseconds(request.lease_ms), kLeaseMax);
  worker.lease = task.lease;
  worker.answer_by = now() + task.limit + options_.patience;
  if (freezing) {
    auto channel = make_channel();
    if (!channel) return refuse(request.id, Errc::limit_reached, channel.error().context);
    worker.client_end = std::move(channel->first);
    task.client = std::move(channel->second);
    worker.record_path = frozen_dir_ / request.set.to_string();
    task.record_path = worker.record_path;
  }
  if (!spawn(std::move(worker), std::move(task))) {
    refuse(request.id, Errc::limit_reached, "no process for the holder");
  }
}

void Guardian::cancel(const Message& request) {
  const auto asked = request.devices.empty() ? 0 : request.devices[0];
  const auto found = std::find_if(workers_.begin(), workers_.end(), [&](const Worker& worker) {
    return worker.request != 0 && worker.request == asked;
  });
  if (found == workers_.end()) return;
  found->request = 0;
  if (found->mode == HolderMode::freeze) return tell(*found, Kind::thaw);
  (void)kill(found->pid, SIGKILL);  // It may have to end its syncfs first; nothing waits for it.
  workers_.erase(found);
}

bool Guardian::spawn(Worker worker, HolderTask task) {
  auto channel = make_channel();
  if (!channel) return false;
  task.guardian = std::move(channel->second);
  worker.socket = std::move(channel->first);
  // The holder's copy of the client's socket must be the only one that is left of it.
  worker.pid = start_holder(std::move(task));
  if (worker.pid < 0) return false;
  workers_.push_back(std::move(worker));
  return true;
}

void Guardian::on_worker_message(Workers::iterator worker) {
  Received received;
  const auto arrival = receive(worker->socket.get(), received);
  if (!arrival || *arrival == Arrival::end) return on_worker_end(worker);
  if (*arrival == Arrival::nothing) return;
  switch (received.message.kind) {
    case Kind::opened: on_opened(*worker, received); break;
    case Kind::frozen: on_frozen(*worker); break;
    case Kind::failed: on_failed(*worker, received.message); break;
    case Kind::flushed:
      answer({.kind = Kind::reply, .id = worker->request});
      workers_.erase(worker);
      break;
    case Kind::thawed:
      on_thawed(*worker, received.message);
      workers_.erase(worker);
      break;
    default: break;
  }
  hold_log();
}

void Guardian::on_opened(Worker& worker, Received& received) {
  for (std::size_t i = 0; i < received.fds.size(); ++i) {
    worker.mounts.push_back({.device = received.message.devices[i],
                             .path = received.message.texts[i],
                             .fd = std::move(received.fds[i])});
  }
  if (!channel_ || worker.request == 0) return tell(worker, Kind::thaw);
  if (const auto refused = check_opened(worker); !refused) {
    refuse(worker.request, refused.error().code, refused.error().context);
    worker.request = 0;
    return tell(worker, Kind::thaw);
  }
  worker.stage = Stage::freezing;
  worker.lease_end = now() + worker.lease;
  worker.act_at = *worker.lease_end + kHolderGrace;
  hold_log();
  tell(worker, Kind::go);
}

// And writes the record.
Status Guardian::check_opened(const Worker& worker) {
  for (const auto& mount : worker.mounts) {
    // FIFREEZE would be refused as if somebody else had frozen it.
    const auto same = [&](const Mount& other) { return other.device == mount.device; };
    for (const auto& other : workers_) {
      if (&other == &worker || std::none_of(other.mounts.begin(), other.mounts.end(), same)) {
        continue;
      }
      return fail(Errc::freeze_failed,
                  mount.path + " is still frozen by the set before, or being thawed; try again");
    }
  }
  std::error_code ignored;  // Writing says it better.
  std::filesystem::create_directory(frozen_dir_, ignored);
  if (const auto written = write_record(worker.record_path, worker.mounts); !written) {
    return fail(Errc::freeze_failed, written.error().context);
  }
  return {};
}

void Guardian::on_frozen(Worker& worker) {
  worker.stage = Stage::frozen;
  if (!channel_ || worker.request == 0) {
    worker.client_end.reset();
    return tell(worker, Kind::thaw);
  }
  Message reply{.kind = Kind::reply, .id = worker.request, .set = worker.set};
  std::vector<int> fds{worker.client_end.get()};
  for (const auto& mount : worker.mounts) {
    reply.devices.push_back(mount.device);
    reply.texts.push_back(mount.path);
    fds.push_back(mount.fd.get());
  }
  answer(reply, fds);
  worker.request = 0;
  worker.client_end.reset();
}

void Guardian::on_failed(Worker& worker, const Message& message) {
  const std::string context = message.texts.empty() ? "" : message.texts[0];
  log_.warning(worker.mode == HolderMode::flush ? "flush failed" : "freeze failed",
               {{"set", worker.set.to_string()}, {"why", context}});
  if (worker.request != 0) refuse(worker.request, message.code, context);
  worker.request = 0;
  if (worker.stage == Stage::freezing) worker.stage = Stage::thawing;
}

void Guardian::on_thawed(Worker& worker, const Message& message) {
  for (const auto& text : message.texts) {
    log_.warning("the freeze did not go as asked",
                 {{"set", worker.set.to_string()}, {"what", text}});
  }
  if (!worker.lease_end) return;
  const auto late = std::chrono::duration_cast<milliseconds>(now() - *worker.lease_end);
  if (late > options_.patience) {
    log_.error("file systems stayed frozen for longer than the lease",
               {{"set", worker.set.to_string()}, {"late_ms", late.count()}});
  }
}

// Its last message has been read, or there was none.
void Guardian::on_worker_end(Workers::iterator worker) {
  Worker dead = std::move(*worker);
  workers_.erase(worker);
  if (dead.request != 0) refuse(dead.request, Errc::freeze_failed, "the holder process died");
  if (dead.stage == Stage::working) return hold_log();
  log_.warning("a holder died; thawing in its place", {{"set", dead.set.to_string()}});
  HolderTask task{.mode = HolderMode::thaw, .set = dead.set, .record_path = dead.record_path};
  Worker successor{.mode = HolderMode::thaw,
                   .stage = Stage::thawing,
                   .set = dead.set,
                   .record_path = dead.record_path,
                   .answer_by = TimePoint::max(),
                   .lease_end = dead.lease_end,
                   .act_at = dead.act_at};
  for (auto& mount : dead.mounts) {
    successor.mounts.push_back(
        {.device = mount.device, .path = mount.path, .fd = UniqueFd(dup(mount.fd.get()))});
    (void)fcntl(successor.mounts.back().fd.get(), F_SETFD, FD_CLOEXEC);
    task.mounts.push_back(std::move(mount));
  }
  if (!spawn(std::move(successor), std::move(task))) {
    log_.error("cannot thaw: no process to be had", {{"set", dead.set.to_string()}});
  }
  hold_log();
}

void Guardian::tell(Worker& worker, Kind kind) {
  // A holder that is gone shows as the end of its socket.
  (void)send(worker.socket.get(), {.kind = kind, .set = worker.set});
}

void Guardian::thaw_all() {
  for (auto& worker : workers_) {
    if (worker.mode == HolderMode::freeze) tell(worker, Kind::thaw);
  }
}

void Guardian::hold_log() {
  const auto frozen = [](const Worker& worker) { return worker.stage != Stage::working; };
  log_sink_.hold(std::any_of(workers_.begin(), workers_.end(), frozen));
}

// --- time --------------------------------------------------------------------------------------

void Guardian::act_on_time() {
  const auto time = now();
  if (start_at_ && time >= *start_at_) (void)start_child();
  if (serve_by_ && time >= *serve_by_) on_not_serving();
  if (dying_at_ && time >= *dying_at_) look_at_dying();
  for (auto worker = workers_.begin(); worker != workers_.end();) {
    const auto current = worker++;
    if (current->stage == Stage::working && time >= current->answer_by) {
      // It hangs opening a mount, or in a syncfs that will not end; nothing is frozen.
      (void)kill(current->pid, SIGKILL);
      if (current->request != 0) {
        refuse(current->request, Errc::flush_writes_timeout, "the mounts could not be reached");
      }
      workers_.erase(current);
      continue;
    }
    if (current->act_at && time >= *current->act_at) escalate(*current, time);
  }
}

void Guardian::escalate(Worker& worker, TimePoint time) {
  tell(worker, Kind::thaw);
  (void)kill(worker.pid, SIGCONT);
  worker.act_at = time + options_.patience;
  log_sink_.let_go_aside();
  if (child_ <= 0 || !worker.lease_end) return;
  if (is_stopped(child_)) {
    log_.warning("umbra-cowd is stopped while file systems are frozen; continuing it",
                 {{"pid", child_}});
    (void)kill(child_, SIGCONT);
    worker.progress = progress_of(child_);
    return;
  }
  const auto progress = progress_of(child_);
  if (worker.progress.empty() || progress != worker.progress) {
    worker.progress = progress;
    return;
  }
  if (waits_for_storage(child_)) {
    if (!std::exchange(worker.said_stalled, true)) {
      log_.error("a thaw waits for umbra-cowd, which waits for its storage",
                 {{"pid", child_}, {"set", worker.set.to_string()}});
    }
    return;
  }
  if (worker.kills < kLeaseKillsMax) {
    ++worker.kills;
    worker.progress.clear();
    log_.error("umbra-cowd makes no progress and a thaw waits for it; killing it",
               {{"pid", child_}, {"set", worker.set.to_string()}});
    (void)kill(child_, SIGKILL);
  } else if (time > *worker.lease_end + kAbortPatience * options_.patience) {
    give_up();
  }
}

int Guardian::poll_timeout_ms() const {
  TimePoint next = TimePoint::max();
  const auto consider = [&](const std::optional<TimePoint>& time) {
    if (time) next = std::min(next, *time);
  };
  consider(start_at_);
  consider(serve_by_);
  consider(dying_at_);
  consider(over_by_);
  for (const auto& worker : workers_) {
    if (worker.stage == Stage::working) consider(worker.answer_by);
    consider(worker.act_at);
  }
  if (next == TimePoint::max()) return -1;
  const auto left = std::chrono::ceil<milliseconds>(next - now()).count();
  return static_cast<int>(std::clamp<milliseconds::rep>(left, 0, 60'000));
}

void Guardian::wait() {
  if (over()) return;
  std::vector<pollfd> sources{{signals_, POLLIN, 0}, {channel_.get(), POLLIN, 0}};
  std::vector<Workers::iterator> polled;
  for (auto worker = workers_.begin(); worker != workers_.end(); ++worker) {
    sources.push_back({worker->socket.get(), POLLIN, 0});
    polled.push_back(worker);
  }
  if (poll(sources.data(), sources.size(), poll_timeout_ms()) <= 0) return;
  // Holders first: what they say may be the answer that umbra-cowd's end would make void.
  for (std::size_t i = 0; i < polled.size(); ++i) {
    if (sources[i + 2].revents != 0) on_worker_message(polled[i]);
  }
  if (sources[1].revents != 0 && channel_) on_child_message();
  if (sources[0].revents != 0) on_signals();
}

}  // namespace umbra::guardian
