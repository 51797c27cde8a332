// SPDX-License-Identifier: Apache-2.0
#include "requester-sdk/cli/parse.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <filesystem>
#include <memory>
#include <sstream>

#include "requester-sdk/cli/parse_parts.h"

namespace umbra::cli {
namespace {

std::optional<std::uint32_t> parse_context(const std::string& text) {
  for (const auto value :
       {context::kBackup, context::kFileShareBackup, context::kNasRollback, context::kAppRollback,
        context::kClientAccessible, context::kClientAccessibleWriters}) {
    if (context_text(value) == text) return value;
  }
  return std::nullopt;
}

std::optional<BackupType> parse_backup_type(const std::string& text) {
  static const std::vector<std::pair<std::string, BackupType>> types{
      {"full", BackupType::full},
      {"incremental", BackupType::incremental},
      {"differential", BackupType::differential},
      {"log", BackupType::log},
      {"copy", BackupType::copy},
      {"other", BackupType::other}};
  for (const auto& [name, type] : types) {
    if (name == text) return type;
  }
  return std::nullopt;
}

using Policy = std::pair<WriterPolicy, std::vector<WriterClassId>>;

std::optional<Policy> parse_policy(const std::string& text) {
  if (text == "none") return Policy{WriterPolicy::none, {}};
  if (text == "involved") return Policy{WriterPolicy::involved, {}};
  if (text == "all") return Policy{WriterPolicy::all, {}};
  Policy policy{WriterPolicy::list, {}};
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) {
    const auto id = parse_id<WriterClassId>(part);
    if (!id) return std::nullopt;
    policy.second.push_back(*id);
  }
  if (policy.second.empty()) return std::nullopt;
  return policy;
}

void add_creation_options(CLI::App* app, const std::shared_ptr<CreateShadow>& arguments,
                          const std::string& contexts) {
  app->add_option("volumes", arguments->volumes,
                  "Volumes: name, id, device, or any path on them; at most 64")
      ->required()
      ->expected(1, static_cast<int>(requester::kVolumesPerSetMax));
  add_parsed(app, "--context", arguments->context, parse_context, contexts);
  add_parsed(app, "--type", arguments->backup_type, parse_backup_type,
             "What writers are told: copy (default), full, incremental, differential, log, other");
  app->add_option_function<std::string>(
      "--writers",
      [arguments](const std::string& text) {
        auto policy = parse_policy(text);
        if (!policy) {
          throw CLI::ValidationError(
              "--writers", "'" + text + "': none, involved, all, or writer class ids with commas");
        }
        arguments->policy = policy->first;
        arguments->policy_list = std::move(policy->second);
      },
      "Whose failure fails the set: none, involved (default), all, or CLASS-ID,...");
  add_parsed(app, "--timeout", arguments->time_limit, parse_duration,
             "Give up after this time, e.g. 90s, 10m (default)");
  add_parsed(app, "--queue", arguments->queue_limit, parse_duration,
             "Wait this long for another set that is being created (default: not at all)");
}

std::optional<MaximumSize> parse_attach_maximum(const std::string& text) {
  if (text == "0") return MaximumSize{};
  return parse_maximum(text);
}

void add_volume_commands(Parser& parser) {
  auto attaching = std::make_shared<requester::AttachOptions>();
  auto chunk = std::make_shared<std::uint64_t>(attaching->chunk_bytes);
  CLI::App* attach_app = add(parser.app, "attach", "Put a volume under copy-on-write");
  attach_app->add_option("origin", attaching->origin_path, "The volume's file or block device")
      ->required();
  attach_app
      ->add_option("--diff", attaching->diff_area_path,
                   "File for old data, on another file system than the volume's own")
      ->required();
  attach_app->add_option("--name", attaching->name, "Default: the origin's file name");
  add_parsed(attach_app, "--chunk", *chunk, parse_bytes, "Unit of copying: 4K to 1M (16K)");
  add_parsed(attach_app, "--diff-size", attaching->diff_initial_bytes, parse_bytes,
             "Initial size of the diff area, e.g. 1G");
  auto maximum = std::make_shared<MaximumSize>();
  add_parsed(attach_app, "--diff-max", *maximum, parse_attach_maximum,
             "Of the diff area: 20G, 10% of what it lies on, UNBOUNDED or 0 (default)");
  attach_app->add_option("--snapshots-max", attaching->snapshots_max,
                         "Refuse more copies of the volume than this, e.g. 512 as VSS; 0: as many "
                         "as the diff area can hold (default)");
  add_words(attach_app, "--expose", attaching->front_end,
            {{"auto", requester::FrontEnd::automatic},
             {"ublk", requester::FrontEnd::ublk},
             {"fuse", requester::FrontEnd::fuse},
             {"nbd", requester::FrontEnd::nbd},
             {"none", requester::FrontEnd::none}},
            "How to serve it: auto (default), ublk, fuse, nbd, none (only the NBD server)");
  add_words(
      attach_app, "--cache", attaching->cache,
      {{"buffered", requester::OriginCache::buffered}, {"none", requester::OriginCache::none}},
      "An origin that is a file: buffered (default), or none, which is O_DIRECT");
  add_words(
      attach_app, "--preserve", attaching->preserve,
      {{"copy", requester::Preservation::copy}, {"reflink", requester::Preservation::reflink}},
      "How old data is kept: copy (default), or reflink: shared with the origin, for files "
      "on one XFS or btrfs");
  attach_app->add_flag("--accept-changed-origin", attaching->accept_changed_origin,
                       "Go on if the origin was written while it was detached; its copies are "
                       "marked lost");
  attach_app->add_flag("--origin-moved", attaching->origin_moved,
                       "The origin is a faithful copy in another file or device: compare only what "
                       "it holds");
  attach_app->add_flag("--copy-free-blocks", attaching->copy_free_blocks,
                       "Copies keep what the file system has free as well; else they show zeroes "
                       "there");
  attach_app->add_flag("--force", attaching->force, "Overwrite what is in the diff area's place");
  attach_app->callback([&parser, attaching, chunk, maximum] {
    parser.invocation.command = [attaching, chunk, maximum](Service& service, Output& output) {
      auto options = *attaching;
      options.origin_path = std::filesystem::absolute(options.origin_path).string();
      options.diff_area_path = std::filesystem::absolute(options.diff_area_path).string();
      options.chunk_bytes =
          static_cast<std::uint32_t>(std::min<std::uint64_t>(*chunk, 0xFFFFFFFFU));
      const auto bytes = maximum_at(service, options.diff_area_path, *maximum);
      if (!bytes) return static_cast<int>(output.error(bytes.error()));
      options.diff_maximum_bytes = *bytes;
      return static_cast<int>(attach(service, output, options));
    };
  });

  auto volume = std::make_shared<std::string>();
  CLI::App* detach_app = add(parser.app, "detach", "Take a volume out of copy-on-write");
  detach_app->add_option("volume", *volume, "Name, id, device, or a path on it")->required();
  detach_app->callback([&parser, volume] {
    parser.invocation.command = [volume](Service& service, Output& output) {
      return static_cast<int>(detach(service, output, *volume));
    };
  });
}

void add_shadows_to_read(CLI::App* app, std::vector<SnapshotId>& snapshots) {
  app->add_option_function<Words>(
      "--from-shadow",
      [&snapshots](const Words& words) {
        for (const auto& word : words) {
          const auto id = parse_id<SnapshotId>(word);
          if (!id) throw CLI::ValidationError("--from-shadow", "'" + word + "' is no snapshot id");
          snapshots.push_back(*id);
        }
      },
      "Read from these copies of the volumes instead of those of the backup");
}

void add_list_files(Parser& parser, CLI::App& list) {
  auto arguments = std::make_shared<ListFiles>();
  CLI::App* app = add(list, "files", "Files of a backup's components, as they are to be copied");
  app->add_option("bundle", arguments->bundle,
                  "What create shadow --documents kept: the file, or a directory with one")
      ->required();
  app->add_option("--component", arguments->components,
                  "WRITER:LOGICAL\\NAME with all below it, or WRITER for all of one; may repeat "
                  "(default: all)");
  add_shadows_to_read(app, arguments->snapshots);
  app->add_option("--from", arguments->source_directory,
                  "Read the files below this directory, by their whole paths, and from no copy")
      ->excludes("--from-shadow");
  add_parsed(app, "--type", arguments->type, parse_backup_type,
             "What a backup of this type copies (default: the type it was made as)");
  add_parsed(app, "--since", arguments->since, parse_time,
             "When the backup was made that this one is based on");
  app->add_option("--not-to-backup", arguments->not_to_backup,
                  "File with more that is not to be backed up than umbrad's configuration says");
  app->callback([&parser, arguments] {
    parser.invocation.command = [arguments](Service& service, Output& output) {
      return static_cast<int>(list_files(service, output, *arguments));
    };
  });
}

void add_list_commands(Parser& parser) {
  CLI::App* list = add(parser.app, "list",
                       "Show volumes, shadows, writers, providers, files, diff areas or events");
  list->require_subcommand(1);
  using Plain = ExitCode (*)(Service&, Output&);
  const auto plain = [&](const char* name, const char* text, Plain function) {
    add(*list, name, text)->callback([&parser, function] {
      parser.invocation.command = [function](Service& service, Output& output) {
        return static_cast<int>(function(service, output));
      };
    });
  };
  auto supported = std::make_shared<bool>(false);
  CLI::App* volumes = add(*list, "volumes", "Attached volumes");
  volumes->add_flag("--supported", *supported, "Only those that can be copied now");
  volumes->callback([&parser, supported] {
    parser.invocation.command = [supported](Service& service, Output& output) {
      return static_cast<int>(*supported ? list_supported_volumes(service, output)
                                         : list_volumes(service, output));
    };
  });
  add_list_files(parser, *list);
  plain("writers", "Connected writers, their state and last failure", &list_writers);
  plain("providers", "Providers, connected or not", &list_providers);

  auto arguments = std::make_shared<ListShadows>();
  CLI::App* shadows = add(*list, "shadows", "Shadow copies");
  shadows->add_option("--volume", arguments->volume, "Only of this volume");
  shadows->add_flag("--incomplete", arguments->incomplete,
                    "Also copies that wait for absent members of their set");
  shadows->callback([&parser, arguments] {
    parser.invocation.command = [arguments](Service& service, Output& output) {
      return static_cast<int>(list_shadows(service, output, *arguments));
    };
  });
}

void add_creation_commands(Parser& parser) {
  CLI::App* create = add(parser.app, "create", "Create shadow copies");
  create->require_subcommand(1);
  auto arguments = std::make_shared<CreateShadow>();
  CLI::App* shadow =
      add(*create, "shadow", "Create one copy of each volume, all of the same instant");
  add_creation_options(shadow, arguments,
                       "app-rollback (default), nas-rollback, client-accessible, "
                       "client-accessible-writers");
  shadow->add_option("--documents", arguments->documents,
                     "Keep what a restore needs in this file, or in a file of its own in this "
                     "directory");
  shadow->callback([&parser, arguments] {
    if (is_auto_release(arguments->context)) {
      throw CLI::ValidationError("--context", context_text(arguments->context) +
                                                  " copies end with the command that made them; "
                                                  "use: umbra exec VOLUME... -- COMMAND...");
    }
    parser.invocation.command = [arguments](Service& service, Output& output) {
      return static_cast<int>(create_shadow(service, output, *arguments));
    };
  });

  auto executing = std::make_shared<CreateShadow>();
  executing->context = context::kBackup;
  CLI::App* exec_app = add(parser.app, "exec", "Run a command while auto-release copies exist");
  add_creation_options(exec_app, executing, "backup (default), file-share-backup, ...");
  exec_app->footer(
      "VOLUME... -- COMMAND...: the command finds UMBRA_SNAPSHOT_SET, UMBRA_SNAPSHOT_COUNT and,\n"
      "for N from 1, UMBRA_SNAPSHOT_N, UMBRA_VOLUME_N, UMBRA_DEVICE_N, UMBRA_NBD_URI_N.\n\n"
      "EXIT STATUS\n"
      "  that of the command (128 + signal if one ended it)\n"
      "  125 umbra itself failed; 126 the command cannot be run; 127 there is no such command\n"
      "  130 interrupted before the command ran");
  exec_app->callback([&parser, executing] {
    if (parser.command_after_dashes.empty()) {
      throw CLI::ValidationError("exec", "give the command after --");
    }
    parser.invocation.command = [executing, words = parser.command_after_dashes](Service& service,
                                                                                 Output& output) {
      return exec(service, output, {*executing, words}, run_command);
    };
  });
}

std::optional<requester::Relocation> parse_relocation(const std::string& text) {
  const auto equals = text.find('=');
  if (equals == std::string::npos) return std::nullopt;
  requester::Relocation relocation{text.substr(0, equals), text.substr(equals + 1)};
  const bool absolute = relocation.from.starts_with('/') && relocation.to.starts_with('/');
  if (!absolute) return std::nullopt;
  return relocation;
}

void add_restore_places(CLI::App* app, const std::shared_ptr<RestoreShadow>& arguments) {
  auto* where = app->add_option_group("where", "Where the files go; one of them is needed");
  where->require_option(1, 0);
  where->add_flag("--in-place", arguments->in_place, "To their own places");
  where->add_option("--to", arguments->to,
                    "Below this directory, by their whole paths: /srv/a to DIR/srv/a");
  where->add_option_function<Words>(
      "--map",
      [arguments](const Words& words) {
        for (const auto& word : words) {
          auto relocation = parse_relocation(word);
          if (!relocation)
            throw CLI::ValidationError("--map", "'" + word + "': two absolute paths, OLD=NEW");
          arguments->relocations.push_back(std::move(*relocation));
        }
      },
      "OLD=NEW: what was below OLD goes below NEW; may repeat");
}

void add_restore_command(Parser& parser) {
  auto arguments = std::make_shared<RestoreShadow>();
  CLI::App* app = add(parser.app, "restore", "Put files of a backup back, with their writers");
  app->add_option("bundle", arguments->bundle,
                  "What create shadow --documents kept: the file, or a directory with one")
      ->required();
  app->add_option("--component", arguments->components,
                  "WRITER:LOGICAL\\NAME, or WRITER for all of one; may repeat (default: all)");
  add_restore_places(app, arguments);
  add_shadows_to_read(app, arguments->snapshots);
  app->add_option("--from", arguments->source_directory,
                  "Read the files below this directory, by their whole paths, and from no copy")
      ->excludes("--from-shadow");
  app->add_option("--restore-option", arguments->options,
                  "For the writers, in their own words: [WRITER:LOGICAL\\NAME=]TEXT; may repeat");
  app->add_flag("--replace", arguments->replace,
                "Replace files also where the writers' rules do not say so");
  app->add_flag("--no-writers", arguments->without_writers,
                "Only copy; no writer hears of it (the application must be stopped)");
  app->add_flag("--more-follow", arguments->additional_restores,
                "Further restores of a chain follow: writers must not recover yet");
  app->add_flag("--dry-run", arguments->dry_run, "Only show what would be done");
  add_parsed(app, "--timeout", arguments->time_limit, parse_duration,
             "How long writers may prepare, and recover (1h)");
  app->callback([&parser, arguments] {
    if (arguments->in_place && !arguments->to.empty())
      throw CLI::ValidationError("--to", "excludes --in-place");
    parser.invocation.command = [arguments](Service& service, Output& output) {
      return static_cast<int>(restore(service, output, *arguments, run_command));
    };
  });
}

void add_delete_command(Parser& parser) {
  CLI::App* remove = add(parser.app, "delete", "Delete shadow copies, or what they may take");
  remove->require_subcommand(1);
  auto arguments = std::make_shared<DeleteShadows>();
  CLI::App* shadows = add(*remove, "shadows", "Delete one copy, a set, or all (of a volume)");
  auto* which = shadows->add_option_group("which");
  which->require_option(1);
  add_parsed(which, "snapshot", arguments->snapshot, parse_id<SnapshotId>, "A snapshot's id");
  add_parsed(which, "--set", arguments->set, parse_id<SnapshotSetId>, "All copies of this set");
  which->add_option("--volume", arguments->volume, "All copies of this volume");
  which->add_flag("--all", arguments->all, "All copies");
  shadows->add_flag("--force", arguments->force, "Also copies that are mounted or open");
  shadows->callback([&parser, arguments] {
    parser.invocation.command = [arguments](Service& service, Output& output) {
      return static_cast<int>(delete_shadows(service, output, *arguments));
    };
  });
}

void add_mount_commands(Parser& parser) {
  auto snapshot = std::make_shared<SnapshotId>();
  auto options = std::make_shared<requester::MountOptions>();
  CLI::App* mount_app = add(parser.app, "mount", "Mount a copy, read-only unless told otherwise");
  add_parsed(mount_app, "snapshot", *snapshot, parse_id<SnapshotId>, "The snapshot's id");
  mount_app->get_option("snapshot")->required();
  mount_app->add_option("directory", options->directory, "Default: one in the run directory");
  mount_app->add_flag("--recover", options->recover,
                      "Replay the journal; the copy stays as it is, what that changes goes with "
                      "the mount");
  mount_app->add_flag("--write", options->write,
                      "Mount for writing; the copy stays as it is, what is written goes with the "
                      "mount");
  mount_app->callback([&parser, snapshot, options] {
    parser.invocation.command = [snapshot, options](Service& service, Output& output) {
      if (!options->directory.empty()) {
        options->directory = std::filesystem::absolute(options->directory).string();
      }
      return static_cast<int>(mount(service, output, *snapshot, *options));
    };
  });
  CLI::App* unmount_app = add(parser.app, "unmount", "Unmount a copy");
  add_parsed(unmount_app, "snapshot", *snapshot, parse_id<SnapshotId>, "The snapshot's id");
  unmount_app->get_option("snapshot")->required();
  unmount_app->callback([&parser, snapshot] {
    parser.invocation.command = [snapshot](Service& service, Output& output) {
      return static_cast<int>(unmount(service, output, *snapshot));
    };
  });
}

void add_coordinator_commands(Parser& parser) {
  auto reason = std::make_shared<std::string>("umbra abort");
  CLI::App* abort_app = add(parser.app, "abort", "End the set that is being created");
  abort_app->add_option("--reason", *reason, "For the holder and the log");
  abort_app->callback([&parser, reason] {
    parser.invocation.command = [reason](Service& service, Output& output) {
      return static_cast<int>(abort(service, output, *reason));
    };
  });
  auto tracing = std::make_shared<Trace>();
  CLI::App* trace_app =
      add(parser.app, "trace", "Show who was asked what, and answered what, while a set was made");
  add_parsed(trace_app, "set", tracing->set, parse_id<SnapshotSetId>,
             "The set's id (default: the newest)");
  trace_app->add_flag("--list", tracing->list, "Only which sets are known");
  trace_app->add_option("--perfetto", tracing->perfetto,
                        "Also write it to this file, for trace viewers (ui.perfetto.dev)");
  trace_app->callback([&parser, tracing] {
    parser.invocation.command = [tracing](Service& service, Output& output) {
      return static_cast<int>(trace(service, output, *tracing));
    };
  });
  add(parser.app, "status", "Show whether umbrad runs and what it does")->callback([&parser] {
    parser.invocation.command = [](Service& service, Output& output) {
      return static_cast<int>(status(service, output));
    };
  });
}

}  // namespace

