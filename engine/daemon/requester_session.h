// SPDX-License-Identifier: Apache-2.0
//
// One requester's connection, which is one session: its calls, its documents, its operations and
// its snapshot set. The connection's end is its release: a set on its way is aborted, writers that
// took part get Abort (if the set did not come about) and BackupShutdown, providers are told, and
// only then the session is gone; so it outlives its connection by the time that takes.
//
// What may be called when is coord::Session's; the phases of DoSnapshotSet are
// coord::SnapshotSet's. Here their actions are carried out.
//
//   requester_session.cc  calls, operations, the end
//   session_writers.cc    events that need no order among writers; documents; status
//   session_restore.cc    restores
//   session_set.cc        the set: adding volumes, running the phase machine
//   session_copies.cc     what volumes and copies beyond its own set can do
//   session_hardware.cc   copies that are LUNs: import, break, recovery
//   queries.cc            what needs no session
//   provider_admin.cc     which providers there are to be (IVssAdmin)

#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/coordinator/session.h"
#include "engine/coordinator/snapshot_set.h"
#include "engine/coordinator/writer_registry.h"
#include "engine/daemon/lun_import.h"
#include "engine/daemon/lun_recovery.h"
#include "engine/daemon/peer.h"
#include "engine/daemon/server.h"
#include "engine/daemon/writer_link.h"
#include "engine/rpc/management_messages.h"
#include "engine/rpc/messages.h"
#include "umbra/documents.h"
#include "umbra/hardware_provider.h"

