// SPDX-License-Identifier: Apache-2.0
#include "provider/frontend/nbd_device/control.h"

#include <linux/nbd-netlink.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <netlink/netlink.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <system_error>

#include "provider/frontend/device_users.h"

namespace umbra::nbd_device {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kDeviceName = "nbd";
constexpr std::uint32_t kNone = ~std::uint32_t{0};
constexpr timeval kAnswerLimit{5, 0};  // The command has been done when it can be read.

std::string reason(int error) { return std::generic_category().message(error); }

tl::unexpected<Error> fail_with(int error, const std::string& what) {
  Errc code = Errc::io_error;
  if (error == EPERM || error == EACCES) code = Errc::missing_privilege;
  if (error == ENOMEM) code = Errc::out_of_memory;
  if (error == EINVAL) code = Errc::bad_state;  // Says the kernel of what it does not have.
  return fail(code, "NBD: " + what + ": " + reason(error));
}

using Message = std::unique_ptr<nl_msg, void (*)(nl_msg*)>;

// One command, and what the kernel says of it.
class Command {
 public:
  /// Errors: missing_kernel_feature; out_of_memory; io_error.
  [[nodiscard]] static Result<Command> make(std::uint8_t number) {
    Command command;
    if (!command.socket_ || !command.message_) return fail(Errc::out_of_memory, "netlink");
    if (const int error = ::genl_connect(command.socket_.get()); error < 0) {
      return fail(Errc::io_error, std::string("netlink: ") + ::nl_geterror(error));
    }
    (void)::setsockopt(::nl_socket_get_fd(command.socket_.get()), SOL_SOCKET, SO_RCVTIMEO,
                       &kAnswerLimit, sizeof kAnswerLimit);
    const int family = ::genl_ctrl_resolve(command.socket_.get(), NBD_GENL_FAMILY_NAME);
    if (family < 0) {
      return fail(Errc::missing_kernel_feature,
                  "the kernel has no NBD client, or its module is not loaded (modprobe nbd)");
    }
    if (::genlmsg_put(command.message_.get(), NL_AUTO_PORT, NL_AUTO_SEQ, family, 0, 0, number,
                      NBD_GENL_VERSION) == nullptr) {
      return fail(Errc::out_of_memory, "netlink");
    }
    return command;
  }

  void put(int attribute, std::uint64_t value) {
    if (::nla_put_u64(message_.get(), attribute, value) != 0) complete_ = false;
  }
  void put_index(std::uint32_t id) {
    if (::nla_put_u32(message_.get(), NBD_ATTR_INDEX, id) != 0) complete_ = false;
  }
  void put_identifier(const std::string& identifier) {
    if (::nla_put_string(message_.get(), NBD_ATTR_BACKEND_IDENTIFIER, identifier.c_str()) != 0) {
      complete_ = false;
    }
  }
  void put_socket(int socket) {
    nlattr* const all = ::nla_nest_start(message_.get(), NBD_ATTR_SOCKETS);
    nlattr* const item = ::nla_nest_start(message_.get(), NBD_SOCK_ITEM);
    if (all == nullptr || item == nullptr ||
        ::nla_put_u32(message_.get(), NBD_SOCK_FD, static_cast<std::uint32_t>(socket)) != 0) {
      complete_ = false;
      return;
    }
    (void)::nla_nest_end(message_.get(), item);
    (void)::nla_nest_end(message_.get(), all);
  }

  /// Has it done. 0, or the kernel's word.
  [[nodiscard]] int run() {
    if (!complete_) return EMSGSIZE;
    const std::unique_ptr<nl_cb, void (*)(nl_cb*)> callbacks(::nl_cb_alloc(NL_CB_DEFAULT),
                                                             ::nl_cb_put);
    if (!callbacks) return ENOMEM;
    (void)::nl_cb_set(callbacks.get(), NL_CB_VALID, NL_CB_CUSTOM, on_answer, this);
    (void)::nl_cb_set(callbacks.get(), NL_CB_ACK, NL_CB_CUSTOM, on_done, this);
    (void)::nl_cb_err(callbacks.get(), NL_CB_CUSTOM, on_error, this);
    if (::nl_send_auto(socket_.get(), message_.get()) < 0) return EIO;
    while (!done_) {
      if (::nl_recvmsgs(socket_.get(), callbacks.get()) < 0 && !done_) return ETIMEDOUT;
    }
    return error_;
  }
  [[nodiscard]] std::uint32_t index() const noexcept { return index_; }

 private:
  Command()
      : socket_(::nl_socket_alloc(), ::nl_socket_free), message_(::nlmsg_alloc(), ::nlmsg_free) {}

