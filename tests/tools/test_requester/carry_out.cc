// SPDX-License-Identifier: Apache-2.0

#include "tests/tools/test_requester/carry_out.h"

#include <utility>

#include "umbra/requester/backup_session.h"
#include "umbra/requester/bundle.h"
#include "umbra/requester/restore_session.h"

namespace umbra::test_requester {
namespace {

using requester::BackupSession;
using requester::ComponentRef;
using requester::RestoreSession;

template <class T>
Status status_of(const Result<T>& result) {
  if (!result) return fail(result.error());
  return {};
}

struct Step {
  const char* name;
  std::function<Status()> run;
  bool asks = false;  // How the writers fare is of interest after it.
};

// What backups and restores have in common.
template <class Session>
class Runner {
 public:
  Runner(const Plan& plan, const Hooks& hooks, Session& session)
      : plan_(plan), hooks_(hooks), session_(session) {}

  std::optional<Outcome> run(const std::vector<Step>& steps) {
    for (const auto& step : steps) {
      const auto done = step.run();
      if (step.asks) ask(step.name);
      if (!done) {
        outcome_.failed_at = step.name;
        outcome_.error = done.error();
        hooks_.say(std::string("failed at ") + step.name + ": " + done.error().to_string());
        break;
      }
      hooks_.say(std::string("at ") + step.name);
      if (!hooks_.go_on(step.name)) return std::nullopt;
    }
    if (auto document = session_.backup_components()) outcome_.document = std::move(*document);
    describe();
    return std::move(outcome_);
  }

 protected:
  Status choose_writers() {
    if (!plan_.enable.empty())
      if (auto status = session_.enable_writer_classes(plan_.enable); !status) return status;
    if (plan_.disable.empty()) return {};
    return session_.disable_writer_classes(plan_.disable);
  }

  Status gather() {
    if (auto status = session_.gather_writer_metadata(); !status) return status;
    auto list = session_.writer_metadata();
    if (!list) return fail(list.error());
    writers_ = std::move(*list);
    for (const auto& writer : writers_) outcome_.names[writer.class_id] = writer.name;
    return {};
  }

  const requester::WriterMetadata* find(const std::string& wanted) const {
    for (const auto& writer : writers_)
      if (is_writer(wanted, writer.name, writer.class_id)) return &writer;
    return nullptr;
  }

  // How the writer of a component is named: by class, and its live instance.
  Result<ComponentRef> ref_of(const ComponentPlan& part) const {
    const auto* const writer = find(part.writer);
    if (writer == nullptr)
      return fail(Errc::object_not_found, "no writer '" + part.writer + "' has answered");
    for (const auto& component : writer->document.components)
      if (component.logical_path == part.logical_path && component.name == part.name)
        return ComponentRef{writer->instance_id, writer->class_id, component.type,
                            part.logical_path, part.name};
    return fail(Errc::object_not_found,
                "writer '" + part.writer + "' declares no component '" + part.name + "'");
  }

  const Plan& plan_;
  const Hooks& hooks_;
  Session& session_;
  std::vector<requester::WriterMetadata> writers_;
  Outcome outcome_;

 private:
  void ask(const std::string& step) {
    auto list = session_.gather_writer_status();
    if (!list) return;
    for (const auto& writer : *list) {
      hooks_.say("writer " + writer.name + " " + std::string(vss_name(writer.state)) + " " +
                 std::string(code_name(writer.failure)) + " " +
                 std::to_string(writer.application_code) + " " + writer.message);
    }
    outcome_.statuses[step] = std::move(*list);
    outcome_.last_step = step;
  }

  void describe() const {
    for (const auto& part : outcome_.document.writers) {
      const auto name = outcome_.names.find(part.class_id);
      for (const auto& component : part.components) {
        hooks_.say("component " +
                   (name == outcome_.names.end() ? part.class_id.to_string() : name->second) + " " +
                   component.logical_path + "\\" + component.name + " stamp '" +
                   component.backup_stamp.value_or("") + "' metadata '" +
                   component.backup_metadata.value_or("") + "'");
      }
    }
  }
};

// --- a backup
// -------------------------------------------------------------------------------------

class Backup : public Runner<BackupSession> {
 public:
  using Runner::Runner;

