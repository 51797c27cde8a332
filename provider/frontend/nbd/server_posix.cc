// SPDX-License-Identifier: Apache-2.0
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <list>
#include <map>
#include <mutex>
#include <thread>

#include "provider/frontend/nbd/connection_posix.h"
#include "provider/frontend/nbd/server.h"

namespace umbra::nbd {
namespace {

constexpr int kListenBacklog = 64;
constexpr int kSocketBufferBytes = 1 << 20;

std::string errno_text(std::string_view what) {
  return std::string(what) + ": " +
         std::strerror(errno);  // NOLINT(concurrency-mt-unsafe): glibc's is.
}

Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return fail(Errc::invalid_argument, "socket path '" + path + "': it must have 1 to " +
                                            std::to_string(sizeof address.sun_path - 1) +
                                            " bytes; use a shorter run directory");
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

const sockaddr* generic(const sockaddr_un& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

Result<UniqueFd> listen_on(const ServerOptions& options) {
  const auto address = address_of(options.socket_path);
  if (!address) return fail(address.error());
  {
    const UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::connect(probe.get(), generic(*address), sizeof *address) == 0) {
      return fail(Errc::volume_in_use, "another NBD server listens on " + options.socket_path);
    }
  }
  (void)::unlink(options.socket_path.c_str());
  UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener) return fail(Errc::io_error, errno_text("socket"));
  // The mode is right from the first moment: the file is made with it and only then opened up.
  (void)::fchmod(listener.get(), 0);
  if (::bind(listener.get(), generic(*address), sizeof *address) != 0 ||
      ::chmod(options.socket_path.c_str(), options.socket_mode) != 0 ||
      ::listen(listener.get(), kListenBacklog) != 0) {
    return fail(Errc::io_error, errno_text("cannot listen on " + options.socket_path));
  }
  return listener;
}

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

class SocketServer final : public Server, private Catalog {
 public:
  SocketServer(UniqueFd listener, UniqueFd wake, const ServerOptions& options, Log& log)
      : listener_(std::move(listener)),
        wake_(std::move(wake)),
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
    bool done = false;
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

  // Catalog: the connections' threads.
  std::optional<ExportDescription> find(std::string_view name) const override {
    const std::lock_guard lock(mutex_);
    const auto* entry = lookup(name);
    if (entry == nullptr || entry->leaving) return std::nullopt;
    return ExportDescription{*resolve(name), entry->description, entry->device->geometry()};
  }
  std::vector<ExportDescription> list() const override {
    const std::lock_guard lock(mutex_);
    std::vector<ExportDescription> all;
    for (const auto& [name, entry] : exports_) {
      if (!entry.leaving) all.push_back({name, entry.description, entry.device->geometry()});
    }
    return all;
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
    sigset_t all;
    sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, nullptr);
    while (true) {
      std::array<pollfd, 2> waits{pollfd{listener_.get(), POLLIN, 0},
                                  pollfd{wake_.get(), POLLIN, 0}};
      if (::poll(waits.data(), waits.size(), kReapEveryMs) < 0 && errno != EINTR) return;
      if ((waits[1].revents & POLLIN) != 0) return;
      reap();
      if ((waits[0].revents & POLLIN) == 0) continue;
      UniqueFd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (socket) admit(std::move(socket));
    }
  }

  void admit(UniqueFd socket) {
    (void)::setsockopt(socket.get(), SOL_SOCKET, SO_SNDBUF, &kSocketBufferBytes,
                       sizeof kSocketBufferBytes);
    const std::lock_guard lock(mutex_);
    if (clients_.size() >= kConnectionsMax) {
      log_.warning("too many NBD connections; one refused", {{"limit", kConnectionsMax}});
      return;
    }
    auto& client = *clients_.emplace_back(std::make_unique<Client>());
    Connection::Host host;
    host.catalog = this;
    host.claim = [this, &client](Connection&, const std::string& name) {
      return claim(client, name);
    };
    host.finished = [this, &client](Connection&) { finished(client); };
    client.connection = std::make_unique<Connection>(std::move(socket), std::move(host), raw_log_);
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
  UniqueFd wake_;
  ServerOptions options_;
  Log& raw_log_;
  Logger log_;
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
  auto listener = listen_on(options);
  if (!listener) return fail(listener.error());
  UniqueFd wake(::eventfd(0, EFD_CLOEXEC));
  if (!wake) return fail(Errc::io_error, errno_text("eventfd"));
  return std::make_unique<SocketServer>(std::move(*listener), std::move(wake), options, log);
}

}  // namespace umbra::nbd