std::optional<std::chrono::milliseconds> parse_duration(const std::string& text) {
  constexpr std::uint64_t kWeekMs = 7ULL * 24 * 3600 * 1000;
  std::uint64_t count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  const std::string unit(end, text.data() + text.size());
  const std::uint64_t factor = unit == "ms"                  ? 1
                               : unit.empty() || unit == "s" ? 1'000
                               : unit == "m"                 ? 60'000
                               : unit == "h"                 ? 3'600'000
                                                             : 0;
  if (error != std::errc{} || factor == 0 || count > kWeekMs / factor) return std::nullopt;
  return std::chrono::milliseconds{count * factor};
}

std::optional<std::uint64_t> parse_bytes(const std::string& text) {
  static const std::string units = "KMGTPE";
  std::uint64_t count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  const std::string unit(end, text.data() + text.size());
  if (error != std::errc{} || unit.size() > 1) return std::nullopt;
  unsigned shift = 0;
  if (!unit.empty()) {
    const auto index = units.find(unit[0] >= 'a' ? static_cast<char>(unit[0] - 32) : unit[0]);
    if (index == std::string::npos) return std::nullopt;
    shift = 10 * (static_cast<unsigned>(index) + 1);
  }
  if (count > (std::uint64_t{1} << 63U) >> shift) return std::nullopt;
  return count << shift;
}

