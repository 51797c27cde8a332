// SPDX-License-Identifier: Apache-2.0
#include "requester-sdk/src/restore_logic.h"

#include <functional>
#include <map>
#include <set>

#include "engine/documents/xml.h"
#include "tests/support/catch.h"

namespace {

using namespace umbra;
using namespace umbra::requester;
using namespace std::chrono_literals;

// umbrad's part: everything works unless the test says otherwise.
class FakeLink final : public Link {
 public:
  using Link::call;
  Result<rpc::Json> call(std::string_view method, rpc::Json, std::chrono::milliseconds) override {
    const std::string name(method);
    if (!open) return fail(Errc::coordinator_lost, "closed");
    calls.push_back(name);
    if (name == lost_at) {
      open = false;
      return fail(Errc::coordinator_lost, "gone");
    }
    rpc::OperationStatus finished;
    finished.status = operation;
    if (name == "operation.wait") return rpc::encode(finished);
    if (name == "session.initialize_for_restore") return rpc::encode(rpc::SessionInfo{});
    if (name == "session.get_writer_status") return rpc::encode(rpc::WriterStatusList{});
    if (name == "session.get_backup_components") {
      return rpc::encode(rpc::Document{documents::to_xml(BackupComponentsDocument{})});
    }
    if (name == "session.gather_writer_metadata" || name.ends_with("pre_restore") ||
        name.ends_with("post_restore") || name == "session.gather_writer_status") {
      return rpc::encode(rpc::StartedOperation{1});
    }
    return rpc::encode(rpc::Nothing{});
  }
  [[nodiscard]] bool is_open() const noexcept override { return open; }
  [[nodiscard]] TimePoint now() const noexcept override { return TimePoint{1h}; }

  std::vector<std::string> calls;
  std::string lost_at;
  Errc operation = Errc::async_finished;
  bool open = true;
};

Errc code_of(const Status& status) { return status ? Errc::ok : status.error().code; }
template <class T>
Errc code_of(const Result<T>& result) {
  return result ? Errc::ok : result.error().code;
}

using Call = std::function<Errc(RestoreLogic&)>;
const std::map<std::string, Call>& calls() {
  static const ComponentRef kRef{.name = "c"};
  static const AlternateLocation kPlace{"/a", "*", false, "/b"};
  static const std::map<std::string, Call> all{
      {"initialize", [](auto& s) { return code_of(s.initialize_for_restore({})); }},
      {"select_writers",
       [](auto& s) { return code_of(s.select_writers("enable_writer_classes", {})); }},
      {"set_restore_state",
       [](auto& s) { return code_of(s.set_restore_state(RestoreType::other)); }},
      {"gather", [](auto& s) { return code_of(s.gather_writer_metadata(1s)); }},
      {"metadata", [](auto& s) { return code_of(s.writer_metadata()); }},
      {"select", [](auto& s) { return code_of(s.set_selected_for_restore(kRef, true)); }},
      {"sub", [](auto& s) { return code_of(s.add_restore_subcomponent(kRef, {})); }},
      {"options", [](auto& s) { return code_of(s.set_restore_options(kRef, "x")); }},
      {"authoritative", [](auto& s) { return code_of(s.set_authoritative_restore(kRef, true)); }},
      {"roll_forward", [](auto& s) { return code_of(s.set_roll_forward(kRef, {})); }},
      {"name", [](auto& s) { return code_of(s.set_restore_name(kRef, "x")); }},
      {"new_target", [](auto& s) { return code_of(s.add_new_target(kRef, kPlace)); }},
      {"additional", [](auto& s) { return code_of(s.set_additional_restores(kRef, true)); }},
      {"ranges", [](auto& s) { return code_of(s.set_ranges_file_path(kRef, 0, "/x")); }},
      {"pre_restore", [](auto& s) { return code_of(s.pre_restore(1s)); }},
      {"mapping",
       [](auto& s) { return code_of(s.add_alternative_location_mapping(kRef, kPlace)); }},
      {"status",
       [](auto& s) { return code_of(s.set_file_restore_status(kRef, FileRestoreStatus::all)); }},
      {"post_restore", [](auto& s) { return code_of(s.post_restore(1s)); }},
      {"writer_status", [](auto& s) { return code_of(s.gather_writer_status()); }},
      {"components", [](auto& s) { return code_of(s.backup_components()); }},
  };
  return all;
}

const std::vector<std::string> kWay{"initialize", "gather", "pre_restore", "post_restore"};

std::set<std::string> allowed_after(std::size_t steps) {
  std::set<std::string> allowed;
  for (const auto& [name, call] : calls()) {
    FakeLink link;
    RestoreLogic logic(link);
    for (std::size_t i = 0; i < steps; ++i) REQUIRE(calls().at(kWay[i])(logic) == Errc::ok);
    const std::size_t sent = link.calls.size();
    const Errc code = call(logic);
    CHECK((code == Errc::ok || code == Errc::bad_state));
    if (code == Errc::bad_state) CHECK(link.calls.size() == sent);  // umbrad is not even asked.
    if (code == Errc::ok) allowed.insert(name);
  }
  return allowed;
}

TEST_CASE("a restore session allows VSS's calls in VSS's order", "[vss:VSS_E_BAD_STATE]") {
  using Names = std::set<std::string>;
  CHECK(allowed_after(0) == Names{"initialize"});
  CHECK(allowed_after(1) == Names{"select_writers", "set_restore_state", "gather", "components"});
  CHECK(allowed_after(2) == Names{"select_writers", "set_restore_state", "metadata", "select",
                                  "sub", "options", "authoritative", "roll_forward", "name",
                                  "new_target", "additional", "ranges", "pre_restore",
                                  "writer_status", "components"});
  CHECK(allowed_after(3) == Names{"select_writers", "metadata", "new_target", "additional",
                                  "ranges", "mapping", "status", "post_restore", "writer_status",
                                  "components"});
  CHECK(allowed_after(4) == Names{"select_writers", "metadata", "writer_status", "components"});
}

TEST_CASE("a lost connection ends a restore session, whatever it was doing") {
  for (const char* call : {"session.initialize_for_restore", "session.gather_writer_metadata",
                           "operation.wait", "session.pre_restore", "session.post_restore"}) {
    CAPTURE(call);
    FakeLink link;
    link.lost_at = call;
    RestoreLogic logic(link);
    for (const auto& step : kWay) static_cast<void>(calls().at(step)(logic));
    CHECK(logic.state() == RestoreState::lost);
    CHECK(code_of(logic.post_restore(1s)) == Errc::coordinator_lost);
  }
}

TEST_CASE("a PostRestore that a writer did not live to see is an error, and the end") {
  FakeLink link;
  RestoreLogic logic(link);
  for (std::size_t i = 0; i < 3; ++i) REQUIRE(calls().at(kWay[i])(logic) == Errc::ok);
  link.operation = Errc::writer_not_responding;
  CHECK(code_of(logic.post_restore(1s)) == Errc::writer_not_responding);
  CHECK(logic.state() == RestoreState::restored);
}

}  // namespace