namespace umbra::daemon {

/// Operations of a session whose outcome can be asked for; the oldest finished ones go.
inline constexpr std::size_t kOperationsMax = 64;
/// Longest wait of one operation.wait.
inline constexpr coord::milliseconds kWaitLimitMax{60'000};

class RequesterSession final : public Role, public std::enable_shared_from_this<RequesterSession> {
 public:
  RequesterSession(Server& server, SessionKey key, PeerInfo peer);
  ~RequesterSession() override;

  void request(const std::string& method, const Json& params, const Reply& reply) override;
  void notification(const std::string& method, const Json& params) override;
  void closed() override { end(coord::StopCause::requester_gone); }

  /// The session ends, whatever it is doing. Idempotent.
  void end(coord::StopCause cause);
  /// Ends its set, if it has one (an operator's wish).
  void abort_set(coord::StopCause cause, const std::string& reason);

  void writer_lost(const WriterInstanceId& id);
  void writer_window_expired(const WriterInstanceId& id);
  void provider_lost(const ProviderId& id);
  void provider_returned(const ProviderId& id);
  void events_came();
  void slot_granted();
  void slot_refused();
  void tick(TimePoint now);
  [[nodiscard]] std::optional<TimePoint> next_deadline() const;

  /// Nil before InitializeForBackup.
  [[nodiscard]] const SessionId& id() const noexcept { return id_; }
  [[nodiscard]] bool is_ending() const noexcept { return ending_; }
  [[nodiscard]] const PeerInfo& peer() const noexcept { return peer_; }
  [[nodiscard]] const SnapshotSetId& set_id() const noexcept { return set_id_; }
  /// From StartSnapshotSet until its set has ended.
  [[nodiscard]] bool makes_set() const noexcept { return session_.holds_set() || set_.has_value(); }
  /// Such a set has members at this provider, or may get one from a call that is under way.
  [[nodiscard]] bool makes_set_on(const ProviderId& id) const;
  void describe_set(rpc::CoordinatorStatus& status) const;

 private:
  using Handler = void (RequesterSession::*)(const Json& params, const Reply& reply);

  struct Writer {  // One that answered Identify.
    coord::SessionWriter status;
    WriterMetadataDocument metadata;
    std::string metadata_xml;
    WriterComponents part;
    std::uint32_t subscription = subscribe::kAll;
    std::optional<coord::WriterEvent> pending;  // Outside the phase machine.
  };
  struct Member {
    SnapshotId snapshot;
    VolumeProperties volume;
    ProviderId provider;
    std::uint32_t attributes = 0;
    std::string device_object;  // From PreFinalCommit on, and so are machine and time.
    std::string machine;
    std::int64_t filetime = 0;
    bool lost = false;  // Its provider went away: what it had prepared may be gone.
  };
  struct Waiter {
    Reply reply;
    TimePoint until;
  };
  struct Operation {
    coord::SessionCall call;
    TimePoint begun;
    bool finished = false;
    rpc::OperationStatus status;  // Final once finished.
    std::vector<Waiter> waiters;
  };

  // requester_session.cc
  [[nodiscard]] Reply traced(const std::string& method, const Reply& reply);
  [[nodiscard]] bool allowed(coord::SessionCall call, const Reply& reply, bool* without_effect);
  [[nodiscard]] bool allowed(coord::SessionCall call, const Reply& reply);
  void initialize_for_backup(const Json& params, const Reply& reply);
  void import_parsed(Result<BackupComponentsDocument> document, const Reply& reply);
  void begin_backup(const Reply& reply);
  void load(BackupComponentsDocument document);
  void set_context(const Json& params, const Reply& reply);
  void set_backup_state(const Json& params, const Reply& reply);
  void enable_writer_classes(const Json& params, const Reply& reply);
  void disable_writer_classes(const Json& params, const Reply& reply);
  void disable_writer_instances(const Json& params, const Reply& reply);
  /// The ids of a request that has an effect; it has been answered in any case.
  [[nodiscard]] std::optional<std::vector<Guid>> selected_writers(const Json& params,
                                                                  const Reply& reply);
  void start_snapshot_set(const Json& params, const Reply& reply);
  void abort_backup(const Json& params, const Reply& reply);
  void wait_operation(const Json& params, const Reply& reply);
  void operation_status(const Json& params, const Reply& reply);
  void cancel_operation(const Json& params, const Reply& reply);
  std::uint32_t begin_operation(coord::SessionCall call);
  void finish_operation(std::uint32_t id, Errc code, std::string context);
  [[nodiscard]] Operation* find_operation(std::uint32_t id, const Reply& reply);
  [[nodiscard]] rpc::OperationStatus status_of(const Operation& operation) const;
  void end_now();

  // session_writers.cc
  void gather_writer_metadata(const Json& params, const Reply& reply);
  void get_writer_metadata(const Json& params, const Reply& reply);
  void add_component(const Json& params, const Reply& reply);
  void prepare_for_backup(const Json& params, const Reply& reply);
  void gather_writer_status(const Json& params, const Reply& reply);
  void get_writer_status(const Json& params, const Reply& reply);
  void set_backup_succeeded(const Json& params, const Reply& reply);
  void set_backup_options(const Json& params, const Reply& reply);
  void set_previous_backup_stamp(const Json& params, const Reply& reply);
  /// The component that a request changes; or it has been answered with the error.
  [[nodiscard]] BackupComponent* added_component(const rpc::ComponentRef& ref, const Reply& reply);
  void backup_complete(const Json& params, const Reply& reply);
  void get_backup_components(const Json& params, const Reply& reply);
  void identify_all(std::uint32_t operation);
  void identified(const coord::RegisteredWriter& entry, WriterOutcome outcome);
  /// The writers without a process, who need not be asked.
  void gather_express(std::function<void()> done);
  Writer& add_writer(const coord::RegisteredWriter& entry, WriterMetadataDocument metadata,
                     std::string xml);
  /// Sends `event` to each of `writers_` that takes it; `done` when all have answered.
  void run_round(coord::WriterEvent event, std::function<void()> done);
  void apply_outcome(Writer& writer, coord::WriterEvent event, WriterOutcome outcome);
  void apply_edits(Writer& writer, coord::WriterEvent event,
                   const std::vector<rpc::ComponentEdit>& edits);
  void tell_writers(coord::WriterEvent event);
  [[nodiscard]] bool participates(const Writer& writer) const;
  [[nodiscard]] bool receives(const Writer& writer, coord::WriterEvent event) const;
  [[nodiscard]] rpc::WriterEvent event_params(const Writer& writer, coord::WriterEvent event) const;
  [[nodiscard]] std::vector<rpc::WriterStatus> writer_statuses() const;
  [[nodiscard]] static bool is_meant(const Writer& writer, const rpc::ComponentRef& ref);
  [[nodiscard]] Writer* find_writer(const rpc::ComponentRef& ref);
  void note(const coord::SessionWriter& status);

  // session_restore.cc
  void initialize_for_restore(const Json& params, const Reply& reply);
  void restore_parsed(Result<BackupComponentsDocument> document, const Reply& reply);
  void set_restore_state(const Json& params, const Reply& reply);
  void set_selected_for_restore(const Json& params, const Reply& reply);
  void add_restore_subcomponent(const Json& params, const Reply& reply);
  void set_restore_options(const Json& params, const Reply& reply);
  void set_authoritative_restore(const Json& params, const Reply& reply);
  void set_roll_forward(const Json& params, const Reply& reply);
  void set_restore_name(const Json& params, const Reply& reply);
  void add_new_target(const Json& params, const Reply& reply);
  void set_additional_restores(const Json& params, const Reply& reply);
  void set_ranges_file_path(const Json& params, const Reply& reply);
  void pre_restore(const Json& params, const Reply& reply);
  void add_alternative_location_mapping(const Json& params, const Reply& reply);
  void set_file_restore_status(const Json& params, const Reply& reply);
  void post_restore(const Json& params, const Reply& reply);
  struct Found {
    Writer* writer = nullptr;
    BackupComponent* component = nullptr;
  };
  /// What a request may change: its params decoded, the call allowed, the component found; or it
  /// has been answered with the error.
  template <class Message>
  [[nodiscard]] std::optional<std::pair<Message, Found>> take_for_restore(coord::SessionCall call,
                                                                          const Json& params,
                                                                          const Reply& reply);
  [[nodiscard]] Result<Found> find_for_restore(const rpc::ComponentRef& ref);
  [[nodiscard]] Status move_to(Found& found, const WriterInstanceId& instance);
  void bind_parts();
  [[nodiscard]] bool replaced_everything(const Writer& writer) const;
  void give_up_restore(Writer& writer, FileRestoreStatus unsaid);
  void end_restores();

  // session_set.cc
  void add_to_snapshot_set(const Json& params, const Reply& reply);
  struct Adding;
  void choose_for(const std::shared_ptr<Adding>& adding);
  void prepare_on(const std::shared_ptr<Adding>& adding);
  void added(const std::shared_ptr<Adding>& adding, const Status& status);
  [[nodiscard]] std::uint32_t component_flags() const;
  void do_snapshot_set(const Json& params, const Reply& reply);
  [[nodiscard]] coord::SetPlan make_plan(const rpc::DoSnapshotSet& message);
  void run_actions();
  void trace_phase();
  void carry_out(const coord::SendToWriter& action);
  void carry_out(const coord::CallProvider& action);
  void provider_answered(std::size_t provider, coord::ProviderCall call,
                         const Result<HoldReport>& report);
  void look_for_devices(std::size_t provider);
  [[nodiscard]] bool is_transportable() const noexcept {
    return (session_.context() & attribute::kTransportable) != 0;
  }
  void plan_provider_lost(const ProviderId& id);
  void set_ended();
  void drop_set(coord::StopCause cause, const std::string& reason);
  [[nodiscard]] std::vector<ProviderId> set_providers() const;

  // session_copies.cc
  void is_volume_supported(const Json& params, const Reply& reply);

  // session_hardware.cc
  void look_for_luns(std::size_t provider);
  [[nodiscard]] Status carry(const ProviderId& provider, const std::vector<SnapshotLuns>& answer);
  void import_snapshots(const Json& params, const Reply& reply);
  void abandon_import();
  void break_snapshot_set(const Json& params, const Reply& reply);
  void add_snapshot_to_recovery_set(const Json& params, const Reply& reply);
  void recover_set(const Json& params, const Reply& reply);
  struct Breaking;
  void break_next(const std::shared_ptr<Breaking>& breaking);
  void broken(const Breaking& breaking, Errc code, std::string context);
  void refuse_recovery(const SnapshotId& id, const Reply& reply);
  void add_recovery(RecoveryTarget target, const Reply& reply);

  // queries.cc
  void list_volumes(const Json& params, const Reply& reply);
  void list_snapshots(const Json& params, const Reply& reply);
  void delete_snapshots(const Json& params, const Reply& reply);
  void list_providers(const Json& params, const Reply& reply);
  void list_writers(const Json& params, const Reply& reply);
  void query_events(const Json& params, const Reply& reply);
  void answer_events(const rpc::QueryEvents& query, const Reply& reply);
  void query_settings(const Json& params, const Reply& reply);
  void query_trace(const Json& params, const Reply& reply);
  void query_traces(const Json& params, const Reply& reply);
  [[nodiscard]] bool may_see(const rpc::SetTrace& trace) const;
  void coordinator_status(const Json& params, const Reply& reply);
  void coordinator_abort(const Json& params, const Reply& reply);
  void pass_on(const std::string& method, const Json& params, const Reply& reply);
  void manage(const std::string& method, const Json& params, const Reply& reply);
  void pass_to(const std::shared_ptr<ProviderLink>& link, const std::string& method,
               const Json& params, const Reply& reply);

  // provider_admin.cc
  void register_provider(const Json& params, const Reply& reply);
  void unregister_provider(const Json& params, const Reply& reply);
  void unregister_unless_used(const ProviderProperties& properties, const Reply& reply);

  Server& server_;
  SessionKey key_;
  PeerInfo peer_;
  coord::Session session_;
  SessionId id_;
  bool ending_ = false;
  std::string end_reason_;  // Why the session failed, for later calls.

  rpc::SetBackupState backup_state_;
  coord::WriterFilter filter_;
  std::vector<Writer> writers_;
  BackupComponentsDocument restore_;  // As it was kept; parts of live writers are with these.
  bool import_loaded_ = false;        // A backup that was given a document: it is in restore_.
  std::vector<TransportedSnapshot> carried_;  // Of its own transportable set.
  std::shared_ptr<LunImport> import_;         // While it runs.
  std::vector<RecoveryTarget> recoveries_;    // For RecoverSet.

  struct EventWaiter {
    rpc::QueryEvents query;
    Reply reply;
    TimePoint until;
  };
  std::vector<EventWaiter> event_waiters_;  // At most the requests in flight of a connection.

  std::uint32_t next_operation_ = 1;
  std::map<std::uint32_t, Operation> operations_;
  std::uint32_t running_ = 0;  // The operation that runs; 0: none. One at a time.

  SnapshotSetId set_id_;
  TimePoint set_begun_;
  std::optional<Reply> waiting_for_slot_;
  bool adding_ = false;
  std::uint32_t recovery_ = 0;  // attribute::kAutorecover if copies of the set are recovered.
  std::vector<Member> members_;
  std::optional<coord::SnapshotSet> set_;  // While DoSnapshotSet runs.
  std::vector<std::size_t> set_writers_;   // Its writers, as indices into writers_.
  std::vector<ProviderId> set_plan_providers_;
  bool log_held_ = false;
  coord::Phase traced_phase_ = coord::Phase::idle;
  std::optional<TraceBook::Key> phase_span_;
  bool in_actions_ = false;
  std::vector<Reply> aborting_;  // AbortBackup calls that wait for the set's end.
};

}  // namespace umbra::daemon
