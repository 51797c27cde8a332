// SPDX-License-Identifier: Apache-2.0

#include "tests/sim/requester.h"

#include <utility>

namespace umbra::sim {

using namespace std::chrono_literals;

// --- the strand ---------------------------------------------------------------------------------

Strand::Strand(std::function<void(Strand&)> work)
    : thread_([this, work = std::move(work)] {
        {
          std::unique_lock lock(mutex_);
          changed_.wait(lock, [this] { return mine_; });
        }
        work(*this);
        const std::lock_guard lock(mutex_);
        over_ = true;
        mine_ = false;
        changed_.notify_all();
      }) {}

Strand::~Strand() { thread_.join(); }

void Strand::resume() {
  std::unique_lock lock(mutex_);
  if (over_) return;
  mine_ = true;
  changed_.notify_all();
  changed_.wait(lock, [this] { return !mine_; });
}

void Strand::wait() {
  std::unique_lock lock(mutex_);
  mine_ = false;
  changed_.notify_all();
  changed_.wait(lock, [this] { return mine_; });
}

// --- the SDK's way to umbrad ---------------------------------------------------------------------

class SimRequester::SimLink final : public requester::Link {
 public:
  SimLink(World& world, std::unique_ptr<Strand>& strand) : world_(world), strand_(strand) {}

  bool connect() {
    LineHandlers handlers;
    handlers.on_reply = [this](rpc::CallId id, const Result<rpc::Json>& result) {
      if (id == waiting_for_) finish(result);
    };
    handlers.on_closed = [this] {
      open_ = false;
      if (waiting_for_ != 0) finish(fail(Errc::coordinator_lost, "the line is gone"));
    };
    line_ = world_.connect(std::move(handlers));
    open_ = line_ != nullptr;
    if (!open_) return false;
    rpc::HelloRequest hello;
    hello.role = "requester";
    hello.program = "sim";
    return call<rpc::HelloReply>("hello", hello).has_value();
  }

  Result<rpc::Json> call(std::string_view method, rpc::Json params, milliseconds limit) override {
    if (!open_) return fail(Errc::coordinator_lost, "the line is gone");
    answer_ = std::nullopt;
    waiting_for_ = line_->call(method, std::move(params));
    world_.after(limit, [this, id = waiting_for_, alive = std::weak_ptr<int>(alive_)] {
      if (!alive.expired() && waiting_for_ == id && id != 0) {
        close();
        finish(fail(Errc::coordinator_lost, "no answer"));
      }
    });
    while (!answer_) strand_->wait();
    return std::move(*answer_);
  }
  using Link::call;

  [[nodiscard]] bool is_open() const noexcept override { return open_; }
  [[nodiscard]] TimePoint now() const noexcept override { return world_.now(); }
  void close() {
    open_ = false;
    if (line_) line_->close();
  }

 private:
  void finish(Result<rpc::Json> result) {
    waiting_for_ = 0;
    answer_ = std::move(result);
    strand_->resume();
  }

  World& world_;
  std::unique_ptr<Strand>& strand_;
  std::shared_ptr<Line> line_;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
  rpc::CallId waiting_for_ = 0;
  std::optional<Result<rpc::Json>> answer_;
  bool open_ = false;
};

// --- the requester ------------------------------------------------------------------------------

SimRequester::SimRequester(World& world, RequesterPlan plan)
    : world_(world), plan_(std::move(plan)), link_(std::make_unique<SimLink>(world, strand_)) {}

SimRequester::~SimRequester() = default;

void SimRequester::start() {
  strand_ = std::make_unique<Strand>([this](Strand&) { work(); });
  strand_->resume();
}

void SimRequester::pause(Duration time) {
  world_.after(time, [this] { strand_->resume(); });
  strand_->wait();
}

void SimRequester::work() {
  if (link_->connect()) {
    requester::SessionLogic session(*link_, [](const std::string&) { return std::uint64_t{0}; });
    backup(session);
  }
  link_->close();
  over_ = true;
}

bool SimRequester::gives_up(requester::SessionLogic& session) {
  if (!link_->is_open()) return true;
  if (!world_.prng.chance(static_cast<std::uint64_t>(plan_.chaos), 100)) return false;
  switch (world_.prng.below(6)) {
    case 0: return true;  // Vanishes: its line ends with it.
    case 1: pause(1h); return false;
    case 2: static_cast<void>(session.abort_backup()); return false;
    default: pause(world_.random_upto(30s)); return false;
  }
}

void SimRequester::backup(requester::SessionLogic& session) {
  const auto id = session.initialize_for_backup();
  if (!id) return;
  end_.session = *id;
  if (!session.set_context(plan_.context)) return;
  const bool writers = has_writers(plan_.context);
  if (writers) {
    requester::BackupState state;
    state.component_mode = plan_.component_mode;
    static_cast<void>(session.set_backup_state(state));
    if (!session.gather_writer_metadata(60s)) return;
    const auto list = session.writer_metadata();
    for (std::size_t i = 0; list && plan_.component_mode && i < list->size(); ++i) {
      requester::ComponentRef component;
      component.instance_id = (*list)[i].instance_id;
      component.class_id = (*list)[i].class_id;
      component.type = (*list)[i].document.components.at(0).type;
      component.name = "data";
      static_cast<void>(session.add_component(component));
    }
  }
  if (gives_up(session)) return;
  const auto set = session.start_snapshot_set(plan_.queue);
  if (!set) return;
  end_.set = *set;
  for (const auto& name : plan_.volumes) {
    if (gives_up(session)) return;
    VolumeRef volume;
    volume.name = name;
    static_cast<void>(session.add_to_snapshot_set(volume, {}));
  }
  if (writers) {
    if (gives_up(session) || !session.prepare_for_backup(60s)) return;
    if (world_.prng.chance(1, 20)) {
      end_.without_copy = true;
      static_cast<void>(session.backup_complete(60s));
      return;
    }
  }
  if (gives_up(session)) return;
  requester::DoOptions options;
  options.writer_policy = plan_.policy;
  options.time_limit = world_.prng.chance(1, 8) ? milliseconds{2'000} : milliseconds{200'000};
  const auto done = session.do_snapshot_set(options);
  end_.asked = true;
  end_.created = done.has_value();
  if (!done) end_.error = done.error();
  if (end_.created) {
    end_.writers = session.last_report().writers;
    if (on_created) on_created(*this);
  }
  if (gives_up(session)) return;
  if (end_.created && writers) static_cast<void>(session.backup_complete(60s));
  static_cast<void>(gives_up(session));
}

}  // namespace umbra::sim
