// SPDX-License-Identifier: Apache-2.0
//
// Calls what the headers that all SDKs share declare, linked with one SDK's library alone: whatever
// a header declares must be found there.
#include <cstdio>

#include "umbra/documents.h"
#include "umbra/errc.h"
#include "umbra/ids.h"
#include "umbra/lun.h"
#include "umbra/result.h"
#include "umbra/vss.h"
#ifdef WITH_PROVIDER
#include "umbra/caller.h"
#include "umbra/diff_area_management.h"
#include "umbra/hardware_provider.h"
#endif

namespace {

using namespace umbra;

bool names() {
  const Status failed = fail(fail(Errc::bad_state, "inside").value(), "outside");
  return !failed && !failed.error().to_string().empty() && !describe(Errc::bad_state).empty() &&
         code_name(Errc::bad_state) == "VSS_E_BAD_STATE" &&
         remedy(Errc::bad_state) == Remedy::fix_the_call &&
         vss_name(WriterState::stable) == "VSS_WS_STABLE" &&
         !vss_name(SnapshotState::created).empty() && !vss_name(ProviderType::system).empty() &&
         !vss_name(ApplicationLevel::system).empty() && !vss_name(BackupType::full).empty() &&
         !vss_name(ProtectionLevel::snapshot).empty() && !vss_name(ProtectionFault::none).empty() &&
         !context_name(context::kBackup).empty() && !display_name(WriterState::stable).empty();
}

bool ids() {
  const auto id = SnapshotId::random();
  const auto back = SnapshotId::parse(id.to_string());
  return back && *back == id && !id.is_nil();
}

bool luns() {
  LunInformation lun;
  lun.identifiers = {{.type = LunIdentifierType::naa, .value = "600508b1001c"}};
  return is_unique(LunIdentifierType::naa) && has_unique_identifier(lun) && is_same_lun(lun, lun) &&
         is_same_description(lun, lun);
}

#ifdef WITH_PROVIDER
bool callers() {
  const CallerScope outer("uid 0");
  {
    const CallerScope inner("uid 1");
    if (current_caller() != "uid 1") return false;
  }
  return current_caller() == "uid 0";
}
#else
bool callers() { return true; }
#endif

}  // namespace

int main() {
  if (names() && ids() && luns() && callers()) return 0;
  std::puts("base: a function of the shared headers does not do what it says");
  return 1;
}
