// SPDX-License-Identifier: Apache-2.0
// umbra register provider ID NAME | unregister provider PROVIDER
#include <boost/json/value.hpp>

#include "requester-sdk/cli/commands.h"

namespace umbra::cli {
namespace {

// Errors: provider_not_registered (the context names those that are); invalid_argument (several
// have this name).
Result<requester::ProviderInfo> find_provider(Service& service, const std::string& text) {
  const auto providers = service.providers();
  if (!providers) return fail(providers.error());
  std::optional<requester::ProviderInfo> found;
  std::string names;
  for (const auto& provider : *providers) {
    const auto& properties = provider.properties;
    if (properties.provider_id.to_string() == text) return provider;
    names += (names.empty() ? "'" : ", '") + shown(properties.name) + "'";
    if (properties.name != text) continue;
    if (found)
      return fail(Errc::invalid_argument,
                  "several providers are called '" + shown(text) + "'; name one by its id");
    found = provider;
  }
  if (found) return *found;
  return fail(Errc::provider_not_registered,
              "no provider '" + shown(text) + "'; " +
                  (names.empty() ? "none is registered" : "there are " + names));
}

}  // namespace

ExitCode register_provider(Service& service, Output& output, const ProviderProperties& provider) {
  if (const auto status = service.register_provider(provider); !status)
    return output.error(status.error());
  output.object(to_json(requester::ProviderInfo{.properties = provider, .connected = false}));
  output.line("registered " + shown(provider.name));
  return ExitCode::done;
}

ExitCode unregister_provider(Service& service, Output& output,
                             const UnregisterProvider& arguments) {
  const auto found = find_provider(service, arguments.provider);
  if (!found) return output.error(found.error());
  const auto& properties = found->properties;
  if (const auto status = service.unregister_provider(properties.provider_id, arguments.force);
      !status)
    return output.error(status.error());
  output.object(
      {{"provider_id", properties.provider_id.to_string()}, {"name", shown(properties.name)}});
  output.line("unregistered " + shown(properties.name));
  return ExitCode::done;
}

}  // namespace umbra::cli
