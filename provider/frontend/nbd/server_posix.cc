// SPDX-License-Identifier: Apache-2.0
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <list>
#include <map>
#include <mutex>
#include <shared_mutex>
#include <thread>

#include "provider/frontend/nbd/connection_posix.h"
#include "provider/frontend/nbd/listener_posix.h"
#include "provider/frontend/nbd/server.h"

namespace umbra::nbd {
namespace {

std::string percent_encoded(std::string_view text) {
  constexpr std::string_view kPlain = "-._~/";
  constexpr std::string_view kHex = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       kPlain.find(c) != std::string_view::npos;
    if (plain) {
      out += c;
    } else {
      out += '%';
      out += kHex[byte >> 4U];
      out += kHex[byte & 0xFU];
    }
  }
  return out;
}

class SocketServer final : public Server {
 public:
  struct Descriptors {
    UniqueFd listener;
    UniqueFd tcp_listener;  // Null: no TCP.
    UniqueFd wake;
  };

  SocketServer(Descriptors descriptors, const ServerOptions& options, Log& log)
      : listener_(std::move(descriptors.listener)),
        tcp_listener_(std::move(descriptors.tcp_listener)),
        wake_(std::move(descriptors.wake)),
        options_(options),
        raw_log_(log),
        log_(log, "nbd") {
    acceptor_ = std::thread([this] { accept_all(); });
  }

  ~SocketServer() override {
    (void)::eventfd_write(wake_.get(), 1);
    acceptor_.join();
    (void)::unlink(options_.socket_path.c_str());
    std::list<std::unique_ptr<Client>> clients;
    {
      const std::lock_guard lock(mutex_);
      clients.swap(clients_);
    }
    for (auto& client : clients) client->connection->stop();
    for (auto& client : clients) client->connection.reset();  // Joins.
  }

  Status add(std::string_view name, std::string_view description,
             std::shared_ptr<block::Device> device, bool as_default) override {
    if (name.empty() || name.size() > kNameBytesMax) {
      return fail(Errc::invalid_argument, "an export's name has 1 to 4096 bytes");
    }
    const std::lock_guard lock(mutex_);
    if (lookup(name) != nullptr) return fail(Errc::object_already_exists, std::string(name));
    exports_.emplace(std::string(name),
                     Export{std::string(description), std::move(device), 0, false});
    if (as_default && default_.empty()) default_ = name;
    return {};
  }

  Status add_alias(std::string_view alias, std::string_view name) override {
    const std::lock_guard lock(mutex_);
    if (exports_.find(name) == exports_.end())
      return fail(Errc::object_not_found, std::string(name));
    if (alias.empty() || lookup(alias) != nullptr) {
      return fail(Errc::object_already_exists, std::string(alias));
    }
    aliases_.emplace(std::string(alias), std::string(name));
    return {};
  }

  Status remove(std::string_view name, bool force) override {
    std::unique_lock lock(mutex_);
    const auto found = exports_.find(name);
    if (found == exports_.end() || found->second.leaving) {
      return fail(Errc::object_not_found, std::string(name));
    }
    auto& entry = found->second;
    if (entry.users > 0 && !force) {
      return fail(Errc::volume_in_use, "NBD export " + std::string(name) + " has " +
                                           std::to_string(entry.users) + " connections");
    }
    entry.leaving = true;
    for (const auto& client : clients_) {
      if (client->export_name == name) client->connection->stop();
    }
    unused_.wait(lock, [&] { return entry.users == 0; });
    if (default_ == name) default_.clear();
    std::erase_if(aliases_, [&](const auto& alias) { return alias.second == name; });
    const auto device = std::move(entry.device);  // Destroyed after the lock.
    exports_.erase(found);
    lock.unlock();
    return {};
  }

  void set_details(const Details* details) override {
    const std::unique_lock lock(details_mutex_);
    details_ = details;
  }

  std::uint16_t tcp_port() const override {
    return tcp_listener_ ? port_of(tcp_listener_.get()) : std::uint16_t{0};
  }

