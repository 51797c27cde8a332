// SPDX-License-Identifier: Apache-2.0

#include "engine/daemon/registrations.h"

#include <filesystem>
#include <fstream>
#include <iterator>

#include "engine/rpc/codec.h"

namespace umbra::daemon {

Result<Registrations> load_registrations(const std::string& path) {
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  if (error == std::errc::no_such_file_or_directory) return Registrations{};
  if (error) return fail(Errc::io_error, path + ": " + error.message());
  if (size > kRegistrationsBytesMax) return fail(Errc::invalid_argument, path + " is too large");
  std::ifstream file(path);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  if (!file) return fail(Errc::io_error, path + " cannot be read");
  const auto json = rpc::parse(text, 16 * kRegistrationsBytesMax);
  if (!json) return fail(Errc::invalid_argument, path + ": " + json.error().context);
  const auto list = rpc::decode<rpc::ProviderList>(*json);
  if (!list) return fail(Errc::invalid_argument, path + ": " + list.error().context);
  Registrations registrations;
  for (const auto& entry : list->providers) {
    if (entry.properties.provider_id.is_nil()) continue;
    (entry.registered ? registrations.known : registrations.unregistered)
        .push_back(entry.properties);
  }
  return registrations;
}

Status save_registrations(const std::string& path, const Registrations& registrations) {
  rpc::ProviderList list;
  for (const auto& one : registrations.known) list.providers.push_back({one, false, true});
  for (const auto& one : registrations.unregistered) list.providers.push_back({one, false, false});
  const std::string draft = path + ".new";
  {
    std::ofstream file(draft, std::ios::trunc);
    file << rpc::serialize(rpc::encode(list)) << '\n';
    file.flush();
    if (!file) return fail(Errc::io_error, draft + " cannot be written");
  }
  std::error_code error;
  std::filesystem::rename(draft, path, error);
  if (error) return fail(Errc::io_error, path + ": " + error.message());
  return {};
}

}  // namespace umbra::daemon
