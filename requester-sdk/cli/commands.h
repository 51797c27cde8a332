// SPDX-License-Identifier: Apache-2.0
//
// The commands of `umbra`, one file each. A command takes its arguments as a value, asks the
// service, prints through the output, and returns the exit status; it knows nothing of the command
// line's syntax (parse.h) or of the terminal.

#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "requester-sdk/cli/exit_code.h"
#include "requester-sdk/cli/output.h"
#include "requester-sdk/cli/service.h"

namespace umbra::cli {

// cmd_attach.cc, cmd_detach.cc
ExitCode attach(Service& service, Output& output, const requester::AttachOptions& options);
ExitCode detach(Service& service, Output& output, const std::string& volume);

// cmd_list.cc
struct ListShadows {
  std::string volume;  // Empty: of all.
  bool incomplete = false;
};
ExitCode list_volumes(Service& service, Output& output);
ExitCode list_shadows(Service& service, Output& output, const ListShadows& arguments);
ExitCode list_writers(Service& service, Output& output);
ExitCode list_providers(Service& service, Output& output);

// cmd_list_files.cc
struct ListFiles {
  std::string bundle;                   // File, or directory that holds one.
  std::vector<std::string> components;  // WRITER[:LOGICAL\NAME]; empty: all.
  std::vector<SnapshotId> snapshots;
  std::string source_directory;
  std::optional<BackupType> type;     // Nothing: as the backup was.
  std::optional<std::int64_t> since;  // FILETIME of the backup this one is based on.
  std::optional<std::string> not_to_backup;
};
ExitCode list_files(Service& service, Output& output, const ListFiles& arguments);

// cmd_create.cc
struct CreateShadow {
  std::vector<std::string> volumes;
  std::uint32_t context = context::kAppRollback;
  BackupType backup_type = BackupType::copy;
  WriterPolicy policy = WriterPolicy::involved;
  std::vector<WriterClassId> policy_list;
  std::chrono::milliseconds time_limit{600'000};
  std::chrono::milliseconds queue_limit{0};
  std::string documents;  // File or directory for what a restore needs; empty: nothing is kept.
};
ExitCode create_shadow(Service& service, Output& output, const CreateShadow& arguments);
/// For create and exec. A failure has been printed; the exit status is then in the error's place.
[[nodiscard]] tl::expected<requester::SnapshotSetInfo, ExitCode> create_set(
    Service& service, Output& output, const CreateShadow& arguments);
/// The set as people see it: copies, writers, timeline.
void print_set(Output& output, const requester::SnapshotSetInfo& set);
[[nodiscard]] boost::json::object set_to_json(const requester::SnapshotSetInfo& set);

// cmd_exec.cc
struct Exec {
  CreateShadow create;
  std::vector<std::string> command;
};
using Environment = std::vector<std::pair<std::string, std::string>>;
/// Runs the command with additions to the environment and waits for it: its exit status, or 128 +
/// the signal that ended it. Errors: object_not_found (no such program), access_denied.
using RunCommand =
    std::function<Result<int>(const std::vector<std::string>& command, const Environment& added)>;
int exec(Service& service, Output& output, const Exec& arguments, const RunCommand& run_command);
/// In run_command_posix.cc.
[[nodiscard]] Result<int> run_command(const std::vector<std::string>& command,
                                      const Environment& added);

// cmd_check_posix.cc
struct Check {
  std::string diff;
  bool repair = false;
  bool data = false;
  std::string rate;  // As it was given; empty: none.
};
/// The exit status is that of umbra-check, which prints.
int check(Output& output, const Check& arguments, const RunCommand& run_command);

// cmd_cleanup_posix.cc
struct Cleanup {
  std::string run_dir;  // Empty: that of this user.
  bool force = false;
  bool dry_run = false;
};
/// The exit status is that of umbra-cleanup, which prints.
int cleanup(Output& output, const Cleanup& arguments, const RunCommand& run_command);

// cmd_express_posix.cc
struct Express {
  std::string action;    // "register", "unregister", "list".
  std::string argument;  // File or class id.
  std::string run_dir;   // Empty: the default.
};
/// The exit status is that of umbra-express, which prints.
int express(Output& output, const Express& arguments, const RunCommand& run_command);

// cmd_scrub.cc
struct Scrub {
  std::string volume;
  std::uint64_t bytes_per_second = 0;  // 0: as fast as it goes.
  bool background = false;             // Begin it, and do not wait.
  bool wait = false;                   // What it does anyway.
  std::chrono::milliseconds time_limit{7 * 24 * 3'600'000LL};
};
ExitCode scrub(Service& service, Output& output, const Scrub& arguments);

// cmd_delete.cc
struct DeleteShadows {
  // Exactly one of these.
  std::optional<SnapshotId> snapshot;
  std::optional<SnapshotSetId> set;
  std::string volume;
  bool all = false;

