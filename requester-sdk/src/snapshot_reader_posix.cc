// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// engine/shm over memory and descriptors that umbra-cowd has handed over; docs/formats/shm.md.
#include "umbra/requester/snapshot_reader.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/interprocess/mapped_region.hpp>
#include <cerrno>
#include <utility>
#include <vector>

#include "engine/platform/clock.h"
#include "engine/platform/descriptor_passing.h"
#include "engine/platform/local_stream.h"
#include "engine/platform/run_dir.h"
#include "engine/shm/view_reader.h"
#include "engine/shm/wire.h"

namespace umbra::requester {
namespace {

namespace ipc = boost::interprocess;
using shm::Descriptor;
using Descriptors = std::array<UniqueFd, shm::kDescriptors>;

// What Boost wants of something that can be mapped.
struct Mappable {
  int fd;
  [[nodiscard]] ipc::mapping_handle_t get_mapping_handle() const noexcept {
    return ipc::ipcdetail::mapping_handle_from_file_handle(fd);
  }
};

Result<ipc::mapped_region> map(const UniqueFd& fd) {
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0 || status.st_size <= 0) {
    return fail(Errc::protocol_violation, "what was handed over cannot be mapped");
  }
  try {
    return ipc::mapped_region(Mappable{fd.get()}, ipc::read_only);
  } catch (const ipc::interprocess_exception& error) {
    return fail(Errc::io_error, std::string("mapping a view: ") + error.what());
  }
}

std::span<std::byte> bytes_of(const ipc::mapped_region& region) noexcept {
  return {static_cast<std::byte*>(region.get_address()), region.get_size()};
}

int read_at(int fd, std::uint64_t offset, std::span<std::byte> out) noexcept {
  while (!out.empty()) {
    const ssize_t count = ::pread(fd, out.data(), out.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return count < 0 ? errno : EIO;
    offset += static_cast<std::uint64_t>(count);
    out = out.subspan(static_cast<std::size_t>(count));
  }
  return 0;
}

// --- asking ---------------------------------------------------------------------------------

// Descriptors come beside the first byte.
Status receive_all(const LocalStream& stream, std::span<std::byte> out,
                   std::vector<UniqueFd>& descriptors, TimePoint deadline) {
  while (!out.empty()) {
    if (!stream.wait(false, nullptr, deadline).readable) {
      return fail(Errc::coordinator_lost, "umbra-cowd does not answer");
    }
    const Passed passed = receive_with_descriptors(stream.native(), out, descriptors);
    if (passed.error == EAGAIN) continue;
    if (passed.count <= 0)
      return fail(Errc::coordinator_lost, "umbra-cowd has closed the connection");
    out = out.subspan(static_cast<std::size_t>(passed.count));
  }
  return {};
}

Result<Descriptors> ask(LocalStream& stream, const SnapshotId& snapshot, TimePoint deadline) {
  const auto request = shm::encode_request(snapshot);
  const std::span<const char> text(reinterpret_cast<const char*>(request.data()), request.size());
  const auto sent = stream.write_some(text);
  if (!sent) return fail(sent.error());
  if (*sent != text.size()) return fail(Errc::coordinator_lost, "umbra-cowd does not read");
  std::vector<UniqueFd> passed;
  std::array<std::byte, shm::kAnswerHeadBytes> head{};
  if (const Status got = receive_all(stream, head, passed, deadline); !got) {
    return fail(got.error());
  }
  const auto answer = shm::decode_answer_head(head);
  if (!answer) return fail(answer.error());
  if (answer->code != Errc::ok) {
    std::string context(answer->text_bytes, '\0');
    const Status got = receive_all(
        stream, {reinterpret_cast<std::byte*>(context.data()), context.size()}, passed, deadline);
    return fail(answer->code, got ? context : std::string());
  }
  Descriptors descriptors;
  if (passed.size() < descriptors.size()) {
    return fail(Errc::protocol_violation, "umbra-cowd handed over too little");
  }
  passed.resize(descriptors.size());
  std::move(passed.begin(), passed.end(), descriptors.begin());
  return descriptors;
}

Result<std::string> socket_of(const SnapshotReaderOptions& options) {
  if (!options.socket_path.empty()) return options.socket_path;
  auto coordinator = find_coordinator_socket();
  if (!coordinator) return fail(coordinator.error());
  return coordinator->substr(0, coordinator->rfind('/') + 1) + std::string(shm::kSocketName);
}

}  // namespace

// In the order of construction.
class SnapshotReader::Impl final : public shm::Storage {
 public:
  Impl(LocalStream connection, Descriptors descriptors, ipc::mapped_region view_memory,
       ipc::mapped_region life, const shm::Layout& layout) noexcept
      : connection_(std::move(connection)),
        descriptors_(std::move(descriptors)),
        view_region_(std::move(view_memory)),
        life_region_(std::move(life)),
        view(layout, bytes_of(view_region_)) {}

