// SPDX-License-Identifier: Apache-2.0
//
// umbra-cowd: the system provider's daemon. Exit status: 0 after SIGTERM or SIGINT; 1 when it could
// not start (another one runs, a directory cannot be used); 2 for a wrong option.
//
// Started by hand or by a unit it turns into umbra-guardian, which starts it again as its child
// with --guardian-fd: whoever serves a volume must not be the one who freezes it.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <filesystem>
#include <iostream>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "engine/platform/log_spdlog.h"
#include "engine/platform/run_dir.h"
#include "provider/contract/system_provider.h"
#include "provider/daemon/daemon_linux.h"
#include "provider/daemon/helper_linux.h"
#include "provider/daemon/process_linux.h"

namespace {

using namespace umbra;
using namespace umbra::cowd;

constexpr const char* kSystemRunDir = "/run/umbra";
constexpr const char* kSystemStateDir = "/var/lib/umbra";
constexpr int kDrillHoldMsMax = 60'000;
constexpr int kStopPatienceSecondsMax = 3'600;
constexpr std::int64_t kRetentionSecondsMax = std::int64_t{100} * 365 * 86'400;
constexpr std::uint64_t kDiffMibMinMax = 50 * 1024;  // As VSS has it: 50 GB.
constexpr std::uint64_t kReaderMibMax = std::uint64_t{1} << 20U;

struct Arguments {
  std::string run_dir;
  std::string state_dir;
  std::string socket;
  std::string log_level = "info";
  std::string log_file;
  int guardian_fd = -1;
  int drill_hold_ms = 0;
  int stop_patience_s = 0;
  std::uint64_t diff_mib_min = 0;
  std::uint32_t client_accessible_max = contract::kClientAccessibleMaxDefault;
  cow::RetentionPolicy retention;
  std::vector<unsigned> thresholds;
  FileEngine io_engine = FileEngine::automatic;
  std::string nbd_tcp;
  nbd::TlsOptions nbd_tls;
  bool nbd_tcp_writable = false;
  std::uint64_t reader_mib_max = kReaderBytesDefault >> 20U;
};

int complain(const Error& error) {
  std::cerr << "umbra-cowd: " << error.to_string() << "\n";
  return 1;
}

// One to three, ascending; what is left out is the last one again, which counts once.
Result<std::optional<cow::ThresholdPercents>> thresholds_of(const std::vector<unsigned>& given) {
  cow::ThresholdPercents percents{};
  if (given.empty()) return std::optional<cow::ThresholdPercents>();
  const bool good = given.size() <= percents.size() && std::is_sorted(given.begin(), given.end()) &&
                    given.front() > 0 && given.back() <= 100;
  if (!good) {
    return fail(Errc::invalid_argument,
                "--thresholds: one to three percents, 1 to 100, in ascending order");
  }
  for (std::size_t i = 0; i < percents.size(); ++i) {
    percents[i] = static_cast<std::uint8_t>(given[std::min(i, given.size() - 1)]);
  }
  return std::optional(percents);
}

Result<std::optional<nbd::TcpOptions>> tcp_of(const Arguments& arguments) {
  const bool has_tls =
      !arguments.nbd_tls.certificates.empty() || !arguments.nbd_tls.shared_keys.empty();
  if (arguments.nbd_tcp.empty()) {
    if (!has_tls && !arguments.nbd_tcp_writable) return std::optional<nbd::TcpOptions>();
    return fail(Errc::invalid_argument, "--nbd-tls-* and --nbd-tcp-writable need --nbd-tcp");
  }
  if (!has_tls) {
    return fail(Errc::invalid_argument,
                "--nbd-tcp needs --nbd-tls-certificates or --nbd-tls-psk: there is no NBD over TCP "
                "without TLS");
  }
  auto tcp = nbd::parse_tcp_options(arguments.nbd_tcp);
  if (!tcp) return fail(tcp.error(), "--nbd-tcp");
  tcp->tls = arguments.nbd_tls;
  tcp->writable = arguments.nbd_tcp_writable;
  return std::optional(std::move(*tcp));
}

// The run directory, made and without links; the others follow from it.
Status settle_directories(Arguments& arguments) {
  if (arguments.run_dir.empty()) {
    const auto chosen = default_run_dir();
    if (!chosen) return fail(chosen.error());
    arguments.run_dir = *chosen;
  }
  std::error_code ignored;
  arguments.run_dir = std::filesystem::absolute(arguments.run_dir, ignored).lexically_normal();
  if (arguments.state_dir.empty()) {
    const bool system = arguments.run_dir == kSystemRunDir;
    arguments.state_dir = system ? kSystemStateDir : arguments.run_dir + "/state";
  }
  arguments.state_dir = std::filesystem::absolute(arguments.state_dir, ignored).lexically_normal();
  if (const Status made = ensure_run_dir(arguments.run_dir, is_root()); !made) {
    return fail(made.error(), "the run directory");
  }
  const auto real = real_path(arguments.run_dir);
  if (!real) return fail(real.error());
  arguments.run_dir = *real;
  if (arguments.socket.empty()) {
    arguments.socket = arguments.run_dir + "/" + std::string(kCoordinatorSocketName);
  }
  return {};
}

constexpr std::chrono::seconds kDyingPatience{2};

int run_under_guardian(const Arguments& arguments, const std::vector<std::string>& words,
                       bool spared) {
  // The guardian would start it again and again. One that was killed this moment still has it.
  const auto lock = lock_file(arguments.run_dir + "/cowd.lock", kDyingPatience);
  if (!lock) return complain(lock.error());
  return complain(become_guardian({arguments.run_dir, arguments.log_file, words, spared}));
}

int serve(const Arguments& arguments, LogLevel level,
          const std::optional<cow::ThresholdPercents>& thresholds,
          const std::optional<nbd::TcpOptions>& tcp) {
  const std::vector<std::string> missing = protect_process();
  block_signals();
  auto sink = SpdlogLog::open({.file = arguments.log_file, .level = level});
  if (!sink) return complain(sink.error());
  const Logger log(**sink, "cowd");
  for (const std::string& what : missing) {
    log.warning("not fully protected against a shortage of memory", {{"missing", what}});
  }
  DaemonOptions options;
  options.run_dir = arguments.run_dir;
  options.state_dir = arguments.state_dir;
  options.socket = arguments.socket;
  options.guardian_fd = arguments.guardian_fd;
  options.io_engine = arguments.io_engine;
  options.diff_bytes_min = arguments.diff_mib_min << 20U;
  options.client_accessible_max = arguments.client_accessible_max;
  options.retention = arguments.retention;
  options.thresholds = thresholds;
  options.nbd_tcp = tcp;
  options.stop_patience = std::chrono::seconds(arguments.stop_patience_s);
  options.reader_bytes_max = arguments.reader_mib_max << 20U;
  options.drill_hold = std::chrono::milliseconds(arguments.drill_hold_ms);
  if (arguments.drill_hold_ms > 0) {
    log.warning("every write hold is stretched, for a drill", {{"ms", arguments.drill_hold_ms}});
  }
  auto daemon = Daemon::start(options, **sink);
  if (!daemon) {
    log.error("umbra-cowd cannot start", {{"reason", daemon.error().to_string()}});
    return complain(daemon.error());
  }
  while (true) {
    const int signal = wait_for_signal();
    if (signal != SIGHUP) break;
    if (const Status reopened = (*sink)->reopen(); !reopened) {
      log.error("the log file cannot be opened anew", {{"reason", reopened.error().context}});
    }
  }
  daemon->reset();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string own_name = argc > 0 ? argv[0] : "";
  const std::vector<std::string> words(argv + (argc > 0 ? 1 : 0), argv + argc);
  if (own_name == kHelperName) return helper_main(words);

  Arguments arguments;
  CLI::App app{"Umbra's provider: serves attached volumes and keeps their snapshots."};
  app.add_option("--run-dir", arguments.run_dir,
                 "Sockets, mounts and locks (default: /run/umbra as root, else a private one)");
  app.add_option("--state-dir", arguments.state_dir,
                 "The list of attached volumes (default: /var/lib/umbra with /run/umbra, else "
                 "RUN-DIR/state)");
  app.add_option("--socket", arguments.socket, "umbrad's socket (default: RUN-DIR/umbrad.sock)");
  app.add_option("--log-level", arguments.log_level, "debug, info, warning or error");
  app.add_option("--log-file", arguments.log_file,
                 "Append the log to this file instead of standard error; reopened on SIGHUP");
  const std::map<std::string, FileEngine> engines = {{"auto", FileEngine::automatic},
                                                     {"threads", FileEngine::threads},
                                                     {"io_uring", FileEngine::io_uring}};
  app.add_option("--io-engine", arguments.io_engine,
                 "How files and devices are read and written: auto (default), threads, io_uring")
      ->transform(CLI::CheckedTransformer(engines));
  app.add_option("--min-diff-area-mib", arguments.diff_mib_min,
                 "Smallest maximum that a diff area may be given, in MiB (default: what the store "
                 "needs; VSS: 320)")
      ->check(CLI::Range(std::uint64_t{0}, kDiffMibMinMax));
  app.add_option("--max-shadow-copies", arguments.client_accessible_max,
                 "Client-accessible copies of a volume; one more costs the oldest (64)")
      ->check(CLI::Range(std::uint32_t{1}, contract::kClientAccessibleMaxMax));
  app.add_option("--retention-longest", arguments.retention.longest_seconds,
                 "Longest term of a retention lock, in seconds (0: locks are refused)")
      ->check(CLI::Range(std::int64_t{0}, kRetentionSecondsMax));
  app.add_option("--retention-reserve", arguments.retention.reserve_bytes,
                 "While a copy is locked, bytes of the diff area's maximum that new copies leave "
                 "free (0)");
  app.add_option("--thresholds", arguments.thresholds,
                 "Percents of its maximum at which a filling diff area is told: one to three, "
                 "ascending (default: as each volume has it, at first 80,90,95)")
      ->delimiter(',');
  app.add_option("--nbd-tcp", arguments.nbd_tcp,
                 "Offer NBD over TCP as well, with TLS: [ADDRESS:]PORT (address: 127.0.0.1; usual "
                 "port: 10809)");
  app.add_option("--nbd-tls-certificates", arguments.nbd_tls.certificates,
                 "Directory with ca-cert.pem, server-cert.pem, server-key.pem; clients need "
                 "certificates of the same authority");
  app.add_option("--nbd-tls-psk", arguments.nbd_tls.shared_keys,
                 "File of keys shared with clients, a line USER:KEY each (psktool makes it)");
  app.add_flag("--nbd-tcp-writable", arguments.nbd_tcp_writable,
               "Over TCP live volumes can be written (default: read only)");
  app.add_option("--stop-patience", arguments.stop_patience_s,
                 "How long a stop waits for volumes to be unmounted, in seconds (0)")
      ->check(CLI::Range(0, kStopPatienceSecondsMax));
  app.add_option("--reader-memory-mib", arguments.reader_mib_max,
                 "Memory for programs that read copies past the devices, in MiB (512); 0: none may")
      ->check(CLI::Range(std::uint64_t{0}, kReaderMibMax));
  app.add_option("--guardian-fd", arguments.guardian_fd,
                 "Given by umbra-guardian; without it umbra-cowd starts one and becomes its child");
  app.add_option("--drill-hold-ms", arguments.drill_hold_ms,
                 "For tests only: stretch every write hold between flip and release by this much")
      ->check(CLI::Range(0, kDrillHoldMsMax));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  const auto level = parse_log_level(arguments.log_level);
  if (!level) {
    (void)complain(level.error());
    return 2;
  }
  const auto thresholds = thresholds_of(arguments.thresholds);
  if (!thresholds) {
    (void)complain(thresholds.error());
    return 2;
  }
  const auto tcp = tcp_of(arguments);
  if (!tcp) {
    (void)complain(tcp.error());
    return 2;
  }
  if (const Status settled = settle_directories(arguments); !settled) {
    return complain(settled.error());
  }
  if (arguments.guardian_fd < 0) {
    return run_under_guardian(arguments, words, own_name.starts_with('@'));
  }
  return serve(arguments, *level, *thresholds, *tcp);
}
