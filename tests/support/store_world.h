// SPDX-License-Identifier: Apache-2.0
//
// The system provider over the real store on simulated disks, with doubles for the guardian and the
// front ends. What survives a restart is the disks.
#pragma once

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "provider/contract/system_provider.h"
#include "provider/cow/volume.h"
#include "tests/support/catch.h"
#include "tests/support/contract_doubles.h"
#include "tests/support/sim_disk.h"

namespace umbra::test {

class StoreWorld {
 public:
  static constexpr std::uint64_t kOriginBytes = 64U << 10U;

  struct Disks {
    Disks(SimMachine& machine, std::string name_, std::uint64_t device_)
        : name(std::move(name_)),
          device(device_),
          origin(machine, kOriginBytes),
          diff(machine, cow::diff_bytes_min(cow::kChunkBytesMin)) {}
    std::string name;
    std::uint64_t device;
    VolumeId id = VolumeId::random();
    SimDisk origin;
    SimDisk diff;
    std::shared_ptr<cow::Volume> volume;
  };

  struct Tracked : block::Request {
    std::atomic<bool> done = false;
  };
  struct Write {
    Write(std::size_t offset, std::string_view bytes) : buffer(bytes.size()) {
      for (std::size_t i = 0; i < bytes.size(); ++i) buffer[i] = static_cast<std::byte>(bytes[i]);
      request.op = block::Op::write;
      request.offset_bytes = offset;
      request.size_bytes = bytes.size();
      request.buffer = buffer.data();
    }
    std::vector<std::byte> buffer;
    Tracked request;
  };

  explicit StoreWorld(std::uint64_t seed) : machine(seed) { start(); }
  ~StoreWorld() { provider.reset(); }

  Disks& add(const std::string& name) {
    disks.push_back(std::make_unique<Disks>(machine, name, 0x700 + disks.size()));
    auto& made = *disks.back();
    cow::FormatOptions format;
    format.volume_id = made.id;
    format.chunk_bytes = cow::kChunkBytesMin;
    format.diff_bytes_initial = cow::diff_bytes_min(cow::kChunkBytesMin);
    REQUIRE(cow::format_diff_area(made.origin, made.diff, format));
    made.origin.settle();
    made.diff.settle();
    attach(made);
    return made;
  }

  void attach(Disks& which) {
    const Status attached = try_attach(which);
    INFO((attached ? std::string() : attached.error().to_string()));
    REQUIRE(attached);
  }
  /// May fail where the power may.
  [[nodiscard]] Status try_attach(Disks& which) {
    cow::OpenOptions open;
    open.volume_id = which.id;
    open.boot_id = boot_id;
    open.log = &log;
    auto volume = cow::Volume::open(which.origin, which.diff, open);
    if (!volume) return fail(volume.error());
    which.volume = std::move(*volume);
    contract::VolumeDescription description;
    description.name = which.name;
    description.device = which.device;
    return provider->add_volume(which.volume, std::move(description));
  }
  [[nodiscard]] bool is_attached() const {
    return std::all_of(disks.begin(), disks.end(),
                       [](const auto& d) { return d->volume != nullptr; });
  }

  void start() {
    contract::SystemProviderOptions options;
    options.machine_name = "host";
    provider =
        std::make_unique<contract::SystemProvider>(freezer, surfaces, log, system_clock(), options);
  }

  /// What runs dies: nothing it still does reaches a disk. Volumes are gone until attach().
  void die(bool power_too) {
    if (power_too) {
      machine.cut_power();
      boot_id = Guid::random();
    } else {
      machine.kill();
    }
    provider.reset();
    surfaces.forget();
    for (auto& each : disks) each->volume.reset();
    machine.cut_at(~std::uint64_t{0});
    machine.power_on();
    start();
  }
  void die_and_restart(bool power_too) {
    die(power_too);
    for (auto& each : disks) attach(*each);
    provider->all_volumes_attached();
  }

  [[nodiscard]] int write(Disks& to, std::size_t offset, std::string_view bytes) {
    Write write(offset, bytes);
    return block::run(to.volume->live(), write.request);
  }
  /// Does not wait: a volume whose diff area is dead holds its writes.
  void start_write(Disks& to, std::size_t offset, std::string_view bytes) {
    started.push_back(std::make_unique<Write>(offset, bytes));
    auto& request = started.back()->request;
    request.complete = [](block::Request& completed) noexcept {
      static_cast<Tracked&>(completed).done.store(true);
    };
    to.volume->live().submit(request);
  }
  /// False: it failed, or the power did and the write is held.
  [[nodiscard]] bool write_while_powered(Disks& to, std::size_t offset, std::string_view bytes) {
    start_write(to, offset, bytes);
    const auto& request = started.back()->request;
    while (!request.done.load() && machine.powered()) std::this_thread::yield();
    return request.done.load() && request.error == 0;
  }
  [[nodiscard]] Disks* find(const VolumeId& id) {
    for (auto& each : disks) {
      if (each->id == id) return each.get();
    }
    return nullptr;
  }

  SimMachine machine;
  Events events;
  FakeFreezer freezer{events};
  FakeSurfaces surfaces{events};
  EventLog log{events};
  Guid boot_id = Guid::random();
  std::vector<std::unique_ptr<Write>> started;
  std::vector<std::unique_ptr<Disks>> disks;
  std::unique_ptr<contract::SystemProvider> provider;
};

}  // namespace umbra::test
