// SPDX-License-Identifier: Apache-2.0
#include "provider/frontend/ublk/device.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "provider/frontend/ublk/queue_linux.h"

namespace umbra::ublk {
namespace {

std::string reason(int error) { return std::generic_category().message(error); }

// Where nobody makes device nodes (containers), we do.
void ensure_node(const std::string& sysfs, const std::string& path, mode_t kind) {
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0) return;
  std::ifstream in(sysfs + "/dev");
  unsigned major_number = 0;
  unsigned minor_number = 0;
  char colon = 0;
  if (!(in >> major_number >> colon >> minor_number)) return;  // Opening it says what is wrong.
  (void)::mknod(path.c_str(), kind | 0600, makedev(major_number, minor_number));
}

class KernelDevice final : public Device {
 public:
  KernelDevice(const Control& control, const Info& info, std::shared_ptr<block::Device> served,
               bool inherited, Log& log)
      : control_(control),
        info_(info),
        served_(std::move(served)),
        inherited_(inherited),
        log_(log, "ublk") {}

  ~KernelDevice() override {
    if (started_) {
      const Status stopped = control_.stop(info_.id);
      // Not in time: it goes on in the kernel, and the queues end when it has.
      const bool ends = stopped || stopped.error().code == Errc::io_error;
      if (!stopped) {
        log_.warning("a device does not stop", {{"reason", stopped.error().context}});
      }
      for (auto& queue : queues_) {
        if (ends) queue->end();
      }
    }
    queues_.clear();
    descriptor_.reset();
    if (!started_ && !inherited_) (void)control_.remove(info_.id);
  }

  Status start() override {
    for (std::uint16_t i = 0; i < info_.shape.queues; ++i) {
      queues_.push_back(
          std::make_unique<Queue>(i, info_.shape, control_.offer().encoded, *served_, log_));
      if (const Status prepared = queues_.back()->prepare(); !prepared) return prepared;
    }
    if (inherited_) {
      // From here to the fetches a kill costs the device: nothing that could be done before is done
      // in between.
      if (const Status begun = control_.begin_recovery(info_.id); !begun) return begun;
    }
    if (const Status opened = open(); !opened) return opened;
    for (auto& queue : queues_) {
      if (const Status fetched = queue->fetch(descriptor_.get()); !fetched) return fetched;
    }
    const Status done = inherited_ ? control_.end_recovery(info_.id) : control_.start(info_.id);
    if (!done) return done;
    started_ = true;
    ensure_node("/sys/block/ublkb" + std::to_string(info_.id), block_path(info_.id), S_IFBLK);
    return {};
  }

  std::uint32_t id() const noexcept override { return info_.id; }
  const Shape& shape() const noexcept override { return info_.shape; }

 private:
  Status open() {
    const std::string path = char_path(info_.id);
    ensure_node("/sys/class/ublk-char/ublkc" + std::to_string(info_.id), path, S_IFCHR);
    descriptor_.reset(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (descriptor_) return {};
    return fail(Errc::io_error, path + ": " + reason(errno));
  }

  const Control& control_;
  const Info info_;
  const std::shared_ptr<block::Device> served_;
  const bool inherited_;
  Logger log_;
  UniqueFd descriptor_;
  std::vector<std::unique_ptr<Queue>> queues_;  // Go before what they use.
  bool started_ = false;
};

}  // namespace

Result<std::unique_ptr<Device>> Device::create(const Control& control, std::uint64_t mark,
                                               std::shared_ptr<block::Device> served, Log& log) {
  const Shape wanted = shape_for(std::thread::hardware_concurrency());
  const auto parameters = parameters_for(served->geometry(), wanted);
  if (!parameters) return fail(parameters.error());
  const auto made = control.add(wanted, mark);
  if (!made) return fail(made.error());
  if (const Status set = control.set_parameters(made->id, *parameters); !set) {
    (void)control.remove(made->id);
    return fail(set.error());
  }
  return std::make_unique<KernelDevice>(control, *made, std::move(served), false, log);
}

Result<std::unique_ptr<Device>> Device::take_over(const Control& control, std::uint64_t mark,
                                                  std::string_view saved_state,
                                                  std::shared_ptr<block::Device> served, Log& log) {
  const auto id = parse_state(saved_state);
  if (!id) return fail(id.error());
  const auto info = control.info(*id);
  if (!info) return fail(info.error());
  if (info->mark != mark || info->state == Info::State::dead || info->shape.queues == 0 ||
      info->shape.depth == 0 || info->shape.payload_bytes == 0) {
    return fail(Errc::bad_state, block_path(*id) + " is not ours any more, or was stopped");
  }
  return std::make_unique<KernelDevice>(control, *info, std::move(served), true, log);
}

}  // namespace umbra::ublk
