// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "writer-sdk/src/context.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <exception>

#include "engine/documents/xml.h"
#include "engine/platform/path_device.h"

namespace umbra::writer {
namespace {

thread_local bool in_callback = false;

struct InCallback {
  InCallback() { in_callback = true; }
  ~InCallback() { in_callback = false; }
};

documents::EditPhase phase_of(Event event) {
  switch (event) {
    case Event::prepare_for_backup: return documents::EditPhase::prepare_for_backup;
    case Event::prepare_for_snapshot: return documents::EditPhase::prepare_for_snapshot;
    case Event::post_snapshot: return documents::EditPhase::post_snapshot;
    case Event::freeze:
    case Event::thaw:
    case Event::abort: return documents::EditPhase::frozen;
    case Event::pre_restore: return documents::EditPhase::pre_restore;
    case Event::post_restore: return documents::EditPhase::post_restore;
    default: return documents::EditPhase::read_only;
  }
}

bool is_writer_failure(Errc code) {
  switch (code) {
    case Errc::writererror_inconsistentsnapshot:
    case Errc::writererror_outofresources:
    case Errc::writererror_timeout:
    case Errc::writererror_retryable:
    case Errc::writererror_nonretryable:
    case Errc::writererror_partial_failure: return true;
    default: return false;
  }
}

Errc as_writer_failure(Errc code) {
  return is_writer_failure(code) ? code : Errc::writererror_nonretryable;
}

rpc::WriterReply veto(std::string message) {
  rpc::WriterReply reply;
  reply.ok = false;
  reply.failure = Errc::writererror_nonretryable;
  reply.message = std::move(message);
  return reply;
}

Status call(Writer& writer, Event event, Context& context, const SnapshotSetId& set) {
  switch (event) {
    case Event::prepare_for_backup: return writer.on_prepare_for_backup(context);
    case Event::prepare_for_snapshot: return writer.on_prepare_for_snapshot(context);
    case Event::freeze: return writer.on_freeze(context);
    case Event::thaw: writer.on_thaw(context); return {};
    case Event::post_snapshot: return writer.on_post_snapshot(context);
    case Event::abort: writer.on_abort(context); return {};
    case Event::backup_complete: return writer.on_backup_complete(context);
    case Event::backup_shutdown: writer.on_backup_shutdown(set); return {};
    case Event::pre_restore: return writer.on_pre_restore(context);
    case Event::post_restore: return writer.on_post_restore(context);
    case Event::identify:
    case Event::restore_end: break;
  }
  return {};
}

rpc::WriterReply identify(Writer& writer, const SessionId& session, const Surroundings& around) {
  WriterMetadataDocument document;
  document.identity = around.identity;
  MetadataBuilder builder(document);
  const Status described = writer.on_identify(builder);
  if (!described) return veto(described.error().context);
  if (const Status sound = documents::check(document); !sound) {
    return veto(sound.error().to_string());
  }
  rpc::WriterReply reply;
  reply.metadata = documents::to_xml(document);
  if (around.descriptions != nullptr && !session.is_nil()) {
    around.descriptions->keep(session, std::move(document));
  }
  return reply;
}

// The callback's result and what it reported, as a reply.
rpc::WriterReply reply_of(Context::Impl& impl, const Status& status) {
  rpc::WriterReply reply;
  reply.edits = std::move(impl.edits);
  // on_thaw returns nothing: what it reports is a failure to thaw.
  const bool failed_to_thaw =
      impl.event == Event::thaw && impl.failure && impl.failure->code != Errc::ok;
  reply.ok = status.has_value() && !failed_to_thaw;
  if (!status) {
    reply.failure = as_writer_failure(status.error().code);
    reply.message = status.error().context;
  }
  if (impl.failure && impl.failure->code == Errc::ok) {
    // "All is well" explains nothing where the callback failed; then its error says why.
    if (status) reply.application_code = impl.failure->application_code;
    if (status) reply.message = impl.failure->message;
  } else if (impl.failure) {
    reply.failure = as_writer_failure(impl.failure->code);
    reply.application_code = impl.failure->application_code;
    reply.message = impl.failure->message;
  }
  return reply;
}

bool may_see_metadata(Event event) {
  return event == Event::prepare_for_backup || event == Event::prepare_for_snapshot ||
         event == Event::post_snapshot;
}

rpc::WriterReply run(Writer& writer, const Start& start, const Surroundings& around) {
  if (start.event == Event::identify) return identify(writer, start.params.session_id, around);
  Context::Impl impl;
  impl.event = start.event;
  impl.params = start.params;
  impl.deadline = start.deadline;
  impl.clock = around.clock;
  impl.level = around.level;
  impl.stop = around.stop;
  if (around.descriptions != nullptr && may_see_metadata(start.event)) {
    impl.described = around.descriptions->of(start.params.session_id);
  }
  for (const rpc::AffectedVolume& volume : start.params.volumes) {
    impl.volumes.push_back({volume.volume_id, volume.name, volume.device, volume.snapshot_id});
  }
  if (start.params.component_mode && !start.params.components.empty()) {
    auto part = documents::parse_writer_components(start.params.components);
    if (!part) return veto("umbrad sent a part that cannot be read: " + part.error().context);
    impl.components = std::move(*part);
    for (const rpc::ComponentEdit& edit : start.edits) {
      // umbrad took them once already; what it would drop does not matter here either.
      static_cast<void>(documents::apply(*impl.components,
                                         {edit.op, edit.logical_path, edit.component, edit.values},
                                         documents::EditPhase::pre_restore));
    }
  }
  Context context(impl);
  return reply_of(impl, call(writer, start.event, context, start.params.set_id));
}

}  // namespace

bool inside_callback() noexcept { return in_callback; }

rpc::WriterReply run_callback(Writer& writer, const Start& start, const Surroundings& around) {
  const InCallback inside;
  try {
    return run(writer, start, around);
  } catch (const std::exception& error) {
    return veto(std::string(method_of(start.event)) + " threw: " + error.what());
  } catch (...) {
    return veto(std::string(method_of(start.event)) + " threw something unknown");
  }
}

// --- Descriptions -------------------------------------------------------------------------------

void Descriptions::keep(const SessionId& session, WriterMetadataDocument document) {
  auto kept = std::make_shared<const WriterMetadataDocument>(std::move(document));
  forget(session);
  const std::lock_guard lock(mutex_);
  if (kept_.size() >= kBackupsMax) kept_.pop_front();
  kept_.emplace_back(session, std::move(kept));
}

Descriptions::Document Descriptions::of(const SessionId& session) const {
  const std::lock_guard lock(mutex_);
  const auto found = std::find_if(kept_.begin(), kept_.end(),
                                  [&](const auto& entry) { return entry.first == session; });
  return found == kept_.end() ? nullptr : found->second;
}

void Descriptions::forget(const SessionId& session) {
  const std::lock_guard lock(mutex_);
  std::erase_if(kept_, [&](const auto& entry) { return entry.first == session; });
}

// --- Context ------------------------------------------------------------------------------------

const SessionId& Context::session_id() const noexcept { return impl_.params.session_id; }
const SnapshotSetId& Context::snapshot_set_id() const noexcept { return impl_.params.set_id; }
ApplicationLevel Context::application_level() const noexcept { return impl_.level; }
const WriterMetadataDocument* Context::metadata() const noexcept { return impl_.described.get(); }
std::uint32_t Context::snapshot_context() const noexcept { return impl_.params.context; }
BackupType Context::backup_type() const noexcept { return impl_.params.backup_type; }
bool Context::component_mode() const noexcept { return impl_.params.component_mode; }
bool Context::bootable_system_state() const noexcept { return impl_.params.bootable_system_state; }
bool Context::partial_file_support() const noexcept { return impl_.params.partial_file_support; }
RestoreType Context::restore_type() const noexcept { return impl_.params.restore_type; }
const std::vector<AffectedVolume>& Context::volumes() const noexcept { return impl_.volumes; }

bool Context::is_path_affected(const std::string& path) const {
  const std::uint64_t device = device_of_path(path);
  return device != 0 &&
         std::any_of(impl_.volumes.begin(), impl_.volumes.end(),
                     [&](const AffectedVolume& volume) { return volume.device == device; });
}

Result<std::string> Context::snapshot_device(const std::string& volume) const {
  if (impl_.event != Event::post_snapshot) {
    return fail(Errc::bad_state, "snapshot_device: only in on_post_snapshot");
  }
  const std::uint64_t device = device_of_path(volume);
  for (const rpc::AffectedVolume& member : impl_.params.volumes) {
    const bool meant = member.name == volume || member.volume_id.to_string() == volume ||
                       (device != 0 && member.device == device);
    if (meant) return member.snapshot_device;
  }
  return fail(Errc::object_not_found, "snapshot_device: '" + volume + "' is not in the set");
}

const WriterComponents* Context::components() const noexcept {
  return impl_.components ? &*impl_.components : nullptr;
}

Status Context::Impl::edit(const char* op, const ComponentName& component,
                           std::vector<std::string> values) {
  if (!components) {
    return fail(Errc::bad_state, std::string(op) + ": no components are selected here");
  }
  // The same rules are applied again by umbrad; here the application learns of a mistake at once.
  const documents::Edit change{op, component.logical_path, component.name, values};
  if (const Status done = documents::apply(*components, change, phase_of(event)); !done) {
    return done;
  }
  edits.push_back({op, component.logical_path, component.name, std::move(values)});
  return {};
}

Status Context::set_backup_metadata(const ComponentName& component, std::string metadata) {
  return impl_.edit("set_backup_metadata", component, {std::move(metadata)});
}
Status Context::set_backup_stamp(const ComponentName& component, std::string stamp) {
  return impl_.edit("set_backup_stamp", component, {std::move(stamp)});
}
Status Context::set_failure_message(const ComponentName& component, std::string text) {
  return impl_.edit("set_failure_message", component, {std::move(text)});
}
Status Context::set_component_failure(const ComponentName& component, const Failure& failure) {
  std::array<char, 16> code{};
  // The buffer holds any 32-bit number in this form, so truncation cannot happen.
  (void)std::snprintf(code.data(), code.size(), "0x%08X",
                      static_cast<unsigned>(as_writer_failure(failure.code)));
  return impl_.edit("set_failure", component,
                    {code.data(), std::to_string(failure.application_code), failure.message});
}
Status Context::add_partial_file(const ComponentName& component, const PartialFile& file) {
  return impl_.edit("add_partial_file", component,
                    {file.path, file.file_name, file.ranges, file.metadata});
}
Status Context::add_differenced_file(const ComponentName& component, const DifferencedFile& file) {
  return impl_.edit("add_differenced_file", component,
                    {file.path, file.pattern, file.recursive ? "yes" : "no",
                     std::to_string(file.last_modify_filetime)});
}
Status Context::set_restore_target(const ComponentName& component, RestoreTarget target) {
  constexpr std::array kWords{"undefined", "original", "alternate", "directed",
                              "original-location"};
  if (static_cast<std::size_t>(target) >= kWords.size()) {
    return fail(Errc::invalid_argument, "set_restore_target: there is no such target");
  }
  return impl_.edit("set_restore_target", component, {kWords.at(static_cast<std::size_t>(target))});
}
Status Context::add_directed_target(const ComponentName& component, const DirectedTarget& target) {
  return impl_.edit("add_directed_target", component,
                    {target.source_path, target.source_file, target.source_ranges,
                     target.destination_path, target.destination_file, target.destination_ranges});
}
Status Context::set_restore_metadata(const ComponentName& component, std::string metadata) {
  return impl_.edit("set_restore_metadata", component, {std::move(metadata)});
}

void Context::report_failure(Failure failure) { impl_.failure = std::move(failure); }

bool Context::stop_requested() const noexcept {
  return impl_.stop != nullptr && impl_.stop->stop.load(std::memory_order_relaxed);
}

bool Context::is_shutting_down() const noexcept {
  return impl_.stop != nullptr && impl_.stop->shutting_down.load(std::memory_order_relaxed);
}

std::chrono::milliseconds Context::time_left() const noexcept {
  if (impl_.deadline == TimePoint::max()) return std::chrono::milliseconds::max();
  const auto left =
      std::chrono::floor<std::chrono::milliseconds>(impl_.deadline - impl_.clock->now());
  return std::max(left, std::chrono::milliseconds{0});
}

// --- MetadataBuilder ----------------------------------------------------------------------------

void MetadataBuilder::set_backup_schema(std::uint32_t schema) noexcept {
  document_.backup_schema = schema;
}

Status MetadataBuilder::set_restore_rules(RestoreRules rules) {
  if (document_.restore) return fail(Errc::bad_state, "set_restore_rules: they are set already");
  const bool needs_service = rules.method == RestoreMethod::stop_restore_start ||
                             rules.method == RestoreMethod::restore_stop_start;
  if (needs_service && rules.service.empty()) {
    return fail(Errc::invalid_argument, "set_restore_rules: the method needs a service to stop");
  }
  document_.restore = std::move(rules);
  return {};
}

Status MetadataBuilder::add_component(ComponentInfo component) {
  if (const Status sound = documents::check_component(component); !sound) return sound;
  for (const ComponentDependency& dependency : component.dependencies) {
    if (dependency.writer == document_.identity.class_id) {
      return fail(Errc::invalid_argument, "add_component: a dependency on the writer itself");
    }
  }
  const std::string path = documents::full_path(component.logical_path, component.name);
  for (const ComponentInfo& present : document_.components) {
    if (documents::same_path(documents::full_path(present.logical_path, present.name), path)) {
      return fail(Errc::object_already_exists, "add_component: '" + path + "' exists already");
    }
  }
  document_.components.push_back(std::move(component));
  return {};
}

Status MetadataBuilder::add_alternate_location_mapping(AlternateLocation location) {
  if (!document_.restore) {
    return fail(Errc::object_not_found,
                "add_alternate_location_mapping: set_restore_rules() comes first");
  }
  if (!location.destination.starts_with('/')) {
    return fail(Errc::invalid_argument, "add_alternate_location_mapping: destination '" +
                                            location.destination + "' must be absolute");
  }
  document_.restore->alternate_locations.push_back(std::move(location));
  return {};
}

Status MetadataBuilder::change(const char* call, const ComponentName& name,
                               const std::function<Status(ComponentInfo&)>& edit) {
  const std::string path = documents::full_path(name.logical_path, name.name);
  for (ComponentInfo& component : document_.components) {
    if (!documents::same_path(documents::full_path(component.logical_path, component.name), path)) {
      continue;
    }
    ComponentInfo changed = component;
    if (Status done = edit(changed); !done) return fail(done.error(), call);
    if (Status sound = documents::check_component(changed); !sound) {
      return fail(sound.error(), call);
    }
    component = std::move(changed);
    return {};
  }
  return fail(Errc::object_not_found,
              std::string(call) + ": add_component() of '" + path + "' comes first");
}

Status MetadataBuilder::add_files_to_file_group(const ComponentName& group, FileSet files) {
  return change("add_files_to_file_group", group, [&](ComponentInfo& component) -> Status {
    if (component.type != ComponentType::file_group) {
      return fail(Errc::invalid_argument, "the component is no file group");
    }
    component.files.push_back(std::move(files));
    return {};
  });
}

Status MetadataBuilder::add_database_files(const ComponentName& database, FileSet files) {
  return change("add_database_files", database, [&](ComponentInfo& component) -> Status {
    if (component.type != ComponentType::database) {
      return fail(Errc::invalid_argument, "the component is no database");
    }
    component.files.push_back(std::move(files));
    return {};
  });
}

Status MetadataBuilder::add_database_log_files(const ComponentName& database, FileSet files) {
  return change("add_database_log_files", database, [&](ComponentInfo& component) -> Status {
    if (component.type != ComponentType::database) {
      return fail(Errc::invalid_argument, "the component is no database");
    }
    component.log_files.push_back(std::move(files));
    return {};
  });
}

Status MetadataBuilder::add_component_dependency(const ComponentName& component,
                                                 ComponentDependency dependency) {
  return change("add_component_dependency", component, [&](ComponentInfo& changed) -> Status {
    if (dependency.writer == document_.identity.class_id) {
      return fail(Errc::invalid_argument, "a dependency on the writer itself");
    }
    changed.dependencies.push_back(std::move(dependency));
    return {};
  });
}

std::string MetadataBuilder::save_as_xml() const { return documents::to_xml(document_); }

Status MetadataBuilder::add_exclude_files(FileSet files) {
  if (const Status sound = documents::check_file_set(files); !sound) return sound;
  document_.excludes.push_back(std::move(files));
  return {};
}

Status MetadataBuilder::add_exclude_files_from_snapshot(FileSet files) {
  if (const Status sound = documents::check_file_set(files); !sound) return sound;
  document_.excludes_from_snapshot.push_back(std::move(files));
  return {};
}

// --- Writer: events that need not be answered ---------------------------------------------------

Writer::~Writer() = default;
Status Writer::on_identify(MetadataBuilder& metadata) {
  static_cast<void>(metadata);
  return {};
}
Status Writer::on_prepare_for_backup(Context& context) {
  static_cast<void>(context);
  return {};
}
Status Writer::on_post_snapshot(Context& context) {
  static_cast<void>(context);
  return {};
}
Status Writer::on_backup_complete(Context& context) {
  static_cast<void>(context);
  return {};
}
void Writer::on_backup_shutdown(const SnapshotSetId& set) noexcept { static_cast<void>(set); }
Status Writer::on_pre_restore(Context& context) {
  static_cast<void>(context);
  return {};
}
Status Writer::on_post_restore(Context& context) {
  static_cast<void>(context);
  return {};
}

}  // namespace umbra::writer
