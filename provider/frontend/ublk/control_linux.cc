// SPDX-License-Identifier: Apache-2.0
#include "provider/frontend/ublk/control.h"

#include <dirent.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "engine/platform/assert.h"
#include "provider/frontend/device_users.h"
#include "provider/frontend/ublk/wire_linux.h"

namespace umbra::ublk {
namespace {

namespace fs = std::filesystem;

constexpr const char* kControlPath = "/dev/ublk-control";
constexpr std::string_view kCharName = "ublkc";
constexpr unsigned kRingEntries = 2;
constexpr std::uint32_t kNewId = ~std::uint32_t{0};
constexpr std::uint16_t kNoQueue = 0xFFFF;
constexpr int kKernelNotSupported = 524;  // The kernel's own ENOTSUPP, which 6.1 lets out.
constexpr int kPollMs = 5;

// plan.h has its own numbers, so that it needs no header of the system's.
static_assert(kRecovery == UBLK_F_USER_RECOVERY);
static_assert(kRecoveryReissue == UBLK_F_USER_RECOVERY_REISSUE);
static_assert(sizeof(ublksrv_ctrl_cmd) == 32 && sizeof(ublksrv_ctrl_dev_info) == 64);

std::string reason(int error) { return std::generic_category().message(error); }

tl::unexpected<Error> fail_with(int error, const std::string& what) {
  Errc code = Errc::io_error;
  if (error == EPERM || error == EACCES) code = Errc::missing_privilege;
  if (error == ENODEV) code = Errc::object_not_found;
  if (error == ENOMEM) code = Errc::out_of_memory;
  if (error == EBUSY) code = Errc::bad_state;
  if (error == ENOSPC) code = Errc::limit_reached;
  return fail(code, "ublk: " + what + ": " + reason(error));
}

Status done(int error, const std::string& what) {
  if (error == 0) return {};
  return fail_with(error, what);
}

Info info_of(const ublksrv_ctrl_dev_info& raw) {
  Info out;
  out.id = raw.dev_id;
  out.shape = {raw.nr_hw_queues, raw.queue_depth, raw.max_io_buf_bytes};
  out.flags = raw.flags;
  out.mark = raw.ublksrv_flags;
  if (raw.state == UBLK_S_DEV_DEAD) out.state = Info::State::dead;
  if (raw.state == UBLK_S_DEV_LIVE) out.state = Info::State::live;
  if (raw.state == UBLK_S_DEV_QUIESCED) out.state = Info::State::quiesced;
  return out;
}

class Deadline {
 public:
  explicit Deadline(std::chrono::milliseconds limit)
      : end_(std::chrono::steady_clock::now() + limit) {}
  [[nodiscard]] bool over() const { return std::chrono::steady_clock::now() >= end_; }

