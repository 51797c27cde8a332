// SPDX-License-Identifier: Apache-2.0
//
// Writers of the simulated machine. One kind runs the SDK's production logic with callbacks that
// are quick, slow, or fail; the other speaks the wire by itself and keeps no rule: it stalls, lies,
// answers twice or nonsense, and dies.
//
// Both keep what is really true of them, beside what umbrad believes: whether they are frozen, for
// which session, and since when.

#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/sim/world.h"
#include "umbra/documents.h"
#include "writer-sdk/src/logic.h"

namespace umbra::sim {

/// What a writer has really done in one session.
struct Truth {
  bool frozen = false;  // on_freeze went well, neither on_thaw nor on_abort has begun.
  bool thawed = false;  // on_thaw went well.
  int freezes = 0;
  TimePoint asked{};  // Freeze came.
};

struct WriterPlan {
  std::string name;
  ApplicationLevel level = ApplicationLevel::front_end;
  milliseconds window{6'000};
  WriterClassId class_id{};
  int chaos = 0;  // In a hundred answers, so many are not what umbrad hopes for.
};

class Writer {
 public:
  Writer(World& world, WriterPlan plan) : plan_(std::move(plan)), world_(world) {}
  virtual ~Writer() = default;
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  void connect();
  /// From now on it behaves.
  void calm() { plan_.chaos = 0; }
  [[nodiscard]] const WriterPlan& plan() const noexcept { return plan_; }
  [[nodiscard]] bool is_registered() const noexcept { return registered_; }
  [[nodiscard]] const WriterInstanceId& instance() const noexcept { return instance_; }
  /// Nothing of the session: an empty truth.
  [[nodiscard]] Truth truth(const SessionId& session) const;
  [[nodiscard]] bool is_frozen() const;
  /// What it promised and did not keep; empty: nothing.
  [[nodiscard]] const std::string& broken() const noexcept { return broken_; }

 protected:
  virtual void request(const rpc::IncomingRequest& request) = 0;
  virtual void lost() = 0;
  [[nodiscard]] bool is_odd() {
    return world_.prng.chance(static_cast<std::uint64_t>(plan_.chaos), 100);
  }
  void break_promise(const std::string& what);
  /// Its process ends, and another begins after a while: everything it knew is gone.
  void die();
  virtual void born() = 0;
  [[nodiscard]] rpc::WriterReply good_reply(std::string_view method) const;

  WriterPlan plan_;
  World& world_;
  std::shared_ptr<Line> line_;
  std::map<SessionId, Truth> truths_;
  int process_ = 0;  // Which of its processes; callbacks of an older one are not heard.

 private:
  void closed();
  bool registered_ = false;
  WriterInstanceId instance_;
  rpc::CallId hello_ = 0;
  rpc::CallId register_ = 0;
  std::string broken_;
};

/// With the SDK.
[[nodiscard]] std::unique_ptr<Writer> make_sdk_writer(World& world, WriterPlan plan);
/// Without.
[[nodiscard]] std::unique_ptr<Writer> make_wild_writer(World& world, WriterPlan plan);

}  // namespace umbra::sim
