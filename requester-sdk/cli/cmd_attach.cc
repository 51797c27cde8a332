// SPDX-License-Identifier: Apache-2.0
// umbra attach ORIGIN --diff FILE
#include "requester-sdk/cli/commands.h"

namespace umbra::cli {

ExitCode attach(Service& service, Output& output, const requester::AttachOptions& options) {
  auto attached = service.attach(options);
  if (!attached) return output.error(attached.error());
  const auto& volume = attached->volume;
  boost::json::object object = to_json(volume);
  object["notes"] = names_to_json(attached->notes);
  output.object(object);
  output.line("attached " + shown(volume.name) + " (" + volume.volume_id.to_string() + "), " +
              bytes_text(volume.size_bytes));
  if (!volume.device_path.empty()) output.line("  device  " + shown(volume.device_path));
  if (!volume.nbd_uri.empty()) output.line("  nbd     " + shown(volume.nbd_uri));
  for (const auto& note : attached->notes) output.line("  note    " + shown(note));
  return ExitCode::done;
}

}  // namespace umbra::cli