  std::optional<Outcome> run() {
    std::vector<Step> steps{
        {"initialize", [&] { return status_of(session_.initialize_for_backup()); }},
        {"configure", [&] { return configure(); }},
        {"gather", [&] { return gather(); }},
    };
    if (!plan_.components.empty()) steps.push_back({"components", [&] { return select(); }});
    steps.push_back({"start", [&] { return status_of(session_.start_snapshot_set()); }});
    steps.push_back({"add", [&] { return add_volumes(); }});
    if (has_writers(plan_.context))
      steps.push_back({"prepare", [&] { return session_.prepare_for_backup(); }, true});
    steps.push_back({"do", [&] { return make(); }, true});
    if (!plan_.components.empty()) steps.push_back({"succeeded", [&] { return succeed(); }});
    if (has_writers(plan_.context))
      steps.push_back({"complete", [&] { return session_.backup_complete(); }, true});
    if (!plan_.save_to.empty()) steps.push_back({"save", [&] { return save(); }});
    return Runner::run(steps);
  }

 private:
  Status configure() {
    if (auto status = session_.set_context(plan_.context); !status) return status;
    if (auto status = session_.set_backup_state(plan_.state); !status) return status;
    return choose_writers();
  }

  Status select() {
    for (const auto& part : plan_.components) {
      const auto ref = ref_of(part);
      if (!ref) return fail(ref.error());
      if (auto status = session_.add_component(*ref); !status) return status;
      if (part.backup_options)
        if (auto set = session_.set_backup_options(*ref, *part.backup_options); !set) return set;
      const auto stamp = stamp_of(part, *ref);
      if (!stamp) return fail(stamp.error());
      if (*stamp)
        if (auto set = session_.set_previous_backup_stamp(*ref, **stamp); !set) return set;
    }
    return {};
  }

  // The stamp that the writer left in the backup on which this one is based.
  static Result<std::optional<std::string>> stamp_of(const ComponentPlan& part,
                                                     const ComponentRef& ref) {
    if (part.previous_stamp_from.empty()) return part.previous_stamp;
    const auto bundle = requester::load_bundle(part.previous_stamp_from);
    if (!bundle) return fail(bundle.error());
    for (const auto& writer : bundle->components.writers)
      for (const auto& component : writer.components)
        if (writer.class_id == ref.class_id && component.name == ref.name &&
            component.logical_path == ref.logical_path)
          return component.backup_stamp;
    return fail(Errc::object_not_found,
                "component '" + ref.name + "' is not in " + part.previous_stamp_from);
  }

  Status add_volumes() {
    for (const auto& name : plan_.volumes) {
      const auto volume = requester::resolve_volume(name);
      if (!volume) return fail(volume.error());
      const auto added = session_.add_to_snapshot_set(*volume);
      if (!added) return fail(added.error());
    }
    return {};
  }

  Status make() {
    requester::DoOptions options;
    options.writer_policy = plan_.policy;
    std::string last;
    options.on_progress = [this, &last](const requester::Progress& progress) {
      if (progress.phase.empty() || progress.phase == last) return;
      last = progress.phase;
      hooks_.say("phase " + last);
    };
    if (auto status = session_.do_snapshot_set(options); !status) return status;
    const auto list = session_.list_snapshots();
    if (!list) return fail(list.error());
    for (const auto& copy : list->snapshots)
      hooks_.say("snapshot " + copy.snapshot_id.to_string() + " " + copy.device_object);
    return {};
  }

  Status succeed() {
    for (const auto& part : plan_.components) {
      const auto ref = ref_of(part);
      if (!ref) return fail(ref.error());
      if (auto set = session_.set_backup_succeeded(*ref, part.succeeded); !set) return set;
    }
    return {};
  }

