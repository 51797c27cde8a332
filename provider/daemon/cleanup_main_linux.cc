// SPDX-License-Identifier: Apache-2.0
//
// umbra-cleanup: takes apart what umbra-cowd and its guardian left in a run directory when they
// were killed; `umbra cleanup` runs it. A program of its own, like umbra-check: it must work when
// nothing else does.
//
// While a daemon lives nothing is touched: both locks of the run directory are taken first, and
// kept, so that none starts meanwhile. A helper of one that was killed (helper_linux.h) ends what
// it was at, a mount or its undoing: that is waited for, or what is found here would change again.
// --force ends one that hangs, as the guardian does when it gives up (docs/guardian.md): it is
// killed, its FUSE sessions are aborted, and whoever waits for them gets errors. ublk and NBD
// devices of dead daemons are ended before anything else, since all else may wait for them.
//
// Exit status: 0 nothing is left, or nothing was touched since umbra-cowd runs; 2 wrong option; 3
// something is left, and is named; 11 what was killed is still there; 12 not allowed; 13 no such
// directory.

#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "engine/platform/fuse_session.h"
#include "engine/platform/log.h"
#include "engine/platform/run_dir.h"
#include "engine/platform/unique_fd.h"
#include "provider/daemon/helper_linux.h"
#include "provider/daemon/leftovers_linux.h"
#include "provider/daemon/patience.h"
#include "provider/daemon/process_linux.h"
#include "provider/daemon/system_view_linux.h"
#include "provider/guardian/record_linux.h"

namespace {

namespace fs = std::filesystem;
using namespace umbra;
using namespace umbra::cowd;

constexpr std::chrono::seconds kDyingLimit{2};  // Of a process that has ended but for its files.
constexpr std::chrono::seconds kEndLimit{20};   // Of daemons that were killed here, and of helpers.
constexpr const char* kThawStep = "thaw";       // Of this program only: DEVICE...

enum Exit {
  kDone = 0,
  kFailed = 1,
  kUsage = 2,
  kInPart = 3,
  kBusy = 11,
  kDenied = 12,
  kMissing = 13
};

struct Arguments {
  std::string run_dir;
  bool force = false;
  bool dry_run = false;
  bool json = false;
};

// What was done, or in a dry run would be, and what was not, and why.
class Report {
 public:
  explicit Report(const Arguments& arguments) : arguments_(arguments) {}

  void done(const std::string& what, const std::string& path) {
    done_.emplace_back(boost::json::object{{"what", what}, {"path", printable(path)}});
    line(std::string(arguments_.dry_run ? "would remove " : "removed ") + what + " " + path);
  }
  void left(const std::string& what, const std::string& path, const std::string& why) {
    left_.emplace_back(
        boost::json::object{{"what", what}, {"path", printable(path)}, {"why", printable(why)}});
    line("left " + what + " " + path + ": " + why);
  }
  /// Carries it out, but for a dry run.
  template <class Action>
  void attempt(const std::string& what, const std::string& path, const Action& action) {
    const Status worked = arguments_.dry_run ? Status() : action();
    if (worked) {
      done(what, path);
    } else {
      left(what, path, worked.error().context);
    }
  }
  void line(const std::string& text) const {
    if (!arguments_.json) (void)std::fputs((printable(text) + "\n").c_str(), stdout);
  }
  int end(std::optional<pid_t> running) {
    const int status = left_.empty() ? kDone : kInPart;
    if (arguments_.json) {
      boost::json::object object{
          {"dry_run", arguments_.dry_run}, {"removed", done_}, {"left", left_}};
      object["running"] = running ? boost::json::value(*running) : boost::json::value();
      (void)std::fputs((boost::json::serialize(object) + "\n").c_str(), stdout);
    } else if (done_.empty() && left_.empty() && !running) {
      line("nothing is left in " + arguments_.run_dir);
    }
    return status;
  }

