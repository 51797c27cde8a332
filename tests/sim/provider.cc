// SPDX-License-Identifier: Apache-2.0

#include "tests/sim/provider.h"

#include <utility>

#include "engine/daemon/trace_book.h"
#include "engine/rpc/provider_server.h"

namespace umbra::sim {

using namespace std::chrono_literals;

SimProvider::SimProvider(World& world, std::string name, int chaos,
                         std::function<void(const SnapshotSetId&)> on_commit)
    : world_(world),
      name_(std::move(name)),
      chaos_(chaos),
      on_commit_(std::move(on_commit)),
      memory_(world.time, name_) {
  for (int i = 0; i < 2; ++i) {
    volumes_.push_back(name_ + std::to_string(i));
    memory_.add_volume(volumes_.back(), 16);
  }
}

void SimProvider::connect() {
  if (line_ && line_->is_open()) return;
  LineHandlers handlers;
  handlers.on_request = [this](const rpc::IncomingRequest& one) { serve(one); };
  handlers.on_closed = [this] { closed(); };
  handlers.on_reply = [this](rpc::CallId id, const Result<rpc::Json>& result) {
    if (!result) {
      if (id != register_) return;
      line_->close();  // The former connection is not gone yet.
      return closed();
    }
    if (id == hello_) {
      rpc::RegisterProvider message;
      message.properties = memory_.properties();
      register_ = line_->call("provider.register", rpc::encode(message));
    } else if (id == register_) {
      const auto reply = rpc::decode<rpc::RegisteredProvider>(*result);
      if (!reply) return;
      passed_.retain_sessions(reply->alive);
      memory_.retain_sessions(reply->alive);
      registered_ = true;
    }
  };
  line_ = world_.connect(std::move(handlers));
  if (line_ == nullptr) {
    world_.after(500ms, [this] { connect(); });
    return;
  }
  rpc::HelloRequest hello;
  hello.role = "provider";
  hello.program = name_;
  hello_ = line_->call("hello", rpc::encode(hello));
}

void SimProvider::closed() {
  registered_ = false;
  register_ = 0;
  world_.after(world_.random_upto(2'000ms), [this] { connect(); });
}

void SimProvider::die() {
  world_.mix("provider dies");
  ++process_;
  if (line_) line_->close();
  memory_.restart();
  passed_ = {};
  closed();
}

void SimProvider::take_down() {
  ++process_;
  registered_ = false;
  register_ = 0;
  if (line_) line_->close();
  memory_.restart();
  passed_ = {};
}

// Calls that came before the registration is through wait in production; here they take as long.
void SimProvider::serve(const rpc::IncomingRequest& request) {
  const bool odd = is_odd();
  if (odd && world_.prng.chance(1, 4)) return die();
  if (const auto answer = passed_.answer_for(request.method, request.params))
    return line_->reply(request.id, *answer);
  passed_.begun(request.method, request.params);
  const auto takes = odd ? world_.random_upto(9'000ms) : world_.random_upto(200ms);
  world_.after(takes, [this, request, process = process_, line = line_] {
    if (process != process_) return;
    // What had not begun when umbrad went is dropped.
    if (line == line_ && line->is_open()) carry_out(request);
    for (const auto& again : passed_.ended(request.method, request.params))
      static_cast<void>(rpc::serve_provider_call(memory_, again.method, again.params));
  });
}

void SimProvider::carry_out(const rpc::IncomingRequest& request) {
  const bool odd = is_odd();
  const auto call = request.method.substr(request.method.find('.') + 1);
  const bool may_fail = call != "abort_snapshots" && call != "end_session" &&
                        call != "retain_sessions" && call != "delete_snapshots";
  if (odd && may_fail && world_.prng.chance(1, 2))
    memory_.fail_next(call, {Errc::provider_veto, "as the seed says"});
  const auto result = rpc::serve_provider_call(memory_, request.method, request.params);
  const bool commits = call == "commit_snapshots" || call == "flush_commit_release";
  if (commits && result)
    if (const auto set = daemon::set_in(request.params)) on_commit_(*set);
  const bool unheard = odd && world_.prng.chance(1, 5);  // It was done, and nobody hears of it.
  world_.mix(name_ + " " + call + (result ? "" : ": " + result.error().to_string()) +
             (unheard ? ", unheard" : ""));
  if (unheard) return;
  line_->reply(request.id, result);
}

}  // namespace umbra::sim