  int read_origin(std::uint64_t offset_bytes, std::span<std::byte> out) noexcept override {
    return read_at(fd_of(Descriptor::origin), offset_bytes, out);
  }
  int read_diff_area(std::uint64_t offset_bytes, std::span<std::byte> out) noexcept override {
    return read_at(fd_of(Descriptor::diff_area), offset_bytes, out);
  }
  // The page tells of a successor, the connection of an end without one.
  bool is_alive() noexcept override {
    const auto& life =
        *reinterpret_cast<const std::atomic<std::uint32_t>*>(life_region_.get_address());
    if (life.load(std::memory_order_acquire) != static_cast<std::uint32_t>(shm::State::valid)) {
      return false;
    }
    char byte = 0;
    const ssize_t count = ::recv(connection_.native(), &byte, sizeof byte, MSG_PEEK | MSG_DONTWAIT);
    return count < 0 && (errno == EAGAIN || errno == EINTR);
  }

 private:
  [[nodiscard]] int fd_of(Descriptor which) const noexcept {
    return descriptors_[static_cast<std::size_t>(which)].get();
  }

  const LocalStream connection_;
  const Descriptors descriptors_;
  const ipc::mapped_region view_region_;
  const ipc::mapped_region life_region_;

 public:
  const shm::View view;
};

SnapshotReader::SnapshotReader(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
SnapshotReader::SnapshotReader(SnapshotReader&&) noexcept = default;
SnapshotReader& SnapshotReader::operator=(SnapshotReader&&) noexcept = default;
SnapshotReader::~SnapshotReader() = default;

Result<SnapshotReader> SnapshotReader::open(const SnapshotId& snapshot,
                                            const SnapshotReaderOptions& options) {
  const auto path = socket_of(options);
  if (!path) return fail(path.error());
  const TimePoint deadline = system_clock().now() + std::chrono::seconds(kOpenSecondsMax);
  auto connection = LocalStream::connect(*path, deadline);
  if (!connection) {
    return fail(connection.error(), "readers of copies are served at " + *path);
  }
  auto descriptors = ask(*connection, snapshot, deadline);
  if (!descriptors) return fail(descriptors.error());
  const auto& fds = *descriptors;
  auto view = map(fds[static_cast<std::size_t>(Descriptor::view)]);
  if (!view) return fail(view.error());
  auto life = map(fds[static_cast<std::size_t>(Descriptor::life)]);
  if (!life) return fail(life.error());
  if (life->get_size() < shm::kLifeBytes) {
    return fail(Errc::protocol_violation, "a page of life that is too short");
  }
  const auto layout = shm::parse_view(bytes_of(*view));
  if (!layout) return fail(layout.error());
  if (layout->snapshot != snapshot) {
    return fail(Errc::protocol_violation, "the view of another snapshot");
  }
  return SnapshotReader(std::make_unique<Impl>(std::move(*connection), std::move(*descriptors),
                                               std::move(*view), std::move(*life), *layout));
}

std::uint64_t SnapshotReader::size_bytes() const noexcept {
  return impl_->view.layout().volume_bytes;
}
std::uint32_t SnapshotReader::chunk_bytes() const noexcept {
  return impl_->view.layout().chunk_bytes;
}

Status SnapshotReader::read(std::uint64_t offset_bytes, std::span<std::byte> out) const {
  return shm::read_view(impl_->view, *impl_, offset_bytes, out);
}

}  // namespace umbra::requester