  static int on_answer(nl_msg* message, void* self) {
    nlattr* attributes[NBD_ATTR_MAX + 1] = {};
    if (::genlmsg_parse(::nlmsg_hdr(message), 0, attributes, NBD_ATTR_MAX, nullptr) == 0 &&
        attributes[NBD_ATTR_INDEX] != nullptr) {
      static_cast<Command*>(self)->index_ = ::nla_get_u32(attributes[NBD_ATTR_INDEX]);
    }
    return NL_OK;
  }
  static int on_done(nl_msg* /*message*/, void* self) {
    static_cast<Command*>(self)->done_ = true;
    return NL_STOP;
  }
  static int on_error(sockaddr_nl* /*peer*/, nlmsgerr* told, void* self) {
    auto& command = *static_cast<Command*>(self);
    command.error_ = told->error != 0 ? -told->error : EIO;
    command.done_ = true;
    return NL_STOP;
  }

  std::unique_ptr<nl_sock, void (*)(nl_sock*)> socket_;
  Message message_;
  bool complete_ = true;
  bool done_ = false;
  int error_ = 0;
  std::uint32_t index_ = kNone;
};

std::string sysfs_of(std::uint32_t id) { return "/sys/block/nbd" + std::to_string(id); }

Status end(std::uint32_t id) {
  auto command = Command::make(NBD_CMD_DISCONNECT);
  if (!command) return fail(command.error());
  command->put_index(id);
  if (const int error = command->run(); error != 0 && error != EINVAL) {
    return fail_with(error, "ending " + block_path(id));
  }
  return {};
}

}  // namespace

Status find_client() {
  const auto command = Command::make(NBD_CMD_STATUS);
  return command ? Status() : fail(command.error());
}

Result<std::uint32_t> connect(const Parameters& parameters, const std::string& identifier,
                              int socket) {
  auto command = Command::make(NBD_CMD_CONNECT);
  if (!command) return fail(command.error());
  command->put(NBD_ATTR_SIZE_BYTES, parameters.size_bytes);
  command->put(NBD_ATTR_BLOCK_SIZE_BYTES, parameters.block_bytes);
  command->put(NBD_ATTR_SERVER_FLAGS, parameters.server_flags);
  command->put(NBD_ATTR_TIMEOUT, 0);
  command->put(NBD_ATTR_DEAD_CONN_TIMEOUT, kSuccessorLimit.count());
  command->put_identifier(identifier);
  command->put_socket(socket);
  if (const int error = command->run(); error != 0) return fail_with(error, "making a device");
  const std::uint32_t id = command->index();
  if (id == kNone) return fail(Errc::io_error, "NBD: the kernel does not name the device");
  if (identifier_of(id) != identifier) {
    (void)end(id);
    return fail(Errc::missing_kernel_feature,
                "this kernel's NBD devices have no identifiers (Linux before 5.14): nobody could "
                "take one over");
  }
  return id;
}

Status reconnect(std::uint32_t id, const std::string& identifier, int socket) {
  auto command = Command::make(NBD_CMD_RECONFIGURE);
  if (!command) return fail(command.error());
  command->put_index(id);
  command->put_identifier(identifier);
  command->put_socket(socket);
  const int error = command->run();
  return error == 0 ? Status() : fail_with(error, "taking over " + block_path(id));
}

Status disconnect(std::uint32_t id, const std::string& identifier) {
  return identifier_of(id) == identifier ? end(id) : Status();
}

std::vector<Found> list() {
  std::vector<Found> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator("/sys/block", ignored)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(kDeviceName)) continue;
    std::uint32_t id = 0;
    const char* const last = name.data() + name.size();
    const auto [at, error] = std::from_chars(name.data() + kDeviceName.size(), last, id);
    if (error != std::errc() || at != last) continue;
    if (auto identifier = identifier_of(id); !identifier.empty()) {
      found.push_back({id, std::move(identifier)});
    }
  }
  std::sort(found.begin(), found.end(), [](const Found& a, const Found& b) { return a.id < b.id; });
  return found;
}

std::string identifier_of(std::uint32_t id) {
  std::ifstream file(sysfs_of(id) + "/backend", std::ios::binary);
  std::string text((std::istreambuf_iterator<char>(file)), {});
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

Status ask_again_after(std::uint32_t id, std::chrono::milliseconds time) {
  const std::string path = sysfs_of(id) + "/queue/io_timeout";
  std::ofstream file(path);
  if (file << time.count() << std::flush) return {};
  return fail(Errc::io_error, path + " cannot be written");
}

Status disconnect_unused(std::uint32_t id, const std::string& identifier) {
  if (identifier_of(id) != identifier) return {};
  const auto claimed = frontend::claim_unused(block_path(id));
  return claimed ? end(id) : fail(claimed.error());
}

}  // namespace umbra::nbd_device
