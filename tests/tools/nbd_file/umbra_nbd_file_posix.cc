// SPDX-License-Identifier: Apache-2.0
//
// umbra-nbd-file SOCKET FILE [--read-only] [--engine automatic|threads|io_uring] [--threads N]
//                [--direct] [--tcp PORT [--certificates DIR] [--keys FILE] [--writable]]
//
// Our NBD server over a plain file or block device, without copy-on-write: what foreign clients are
// tried against, and the baseline that the benchmarks compare snapshots with. Prints the URI and
// the TCP port once it listens, logs to standard error; ends on SIGTERM or SIGINT.

#include <signal.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "engine/platform/file_device.h"
#include "engine/platform/log_spdlog.h"
#include "provider/frontend/nbd/server.h"

namespace {

using namespace umbra;

struct Arguments {
  std::string socket;
  std::string file;
  FileDeviceOptions device;
  std::optional<nbd::TcpOptions> tcp;
};

Result<Arguments> parse(int argc, char** argv) {
  if (argc < 3) {
    return fail(Errc::invalid_argument,
                "usage: umbra-nbd-file SOCKET FILE [--read-only] [--engine "
                "automatic|threads|io_uring] [--threads N] [--direct] [--tcp PORT "
                "[--certificates DIR] [--keys FILE] [--writable]]");
  }
  Arguments arguments;
  arguments.socket = argv[1];
  arguments.file = argv[2];
  for (int i = 3; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--read-only") {
      arguments.device.read_only = true;
    } else if (word == "--direct") {
      arguments.device.direct = true;
    } else if (word == "--threads" && i + 1 < argc) {
      arguments.device.threads = static_cast<unsigned>(std::strtoul(argv[++i], nullptr, 10));
    } else if (word == "--engine" && i + 1 < argc) {
      const std::string_view engine = argv[++i];
      arguments.device.engine = engine == "threads"    ? FileEngine::threads
                                : engine == "io_uring" ? FileEngine::io_uring
                                                       : FileEngine::automatic;
    } else if (word == "--tcp" && i + 1 < argc) {
      arguments.tcp.emplace().port =
          static_cast<std::uint16_t>(std::strtoul(argv[++i], nullptr, 10));
    } else if (word == "--certificates" && arguments.tcp && i + 1 < argc) {
      arguments.tcp->tls.certificates = argv[++i];
    } else if (word == "--keys" && arguments.tcp && i + 1 < argc) {
      arguments.tcp->tls.shared_keys = argv[++i];
    } else if (word == "--writable" && arguments.tcp) {
      arguments.tcp->writable = true;
    } else {
      return fail(Errc::invalid_argument, "unknown argument " + std::string(word));
    }
  }
  return arguments;
}

Status serve(const Arguments& arguments) {
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGTERM);
  sigaddset(&ends, SIGINT);
  // Before any thread, so that all of them inherit it.
  (void)pthread_sigmask(SIG_BLOCK, &ends, nullptr);
  auto file = open_file_device(arguments.file, arguments.device);
  if (!file) return fail(file.error());
  const std::shared_ptr<block::Device> device = std::move(*file);
  auto log = SpdlogLog::open({});
  if (!log) return fail(log.error());
  auto server = nbd::Server::start({arguments.socket, 0600, arguments.tcp}, **log);
  if (!server) return fail(server.error());
  if (auto added = (*server)->add("file", arguments.file, device, true); !added) return added;
  (void)std::printf("%s\n%u\n", (*server)->uri("").c_str(), unsigned{(*server)->tcp_port()});
  (void)std::fflush(stdout);
  int signal = 0;
  (void)::sigwait(&ends, &signal);
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  const auto arguments = parse(argc, argv);
  const auto done = arguments ? serve(*arguments) : Status(fail(arguments.error()));
  if (done) return 0;
  (void)std::fprintf(stderr, "umbra-nbd-file: %s\n", done.error().to_string().c_str());
  return 1;
}