std::variant<Invocation, Said> parse(Words words) {
  Parser parser;
  const auto dashes = std::find(words.begin(), words.end(), "--");
  if (std::find(words.begin(), dashes, "exec") != dashes && dashes != words.end()) {
    parser.command_after_dashes.assign(dashes + 1, words.end());
    words.erase(dashes, words.end());
  }
  const bool json = std::find(words.begin(), words.end(), "--json") != words.end();
  parser.app.require_subcommand(1);
  parser.app.fallthrough();
  parser.app.footer(exit_status_help());
  parser.app.set_version_flag("--version", "umbra " UMBRA_VERSION);
  parser.app.add_flag("--json", parser.invocation.json, "One JSON object instead of text");
  parser.app.add_option("--run-dir", parser.invocation.run_dir,
                        "The daemons' run directory (default: docs/cli.md)");
  parser.app.add_option("--socket", parser.invocation.socket, "umbrad's socket");
  add_volume_commands(parser);
  add_program_commands(parser);
  add_list_commands(parser);
  add_creation_commands(parser);
  add_restore_command(parser);
  add_delete_command(parser);
  add_mount_commands(parser);
  add_coordinator_commands(parser);
  add_management_commands(parser);
  add_history_commands(parser);
  add_provider_commands(parser);
  try {
    std::reverse(words.begin(), words.end());  // CLI11 takes them from the back.
    parser.app.parse(words);
  } catch (const CLI::ParseError& error) {
    std::ostringstream text;
    const bool mistake = parser.app.exit(error, text, text) != 0;
    return Said{.text = text.str(), .mistake = mistake, .json = json};
  }
  return std::move(parser.invocation);
}

}  // namespace umbra::cli