 private:
  const Arguments& arguments_;
  boost::json::array done_;
  boost::json::array left_;
};

int complain(const Arguments& arguments, int status, const Error& error) {
  if (arguments.json) {
    const boost::json::object object{{"error",
                                      {{"code", std::string(code_name(error.code))},
                                       {"message", error.to_string()},
                                       {"exit_status", status}}}};
    (void)std::fputs((boost::json::serialize(object) + "\n").c_str(), stderr);
  } else {
    std::cerr << "umbra-cleanup: " << error.to_string() << "\n";
  }
  return status;
}

Status failed(const std::string& path) {
  return fail(Errc::io_error, path + ": " + std::generic_category().message(errno));
}

// --- who runs -----------------------------------------------------------------------------------

struct Daemons {
  pid_t cowd = 0;
  pid_t guardian = 0;  // 0: it is gone.
};

bool runs_program(pid_t pid, const std::string& name) {
  std::error_code error;
  const auto program = fs::read_symlink("/proc/" + std::to_string(pid) + "/exe", error);
  return !error && program.filename().string().starts_with(name);  // Also "... (deleted)".
}

// As umbra-cowd's lock names it, if that is still true.
Daemons find_daemons(const std::string& run_dir) {
  Daemons daemons;
  std::ifstream lock(run_dir + "/cowd.lock");
  pid_t pid = 0;
  if (!(lock >> pid) || !runs_program(pid, "umbra-cowd")) return daemons;
  daemons.cowd = pid;
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string word; status >> word;) {
    pid_t parent = 0;
    if (word != "PPid:" || !(status >> parent)) continue;
    if (runs_program(parent, "umbra-guardian")) daemons.guardian = parent;
    break;
  }
  return daemons;
}

// The locks of umbra-cowd and its guardian, for as long as it lives.
class Locks {
 public:
  explicit Locks(std::string run_dir) : run_dir_(std::move(run_dir)) {}
  /// False: a daemon has one of them. One that was killed is waited for.
  [[nodiscard]] bool take_unless_alive() {
    bool taken = false;
    const auto decided = [&] {
      taken = take();
      return taken || find_daemons(run_dir_).cowd != 0;
    };
    (void)wait_until(kDyingLimit, decided);
    return taken;
  }
  /// False: a helper of a dead umbra-cowd has not ended within the limit. Needs both locks.
  [[nodiscard]] bool outlive_helpers() {
    return wait_until(kEndLimit, [&] { return take_one(kHelpersLock); });
  }
  /// False: a daemon has one of them.
  [[nodiscard]] bool take() {
    held_.clear();
    for (const char* name : {"/guardian.lock", "/cowd.lock"}) {
      if (take_one(name)) continue;
      held_.clear();
      return false;
    }
    return true;
  }

 private:
  bool take_one(const char* name) {
    UniqueFd file(::open((run_dir_ + name).c_str(), O_RDWR | O_CLOEXEC));
    if (!file) return true;  // Nobody ever ran here.
    if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) return false;
    held_.push_back(std::move(file));
    return true;
  }

  std::string run_dir_;
  std::vector<UniqueFd> held_;
};

// Of the sessions that are mounted in the run directory or that umbra-cowd has open.
std::vector<std::uint32_t> sessions_of(const std::string& run_dir, pid_t cowd) {
  std::vector<std::uint32_t> numbers;
  const auto mounts = read_mounts();
  if (mounts) {
    for (const MountEntry& mount : *mounts) {
      const bool ours =
          mount.type.starts_with("fuse") && mount.target.starts_with(run_dir + "/fuse/");
      if (ours) numbers.push_back(minor(mount.device));
    }
  }
  std::error_code error;
  const std::string facts = "/proc/" + std::to_string(cowd) + "/fdinfo";
  for (fs::directory_iterator entry(facts, error), end; !error && entry != end;
       entry.increment(error)) {
    std::ifstream text(entry->path());
    std::uint32_t number = 0;
    for (std::string word; text >> word;) {
      if (word == "fuse_connection:" && text >> number) numbers.push_back(number);
    }
  }
  std::sort(numbers.begin(), numbers.end());
  numbers.erase(std::unique(numbers.begin(), numbers.end()), numbers.end());
  return numbers;
}

