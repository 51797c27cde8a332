// SPDX-License-Identifier: Apache-2.0

#include "tests/sim/writers.h"

#include <algorithm>
#include <utility>

#include "engine/documents/xml.h"

namespace umbra::sim {

using namespace std::chrono_literals;

// --- what both kinds share ----------------------------------------------------------------------

void Writer::connect() {
  if (line_ && line_->is_open()) return;
  LineHandlers handlers;
  handlers.on_request = [this](const rpc::IncomingRequest& one) { request(one); };
  handlers.on_closed = [this] { closed(); };
  handlers.on_reply = [this](rpc::CallId id, const Result<rpc::Json>& result) {
    if (!result) return;
    if (id == hello_) {
      rpc::RegisterWriter message;
      message.class_id = plan_.class_id;
      message.name = plan_.name;
      message.level = plan_.level;
      message.freeze_window_ms = static_cast<std::uint32_t>(plan_.window.count());
      register_ = line_->call("writer.register", rpc::encode(message));
    } else if (id == register_) {
      const auto reply = rpc::decode<rpc::RegisterWriterReply>(*result);
      if (!reply) return;
      instance_ = reply->instance_id;
      registered_ = true;
    }
  };
  line_ = world_.connect(std::move(handlers));
  if (line_ == nullptr) {
    world_.after(500ms, [this] { connect(); });
    return;
  }
  rpc::HelloRequest hello;
  hello.role = "writer";
  hello.program = plan_.name;
  hello_ = line_->call("hello", rpc::encode(hello));
}

void Writer::closed() {
  registered_ = false;
  register_ = 0;
  lost();
  world_.after(world_.random_upto(1'500ms), [this] { connect(); });
}

void Writer::die() {
  world_.mix("writer dies");
  ++process_;
  registered_ = false;
  register_ = 0;
  truths_.clear();
  if (line_) line_->close();
  born();
  world_.after(world_.random_upto(3'000ms), [this] { connect(); });
}

Truth Writer::truth(const SessionId& session) const {
  const auto found = truths_.find(session);
  return found == truths_.end() ? Truth{} : found->second;
}

bool Writer::is_frozen() const {
  return std::any_of(truths_.begin(), truths_.end(),
                     [](const auto& one) { return one.second.frozen; });
}

void Writer::break_promise(const std::string& what) {
  if (broken_.empty()) broken_ = "writer '" + plan_.name + "': " + what;
}

rpc::WriterReply Writer::good_reply(std::string_view method) const {
  rpc::WriterReply reply;
  if (method != "writer.identify") return reply;
  WriterMetadataDocument document;
  document.identity.class_id = plan_.class_id;
  document.identity.name = plan_.name;
  ComponentInfo component;
  component.name = "data";
  component.files.push_back({"/srv/" + plan_.name, "*", true, "", file_spec::kDefault});
  document.components.push_back(component);
  reply.metadata = documents::to_xml(document);
  return reply;
}

namespace {

rpc::WriterReply failed_reply(Prng& prng) {
  static const std::vector<Errc> codes{Errc::writererror_retryable, Errc::writererror_nonretryable,
                                       Errc::writererror_outofresources,
                                       Errc::writererror_inconsistentsnapshot};
  rpc::WriterReply reply;
  reply.ok = prng.chance(1, 3);  // "I failed, others go on."
  reply.failure = codes[prng.below(codes.size())];
  reply.message = "as the seed says";
  return reply;
}

// --- the SDK's logic ----------------------------------------------------------------------------

class SdkWriter final : public Writer {
 public:
  SdkWriter(World& world, WriterPlan plan) : Writer(world, std::move(plan)), logic_(plan_.window) {}

 private:
  void request(const rpc::IncomingRequest& one) override {
    if (is_odd() && world_.prng.chance(1, 6)) return die();
    if (one.method == "writer.freeze")
      if (const auto params = rpc::decode<rpc::WriterEvent>(one.params))
        truths_[params->session_id].asked = world_.now();
    logic_.request(one.id, one.method, one.params, world_.now());
    perform();
  }
  void lost() override {
    logic_.disconnected(world_.now());
    perform();
  }
  void born() override {
    logic_ = writer::Logic(plan_.window);
    armed_ = {};
  }

  void perform() {
    for (auto actions = logic_.take_actions(); !actions.empty(); actions = logic_.take_actions())
      for (auto& action : actions) {
        if (auto* start = std::get_if<writer::Start>(&action)) begin(*start);
        if (auto* answer = std::get_if<writer::Answer>(&action)) send(*answer);
        if (auto* expiry = std::get_if<writer::ReportExpiry>(&action))
          if (line_ && line_->is_open())
            line_->notify("writer.window_expired",
                          rpc::encode(rpc::WindowExpired{expiry->session}));
      }
    const auto next = logic_.next_deadline();
    if (!next || armed_ == *next) return;
    armed_ = *next;
    world_.at(*next, [this, process = process_, when = *next] {
      if (process != process_) return;
      if (armed_ == when) armed_ = {};
      logic_.time_passed(world_.now());
      perform();
    });
  }

  void send(const writer::Answer& answer) {
    if (!line_) return;
    line_->reply(answer.request, answer.reply ? Result<rpc::Json>(rpc::encode(*answer.reply))
                                              : fail(answer.reply.error()));
  }

  // A callback of the application begins; it ends after a while, sometimes only after its limit.
  void begin(const writer::Start& start) {
    using writer::Event;
    auto& truth = truths_[start.session];
    const bool odd = is_odd();
    const bool thaws = start.event == Event::thaw || start.event == Event::abort;
    if (thaws && truth.frozen) check_window(truth);
    if (thaws) truth.frozen = false;
    const bool slow = odd && world_.prng.chance(1, 2);
    const auto takes = slow ? world_.random_upto(9'000ms) : world_.random_upto(300ms);
    busy_until_ = std::max(busy_until_, world_.now() + takes);
    rpc::WriterReply reply =
        odd && !slow ? failed_reply(world_.prng) : good_reply(writer::method_of(start.event));
    world_.after(takes, [this, process = process_, session = start.session, event = start.event,
                         reply = std::move(reply)] {
      if (process != process_) return;
      end(session, event, reply);
    });
  }

  void end(const SessionId& session, writer::Event event, const rpc::WriterReply& reply) {
    auto& truth = truths_[session];
    if (event == writer::Event::freeze && reply.ok) {
      truth.frozen = true;
      truth.thawed = false;
      ++truth.freezes;
    }
    if (event == writer::Event::thaw && reply.ok) truth.thawed = true;
    logic_.finished(session, reply, world_.now());
    perform();
  }

  // It lets go within its window, whatever umbrad does; a callback that runs is waited for.
  void check_window(const Truth& truth) {
    const auto latest = std::max(truth.asked + plan_.window, busy_until_) + 1ms;
    if (world_.now() > latest) break_promise("frozen beyond its window");
  }

  writer::Logic logic_;
  TimePoint busy_until_{};
  TimePoint armed_{};
};

// --- without the SDK ----------------------------------------------------------------------------

class WildWriter final : public Writer {
 public:
  using Writer::Writer;

 private:
  void request(const rpc::IncomingRequest& one) override {
    const auto params = rpc::decode<rpc::WriterEvent>(one.params);
    if (!params) return break_promise("umbrad sent an event that is none");
    auto& truth = truths_[params->session_id];
    if (one.method == "writer.freeze") await_thaw(params->session_id, truth);
    if (one.method == "writer.thaw" || one.method == "writer.abort") {
      truth.frozen = false;
      truth.asked = {};
      truth.thawed = one.method == "writer.thaw";
    }
    const auto answer = [this, one, session = params->session_id, process = process_] {
      if (process == process_) act(one, session);
    };
    world_.after(world_.random_upto(is_odd() ? 9'000ms : 300ms), answer);
  }

  void act(const rpc::IncomingRequest& one, const SessionId& session) {
    auto reply = good_reply(one.method);
    if (!line_ || !line_->is_open()) return;
    if (is_odd()) {
      switch (world_.prng.below(6)) {
        case 0: return;  // Stalls.
        case 1: return die();
        case 2: reply = failed_reply(world_.prng); break;
        case 3: {  // Nonsense.
          rpc::Json wrong = rpc::encode(reply);
          wrong.as_object()["ok"] = "perhaps";
          return line_->reply(one.id, wrong);
        }
        case 4: {  // Answers twice.
          const auto line = R"({"jsonrpc":"2.0","id":)" + one.id.text + R"(,"result":)" +
                            rpc::serialize(rpc::encode(reply)) + "}\n";
          line_->send_raw(line);
          break;
        }
        default:  // Lies: says that some window is over.
          line_->notify("writer.window_expired",
                        rpc::encode(rpc::WindowExpired{
                            world_.prng.chance(1, 2) ? session : SessionId{Guid::random()}}));
      }
    }
    if (one.method == "writer.freeze" && reply.ok && truths_[session].asked != TimePoint{}) {
      truths_[session].frozen = true;
      ++truths_[session].freezes;
    }
    line_->reply(one.id, rpc::encode(reply));
  }

  // umbrad's part: whoever was sent Freeze is sent Thaw or Abort in its window, however it behaves.
  void await_thaw(const SessionId& session, Truth& truth) {
    truth = Truth{};
    truth.asked = world_.now();
    const auto window = std::min(plan_.window, short_limits().freeze_window);
    world_.after(window + 2 * kDelayMax,
                 [this, session, asked = truth.asked, process = process_, line = line_] {
                   const bool same = process == process_ && line == line_ && line->is_open();
                   if (same && truths_[session].asked == asked)
                     break_promise("sent Freeze, and neither Thaw nor Abort in its window");
                 });
  }

  void lost() override { truths_.clear(); }
  void born() override {}
};

}  // namespace

std::unique_ptr<Writer> make_sdk_writer(World& world, WriterPlan plan) {
  return std::make_unique<SdkWriter>(world, std::move(plan));
}
std::unique_ptr<Writer> make_wild_writer(World& world, WriterPlan plan) {
  return std::make_unique<WildWriter>(world, std::move(plan));
}

}  // namespace umbra::sim
