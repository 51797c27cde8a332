// SPDX-License-Identifier: Apache-2.0
#include "requester-sdk/cli/parse_parts.h"

namespace umbra::cli {
namespace {

std::optional<ProviderType> parse_type(const std::string& text) {
  if (text == "software") return ProviderType::software;
  if (text == "hardware") return ProviderType::hardware;
  if (text == "file-share") return ProviderType::file_share;
  if (text == "system") return ProviderType::system;
  return std::nullopt;
}

}  // namespace

void add_provider_commands(Parser& parser) {
  CLI::App* registering =
      add(parser.app, "register", "Make a provider known before it connects, or let it in again");
  registering->require_subcommand(1);
  auto properties = std::make_shared<ProviderProperties>();
  properties->type = ProviderType::software;
  CLI::App* register_app = add(*registering, "provider", "A provider of copies");
  add_parsed(register_app, "id", properties->provider_id, parse_id<ProviderId>,
             "The provider's id, which its author made");
  register_app->get_option("id")->required();
  register_app->add_option("name", properties->name, "What it is called in lists")->required();
  add_parsed(register_app, "--type", properties->type, parse_type,
             "software (default), hardware, file-share or system");
  register_app->add_option("--provider-version", properties->version, "For lists");
  register_app->callback([&parser, properties] {
    parser.invocation.command = [properties](Service& service, Output& output) {
      return static_cast<int>(register_provider(service, output, *properties));
    };
  });

  CLI::App* unregistering =
      add(parser.app, "unregister", "Forget a provider, and do not let it in again");
  unregistering->require_subcommand(1);
  auto arguments = std::make_shared<UnregisterProvider>();
  CLI::App* unregister_app = add(*unregistering, "provider", "A provider of copies");
  unregister_app->add_option("provider", arguments->provider, "Its name or id")->required();
  unregister_app->add_flag("--force", arguments->force,
                           "Also if it has copies, which nobody manages then, or is away");
  unregister_app->callback([&parser, arguments] {
    parser.invocation.command = [arguments](Service& service, Output& output) {
      return static_cast<int>(unregister_provider(service, output, *arguments));
    };
  });
}

}  // namespace umbra::cli
