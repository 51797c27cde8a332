// SPDX-License-Identifier: Apache-2.0
//
// A service whose answers the test sets, and a command line that is run against it.
#pragma once

#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "requester-sdk/cli/run.h"

namespace umbra::cli::test {

inline const Guid kOne = Guid::parse("11111111-1111-1111-1111-111111111111").value();
inline const Guid kTwo = Guid::parse("22222222-2222-2222-2222-222222222222").value();
inline const Guid kThree = Guid::parse("33333333-3333-3333-3333-333333333333").value();

struct FakeState {
  Error error;  // Not ok: what every call but resolve() gives.
  requester::VolumeList volumes;
  requester::SnapshotList snapshots;
  std::vector<requester::WriterInfo> writers;
  std::vector<requester::ProviderInfo> providers;
  requester::CoordinatorStatus status;
  requester::SetTrace trace;
  requester::SnapshotSetInfo set;
  requester::SetReport failed_report;
  std::vector<SnapshotId> undeletable;
  std::vector<std::string> notes;
  Error finish_error;
  BackupBundle bundle;
  requester::RestoreReport restore_report;
  Error restore_error;
  std::vector<requester::ListedFile> files;
  requester::FileListSummary files_summary;

  std::vector<DiffAreaProperties> areas;
  std::vector<DiffVolumeProperties> hosts;
  VolumeProtectionInfo protection;
  std::uint64_t delta_step = 50;
  std::vector<RevertInfo> reverts;
  bool writers_block_revert = false;
  bool interrupted = false;
  std::vector<CheckpointProperties> checkpoints;
  std::optional<Error> wait_error;        // Of wait_operation().
  std::vector<OperationInfo> operations;  // wait_operation() gives the first, and then the next.
  std::vector<requester::EventPage> pages;

  // What was asked.
  std::vector<std::string> calls;
  requester::AttachOptions attached;
  requester::CreateOptions created;
  requester::RestoreOptions restored;
  requester::FileListOptions listed;
  std::string socket;
};

class FakeService final : public Service {
 public:
  explicit FakeService(FakeState& state) : state_(state) {}