  std::size_t connection_count(std::string_view name) const override {
    const std::lock_guard lock(mutex_);
    const auto* entry = lookup(name);
    return entry == nullptr ? 0 : entry->users;
  }

  std::string uri(std::string_view name) const override {
    return "nbd+unix:///" + percent_encoded(name) +
           "?socket=" + percent_encoded(options_.socket_path);
  }

 private:
  struct Export {
    std::string description;
    std::shared_ptr<block::Device> device;
    std::size_t users = 0;
    bool leaving = false;  // remove() is waiting for the last user.
  };
  struct Client {
    std::unique_ptr<Connection> connection;
    std::string export_name;  // Empty until transmission.
    bool is_tcp = false;
    bool done = false;
  };
  // The exports as they are seen through one of the listeners.
  class View final : public Catalog {
   public:
    View(const SocketServer& server, bool read_only) : server_(server), read_only_(read_only) {}
    std::optional<ExportDescription> find(std::string_view name) const override {
      auto found = server_.find(name);
      if (found) found->geometry.read_only |= read_only_;
      return found;
    }
    std::vector<ExportDescription> list() const override { return server_.list(); }
    std::shared_ptr<Contexts> contexts(const std::string& name) const override {
      const std::shared_lock lock(server_.details_mutex_);
      return server_.details_ != nullptr ? server_.details_->contexts(name) : nullptr;
    }

   private:
    const SocketServer& server_;
    const bool read_only_;
  };

  const std::string* resolve(std::string_view name) const {
    if (name.empty()) return default_.empty() ? nullptr : &default_;
    if (const auto alias = aliases_.find(name); alias != aliases_.end()) return &alias->second;
    const auto found = exports_.find(name);
    return found == exports_.end() ? nullptr : &found->first;
  }
  const Export* lookup(std::string_view name) const {
    const auto* real = resolve(name);
    if (real == nullptr) return nullptr;
    const auto found = exports_.find(*real);
    return found == exports_.end() ? nullptr : &found->second;
  }

  // Called by the connections' threads.
  std::optional<ExportDescription> find(std::string_view name) const {
    std::optional<ExportDescription> found;
    {
      const std::lock_guard lock(mutex_);
      const auto* entry = lookup(name);
      if (entry == nullptr || entry->leaving) return std::nullopt;
      found = ExportDescription{*resolve(name), entry->description, entry->device->geometry()};
    }
    describe(*found);
    return found;
  }
  std::vector<ExportDescription> list() const {
    std::vector<ExportDescription> all;
    {
      const std::lock_guard lock(mutex_);
      for (const auto& [name, entry] : exports_) {
        if (!entry.leaving) all.push_back({name, entry.description, entry.device->geometry()});
      }
    }
    for (auto& entry : all) describe(entry);
    return all;
  }
  // Without mutex_: whoever is asked has locks of his own.
  void describe(ExportDescription& entry) const {
    const std::shared_lock lock(details_mutex_);
    if (details_ == nullptr) return;
    auto better = details_->describe(entry.name);
    if (!better.empty()) entry.description = std::move(better);
  }

  std::shared_ptr<block::Device> claim(Client& client, const std::string& name) {
    const std::lock_guard lock(mutex_);
    const auto found = exports_.find(name);
    if (found == exports_.end() || found->second.leaving) return nullptr;
    ++found->second.users;
    client.export_name = name;
    return found->second.device;
  }

  void finished(Client& client) {
    const std::lock_guard lock(mutex_);
    if (!client.export_name.empty()) {
      --exports_.find(client.export_name)->second.users;
      client.export_name.clear();
      unused_.notify_all();
    }
    client.done = true;
  }

  void accept_all() {
    block_signals_of_thread();
    while (true) {
      std::array<pollfd, 3> waits{pollfd{wake_.get(), POLLIN, 0},
                                  pollfd{listener_.get(), POLLIN, 0},
                                  pollfd{tcp_listener_.get(), POLLIN, 0}};  // -1 is passed over.
      if (::poll(waits.data(), waits.size(), kReapEveryMs) < 0 && errno != EINTR) return;
      if ((waits[0].revents & POLLIN) != 0) return;
      reap();
      for (const auto& wait : std::span(waits).subspan(1)) {
        if ((wait.revents & POLLIN) == 0) continue;
        auto accepted = accept_one(wait.fd);
        if (accepted.socket) admit(std::move(accepted), wait.fd == tcp_listener_.get());
      }
    }
  }

