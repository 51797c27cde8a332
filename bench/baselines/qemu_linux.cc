// SPDX-License-Identifier: Apache-2.0
#include <poll.h>
#include <sys/socket.h>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <chrono>
#include <filesystem>

#include "bench/baselines/qemu.h"
#include "bench/harness/failure.h"

namespace umbra::bench {
namespace {

namespace json = boost::json;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kAnswerLimit{60};
constexpr std::size_t kLineBytesMax = std::size_t{1} << 20U;

}  // namespace

StorageDaemon::StorageDaemon(World& world, const std::vector<std::string>& words) {
  const std::string name = world.fresh_name("qemu");
  socket_ = world.scratch().path(name + ".sock");
  monitor_path_ = world.scratch().path(name + ".qmp");
  std::vector<std::string> all{require_program("qemu-storage-daemon", "qemu-system-common"),
                               "--chardev",
                               "socket,id=qmp,server=on,wait=off,path=" + monitor_path_,
                               "--monitor",
                               "chardev=qmp",
                               "--nbd-server",
                               "addr.type=unix,addr.path=" + socket_};
  all.insert(all.end(), words.begin(), words.end());
  ChildOptions options;
  options.log_path = world.scratch().path("qemu.log");
  child_ = Child::start(all, options);
  // Only the NBD socket is tried out: the monitor talks to its first connection.
  child_.wait_until_listening(socket_);
  monitor_ = connect_local(monitor_path_);
  if (!monitor_) child_.fail("its monitor does not listen");
  (void)read_line();  // Its greeting.
  (void)ask("qmp_capabilities");
}

StorageDaemon::~StorageDaemon() {
  monitor_.reset();
  child_.stop();
  std::error_code ignored;
  (void)std::filesystem::remove(socket_, ignored);
  (void)std::filesystem::remove(monitor_path_, ignored);
}

std::string StorageDaemon::read_line() {
  const auto end = Clock::now() + kAnswerLimit;
  while (true) {
    if (const std::size_t at = buffer_.find('\n'); at != std::string::npos) {
      std::string line = buffer_.substr(0, at);
      buffer_.erase(0, at + 1);
      return line;
    }
    check_interrupted();
    if (Clock::now() > end || buffer_.size() > kLineBytesMax)
      child_.fail("its monitor says nothing");
    pollfd readable{monitor_.get(), POLLIN, 0};
    if (::poll(&readable, 1, 100) <= 0) continue;
    char piece[4096];
    const ssize_t got = ::recv(monitor_.get(), piece, sizeof piece, 0);
    if (got <= 0) child_.fail("its monitor is gone");
    buffer_.append(piece, static_cast<std::size_t>(got));
  }
}

json::value StorageDaemon::ask(const std::string& command, json::object arguments) {
  const std::string line =
      json::serialize(json::object{{"execute", command}, {"arguments", std::move(arguments)}}) +
      "\n";
  if (::send(monitor_.get(), line.data(), line.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(line.size())) {
    child_.fail("its monitor does not listen");
  }
  while (true) {
    boost::system::error_code error;
    const json::value answer = json::parse(read_line(), error);
    if (error || !answer.is_object()) child_.fail("its monitor answers nonsense");
    const auto& object = answer.as_object();
    if (const auto* failure = object.if_contains("error")) {
      child_.fail(command + ": " + json::serialize(*failure));
    }
    if (const auto* result = object.if_contains("return")) return *result;
    // Else an event.
  }
}

void StorageDaemon::add_export(const std::string& node, bool writable) {
  (void)ask(
      "block-export-add",
      {{"type", "nbd"}, {"id", node}, {"node-name", node}, {"name", node}, {"writable", writable}});
}

void StorageDaemon::remove_export(const std::string& node) {
  (void)ask("block-export-del", {{"id", node}, {"mode", "hard"}});
  const auto end = Clock::now() + kAnswerLimit;
  while (true) {
    bool is_there = false;
    const json::value exports = ask("query-block-exports");
    for (const auto& one : exports.as_array()) {
      is_there = is_there || one.at("id").as_string() == node;
    }
    if (!is_there) return;
    if (Clock::now() > end) child_.fail("an export does not go");
    pause_briefly();
  }
}

std::string StorageDaemon::uri(const std::string& node) const {
  return "nbd+unix:///" + node + "?socket=" + socket_;
}

// --- fleecing --------------------------------------------------------------------------------

QemuFleecing::QemuFleecing(World& world, std::uint64_t size_bytes) : medium_(world.medium()) {
  const std::string name = world.fresh_name("fleecing");
  file_ = world.scratch().path(name + ".img");
  target_ = world.scratch().path(name + ".old");
  make_touched_file(file_, size_bytes);
  make_touched_file(target_, size_bytes);
  daemon_.emplace(world, std::vector<std::string>{"--blockdev",
                                                  "driver=file,node-name=live,filename=" + file_});
  daemon_->add_export("live", true);
}

QemuFleecing::~QemuFleecing() {
  daemon_.reset();
  std::error_code ignored;
  (void)std::filesystem::remove(file_, ignored);
  (void)std::filesystem::remove(target_, ignored);
}

std::string QemuFleecing::uri() const { return daemon_->uri(protected_ ? "filter" : "live"); }

void QemuFleecing::protect() {
  daemon_->remove_export("live");
  (void)daemon_->ask("blockdev-add",
                     {{"driver", "file"}, {"node-name", "old"}, {"filename", target_}});
  (void)daemon_->ask("blockdev-add", {{"driver", "copy-before-write"},
                                      {"node-name", "filter"},
                                      {"file", "live"},
                                      {"target", "old"}});
  (void)daemon_->ask("blockdev-add",
                     {{"driver", "snapshot-access"}, {"node-name", "copy"}, {"file", "filter"}});
  daemon_->add_export("filter", true);
  daemon_->add_export("copy", false);
  protected_ = true;
}

std::uint32_t QemuFleecing::verify_copy(const Content& content, std::uint32_t digest) {
  return verify_uri(daemon_->uri("copy"), content, digest, name() + ", the copy,");
}

void QemuFleecing::release() {
  daemon_->remove_export("copy");
  daemon_->remove_export("filter");
  for (const char* node : {"copy", "filter", "old"}) {
    (void)daemon_->ask("blockdev-del", {{"node-name", node}});
  }
  daemon_->add_export("live", true);
  protected_ = false;
}

// --- qcow2 -----------------------------------------------------------------------------------

Qcow2Internal::Qcow2Internal(World& world, std::uint64_t size_bytes) : world_(world) {
  file_ = world.scratch().path(world.fresh_name("image") + ".qcow2");
  (void)run_program({require_program("qemu-img", "qemu-utils"), "create", "-q", "-f", "qcow2", "-o",
                     "preallocation=full", file_, std::to_string(size_bytes)});
  start();
}

Qcow2Internal::~Qcow2Internal() {
  daemon_.reset();
  std::error_code ignored;
  (void)std::filesystem::remove(file_, ignored);
}

void Qcow2Internal::start() {
  daemon_.emplace(
      world_, std::vector<std::string>{"--blockdev", "driver=file,node-name=file,filename=" + file_,
                                       "--blockdev", "driver=qcow2,node-name=live,file=file"});
  daemon_->add_export("live", true);
}

void Qcow2Internal::protect() {
  (void)daemon_->ask("blockdev-snapshot-internal-sync", {{"device", "live"}, {"name", "copy"}});
}

std::uint32_t Qcow2Internal::verify_copy(const Content& content, std::uint32_t digest) {
  daemon_.reset();  // The image has one user at a time.
  const std::string raw = file_ + ".raw";
  (void)run_program({require_program("qemu-img", "qemu-utils"), "convert", "-l",
                     "snapshot.name=copy", "-f", "qcow2", "-O", "raw", file_, raw});
  digest = verify_file(raw, content, digest, name() + ", the copy,");
  std::filesystem::remove(raw);
  start();
  return digest;
}

void Qcow2Internal::release() {
  (void)daemon_->ask("blockdev-snapshot-delete-internal-sync",
                     {{"device", "live"}, {"name", "copy"}});
}

}  // namespace umbra::bench