  Result<VolumeRef> resolve(const std::string& text) override {
    if (text == "absent") return fail(Errc::object_not_found, "no such path: absent");
    VolumeRef volume;
    volume.name = text;
    return volume;
  }
  Result<requester::VolumeList> volumes() override { return answer("volumes", state_.volumes); }
  Result<requester::SnapshotList> snapshots(bool incomplete) override {
    return answer(incomplete ? "snapshots incomplete" : "snapshots", state_.snapshots);
  }
  Result<std::vector<requester::WriterInfo>> writers() override {
    return answer("writers", state_.writers);
  }
  Result<std::vector<requester::ProviderInfo>> providers() override {
    return answer("providers", state_.providers);
  }
  Result<requester::CoordinatorStatus> status() override { return answer("status", state_.status); }
  Result<requester::DeletedSnapshots> remove(const Guid& id, ObjectType type, bool force) override {
    requester::DeletedSnapshots deleted{.deleted = 1, .not_deleted = std::nullopt, .status = {}};
    for (const auto& stuck : state_.undeletable) {
      if (id != stuck) continue;
      deleted = {
          .deleted = 0, .not_deleted = stuck, .status = fail(Errc::volume_in_use, "mounted")};
    }
    return answer("remove " + id.to_string() + (type == ObjectType::snapshot_set ? " set" : "") +
                      (force ? " force" : ""),
                  deleted);
  }
  Result<requester::MountedSnapshot> mount(const SnapshotId& id,
                                           const requester::MountOptions& options) override {
    return answer("mount " + id.to_string() + " " + options.directory +
                      (options.recover ? " recover" : "") + (options.write ? " write" : ""),
                  requester::MountedSnapshot{.path = "/mnt/a", .device_path = "/dev/loop7"});
  }
  Status unmount(const SnapshotId& id) override { return done("unmount " + id.to_string()); }
  Result<requester::AttachedVolume> attach(const requester::AttachOptions& options) override {
    state_.attached = options;
    requester::AttachedVolume attached;
    if (!state_.volumes.volumes.empty()) attached.volume = state_.volumes.volumes[0];
    attached.notes = state_.notes;
    return answer("attach", attached);
  }
  Status detach(const VolumeRef& volume) override { return done("detach " + volume.name); }
  Result<requester::AbortedSet> abort(const std::string& reason) override {
    return answer("abort " + reason,
                  requester::AbortedSet{.set_id = SnapshotSetId{kOne}, .holder = "uid 7 pid 8"});
  }
  Status register_provider(const ProviderProperties& properties) override {
    return done("register " + properties.provider_id.to_string() + " " + properties.name + " " +
                std::string(vss_name(properties.type)) + " " + properties.version);
  }
  Status unregister_provider(const ProviderId& id, bool force) override {
    return done("unregister " + id.to_string() + (force ? " force" : ""));
  }
  Result<requester::SetTrace> trace(const SnapshotSetId& set) override {
    return answer("trace " + set.to_string(), state_.trace);
  }
  Result<std::vector<requester::SetTrace>> traces() override {
    return answer("traces", std::vector<requester::SetTrace>{state_.trace});
  }
  Result<std::vector<SupportedVolume>> supported_volumes(std::uint32_t) override {
    return answer("supported", std::vector<SupportedVolume>{{VolumeId{kOne}, "db"}});
  }
  Result<std::vector<DiffAreaProperties>> diff_areas(const VolumeRef& volume) override {
    return answer("areas " + volume.name, state_.areas);
  }
  Result<std::vector<DiffAreaProperties>> diff_areas_on(const std::string& diff_volume) override {
    return answer("areas on " + diff_volume, state_.areas);
  }
  Result<std::vector<DiffVolumeProperties>> diff_volumes(const VolumeRef& volume) override {
    return answer("hosts " + volume.name, state_.hosts);
  }
  Status add_diff_area(const DiffAreaRef& area, std::int64_t maximum_bytes) override {
    return done("add " + area.volume.name + " " + area.diff_volume + " " +
                std::to_string(maximum_bytes));
  }
  Result<OperationId> change_maximum(const DiffAreaRef& area, std::int64_t maximum_bytes,
                                     bool is_volatile) override {
    return answer("change " + area.volume.name + " " + area.diff_volume + " " +
                      std::to_string(maximum_bytes) + (is_volatile ? " volatile" : ""),
                  OperationId{kOne});
  }
  Result<OperationId> move_area(const DiffAreaRef& area, const std::string& to,
                                std::uint64_t bytes_per_second) override {
    const std::string rate = bytes_per_second == 0 ? "" : " " + std::to_string(bytes_per_second);
    return answer("move " + area.volume.name + " " + area.diff_volume + " " + to + rate,
                  OperationId{kOne});
  }
  Result<OperationId> delete_unused(const std::string& diff_volume) override {
    return answer("delete unused " + diff_volume, OperationId{kOne});
  }
  Result<VolumeProtectionInfo> protection(const VolumeRef& volume) override {
    return answer("protection " + volume.name, state_.protection);
  }
  Status set_protection(const VolumeRef& volume, ProtectionLevel level) override {
    return done("protect " + volume.name + " " + std::string(vss_name(level)));
  }
  Result<OperationId> clear_fault(const VolumeRef& volume) override {
    return answer("clear " + volume.name, OperationId{kOne});
  }
  Result<OperationId> scrub(const VolumeRef& volume, std::uint64_t bytes_per_second) override {
    return answer("scrub " + volume.name + " " + std::to_string(bytes_per_second),
                  OperationId{kOne});
  }
  Status retain(const SnapshotId& snapshot, std::int64_t until_filetime) override {
    return done("retain " + snapshot.to_string() + " " + std::to_string(until_filetime));
  }
  Result<SnapshotDelta> changed(const SnapshotId& older, const SnapshotId& younger,
                                std::uint64_t first_block) override {
    SnapshotDelta part;
    part.block_bytes = 4096;
    part.volume_blocks = 100;
    if (first_block == 0) part.runs = {{3, 2}};
    if (first_block == 50) part.runs = {{60, 1}};
    part.next_block = first_block + state_.delta_step;
    return answer("changed " + older.to_string() + " " + younger.to_string() + " " +
                      std::to_string(first_block),
                  part);
  }
  Result<bool> writers_block_revert(const SnapshotId& snapshot) override {
    state_.calls.push_back("blocks " + snapshot.to_string());
    return state_.writers_block_revert;
  }
  Result<OperationId> revert(const SnapshotId& snapshot, bool force) override {
    return answer("revert " + snapshot.to_string() + (force ? " force" : ""), OperationId{kOne});
  }
  Result<std::vector<RevertInfo>> reverts(const VolumeRef& volume) override {
    return answer("reverts " + volume.name, state_.reverts);
  }
  Status abandon_revert(const VolumeRef& volume) override { return done("abandon " + volume.name); }
  Result<std::vector<SnapshotProperties>> copies_of(const VolumeRef& volume) override {
    return answer("copies " + volume.name, state_.snapshots.snapshots);
  }
  Result<CheckpointProperties> create_checkpoint(const SnapshotId& snapshot,
                                                 const std::string& name) override {
    CheckpointProperties made;
    made.checkpoint_id = CheckpointId{kThree};
    made.volume_name = "db";
    made.name = name;
    made.snapshot_id = snapshot;
    return answer("checkpoint " + snapshot.to_string() + " " + name, made);
  }
  Result<std::vector<CheckpointProperties>> checkpoints(const VolumeRef& volume) override {
    return answer("checkpoints " + volume.name, state_.checkpoints);
  }
  Status delete_checkpoint(const CheckpointId& checkpoint) override {
    return done("delete checkpoint " + checkpoint.to_string());
  }
  Result<SnapshotDelta> changes(const Guid& since, const SnapshotId& until,
                                std::uint64_t first_block) override {
    auto part = changed({}, {}, first_block);
    state_.calls.back() = "changes " + since.to_string() + " " +
                          (until.is_nil() ? "now" : until.to_string()) + " " +
                          std::to_string(first_block);
    return part;
  }
  Result<std::vector<OperationInfo>> operations() override {
    return answer("operations", state_.operations);
  }
  Result<OperationInfo> wait_operation(const OperationId&, std::chrono::milliseconds) override {
    if (state_.wait_error) return fail(*state_.wait_error);
    if (state_.operations.empty()) return fail(Errc::object_not_found, "no operation");
    const auto info = state_.operations.front();
    if (state_.operations.size() > 1) state_.operations.erase(state_.operations.begin());
    return answer("wait", info);
  }
  Result<OperationInfo> cancel_operation(const OperationId& operation) override {
    OperationInfo info;
    info.operation_id = operation;
    info.cancelling = true;
    return answer("cancel", info);
  }
  Result<requester::EventPage> events(const requester::EventQuery& query) override {
    requester::EventPage page;
    page.next = query.after;
    if (!state_.pages.empty()) {
      page = state_.pages.front();
      state_.pages.erase(state_.pages.begin());
    }
    return answer(
        "events " + std::to_string(query.after) + (query.time_limit.count() > 0 ? " wait" : ""),
        page);
  }
  std::int64_t now() override { return 133'000'000'000'000'000; }
  Result<requester::SnapshotSetInfo> create(const requester::CreateOptions& options,
                                            requester::SetReport& report) override {
    state_.created = options;
    if (options.on_progress) options.on_progress({.operation = "do", .phase = "freeze"});
    report = state_.error.code == Errc::ok ? state_.set.report : state_.failed_report;
    return answer("create", state_.set);
  }
  bool was_interrupted() const noexcept override { return state_.interrupted; }
  Status save_documents(const std::string& path) override {
    state_.calls.push_back("save " + path);
    return {};
  }
  Result<BackupBundle> load_documents(const std::string& path) override {
    return answer("load " + path, state_.bundle);
  }
  Result<requester::FileListSummary> list_files(const BackupBundle&,
                                                const requester::FileListOptions& options,
                                                const requester::OnListedFile& on_file) override {
    state_.listed = options;
    state_.calls.emplace_back("list_files");
    if (state_.error.code != Errc::ok) return fail(state_.error);
    for (const auto& file : state_.files)
      if (Status told = on_file(file); !told) return fail(told.error());
    return state_.files_summary;
  }
  Status restore(const BackupBundle&, const requester::RestoreOptions& options,
                 requester::RestoreReport& report) override {
    state_.restored = options;
    state_.calls.emplace_back("restore");
    report = state_.restore_report;
    if (state_.restore_error.code != Errc::ok) return fail(state_.restore_error);
    return {};
  }
  Status finish(const requester::SnapshotSetInfo&, bool succeeded) override {
    state_.calls.push_back(succeeded ? "finish succeeded" : "finish failed");
    if (state_.finish_error.code != Errc::ok) return fail(state_.finish_error);
    return {};
  }

 private:
  template <class T>
  Result<T> answer(std::string call, T value) {
    state_.calls.push_back(std::move(call));
    if (state_.error.code != Errc::ok) return fail(state_.error);
    return value;
  }
  Status done(std::string call) {
    state_.calls.push_back(std::move(call));
    if (state_.error.code != Errc::ok) return fail(state_.error);
    return {};
  }

  FakeState& state_;
};

struct Ran {
  int status = 0;
  std::string out;
  std::string err;
};

inline Ran umbra(FakeState& state, const std::vector<std::string>& words, bool terminal = false) {
  std::ostringstream out;
  std::ostringstream err;
  Output output(out, err, terminal);
  const int status = run(words, output, [&](const std::string& socket) {
    state.socket = socket;
    return std::make_unique<FakeService>(state);
  });
  return {status, out.str(), err.str()};
}

inline FakeState without_error() {
  FakeState state;
  state.error.code = Errc::ok;
  state.finish_error.code = Errc::ok;
  state.restore_error.code = Errc::ok;
  return state;
}

}  // namespace umbra::cli::test
