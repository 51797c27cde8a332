// SPDX-License-Identifier: Apache-2.0 OR MIT
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include "engine/platform/local_stream.h"
#include "engine/platform/path_device.h"
#include "engine/platform/run_dir.h"
#include "engine/rpc/peer.h"
#include "requester-sdk/src/link.h"

namespace umbra::requester {
namespace {

constexpr std::size_t kReadBytes = 64U << 10U;

class StreamLink final : public Link {
 public:
  explicit StreamLink(LocalStream stream) : stream_(std::move(stream)), pid_(::getpid()) {}
  ~StreamLink() override {
    // After fork() the child closes only its copy of the descriptor; the session stays the
    // parent's.
    stream_.close();
  }

  using Link::call;
  Result<rpc::Json> call(std::string_view method, rpc::Json params,
                         std::chrono::milliseconds limit) override {
    if (::getpid() != pid_) {
      return fail(Errc::bad_state, std::string(method) +
                                       ": the connection belongs to the process before fork(); "
                                       "make a new one here");
    }
    if (busy_.test_and_set(std::memory_order_acquire)) {
      return fail(Errc::bad_state, std::string(method) + ": another thread is in a call");
    }
    Result<rpc::Json> result = exchange(method, std::move(params), limit);
    if (!result && result.error().code == Errc::coordinator_lost && !from_peer_) stream_.close();
    busy_.clear(std::memory_order_release);
    return result;
  }
  [[nodiscard]] bool is_open() const noexcept override { return stream_.is_open(); }
  [[nodiscard]] TimePoint now() const noexcept override { return system_clock().now(); }

 private:
  Result<rpc::Json> exchange(std::string_view method, rpc::Json params,
                             std::chrono::milliseconds limit) {
    from_peer_ = false;
    if (!stream_.is_open()) return fail(Errc::coordinator_lost, "the connection is closed");
    const TimePoint deadline = system_clock().now() + limit;
    const Result<rpc::CallId> call = peer_.call(method, std::move(params));
    if (!call) return fail(call.error());
    output_.append(peer_.take_output());
    while (true) {
      if (const Status moved = move_bytes(deadline); !moved) return fail(moved.error(), method);
      while (std::optional<rpc::Incoming> event = peer_.next()) {
        if (auto* reply = std::get_if<rpc::IncomingReply>(&*event)) {
          from_peer_ = true;
          return std::move(reply->result);
        }
        // umbrad sends requesters nothing but replies; a newer one's additions are not for us.
        if (auto* request = std::get_if<rpc::IncomingRequest>(&*event)) {
          const Status refused =
              peer_.reply(request->id, fail(Errc::not_implemented, "a requester serves no calls"));
          static_cast<void>(refused);
          output_.append(peer_.take_output());
        }
      }
    }
  }

  // Sends what is to be sent and reads once, waiting for either until the deadline.
  Status move_bytes(TimePoint deadline) {
    const StreamReady ready = stream_.wait(!output_.empty(), nullptr, deadline);
    if (!ready.readable && !ready.writable) {
      return fail(Errc::coordinator_lost, "umbrad did not answer in time");
    }
    if (ready.writable) {
      const Result<std::size_t> count = stream_.write_some(output_);
      if (!count) return fail(count.error());
      output_.erase(0, *count);
    }
    if (!ready.readable) return {};
    const auto count = stream_.read_some(buffer_);
    if (!count) return fail(count.error());
    if (!*count) return {};
    if (**count == 0) return fail(Errc::coordinator_lost, "umbrad closed the connection");
    const Status fed = peer_.feed({buffer_.data(), **count});
    if (!fed) return fail(Errc::coordinator_lost, fed.error().context);
    return {};
  }

  LocalStream stream_;
  rpc::Peer peer_;
  std::string output_;
  std::array<char, kReadBytes> buffer_{};
  pid_t pid_;
  bool from_peer_ = false;  // The last result is the peer's word, not the loss of the connection.
  std::atomic_flag busy_ = ATOMIC_FLAG_INIT;
};

}  // namespace

Result<std::unique_ptr<Link>> connect_link(const ConnectOptions& options) {
  if (options.connect_limit <= std::chrono::milliseconds::zero()) {
    return fail(Errc::invalid_argument, "connect_limit must be positive");
  }
  std::string path = options.socket_path;
  if (path.empty()) {
    Result<std::string> found = find_coordinator_socket();
    if (!found) return fail(found.error());
    path = std::move(*found);
  }
  const TimePoint deadline = system_clock().now() + options.connect_limit;
  Result<LocalStream> stream = LocalStream::connect(path, deadline);
  if (!stream) return fail(stream.error());
  auto link = std::make_unique<StreamLink>(std::move(*stream));
  rpc::HelloRequest hello;
  hello.role = options.admin ? "admin" : "requester";
  hello.program = options.program;
  const auto reply = link->Link::call<rpc::HelloReply>("hello", hello, options.connect_limit);
  if (!reply) return fail(reply.error(), "umbrad at " + path);
  if (reply->major != rpc::kWireMajor) {
    return fail(Errc::version_mismatch, "umbrad speaks version " + std::to_string(reply->major) +
                                            " of the wire, this program " +
                                            std::to_string(rpc::kWireMajor));
  }
  return std::unique_ptr<Link>(std::move(link));
}

Result<VolumeRef> resolve_volume(const std::string& text) {
  if (text.empty()) {
    return fail(Errc::invalid_argument, "an empty text names no volume; give a name or a path");
  }
  VolumeRef volume;
  if (const Result<VolumeId> id = VolumeId::parse(text); id) {
    volume.id = *id;
    return volume;
  }
  if (text.find('/') == std::string::npos) {
    volume.name = text;
    return volume;
  }
  struct stat status {};
  if (::stat(text.c_str(), &status) != 0) {
    return fail(Errc::object_not_found, text + ": " + std::generic_category().message(errno));
  }
  volume.path = text;
  std::error_code error;
  const std::string absolute = std::filesystem::absolute(text, error).string();
  volume.device = S_ISBLK(status.st_mode) ? status.st_rdev : device_of_path(absolute);
  return volume;
}

}  // namespace umbra::requester