  void admit(Accepted accepted, bool is_tcp) {
    const std::lock_guard lock(mutex_);
    const auto limit = is_tcp ? kTcpConnectionsMax : kConnectionsMax;
    const auto same = std::count_if(clients_.begin(), clients_.end(),
                                    [&](const auto& client) { return client->is_tcp == is_tcp; });
    if (static_cast<std::size_t>(same) >= limit) {
      log_.warning("too many NBD connections; one refused",
                   {{"limit", limit}, {"peer", is_tcp ? accepted.peer : "local"}});
      return;
    }
    auto& client = *clients_.emplace_back(std::make_unique<Client>());
    client.is_tcp = is_tcp;
    Connection::Host host;
    host.catalog = is_tcp ? &tcp_view_ : &local_view_;
    if (is_tcp) host.tls = &options_.tcp->tls;
    host.peer = std::move(accepted.peer);
    host.claim = [this, &client](Connection&, const std::string& name) {
      return claim(client, name);
    };
    host.finished = [this, &client](Connection&) { finished(client); };
    client.connection =
        std::make_unique<Connection>(std::move(accepted.socket), std::move(host), raw_log_);
    client.connection->start();
  }

  void reap() {
    std::list<std::unique_ptr<Client>> gone;
    const auto take_done = [&] {
      const std::lock_guard lock(mutex_);
      for (auto at = clients_.begin(); at != clients_.end();) {
        const auto next = std::next(at);
        if ((*at)->done) gone.splice(gone.end(), clients_, at);
        at = next;
      }
    };
    take_done();
    gone.clear();  // Joins threads that have nothing left to do.
  }

  // A finished connection's memory is taken back at the next accept, at the latest after this.
  static constexpr int kReapEveryMs = 1000;

  UniqueFd listener_;
  UniqueFd tcp_listener_;
  UniqueFd wake_;
  ServerOptions options_;
  const View local_view_{*this, false};
  const View tcp_view_{*this, !options_.tcp || !options_.tcp->writable};
  Log& raw_log_;
  Logger log_;
  mutable std::shared_mutex details_mutex_;
  const Details* details_ = nullptr;
  mutable std::mutex mutex_;
  std::condition_variable unused_;
  std::map<std::string, Export, std::less<>> exports_;
  std::map<std::string, std::string, std::less<>> aliases_;
  std::string default_;
  std::list<std::unique_ptr<Client>> clients_;
  std::thread acceptor_;
};

}  // namespace

Result<std::unique_ptr<Server>> Server::start(const ServerOptions& options, Log& log) {
  SocketServer::Descriptors descriptors;
  auto listener = listen_locally(options);
  if (!listener) return fail(listener.error());
  descriptors.listener = std::move(*listener);
  descriptors.wake.reset(::eventfd(0, EFD_CLOEXEC));
  if (!descriptors.wake) return fail(Errc::io_error, "eventfd: " + std::to_string(errno));
  if (options.tcp) {
    const Logger logger(log, "nbd");
    if (const Status good = check_tls(options.tcp->tls); !good) {
      logger.error("no client over TCP can be served", {{"reason", good.error().context}});
    }
    auto tcp = listen_on_tcp(*options.tcp);
    if (tcp) {
      descriptors.tcp_listener = std::move(*tcp);
      logger.info("listening on TCP", {{"address", options.tcp->address},
                                       {"port", port_of(descriptors.tcp_listener.get())},
                                       {"writable", options.tcp->writable ? "yes" : "no"}});
    } else {
      logger.error("NBD over TCP is not served", {{"reason", tcp.error().context}});
    }
  }
  return std::make_unique<SocketServer>(std::move(descriptors), options, log);
}

}  // namespace umbra::nbd