// The guardian first, which would start another one.
bool end_by_force(const Arguments& arguments, const Daemons& daemons, Locks& locks,
                  Report& report) {
  const auto sessions = sessions_of(arguments.run_dir, daemons.cowd);
  for (const auto& [pid, name] :
       {std::pair{daemons.guardian, "umbra-guardian"}, std::pair{daemons.cowd, "umbra-cowd"}}) {
    if (pid == 0) continue;
    const std::string process = std::to_string(pid);
    report.attempt(name, "process " + process, [&process, pid = pid] {
      return ::kill(pid, SIGKILL) == 0 || errno == ESRCH ? Status() : failed("process " + process);
    });
  }
  // Its own threads may wait for what it serves: it can end only now.
  for (const std::uint32_t number : sessions) {
    report.attempt("FUSE session", std::to_string(number),
                   [&] { return abort_fuse_session_number(number); });
  }
  return arguments.dry_run || wait_until(kEndLimit, [&] { return locks.take(); });
}

// --- what is left -------------------------------------------------------------------------------

// In a process of its own: FITHAW writes to a volume, and may wait for who served it.
int thaw_step(const std::vector<std::string>& words) {
  std::vector<std::uint64_t> devices;
  for (std::size_t i = 1; i < words.size(); ++i) devices.push_back(std::stoull(words[i]));
  auto mounts = guardian::open_mounts(devices, guardian::Depth::exact);
  Error error{Errc::ok, {}};
  if (!mounts) error = mounts.error();
  for (std::size_t i = 0; mounts && i < mounts->mounts.size(); ++i) {
    const auto& mount = mounts->mounts[i];
    // EINVAL: it is not frozen.
    if (::ioctl(mount.fd.get(), FITHAW, 0) == 0 || errno == EINVAL) continue;
    error = failed("cannot thaw " + mount.path).error();
  }
  if (mounts && !mounts->unreachable.empty()) error = mounts->unreachable.front();
  const std::string answer =
      std::to_string(static_cast<std::uint32_t>(error.code)) + "\n" + error.context;
  (void)std::fputs(answer.c_str(), stdout);
  return 0;
}

void thaw(const Arguments& arguments, Report& report) {
  for (const auto& record : guardian::find_leftovers(arguments.run_dir + "/frozen")) {
    report.attempt("record of a freeze", record.path, [&]() -> Status {
      std::vector<std::string> words = {kThawStep};
      for (const std::uint64_t device : record.devices) words.push_back(std::to_string(device));
      if (words.size() > 1) {
        if (const auto thawed = run_helper(words); !thawed) return fail(thawed.error());
      }
      return ::unlink(record.path.c_str()) == 0 ? Status() : failed(record.path);
    });
  }
}

// Their users waited, and get errors: only then can a mount be left.
void end_devices(const Arguments& arguments, Report& report) {
  for (const Leftover& leftover : find_devices(arguments.run_dir)) {
    const bool foreign = leftover.kind == Leftover::Kind::foreign_mount;
    if (foreign && !arguments.force) {
      report.left(text_of(leftover.kind), leftover.path,
                  leftover.device + " is dead; unmount it, or use --force");
      continue;
    }
    report.attempt(text_of(leftover.kind), leftover.path,
                   [&] { return remove_leftover(leftover); });
  }
}

void remove_dead(const Arguments& arguments, Report& report) {
  const auto dead = [](const std::string&) { return true; };
  bool somebody_has_it = false;
  for (const Leftover& leftover : find_leftovers(arguments.run_dir, dead)) {
    const bool foreign = leftover.kind == Leftover::Kind::foreign_mount;
    if (foreign && !arguments.force) {
      report.left(text_of(leftover.kind), leftover.path,
                  leftover.device + " is dead; unmount it, or use --force");
      somebody_has_it = true;
      continue;
    }
    if (leftover.kind == Leftover::Kind::loop_device && somebody_has_it) {
      // It goes with that mount: told so, and not removed under whoever has it.
      somebody_has_it = false;
      if (!arguments.dry_run) (void)remove_leftover(leftover);
      report.left(text_of(leftover.kind), leftover.path, "it goes with what is mounted from it");
      continue;
    }
    report.attempt(text_of(leftover.kind), leftover.path,
                   [&] { return remove_leftover(leftover); });
  }
}

