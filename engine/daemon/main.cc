// SPDX-License-Identifier: Apache-2.0
//
// umbrad: builds the parts, joins them, runs them until SIGTERM or SIGINT. Exit codes: 0 after a
// clean shutdown; 1 it could not start (one line on standard error says why); 2 a mistake in the
// command line or the configuration.

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <csignal>
#include <iostream>
#include <thread>

#include "engine/daemon/config.h"
#include "engine/daemon/launch_posix.h"
#include "engine/daemon/registrations.h"
#include "engine/daemon/roles_posix.h"
#include "engine/daemon/server.h"
#include "engine/daemon/trace_book.h"
#include "engine/documents/express_store.h"
#include "engine/platform/log_spdlog.h"
#include "engine/platform/run_dir.h"
#include "engine/rpc/connection.h"

namespace umbra::daemon {
namespace {

namespace asio = boost::asio;

constexpr std::uint32_t kNoUser = 0xFFFFFFFF;  // As in chown(2): nobody has it.
constexpr unsigned kSocketMode = 0666;         // Who may do what is decided by credentials.

int give_up(const Error& error) {
  std::cerr << "umbrad: " << error.to_string() << '\n';
  return 1;
}

// A group that does not exist admits nobody; that is worth a line, no more.
std::optional<std::uint32_t> resolve_group(const std::string& group, const Logger& log) {
  const auto id = group_id(group);
  if (id && *id) return *id;
  log.info("no such group: only root has its role", {{"group", printable(group)}});
  return std::nullopt;
}

// Who is named but not known is worth a line: a deny that does not hold must not go unnoticed.
void resolve_accounts(Config& config, RolePolicy& roles, const Logger& log) {
  for (const auto& entry : config.access) {
    const auto id = entry.is_group ? group_id(entry.account) : user_id(entry.account);
    if (id && *id) {
      roles.access.push_back({entry.is_group, **id, entry.value});
    } else {
      log.warning("no such account in [access]", {{"account", printable(entry.account)}});
    }
  }
  for (const auto& [writer_class, account] : config.writer_accounts) {
    const auto id = user_id(account);
    if (!id || !*id)
      log.warning("no such user in [writer_classes]: nobody may be of this class",
                  {{"user", printable(account)}, {"class", writer_class.to_string()}});
    config.writer_users[writer_class] = id && *id ? **id : kNoUser;
  }
}

Status settle_paths(Config& config) {
  if (config.run_dir.empty()) {
    auto directory = default_run_dir();
    if (!directory) return fail(directory.error());
    config.run_dir = std::move(*directory);
  }
  if (config.state_dir.empty()) config.state_dir = config.run_dir;
  if (config.writers_dir.empty()) config.writers_dir = documents::express_directory(config.run_dir);
  for (const auto* path : {&config.run_dir, &config.socket, &config.state_dir, &config.writers_dir})
    if (!path->empty() && path->front() != '/')
      return fail(Errc::invalid_argument, "'" + printable(*path) + "': an absolute path is needed");
  if (config.socket.empty())
    config.socket = config.run_dir + "/" + std::string(kCoordinatorSocketName);
  return ensure_run_dir(config.run_dir, own_uid() == 0);
}

// The machine's timer for the server's next deadline. A time that has passed is a turn of its own.
void set(asio::steady_timer& alarm, std::optional<TimePoint> at, Server* const& server) {
  alarm.cancel();
  if (!at) return;
  alarm.expires_at(std::chrono::time_point_cast<asio::steady_timer::duration>(*at));
  alarm.async_wait([&server](const boost::system::error_code& error) {
    if (!error && server != nullptr) server->wake();
  });
}

int serve(Config& config, SpdlogLog& log, LocalListener listener, asio::io_context& wire,
          asio::io_context& coordinator, asio::signal_set& signals) {
  const Logger logger(log, "umbrad");
  RolePolicy roles;
  roles.owner_uid = own_uid();
  if (roles.owner_uid == 0) {
    roles.writer_gid = resolve_group(config.writer_group, logger);
    roles.requester_gid = resolve_group(config.requester_group, logger);
  }
  resolve_accounts(config, roles, logger);
  asio::steady_timer alarm(coordinator);
  Server* running = nullptr;
  Server server({{wire, coordinator},
                 config,
                 roles,
                 log,
                 system_clock(),
                 [&log](bool held) { held ? log.hold() : log.release(); },
                 config.state_dir + "/" + kRegistrationsName,
                 config.state_dir + "/" + kTracesName,
                 [&alarm, &running](std::optional<TimePoint> at) { set(alarm, at, running); }});
  running = &server;
  auto acceptor = std::make_unique<rpc::Acceptor>(
      wire, std::move(listener), log, [&server](LocalStream stream, PeerCredentials peer) {
        server.adopt(std::move(stream), std::move(peer));
      });
  signals.async_wait([&](const boost::system::error_code& error, int) {
    if (error) return;
    server.shut_down([&] {
      wire.stop();
      coordinator.stop();
    });
  });
  std::signal(SIGPIPE, SIG_IGN);
  logger.info("ready", {{"socket", config.socket}, {"version", UMBRA_VERSION}});
  const auto work = asio::make_work_guard(wire);
  std::thread wire_thread([&wire] { wire.run(); });
  coordinator.run();
  wire_thread.join();
  acceptor.reset();
  logger.info("ended");
  return 0;
}

int run(int argc, char** argv) {
  auto line = parse_command_line(argc, argv);
  if (line.exit_code) return *line.exit_code;
  auto& config = line.config;
  if (const auto status = settle_paths(config); !status) return give_up(status.error());
  const auto level = parse_log_level(config.log_level);
  if (!level) return give_up(level.error());
  SpdlogOptions options;
  options.file = config.log_file;
  options.level = *level;
  auto log = SpdlogLog::open(options);
  if (!log) return give_up(log.error());
  // From here on a signal ends umbrad cleanly, however early it comes.
  asio::io_context wire(1);  // First, so that it goes last: what the other drops is answered there.
  asio::io_context coordinator(1);
  asio::signal_set signals(coordinator, SIGTERM, SIGINT);
  // Also the lock: a second umbrad in this run directory ends here.
  auto listener = LocalListener::listen(config.socket, kSocketMode);
  if (!listener) return give_up(listener.error());
  if (config.with_system_provider) {
    const auto pid = launch_system_provider(config.run_dir, config.socket);
    if (!pid) return give_up(pid.error());
    Logger(**log, "umbrad").info("system provider started", {{"pid", *pid}});
  }
  return serve(config, **log, std::move(*listener), wire, coordinator, signals);
}

}  // namespace
}  // namespace umbra::daemon

int main(int argc, char** argv) { return umbra::daemon::run(argc, argv); }
