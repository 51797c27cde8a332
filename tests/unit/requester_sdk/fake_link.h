// SPDX-License-Identifier: Apache-2.0
//
// umbrad's part for tests of the requester SDK's logic, without a socket.

#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "engine/documents/xml.h"
#include "requester-sdk/src/session_logic.h"
#include "tests/support/catch.h"

namespace umbra::requester::test {

using namespace std::chrono_literals;

inline constexpr std::uint64_t kDevice = 77;
inline const VolumeId kVolume{Guid{{1}}};
inline const SnapshotId kSnapshot{Guid{{2}}};
inline const SnapshotSetId kSet{Guid{{3}}};

// umbrad's part: every call works unless the test says otherwise; operations end after some waits.
class FakeLink final : public Link {
 public:
  using Link::call;
  Result<rpc::Json> call(std::string_view method, rpc::Json params,
                         std::chrono::milliseconds) override {
    const std::string name(method);
    if (!open) return fail(Errc::coordinator_lost, "closed");
    calls.push_back(name);
    if (name.starts_with("session.")) last_params = params;
    if (const auto found = errors.find(name); found != errors.end()) {
      if (found->second.code == Errc::coordinator_lost) open = false;
      return tl::unexpected<Error>(found->second);
    }
    if (name == "operation.wait" || name == "operation.status") return wait();
    if (name == "operation.cancel") {
      cancelled = true;
      return rpc::encode(rpc::OperationStatus{});
    }
    return answer(name, params);
  }
  [[nodiscard]] bool is_open() const noexcept override { return open; }
  [[nodiscard]] TimePoint now() const noexcept override { return time; }

  std::vector<std::string> calls;
  std::map<std::string, Error> errors;
  Error operation_error{Errc::ok, {}};
  int pending_waits = 1;  // Of each operation.
  bool ends_when_cancelled = true;
  bool cancelled = false;
  bool open = true;
  TimePoint time{1h};
  std::vector<WriterMetadataDocument> writers;
  BackupComponentsDocument document;  // session.get_backup_components.
  SnapshotProperties snapshot;        // Of query.snapshots; its id is kSnapshot.
  rpc::Json last_params;              // Of the last call of session.*.
  std::vector<RevertInfo> reverts;    // management.query_revert_status.
  std::function<void()> meanwhile;    // Somebody waits for an event.
  bool volume_is_there = true;        // volume.list.
  bool provider_is_there = true;

 private:
  Result<rpc::Json> wait() {
    time += 200ms;
    rpc::OperationStatus status;
    status.phase = "freeze";
    status.timeline = {{"freeze", 1, 2}};
    if (cancelled && ends_when_cancelled) {
      status.status = Errc::async_cancelled;
    } else if (waits_++ >= pending_waits && !cancelled) {
      waits_ = 0;
      status.status =
          operation_error.code == Errc::ok ? Errc::async_finished : operation_error.code;
      status.context = operation_error.context;
      status.writers.emplace_back().name = "w";
    }
    return rpc::encode(status);
  }
  Result<rpc::Json> answer(const std::string& name, const rpc::Json&) {
    if (name == "session.start_snapshot_set") return rpc::encode(rpc::StartedSet{kSet});
    if (name == "session.add_to_snapshot_set") {
      return rpc::encode(rpc::AddedSnapshot{kSnapshot, kVolume});
    }
    if (name == "query.snapshots") {
      rpc::SnapshotList list;
      list.snapshots.push_back(snapshot);
      list.snapshots.back().snapshot_id = kSnapshot;
      list.absent_providers = {"away"};
      return rpc::encode(list);
    }
    if (name == "management.query_revert_status") return rpc::encode(rpc::RevertList{reverts});
    if (name == "query.events") {
      time += 200ms;
      if (meanwhile) meanwhile();
      return rpc::encode(rpc::EventList{});
    }
    if (name == "volume.list") {
      rpc::VolumeList list;
      if (!provider_is_there) list.absent_providers = {"away"};
      if (!volume_is_there) return rpc::encode(list);
      list.volumes.emplace_back().name = "data";
      list.volumes[0].volume_id = kVolume;
      list.volumes[0].device = kDevice;
      return rpc::encode(list);
    }
    if (name == "session.get_writer_metadata") {
      rpc::WriterMetadataList list;
      for (const auto& one : writers) {
        list.writers.push_back({{}, {}, "w", documents::to_xml(one)});
      }
      return rpc::encode(list);
    }
    if (name == "session.get_backup_components") {
      return rpc::encode(rpc::Document{documents::to_xml(document)});
    }
    return rpc::encode(rpc::StartedOperation{1});
  }
  int waits_ = 0;
};

inline std::uint64_t device_of(const std::string& directory) {
  return directory.starts_with("/data") ? kDevice : 1;
}

struct Session {
  FakeLink link;
  SessionLogic logic{link, device_of};

  [[nodiscard]] int sent(const std::string& method) const {
    return static_cast<int>(std::count(link.calls.begin(), link.calls.end(), method));
  }
  // Brings a fresh session into a state by the ordinary way.
  void reach(SessionState state) {
    using enum SessionState;
    if (state == created) return;
    REQUIRE(logic.initialize_for_backup());
    if (state == initialized) return;
    REQUIRE(logic.set_backup_state({}));
    if (state == gathering) return begin(logic.start_gather_writer_metadata());
    REQUIRE(logic.gather_writer_metadata(10s));
    if (state == metadata_ready) return;
    REQUIRE(logic.start_snapshot_set(0ms));
    if (state == set_started) return;
    if (state == failed) {
      REQUIRE(logic.abort_backup());
      return;
    }
    if (state == lost) {
      link.errors["session.add_to_snapshot_set"] = {Errc::coordinator_lost, "gone"};
      REQUIRE_FALSE(logic.add_to_snapshot_set({}, {}));
      return;
    }
    if (state == preparing) return begin(logic.start_prepare_for_backup());
    REQUIRE(logic.prepare_for_backup(10s));
    if (state == prepared) return;
    if (state == creating) return begin(logic.start_do_snapshot_set({}));
    REQUIRE(logic.do_snapshot_set({}));
    if (state == snapshot_created) return;
    if (state == completing) return begin(logic.start_backup_complete());
    REQUIRE(logic.backup_complete(10s));
  }
  // An operation that does not end until the test says so.
  void begin(Result<AsyncOperation> operation) {
    REQUIRE(operation);
    handle.emplace(std::move(*operation));
    link.pending_waits = 1'000'000;
  }
  std::optional<AsyncOperation> handle;
};

}  // namespace umbra::requester::test