// Mount points of our own, sockets and names that lead nowhere now.
void remove_files(const Arguments& arguments, Report& report) {
  const auto mounts = read_mounts();
  const auto is_mounted = [&](const std::string& path) {
    return !mounts || std::any_of(mounts->begin(), mounts->end(),
                                  [&](const MountEntry& mount) { return mount.target == path; });
  };
  const auto entries = [&](const char* name) {
    std::vector<std::string> found;
    std::error_code error;
    for (fs::directory_iterator entry(arguments.run_dir + name, error), end; !error && entry != end;
         entry.increment(error)) {
      found.push_back(entry->path().string());
    }
    std::sort(found.begin(), found.end());
    return found;
  };
  for (const std::string& path : entries("/mnt")) {
    if (is_mounted(path)) continue;  // Told already.
    report.attempt("mount point", path,
                   [&] { return ::rmdir(path.c_str()) == 0 ? Status() : failed(path); });
  }
  std::vector<std::string> files = entries("/fuse/volumes");
  for (std::string& name : entries("/dev")) files.push_back(std::move(name));
  const std::string socket = arguments.run_dir + "/nbd.sock";
  std::error_code ignored;
  if (fs::is_socket(socket, ignored)) files.push_back(socket);
  for (const std::string& path : files) {
    if (is_mounted(path)) continue;
    report.attempt("file", path,
                   [&] { return ::unlink(path.c_str()) == 0 ? Status() : failed(path); });
  }
}

int run(const Arguments& arguments) {
  Report report(arguments);
  Locks locks(arguments.run_dir);
  std::optional<pid_t> running;
  if (!locks.take_unless_alive()) {
    const Daemons daemons = find_daemons(arguments.run_dir);
    const pid_t named = daemons.cowd != 0 ? daemons.cowd : daemons.guardian;
    if (!arguments.force) {
      report.line("umbra-cowd runs in " + arguments.run_dir +
                  (named != 0 ? " (process " + std::to_string(named) + ")" : "") +
                  ": what it serves is left alone; if it hangs, --force ends it");
      return report.end(named);
    }
    if (!end_by_force(arguments, daemons, locks, report)) {
      return complain(
          arguments, kBusy,
          {Errc::volume_attached,
           "what was killed has not ended: it waits for a disk, or somebody has started "
           "it again; stop its unit first, and try again"});
    }
    if (arguments.dry_run) running = named;
  }
  end_devices(arguments, report);
  const bool settled = running || locks.outlive_helpers();
  thaw(arguments, report);
  remove_dead(arguments, report);
  remove_files(arguments, report);
  if (!settled) {
    report.left("helper process", arguments.run_dir + kHelpersLock,
                "a mount or its undoing has not ended: it waits for a disk; try again");
  }
  return report.end(running);
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + (argc > 0 ? 1 : 0), argv + argc);
  if (argc > 0 && std::string(argv[0]) == kHelperName) {
    const bool thaws = !words.empty() && words.front() == kThawStep;
    return thaws ? thaw_step(words) : helper_main(words);
  }
  Arguments arguments;
  CLI::App app{"Takes apart what umbra-cowd left when it was killed."};
  app.add_option("--run-dir", arguments.run_dir, "The daemons' run directory");
  app.add_flag("--force", arguments.force,
               "End an umbra-cowd that hangs: whoever uses its volumes gets I/O errors; also "
               "unmount (lazily) what others have mounted from dead devices");
  app.add_flag("--dry-run", arguments.dry_run, "Change nothing, say what would be done");
  app.add_flag("--json", arguments.json, "One JSON object");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kDone : kUsage;
  }
  if (arguments.run_dir.empty()) {
    const auto chosen = default_run_dir();
    if (!chosen) return complain(arguments, kUsage, chosen.error());
    arguments.run_dir = *chosen;
  }
  if (!is_root()) {
    return complain(arguments, kDenied,
                    {Errc::access_denied, "only root can unmount and thaw; run it as root"});
  }
  const auto real = real_path(arguments.run_dir);
  if (!real) return complain(arguments, kMissing, {Errc::object_not_found, real.error().context});
  arguments.run_dir = *real;
  return run(arguments);
}
