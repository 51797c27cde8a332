// SPDX-License-Identifier: Apache-2.0
//
// One writer's connection. Between a writer's Freeze and the answer to its Thaw or Abort no other
// session's event goes to it: those wait here, in order.

#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/coordinator/writer_state.h"
#include "engine/daemon/channel.h"
#include "engine/daemon/peer.h"
#include "engine/daemon/trace_book.h"
#include "engine/rpc/messages.h"
#include "umbra/documents.h"

namespace umbra::daemon {

class Server;

/// Events of other sessions that wait for a Thaw. Beyond it they fail as unanswered.
inline constexpr std::size_t kDeferredEventsMax = 256;

struct WriterOutcome {
  enum class Kind : std::uint8_t { answered, late, lost } kind = Kind::answered;
  coord::WriterAnswer answer;
  std::vector<rpc::ComponentEdit> edits;
  // identify, if the answer was good:
  std::string metadata_xml;
  WriterMetadataDocument metadata;
};

class WriterLink final : public Role, public std::enable_shared_from_this<WriterLink> {
 public:
  WriterLink(Server& server, std::shared_ptr<Channel> channel, PeerInfo peer);

  void request(const std::string& method, const Json& params, const Reply& reply) override;
  void notification(const std::string& method, const Json& params) override;
  void closed() override;

  /// Sends an event; `done` is called once, later. `limit` counts from when it really goes out.
  void send(coord::WriterEvent event, rpc::WriterEvent params, coord::milliseconds limit,
            std::function<void(WriterOutcome)> done);

 private:
  void send_now(coord::WriterEvent event, const rpc::WriterEvent& params, coord::milliseconds limit,
                std::function<void(WriterOutcome)> done);
  void thawed(const SessionId& session);
  void trace_answer(const std::optional<TraceBook::Key>& span, const WriterOutcome& outcome);
  void register_writer(const Json& params, const Reply& reply);

  Server& server_;
  std::shared_ptr<Channel> channel_;
  PeerInfo peer_;
  WriterInstanceId id_;  // Nil until it has registered.
  std::string name_;
  std::optional<SessionId> frozen_for_;
  std::deque<std::function<void()>> deferred_;
};

}  // namespace umbra::daemon