  Status save() {
    const auto bundle = session_.make_bundle();
    if (!bundle) return fail(bundle.error());
    return requester::save_bundle(*bundle, plan_.save_to);
  }
};

// --- a restore
// ------------------------------------------------------------------------------------

// The events of a restore and what is said in them. Files are left alone.
class Restore : public Runner<RestoreSession> {
 public:
  using Runner::Runner;

  std::optional<Outcome> run() {
    return Runner::run({
        {"initialize", [&] { return initialize(); }},
        {"configure", [&] { return configure(); }},
        {"gather", [&] { return gather(); }},
        {"select", [&] { return select(); }},
        {"pre_restore", [&] { return session_.pre_restore(); }, true},
        {"report", [&] { return report(); }},
        {"post_restore", [&] { return session_.post_restore(); }, true},
    });
  }

 private:
  Status initialize() {
    const auto bundle = requester::load_bundle(plan_.from);
    if (!bundle) return fail(bundle.error());
    return status_of(session_.initialize_for_restore(bundle->components));
  }

  Status configure() {
    if (plan_.restore_type != RestoreType::undefined)
      if (auto set = session_.set_restore_state(plan_.restore_type); !set) return set;
    return choose_writers();
  }

  // By class: a restore goes to the instance that the component is of.
  Result<ComponentRef> component(const ComponentPlan& part) const {
    auto ref = ref_of(part);
    if (ref) ref->instance_id = {};
    return ref;
  }

  Status select() {
    for (const auto& part : plan_.components) {
      const auto ref = component(part);
      if (!ref) return fail(ref.error());
      if (auto done = select(part, *ref); !done) return done;
    }
    return {};
  }

  Status select(const ComponentPlan& part, const ComponentRef& ref) {
    if (auto set = session_.set_selected_for_restore(ref); !set) return set;
    for (const auto& sub : part.subcomponents)
      if (auto set = session_.add_restore_subcomponent(ref, sub); !set) return set;
    if (part.restore_options)
      if (auto set = session_.set_restore_options(ref, *part.restore_options); !set) return set;
    if (part.authoritative)
      if (auto set = session_.set_authoritative_restore(ref, true); !set) return set;
    if (part.roll_forward)
      if (auto set = session_.set_roll_forward(ref, *part.roll_forward); !set) return set;
    if (!part.restore_name.empty())
      if (auto set = session_.set_restore_name(ref, part.restore_name); !set) return set;
    for (const auto& place : part.new_targets)
      if (auto set = session_.add_new_target(ref, place); !set) return set;
    if (part.more_follow)
      if (auto set = session_.set_additional_restores(ref, true); !set) return set;
    return {};
  }

  Status report() {
    for (const auto& part : plan_.components) {
      const auto ref = component(part);
      if (!ref) return fail(ref.error());
      for (const auto& place : part.alternate_locations)
        if (auto set = session_.add_alternative_location_mapping(*ref, place); !set) return set;
      if (part.status == FileRestoreStatus::undefined) continue;  // Nothing is said.
      if (auto set = session_.set_file_restore_status(*ref, part.status); !set) return set;
    }
    return {};
  }
};

template <class Session, class Kind>
std::optional<Outcome> with_session(const Plan& plan, const requester::ConnectOptions& connect,
                                    const Hooks& hooks) {
  auto session = Session::connect(connect);
  if (session) return Kind(plan, hooks, *session).run();
  Outcome outcome;
  outcome.failed_at = "connect";
  outcome.error = session.error();
  return outcome;
}

}  // namespace

std::optional<Outcome> carry_out(const Plan& plan, const requester::ConnectOptions& connect,
                                 const Hooks& hooks) {
  if (plan.restore) return with_session<RestoreSession, Restore>(plan, connect, hooks);
  return with_session<BackupSession, Backup>(plan, connect, hooks);
}

}  // namespace umbra::test_requester
