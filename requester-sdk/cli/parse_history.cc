// SPDX-License-Identifier: Apache-2.0
//
// The syntax of what looks back in a volume's time: revert, checkpoint, changed.
#include "requester-sdk/cli/parse_parts.h"

namespace umbra::cli {
namespace {

template <class Arguments, class Function>
void carry_out(Parser& parser, CLI::App* app, const std::shared_ptr<Arguments>& arguments,
               Function command) {
  app->callback([&parser, arguments, command] {
    parser.invocation.command = [arguments, command](Service& service, Output& output) {
      return static_cast<int>(command(service, output, *arguments));
    };
  });
}

void add_revert_commands(Parser& parser) {
  CLI::App* revert = add(parser.app, "revert", "Make a volume what a copy of it shows");
  revert->require_subcommand(1);
  auto reverting = std::make_shared<RevertShadow>();
  CLI::App* shadow = add(*revert, "shadow",
                         "Revert the copy's volume; younger copies are deleted, and what was "
                         "written since is gone for good");
  add_parsed(shadow, "snapshot", reverting->snapshot, parse_id<SnapshotId>, "The snapshot's id");
  shadow->get_option("snapshot")->required();
  shadow->add_flag("--force", reverting->force,
                   "Unmount the volume and disconnect who has it or a younger copy open");
  shadow->add_flag("--ignore-writers", reverting->ignore_writers,
                   "Also if a writer that umbrad's configuration names has files on the volume");
  add_parsed(shadow, "--timeout", reverting->time_limit, parse_duration,
             "Wait no longer than this; it goes on (24h)");
  carry_out(parser, shadow, reverting, &revert_shadow);

  auto volume = std::make_shared<std::string>();
  CLI::App* abandon = add(*revert, "abandon", "Give up a revert that has stopped");
  abandon->add_option("volume", *volume, "Name, id, device, or a path on it")->required();
  carry_out(parser, abandon, volume, &abandon_revert);

  auto queried = std::make_shared<std::string>();
  CLI::App* query = add(parser.app, "query", "Ask how far something is");
  query->require_subcommand(1);
  CLI::App* status = add(*query, "revert", "Reverts that are under way");
  status->add_option("volume", *queried, "Only of this volume; an error if there is none");
  carry_out(parser, status, queried, &query_revert);
}

void add_checkpoint_commands(Parser& parser) {
  CLI::App* checkpoint =
      add(parser.app, "checkpoint", "Points in time from which changes stay known");
  checkpoint->require_subcommand(1);
  auto creating = std::make_shared<Checkpoint>();
  CLI::App* create = add(*checkpoint, "create", "Remember the point in time of a copy");
  create->add_option("volume", creating->volume, "Name, id, device, or a path on it")->required();
  create->add_option("name", creating->name, "A name of its own on the volume")->required();
  add_parsed(create, "--shadow", creating->shadow, parse_id<SnapshotId>,
             "The copy (default: the volume's newest)");
  carry_out(parser, create, creating, &create_checkpoint);

  auto listing = std::make_shared<Checkpoint>();
  CLI::App* list = add(*checkpoint, "list", "Checkpoints, by point in time");
  list->add_option("volume", listing->volume, "Only of this volume");
  carry_out(parser, list, listing, &list_checkpoints);

  auto deleting = std::make_shared<Checkpoint>();
  CLI::App* remove = add(*checkpoint, "delete", "Forget a checkpoint");
  remove->add_option("volume", deleting->volume, "Name, id, device, or a path on it")->required();
  remove->add_option("name", deleting->name, "Its name or id")->required();
  carry_out(parser, remove, deleting, &delete_checkpoint);
}

void add_changed_command(Parser& parser) {
  auto comparing = std::make_shared<Changed>();
  CLI::App* app =
      add(parser.app, "changed", "What changed between two copies, or since a checkpoint");
  add_parsed(app, "older", comparing->older, parse_id<SnapshotId>, "The older copy's id");
  add_parsed(app, "younger", comparing->younger, parse_id<SnapshotId>, "The younger copy's id");
  app->add_option("--volume", comparing->volume, "With --since: name, id, device, or a path on it");
  app->add_option("--since", comparing->since, "A checkpoint's name or id, or a copy's id");
  add_parsed(app, "--until", comparing->until, parse_id<SnapshotId>,
             "With --since: up to this copy (default: to now)");
  app->add_flag("--raw", comparing->raw, "Nothing but the ranges");
  app->callback([&parser, comparing] {
    const bool two = !comparing->older.is_nil() && !comparing->younger.is_nil();
    const bool none = comparing->older.is_nil() && comparing->younger.is_nil();
    const bool since = !comparing->since.empty() && !comparing->volume.empty();
    const bool not_since =
        comparing->since.empty() && comparing->volume.empty() && comparing->until.is_nil();
    if (!(two && not_since) && !(none && since)) {
      throw CLI::ValidationError(
          "changed", "either OLDER YOUNGER, or --volume VOLUME --since CHECKPOINT [--until ID]");
    }
    parser.invocation.command = [comparing](Service& service, Output& output) {
      return static_cast<int>(changed(service, output, *comparing));
    };
  });
}

}  // namespace

void add_history_commands(Parser& parser) {
  add_revert_commands(parser);
  add_checkpoint_commands(parser);
  add_changed_command(parser);
}

}  // namespace umbra::cli
