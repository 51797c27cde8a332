// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "engine/rpc/hardware_calls.h"

#include <array>
#include <utility>

#include "engine/rpc/serving.h"
#include "umbra/hardware_provider.h"

namespace umbra::rpc {
namespace {

struct Served {
  HardwareProvider& hardware;
  OperationTable& operations;
};
using Serve = Result<Json> (*)(const Served&, const Json&);

Result<Json> supported(const Served& at, const VolumeSupportRequest& request) {
  return reply_itself(at.hardware.are_luns_supported(request.volume, request.attributes));
}
Result<Json> target_luns(const Served& at, const SetRequest& request) {
  return reply<SnapshotLunsList>(at.hardware.get_target_luns(request.set_id));
}
Result<Json> locate(const Served& at, const LunList& request) {
  return nothing_or(at.hardware.locate_luns(request.luns));
}
Result<Json> lun_info(const Served& at, const Nothing&) {
  return reply<LunList>(at.hardware.fill_in_lun_info());
}
Result<Json> take_in(const Served& at, const ImportedSet& request) {
  return nothing_or(at.hardware.import_snapshots(request));
}
Result<Json> break_set(const Served& at, const BreakLuns& request) {
  return nothing_or(at.hardware.break_snapshot_set(request.set_id, request.flags));
}
Result<Json> state_change(const Served& at, const LunStateChange& request) {
  return nothing_or(at.hardware.on_lun_state_change(request.luns, request.flags));
}
Result<Json> resync(const Served& at, const ResyncLuns& request) {
  const auto subject = std::to_string(request.luns.size()) + " LUNs";
  return started(at.operations.start(
      "resync_luns", subject, [&hardware = at.hardware, request](OperationMonitor& monitor) {
        return hardware.resync_luns(request.luns, request.options, monitor);
      }));
}
Result<Json> volumes_on(const Served& at, const LunList& request) {
  return reply<VolumeIdList>(at.hardware.query_volumes_on_luns(request.luns));
}

struct Entry {
  std::string_view member;  // After "hardware.".
  Serve serve;
};
constexpr std::array kMembers{
    Entry{"are_luns_supported", served<VolumeSupportRequest, supported>},
    Entry{"get_target_luns", served<SetRequest, target_luns>},
    Entry{"locate_luns", served<LunList, locate>},
    Entry{"fill_in_lun_info", served<Nothing, lun_info>},
    Entry{"import_snapshots", served<ImportedSet, take_in>},
    Entry{"break_snapshot_set", served<BreakLuns, break_set>},
    Entry{"on_lun_state_change", served<LunStateChange, state_change>},
    Entry{"resync_luns", served<ResyncLuns, resync>},
    Entry{"query_volumes_on_luns", served<LunList, volumes_on>},
};

}  // namespace

Result<Json> serve_hardware_call(Provider& provider, OperationTable& operations,
                                 const std::string& method, const Json& params) {
  for (const auto& entry : kMembers) {
    if (!method.starts_with(kHardwarePrefix) ||
        entry.member != std::string_view(method).substr(kHardwarePrefix.size()))
      continue;
    HardwareProvider* hardware = provider.hardware();
    if (hardware != nullptr) return entry.serve({*hardware, operations}, params);
    return fail(Errc::not_implemented,
                "the copies of provider '" + provider.properties().name + "' are no LUNs");
  }
  return fail(Errc::not_implemented, "no method '" + method + "'");
}

}  // namespace umbra::rpc