 private:
  std::chrono::steady_clock::time_point end_;
};

}  // namespace

// What the kernel may look at for as long as the command runs.
struct Control::Command {
  unsigned number = 0;
  ublksrv_ctrl_cmd header{};
  union {
    std::uint64_t features;
    ublksrv_ctrl_dev_info device;
    ublk_params parameters;
  } body{};
  std::uint16_t body_bytes = 0;
  void* result = nullptr;  // body is copied here on success.
};

Result<Control> Control::open() {
  UniqueFd descriptor(::open(kControlPath, O_RDWR | O_CLOEXEC));
  if (!descriptor) {
    const int error = errno;
    const bool denied = error == EACCES || error == EPERM;
    return fail(
        denied ? Errc::missing_privilege : Errc::missing_kernel_feature,
        "there is no usable " + std::string(kControlPath) + " (module ublk_drv): " + reason(error));
  }
  return over(std::move(descriptor));
}

Result<Control> Control::over(UniqueFd descriptor) {
  Control control(std::move(descriptor));
  auto asked = std::make_unique<Command>();
  asked->number = control_number(kGetFeatures, true);
  asked->header.dev_id = kNewId;
  asked->body_bytes = kFeaturesBytes;
  asked->result = &control.offer_.features;
  const int error = control.run(std::move(asked), kCommandLimit);
  if (error == 0) {
    control.offer_.encoded = true;
  } else if (error != EINVAL && error != ENODEV && error != EOPNOTSUPP &&
             error != kKernelNotSupported) {
    const Errc code = error == EPERM ? Errc::missing_privilege : Errc::missing_kernel_feature;
    return fail(code, "ublk cannot be used: " + reason(error));
  }  // Else an older kernel, with bare numbers.
  return control;
}

// In a ring of its own. When the time is over the command goes on in the kernel and keeps what it
// may still look at.
int Control::run(std::unique_ptr<Command> command, std::chrono::seconds limit) const {
  io_uring ring{};
  if (const int error = ::io_uring_queue_init(kRingEntries, &ring, IORING_SETUP_SQE128);
      error < 0) {
    return -error;
  }
  command->header.queue_id = kNoQueue;
  command->header.len = command->body_bytes;
  command->header.addr =
      command->body_bytes > 0 ? reinterpret_cast<std::uint64_t>(&command->body) : 0;
  io_uring_sqe* sqe = ::io_uring_get_sqe(&ring);
  UMBRA_ASSERT(sqe != nullptr);
  std::memset(static_cast<void*>(sqe), 0, 2 * sizeof *sqe);  // SQE128.
  sqe->opcode = IORING_OP_URING_CMD;
  sqe->fd = descriptor_.get();
  sqe->cmd_op = command->number;
  std::memcpy(sqe->cmd, &command->header, sizeof command->header);
  __kernel_timespec left{.tv_sec = limit.count(), .tv_nsec = 0};
  io_uring_cqe* cqe = nullptr;
  int error = ::io_uring_submit(&ring);
  if (error >= 0) {
    do {
      error = ::io_uring_wait_cqe_timeout(&ring, &cqe, &left);
    } while (error == -EINTR);
  }
  if (error == 0) {
    error = cqe->res;
    if (error >= 0 && command->result != nullptr) {
      std::memcpy(command->result, &command->body, command->body_bytes);
    }
  } else if (error == -ETIME) {
    (void)command.release();
    error = -ETIMEDOUT;
  }
  ::io_uring_queue_exit(&ring);
  return error < 0 ? -error : 0;
}

int Control::run(unsigned number, std::uint32_t id, std::uint64_t data,
                 std::chrono::seconds limit) const {
  auto command = std::make_unique<Command>();
  command->number = control_number(number, offer_.encoded);
  command->header.dev_id = id;
  command->header.data[0] = data;
  return run(std::move(command), limit);
}

Result<Info> Control::add(const Shape& shape, std::uint64_t mark) const {
  auto command = std::make_unique<Command>();
  command->number = control_number(UBLK_CMD_ADD_DEV, offer_.encoded);
  command->header.dev_id = kNewId;
  command->body_bytes = sizeof command->body.device;
  ublksrv_ctrl_dev_info device{};
  device.nr_hw_queues = shape.queues;
  device.queue_depth = shape.depth;
  device.max_io_buf_bytes = shape.payload_bytes;
  device.dev_id = kNewId;
  device.ublksrv_pid = ::getpid();
  device.flags = kRecovery | kRecoveryReissue;
  device.ublksrv_flags = mark;
  command->body.device = device;
  command->result = &device;
  if (const int error = run(std::move(command), kCommandLimit); error != 0) {
    if (error == EACCES || error == ENOSPC) {
      return fail(Errc::limit_reached,
                  "the kernel makes no more ublk devices (module parameter ublks_max)");
    }
    return fail_with(error, "making a device");
  }
  const Info made = info_of(device);
  if (const std::string why = why_no_recovery(made.flags); !why.empty()) {
    (void)remove(made.id);
    return fail(Errc::missing_kernel_feature, why);
  }
  return made;
}

Status Control::set_parameters(std::uint32_t id, const Parameters& parameters) const {
  auto command = std::make_unique<Command>();
  command->number = control_number(UBLK_CMD_SET_PARAMS, offer_.encoded);
  command->header.dev_id = id;
  command->body_bytes = sizeof command->body.parameters;
  ublk_params out{};
  out.len = sizeof out;
  out.types = UBLK_PARAM_TYPE_BASIC;
  out.basic.attrs = UBLK_ATTR_VOLATILE_CACHE | UBLK_ATTR_FUA;
  if (parameters.read_only) out.basic.attrs |= UBLK_ATTR_READ_ONLY;
  // What a file system chooses by these must also suit the origin, on which it is found again when
  // the volume is detached.
  out.basic.logical_bs_shift = out.basic.physical_bs_shift = out.basic.io_min_shift =
      out.basic.io_opt_shift = parameters.block_shift;
  out.basic.max_sectors = parameters.sectors_max;
  out.basic.dev_sectors = parameters.sectors;
  if (parameters.discard_sectors_max != 0 || parameters.zeroes_sectors_max != 0) {
    out.types |= UBLK_PARAM_TYPE_DISCARD;
    out.discard.discard_granularity = 1U << parameters.block_shift;
    out.discard.max_discard_sectors = parameters.discard_sectors_max;
    out.discard.max_write_zeroes_sectors = parameters.zeroes_sectors_max;
    out.discard.max_discard_segments = parameters.discard_sectors_max != 0 ? 1 : 0;
  }
  command->body.parameters = out;
  return done(run(std::move(command), kCommandLimit), "setting parameters");
}

Status Control::start(std::uint32_t id) const {
  return done(run(UBLK_CMD_START_DEV, id, static_cast<std::uint64_t>(::getpid()), kCommandLimit),
              "starting " + block_path(id));
}

Status Control::begin_recovery(std::uint32_t id) const {
  const Deadline deadline(kRecoveryLimit);
  int error = 0;
  do {
    error = run(UBLK_CMD_START_USER_RECOVERY, id, 0, kCommandLimit);
    if (error != EBUSY) break;
    (void)::poll(nullptr, 0, kPollMs);  // Nobody tells.
  } while (!deadline.over());
  return done(error, "taking over " + block_path(id));
}

Status Control::end_recovery(std::uint32_t id) const {
  const auto pid = static_cast<std::uint64_t>(::getpid());
  return done(run(UBLK_CMD_END_USER_RECOVERY, id, pid, kCommandLimit),
              "going on with " + block_path(id));
}

Status Control::stop(std::uint32_t id) const {
  return done(run(UBLK_CMD_STOP_DEV, id, 0, kCommandLimit), "stopping " + block_path(id));
}

Status Control::remove(std::uint32_t id) const {
  const Status later = remove_later(id);
  if (later || later.error().code != Errc::not_supported) return later;
  return done(run(UBLK_CMD_DEL_DEV, id, 0, kCommandLimit), "removing " + block_path(id));
}

Status Control::remove_later(std::uint32_t id) const {
  const int error = offer_.encoded ? run(kDelDevAsync, id, 0, kCommandLimit) : kKernelNotSupported;
  if (error == EOPNOTSUPP || error == EINVAL || error == kKernelNotSupported) {
    return fail(Errc::not_supported, "this kernel removes no ublk device that is still open");
  }
  return done(error, "removing " + block_path(id));
}

Result<Info> Control::info(std::uint32_t id) const {
  auto command = std::make_unique<Command>();
  command->number = control_number(UBLK_CMD_GET_DEV_INFO, offer_.encoded);
  command->header.dev_id = id;
  command->body_bytes = sizeof command->body.device;
  ublksrv_ctrl_dev_info device{};
  command->result = &device;
  int error = run(std::move(command), kCommandLimit);
  // An old one says EINVAL of a number that it does not have.
  if (error == EINVAL) error = ENODEV;
  if (error != 0) return fail_with(error, "asking about " + block_path(id));
  return info_of(device);
}

std::vector<std::uint32_t> Control::list() const {
  std::vector<std::uint32_t> ids;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator("/sys/class/ublk-char", ignored)) {
    const std::string name = entry.path().filename().string();
    std::uint32_t id = 0;
    const char* const end = name.data() + name.size();
    if (name.compare(0, kCharName.size(), kCharName) != 0) continue;
    const auto [at, error] = std::from_chars(name.data() + kCharName.size(), end, id);
    if (error == std::errc() && at == end) ids.push_back(id);
  }
  std::sort(ids.begin(), ids.end());
  return ids;
}

// --- removing -----------------------------------------------------------------------------------

Status stop_unused(const Control& control, std::uint32_t id) {
  const auto claimed = frontend::claim_unused(block_path(id));  // After it nothing can be written.
  return claimed ? control.stop(id) : fail(claimed.error());
}

Status remove_device(const Control& control, std::uint32_t id) {
  const std::string device = block_path(id);
  const auto before = control.info(id);
  if (!before) return fail(before.error());
  bool unused = frontend::is_let_go(device);
  {
    const auto claimed = frontend::claim(device);
    unused = unused && claimed;
    if (const Status stopped = control.stop(id); !stopped) return stopped;
  }
  // Its server closes the character device now.
  if (unused && frontend::is_let_go(device) && frontend::is_let_go(char_path(id))) {
    return control.remove(id);
  }
  const Status later = control.remove_later(id);
  return later || later.error().code == Errc::not_supported ? Status() : later;
}

}  // namespace umbra::ublk
