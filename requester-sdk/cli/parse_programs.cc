// SPDX-License-Identifier: Apache-2.0
//
// The syntax of what programs of their own do, without a daemon: check, cleanup, express.
#include "requester-sdk/cli/parse_parts.h"

namespace umbra::cli {
namespace {

void add_check_command(Parser& parser) {
  auto arguments = std::make_shared<Check>();
  CLI::App* app = add(parser.app, "check", "Verify a diff area that is not attached");
  app->add_option("diff", arguments->diff, "The diff area's file or block device")->required();
  app->add_flag("--repair", arguments->repair, "Write damaged metadata anew from its other copy");
  app->add_flag("--data", arguments->data, "Also read and verify all preserved data");
  app->add_option("--rate", arguments->rate, "Read at most this much data a second, e.g. 100M");
  app->callback([&parser, arguments] {
    parser.invocation.command = [arguments](Service&, Output& output) {
      return check(output, *arguments, run_command);
    };
  });
}

void add_cleanup_command(Parser& parser) {
  auto arguments = std::make_shared<Cleanup>();
  CLI::App* app = add(parser.app, "cleanup", "Take apart what a killed umbra-cowd left; root");
  app->add_flag("--force", arguments->force,
                "End an umbra-cowd that hangs: whoever uses its volumes gets I/O errors");
  app->add_flag("--dry-run", arguments->dry_run, "Change nothing, say what would be done");
  app->callback([&parser, arguments] {
    arguments->run_dir = parser.invocation.run_dir;
    parser.invocation.command = [arguments](Service&, Output& output) {
      return cleanup(output, *arguments, run_command);
    };
  });
}

void add_express_commands(Parser& parser) {
  CLI::App* express_app = add(parser.app, "express",
                              "Writers without a process: descriptions that are registered once");
  express_app->require_subcommand(1);
  const auto action = [&](const char* name, const char* text, const char* argument) {
    auto arguments = std::make_shared<Express>();
    arguments->action = name;
    CLI::App* app = add(*express_app, name, text);
    if (argument != nullptr) app->add_option(argument, arguments->argument)->required();
    app->callback([&parser, arguments] {
      arguments->run_dir = parser.invocation.run_dir;
      parser.invocation.command = [arguments](Service&, Output& output) {
        return express(output, *arguments, run_command);
      };
    });
  };
  action("register", "Register the Writer Metadata Document in a file", "file");
  action("unregister", "Forget an express writer", "class-id");
  action("list", "Who is registered", nullptr);
}

}  // namespace

void add_program_commands(Parser& parser) {
  add_check_command(parser);
  add_cleanup_command(parser);
  add_express_commands(parser);
}

}  // namespace umbra::cli