  bool force = false;
};
ExitCode delete_shadows(Service& service, Output& output, const DeleteShadows& arguments);

// cmd_restore.cc
struct RestoreShadow {
  std::string bundle;                   // File, or directory that holds one.
  std::vector<std::string> components;  // WRITER:LOGICAL\NAME; empty: all.
  bool in_place = false;
  std::string to;
  std::vector<requester::Relocation> relocations;
  std::vector<SnapshotId> snapshots;
  std::string source_directory;
  std::vector<std::string> options;  // WRITER:LOGICAL\NAME=TEXT, or TEXT for all.
  bool replace = false;
  bool without_writers = false;
  bool additional_restores = false;
  bool dry_run = false;
  std::chrono::milliseconds time_limit{3'600'000};
};
ExitCode restore(Service& service, Output& output, const RestoreShadow& arguments,
                 const RunCommand& run_command);
/// `text` itself, or the only bundle in it if it is a directory. Errors: object_not_found (there is
/// none in it); invalid_argument (there are several, which are named).
[[nodiscard]] Result<std::string> find_bundle(const std::string& text);
/// Where documents of a set go: `place` itself, or a file of its own if that is a directory.
[[nodiscard]] std::string bundle_path(const std::string& place, const SnapshotSetId& set);

// cmd_shadowstorage.cc
/// --max: so many bytes, so many percent of what the diff area lies on, or UNBOUNDED.
struct MaximumSize {
  enum class Unit : std::uint8_t { bytes, percent, unbounded };
  Unit unit = Unit::unbounded;
  std::uint64_t number = 0;
};
/// The same for a diff area that is to be made at `path`, an absolute one; 0: no bound. Errors:
/// object_not_found (what it would lie on is not known).
[[nodiscard]] Result<std::uint64_t> maximum_at(Service& service, const std::string& path,
                                               const MaximumSize& maximum);
struct ShadowStorage {
  std::string volume;       // --for; list: empty: of all.
  std::string diff_volume;  // --on; empty: wherever it lies.
  MaximumSize maximum;
  bool is_volatile = false;
  std::string destination;             // move: --to.
  std::uint64_t bytes_per_second = 0;  // move: --rate; 0: as fast as it goes.
  std::chrono::milliseconds time_limit{3'600'000};
};
ExitCode list_shadowstorage(Service& service, Output& output, const ShadowStorage& arguments);
ExitCode add_shadowstorage(Service& service, Output& output, const ShadowStorage& arguments);
ExitCode resize_shadowstorage(Service& service, Output& output, const ShadowStorage& arguments);
ExitCode delete_shadowstorage(Service& service, Output& output, const ShadowStorage& arguments);
ExitCode move_shadowstorage(Service& service, Output& output, const ShadowStorage& arguments);
struct UnusedStorage {
  std::string diff_volume;  // --on.
  std::chrono::milliseconds time_limit{3'600'000};
};
ExitCode delete_unused_storage(Service& service, Output& output, const UnusedStorage& arguments);
ExitCode list_supported_volumes(Service& service, Output& output);

// cmd_protection.cc
struct Protection {
  enum class Action : std::uint8_t { show, set_snapshot, set_original, clear };
  std::string volume;
  Action action = Action::show;
  std::chrono::milliseconds time_limit{3'600'000};
};
ExitCode protection(Service& service, Output& output, const Protection& arguments);

// cmd_retain.cc
struct Retain {
  SnapshotId snapshot;
  std::int64_t until_filetime = 0;  // 0: `term` from now.
  std::chrono::seconds term{0};
};
ExitCode retain(Service& service, Output& output, const Retain& arguments);

// cmd_changed.cc
struct Changed {
  SnapshotId older;  // Nil: `volume` and `since` say it.
  SnapshotId younger;
  std::string volume;
  std::string since;  // A checkpoint's name or id, or a copy's id.
  SnapshotId until;   // Nil: now.
  bool raw = false;
};
ExitCode changed(Service& service, Output& output, const Changed& arguments);

// cmd_revert.cc
struct RevertShadow {
  SnapshotId snapshot;
  bool force = false;
  bool ignore_writers = false;  // Writers that block reverts are not asked.
  std::chrono::milliseconds time_limit{24 * 3'600'000};
};
ExitCode revert_shadow(Service& service, Output& output, const RevertShadow& arguments);
/// Empty: of all volumes.
ExitCode query_revert(Service& service, Output& output, const std::string& volume);
ExitCode abandon_revert(Service& service, Output& output, const std::string& volume);

// cmd_checkpoint.cc
struct Checkpoint {
  std::string volume;  // list: empty: of all.
  std::string name;    // delete: or an id.
  SnapshotId shadow;   // create: nil: the volume's newest copy.
};
ExitCode create_checkpoint(Service& service, Output& output, const Checkpoint& arguments);
ExitCode list_checkpoints(Service& service, Output& output, const Checkpoint& arguments);
ExitCode delete_checkpoint(Service& service, Output& output, const Checkpoint& arguments);
/// The checkpoint of this name or id. Errors: object_not_found (names those that there are).
[[nodiscard]] Result<CheckpointProperties> find_checkpoint(Service& service,
                                                           const VolumeRef& volume,
                                                           const std::string& name);

// cmd_operations.cc
struct Operations {
  std::optional<OperationId> wait;
  std::optional<OperationId> cancel;
  std::chrono::milliseconds time_limit{3'600'000};
};
ExitCode operations(Service& service, Output& output, const Operations& arguments);
/// Waits for an operation's end, with progress on a terminal. Errors: the operation's own;
/// async_pending (the time is over, it goes on: the context says how to go on waiting).
[[nodiscard]] Result<OperationInfo> wait_for(Service& service, Output& output,
                                             const OperationId& operation,
                                             std::chrono::milliseconds limit);
/// The same; an operation that failed is no error of it: `status` says so.
[[nodiscard]] Result<OperationInfo> wait_for_end(Service& service, Output& output,
                                                 const OperationId& operation,
                                                 std::chrono::milliseconds limit);

// cmd_events.cc
ExitCode list_events(Service& service, Output& output);
struct Events {
  bool follow = false;
};
ExitCode events(Service& service, Output& output, const Events& arguments);

// cmd_trace.cc
struct Trace {
  SnapshotSetId set;  // Nil: the newest.
  bool list = false;
  std::string perfetto;  // A file to write; empty: none.
};
ExitCode trace(Service& service, Output& output, const Trace& arguments);
/// As trace viewers read it.
[[nodiscard]] boost::json::object to_perfetto(const requester::SetTrace& trace);

// cmd_mount.cc, cmd_unmount.cc
ExitCode mount(Service& service, Output& output, const SnapshotId& snapshot,
               const requester::MountOptions& options);
ExitCode unmount(Service& service, Output& output, const SnapshotId& snapshot);

// cmd_providers.cc
ExitCode register_provider(Service& service, Output& output, const ProviderProperties& provider);
struct UnregisterProvider {
  std::string provider;  // Name or id.
  bool force = false;
};
ExitCode unregister_provider(Service& service, Output& output, const UnregisterProvider& arguments);

// cmd_abort.cc, cmd_status.cc
ExitCode abort(Service& service, Output& output, const std::string& reason);
ExitCode status(Service& service, Output& output);

// --- shared by commands (commands.cc) ----------------------------------------------------------

/// The volume that a user's text means, among those of the connected providers. Errors:
/// object_not_found.
[[nodiscard]] Result<VolumeProperties> find_volume(Service& service, const std::string& text);
/// Says which providers are missing in what was just listed; never silent about them.
void note_absent(Output& output, const std::vector<std::string>& absent_providers);

}  // namespace umbra::cli
