// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "requester-sdk/src/restore_run.h"

#include <algorithm>
#include <filesystem>
#include <list>
#include <set>

#include "engine/documents/file_rules.h"
#include "engine/documents/restore_rules.h"
#include "engine/documents/rules.h"
#include "engine/documents/selection.h"
#include "engine/platform/log.h"
#include "requester-sdk/src/convert.h"

namespace umbra::requester {
namespace {

constexpr std::chrono::milliseconds kProgressInterval{100};

using documents::full_path;
using documents::same_path;

std::string path_of(const auto& component) {
  return full_path(component.logical_path, component.name);
}

std::string described(const ComponentRef& ref) { return "component '" + path_of(ref) + "'"; }

std::string without_slash(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

bool is_below(const std::string& above, const std::string& path) {
  return above == "/" || path == above || path.starts_with(above + "/");
}

bool is_same_set(const FileSet& files, const AlternateLocation& location) {
  return files.path == location.path && files.pattern == location.pattern &&
         files.recursive == location.recursive;
}

AlternateLocation location_of(const FileSet& files, std::string destination) {
  return {files.path, files.pattern, files.recursive, std::move(destination)};
}

bool exists(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::symlink_status(path, ignored).type() !=
         std::filesystem::file_type::not_found;
}

}  // namespace

RestoreRun::RestoreRun(RestoreLogic& logic, const BackupBundle& bundle,
                       const RestoreOptions& options, const std::atomic<bool>& stop)
    : logic_(logic),
      bundle_(bundle),
      options_(options),
      stop_(stop),
      variables_(machine_variables()),
      begin_(logic.link().now()) {}

Status RestoreRun::run() {
  if (Status done = choose(); !done) return done;
  if (Status done = mount_sources(); !done) return done;
  if (Status done = list(); !done) return done;
  if (options_.with_writers) {
    if (Status done = meet_writers(); !done) return done;
  }
  if (Status done = place(true); !done || options_.dry_run) return done;
  if (stop_) return fail(Errc::async_cancelled, "cancelled by the caller");
  if (!uses_writers()) return put_files();
  tell("pre_restore");
  if (Status done = logic_.pre_restore(options_.time_limit); !done) return done;
  Status files = prepare_writers();
  if (files) files = put_files();
  return finish(std::move(files));
}

RestoreReport RestoreRun::take_report() {
  for (const Part& part : parts_) {
    RestoredComponent& entry = report_.components.emplace_back();
    entry.class_id = part.ref.class_id;
    entry.writer = part.writer->identity.name;
    entry.logical_path = part.ref.logical_path;
    entry.name = part.ref.name;
    entry.with_writer = part.with_writer;
    entry.status = options_.dry_run ? FileRestoreStatus::undefined : part.status;
    entry.pre_restore_failure = part.component.pre_restore_failure;
    entry.post_restore_failure = part.component.post_restore_failure;
    for (const Placement& placement : part.placements) {
      if (placement.file.kind == FileKind::directory) continue;
      entry.files.push_back({placement.file.original, placement.destination, placement.file.bytes,
                             options_.dry_run && exists(placement.destination)});
      entry.bytes += placement.file.bytes;
    }
    const auto& rules = part.writer->restore;
    const bool reboot =
        rules && (rules->reboot_required || rules->method == RestoreMethod::restore_at_reboot);
    report_.reboot_required = report_.reboot_required || (reboot && part.placements.size() > 0);
  }
  return std::move(report_);
}

void RestoreRun::tell(std::string_view phase) {
  if (!options_.on_progress) return;
  const TimePoint now = logic_.link().now();
  if (progress_.phase == phase && now - told_ < kProgressInterval) return;
  told_ = now;
  progress_.phase = phase;
  progress_.elapsed = std::chrono::duration_cast<std::chrono::milliseconds>(now - begin_);
  options_.on_progress(progress_);
}

bool RestoreRun::uses_writers() const {
  return std::any_of(parts_.begin(), parts_.end(), [](const Part& p) { return p.with_writer; });
}

// --- which components and files
// -------------------------------------------------------------------

Status RestoreRun::choose() {
  for (const WriterComponents& owner : bundle_.components.writers) {
    for (const BackupComponent& component : owner.components) {
      const RestoreComponent* wish = nullptr;
      for (const RestoreComponent& one : options_.components) {
        if (one.class_id == owner.class_id && same_path(path_of(one), path_of(component)))
          wish = &one;
      }
      if (wish == nullptr && !options_.components.empty()) continue;
      if (Status added = add_part(owner, component, wish); !added) return added;
    }
  }
  for (const RestoreComponent& wish : options_.components) {
    const bool found = std::any_of(parts_.begin(), parts_.end(),
                                   [&](const Part& part) { return part.wish == &wish; });
    if (!found) {
      return fail(Errc::object_not_found, "component '" + path_of(wish) + "' is not in the backup");
    }
  }
  if (parts_.empty()) return fail(Errc::object_not_found, "the backup has no components");
  return {};
}

Status RestoreRun::add_part(const WriterComponents& owner, const BackupComponent& component,
                            const RestoreComponent* wish) {
  Part part;
  part.ref = {{}, owner.class_id, component.type, component.logical_path, component.name};
  part.instance_name = owner.instance_name;
  part.component = component;
  part.wish = wish;
  part.writer = metadata_of(bundle_, owner);
  if (part.writer == nullptr) {
    return fail(Errc::invalid_xml_document,
                "the metadata of the writer of " + described(part.ref) + " was not kept");
  }
  if (component.succeeded == false) {
    return fail(Errc::not_supported, described(part.ref) + ": its backup did not succeed");
  }
  if (Status chosen = choose_sets(part); !chosen) return chosen;
  parts_.push_back(std::move(part));
  return {};
}

Status RestoreRun::choose_sets(Part& part) const {
  static const std::vector<RestoreSubcomponent> all;
  const auto chosen = documents::restore_set(*part.writer, part.component,
                                             part.wish != nullptr ? part.wish->subcomponents : all);
  if (!chosen) return fail(chosen.error());
  const BackupType type =
      documents::effective_type(part.writer->backup_schema, bundle_.components.backup_type);
  for (const std::size_t i : *chosen) {
    const ComponentInfo& info = part.writer->components[i];
    for (const auto* sets : {&info.files, &info.log_files}) {
      for (const FileSet& files : *sets) {
        if (!documents::is_backed_up(files, type)) continue;
        if (Status added = add_set(part, files); !added) return added;
      }
    }
  }
  // Files of which ranges were to be backed up: a copy has them whole.
  for (const PartialFile& partial : part.component.partial_files) {
    auto directory = documents::expanded(partial.path, variables_);
    if (!directory) return fail(directory.error(), described(part.ref));
    const bool covered = std::any_of(part.sets.begin(), part.sets.end(), [&](const FileSet& set) {
      return documents::covers(set, *directory, partial.file_name);
    });
    if (covered) continue;
    const FileSet files{.path = partial.path, .pattern = partial.file_name};
    if (Status added = add_set(part, files); !added) return added;
  }
  return {};
}

Status RestoreRun::add_set(Part& part, const FileSet& declared) const {
  FileSet files = declared;
  for (std::string* path : {&files.path, &files.alternate_path}) {
    if (path->empty()) continue;
    auto whole = documents::expanded(*path, variables_);
    if (!whole) return fail(whole.error(), described(part.ref));
    *path = std::move(*whole);
  }
  part.sets.push_back(std::move(files));
  part.declared.push_back(declared);
  return {};
}

Status RestoreRun::list() {
  tell("listing");
  for (Part& part : parts_) {
    for (const FileSet& set : part.sets) {
      auto files = list_files(tree_, set, part.writer->excludes);
      if (!files) return fail(files.error(), described(part.ref));
      part.files.push_back(std::move(*files));
    }
  }
  return {};
}

// --- where they can be read
// -----------------------------------------------------------------------

bool RestoreRun::is_needed(const BundleVolume& volume) const {
  for (const Part& part : parts_) {
    for (const FileSet& set : part.sets) {
      std::string path = without_slash(set.alternate_path.empty() ? set.path : set.alternate_path);
      for (const ResolvedPath& entry : bundle_.resolved_paths)
        if (without_slash(entry.path) == path) path = without_slash(entry.real);
      for (const MountPoint& mount : volume.mounts) {
        const std::string point = without_slash(mount.point);
        if (is_below(point, path) || (set.recursive && is_below(path, point))) return true;
      }
    }
  }
  return false;
}

Status RestoreRun::mount_sources() {
  for (const ResolvedPath& entry : bundle_.resolved_paths)
    tree_.add_resolved(entry.path, entry.real);
  if (!options_.source_directory.empty()) {
    tree_.add("/", options_.source_directory);
    return {};
  }
  tell("mounting");
  auto reply = logic_.link().call<rpc::SnapshotList>("query.snapshots", rpc::QuerySnapshots{});
  if (!reply) return fail(reply.error());
  const SnapshotList list = from_wire(std::move(*reply));
  for (const SnapshotId& id : options_.snapshots) {
    if (auto found = find_snapshot(list, id); !found) return fail(found.error());
  }
  for (const BundleVolume& volume : bundle_.volumes) {
    if (!is_needed(volume)) continue;
    const auto directory = mounted(volume, list);
    if (!directory) return fail(directory.error(), "volume '" + volume.name + "'");
    for (const MountPoint& mount : volume.mounts) {
      tree_.add(mount.point, mount.root == "/" ? *directory : *directory + mount.root);
    }
  }
  return {};
}

Result<std::string> RestoreRun::mounted(const BundleVolume& volume, const SnapshotList& list) {
  SnapshotId id = volume.snapshot_id;
  for (const SnapshotProperties& snapshot : list.snapshots) {
    const auto& chosen = options_.snapshots;
    const bool is_chosen =
        std::find(chosen.begin(), chosen.end(), snapshot.snapshot_id) != chosen.end();
    if (is_chosen && snapshot.volume_id == volume.volume_id) id = snapshot.snapshot_id;
  }
  const auto snapshot = find_snapshot(list, id);
  if (!snapshot) return fail(snapshot.error());
  if (snapshot->lost) return fail(Errc::snapshot_lost, "snapshot " + id.to_string());
  if (!snapshot->exposed_path.empty()) return snapshot->exposed_path;
  auto reply =
      logic_.link().call<rpc::MountedSnapshot>("snapshot.mount", rpc::MountSnapshot{id, {}});
  if (!reply) return fail(reply.error(), "cannot mount snapshot " + id.to_string());
  mounted_.push_back(id);
  return std::move(reply->path);
}

void RestoreRun::unmount() noexcept {
  for (const SnapshotId& id : mounted_) {
    const auto done =
        logic_.link().call<rpc::Nothing>("snapshot.unmount", rpc::UnmountSnapshot{id});
    static_cast<void>(done);  // It stays mounted; nothing depends on it.
  }
  mounted_.clear();
}

// --- the writers
// ----------------------------------------------------------------------------------

Status RestoreRun::meet_writers() {
  tell("gathering");
  const auto session = logic_.initialize_for_restore(bundle_.components);
  if (!session) return fail(session.error());
  if (Status done = logic_.set_restore_state(RestoreType::by_copy); !done) return done;
  if (Status done = logic_.gather_writer_metadata(RestoreSession::kGatherLimit); !done) return done;
  const auto live = logic_.writer_metadata();
  if (!live) return fail(live.error());
  for (Part& part : parts_) {
    if (Status done = decide_about_writer(part, *live); !done) return done;
  }
  for (const Part& part : parts_) {
    if (!part.with_writer) continue;
    if (Status done = select(part); !done) return fail(done.error(), described(part.ref));
  }
  return {};
}

Status RestoreRun::decide_about_writer(Part& part, const std::vector<WriterMetadata>& live) {
  if (part.wish != nullptr) part.ref.instance_id = part.wish->instance_id;
  const bool anywhere_else =
      !part.sets.empty() && std::all_of(part.sets.begin(), part.sets.end(), [&](const auto& set) {
        return relocated(set.path).has_value();
      });
  const bool moved = std::any_of(part.sets.begin(), part.sets.end(),
                                 [&](const auto& set) { return relocated(set.path).has_value(); });
  const auto& rules = part.writer->restore;
  if (rules && rules->writer_restore == WriterRestore::never) return {};
  const auto found = std::find_if(live.begin(), live.end(), [&](const WriterMetadata& one) {
    if (!part.ref.instance_id.is_nil()) return one.instance_id == part.ref.instance_id;
    return one.class_id == part.ref.class_id &&
           (part.instance_name.empty() ||
            one.document.identity.instance_name == part.instance_name);
  });
  const std::string name = "writer '" + part.writer->identity.name + "'";
  if (found == live.end()) {
    if (!anywhere_else) {
      return fail(Errc::object_not_found,
                  name + " of " + described(part.ref) +
                      " is not running; start it, or restore without writers");
    }
    report_.notes.push_back(name + " is not running; " + described(part.ref) +
                            " is copied without it");
    return {};
  }
  if (moved && (found->document.backup_schema & backup_schema::kNewTarget) == 0) {
    if (!anywhere_else) {
      return fail(Errc::not_supported, name + " does not support other places");
    }
    report_.notes.push_back(name + " does not support other places; " + described(part.ref) +
                            " is copied without it");
    return {};
  }
  part.with_writer = true;
  return {};
}

Status RestoreRun::select(const Part& part) {
  if (Status done = logic_.set_selected_for_restore(part.ref, true); !done) return done;
  if (part.wish != nullptr) {
    for (const RestoreSubcomponent& sub : part.wish->subcomponents) {
      if (Status done = logic_.add_restore_subcomponent(part.ref, sub); !done) return done;
    }
    if (!part.wish->options.empty()) {
      if (Status done = logic_.set_restore_options(part.ref, part.wish->options); !done)
        return done;
    }
  }
  if (options_.additional_restores) {
    if (Status done = logic_.set_additional_restores(part.ref, true); !done) return done;
  }
  for (std::size_t i = 0; i < part.sets.size(); ++i) {
    const auto target = relocated(part.sets[i].path);
    if (!target) continue;
    Status done = logic_.add_new_target(part.ref, location_of(part.declared[i], *target));
    if (!done) return done;
  }
  return {};
}

// After PreRestore: did all agree, and what do they want?
Status RestoreRun::prepare_writers() {
  if (Status read = reread(); !read) return read;
  return check_writers("pre_restore");
}

Status RestoreRun::check_writers(std::string_view event) {
  auto list = logic_.gather_writer_status();
  if (!list) return fail(list.error());
  report_.writers.clear();
  Status first;
  for (WriterStatus& writer : *list) {
    const bool concerned = std::any_of(parts_.begin(), parts_.end(), [&](const Part& part) {
      return part.with_writer && part.ref.class_id == writer.class_id;
    });
    if (!concerned) continue;
    const bool failed = is_failed(writer.state) || writer.failure != Errc::ok;
    if (failed && first) {
      const Errc code = writer.failure == Errc::ok ? Errc::unexpected_writer_error : writer.failure;
      first = fail(code, "writer '" + printable(writer.name) + "', phase " + std::string(event) +
                             ": " + printable(writer.message));
    }
    report_.writers.push_back(std::move(writer));
  }
  return first;
}

Status RestoreRun::reread() {
  const auto document = logic_.backup_components();
  if (!document) return fail(document.error());
  for (Part& part : parts_) {
    for (const WriterComponents& owner : document->writers) {
      if (owner.class_id != part.ref.class_id) continue;
      for (const BackupComponent& component : owner.components)
        if (same_path(path_of(component), path_of(part.ref))) part.component = component;
    }
  }
  return {};
}

// --- where files go
// -------------------------------------------------------------------------------

std::optional<std::string> RestoreRun::relocated(const std::string& path) const {
  const std::string wanted = without_slash(path);
  const Relocation* best = nullptr;
  for (const Relocation& one : options_.relocations) {
    if (!is_below(without_slash(one.from), wanted)) continue;
    if (best == nullptr || one.from.size() > best->from.size()) best = &one;
  }
  if (best == nullptr) return std::nullopt;
  const std::string from = without_slash(best->from);
  const std::string to = without_slash(best->to);
  return (to == "/" ? "" : to) + (from == "/" ? wanted : wanted.substr(from.size()));
}

Status RestoreRun::place(bool before) {
  for (Part& part : parts_) {
    part.placements.clear();
    part.used.clear();
    if (Status done = place_part(part, before); !done)
      return fail(done.error(), described(part.ref));
    // File sets of real writers repeat each other now and then.
    std::set<std::pair<std::string, std::string>> seen;
    std::erase_if(part.placements, [&](const Placement& one) {
      return one.from.empty() && !seen.insert({one.file.source, one.destination}).second;
    });
  }
  return {};
}

Status RestoreRun::place_part(Part& part, bool before) {
  std::vector<std::size_t> by_rules;
  for (std::size_t i = 0; i < part.sets.size(); ++i) {
    if (options_.only_relocated && !relocated(part.sets[i].path)) {
      return fail(Errc::invalid_argument, "no new place for '" + part.sets[i].path + "' was given");
    }
    if (!relocated(part.sets[i].path)) {
      by_rules.push_back(i);
    } else if (Status done = place_relocated(part, i); !done) {
      return done;
    }
  }
  return by_rules.empty() ? Status() : place_by_rules(part, by_rules, before);
}

Status RestoreRun::place_relocated(Part& part, std::size_t set) {
  const std::string base = *relocated(part.sets[set].path);
  if (!options_.replace && any_exists(part, set, base)) {
    return fail(Errc::object_already_exists,
                "files are in '" + base + "' already; say that they may be replaced");
  }
  put_set(part, set, base);
  return {};
}

Status RestoreRun::place_by_rules(Part& part, const std::vector<std::size_t>& sets, bool before) {
  const auto& rules = part.writer->restore;
  documents::PlaceFacts facts;
  facts.method = rules ? rules->method : RestoreMethod::undefined;
  if (!before) facts.target = part.component.restore_target;
  facts.any_exists = std::any_of(sets.begin(), sets.end(), [&](std::size_t set) {
    return any_exists(part, set, part.sets[set].path);
  });
  facts.all_mapped = std::all_of(sets.begin(), sets.end(),
                                 [&](std::size_t set) { return mapping_of(part, set) != nullptr; });
  // What is in the way may still be moved away by the writer.
  const bool may_go =
      facts.method == RestoreMethod::restore_if_not_there && before && part.with_writer;
  facts.may_replace = options_.replace || may_go;
  facts.replaces_in_use = true;  // A file that is in use is renamed over.
  const documents::PlaceDecision decision = documents::decide(facts);
  part.needs_service = decision.stop_before || decision.stop_after;
  if (part.needs_service && !options_.control_service) {
    return fail(Errc::not_supported, "its service '" + rules->service +
                                         "' has to be stopped and started, which this program "
                                         "does not do");
  }
  switch (decision.place) {
    case documents::Place::alternate: return to_alternate(part, sets);
    case documents::Place::own: return to_own_place(part, sets, false);
    case documents::Place::directed: return to_own_place(part, sets, true);
    default: return fail(decision.code, std::string(decision.why));
  }
}

const AlternateLocation* RestoreRun::mapping_of(const Part& part, std::size_t set) {
  const AlternateLocation* found = nullptr;
  if (!part.writer->restore) return found;
  for (const AlternateLocation& one : part.writer->restore->alternate_locations)
    if (is_same_set(part.declared[set], one)) found = &one;
  return found;
}

Status RestoreRun::to_alternate(Part& part, const std::vector<std::size_t>& sets) {
  for (const std::size_t set : sets) {
    const AlternateLocation* mapping = mapping_of(part, set);
    const auto place = documents::expanded(mapping->destination, variables_);
    if (!place) return fail(place.error());
    put_set(part, set, *place);
    part.used.push_back(*mapping);
  }
  return {};
}

Status RestoreRun::to_own_place(Part& part, const std::vector<std::size_t>& sets, bool directed) {
  for (const std::size_t set : sets) {
    if (!directed) {
      put_set(part, set, part.sets[set].path);
      continue;
    }
    for (const SourceFile& file : part.files[set]) {
      bool taken = false;
      if (Status done = direct(part, file, taken); !done) return done;
      if (!taken) part.placements.push_back({file, file.original});
    }
  }
  return {};
}

Status RestoreRun::direct(Part& part, const SourceFile& file, bool& directed) const {
  for (const DirectedTarget& target : part.component.directed_targets) {
    if (without_slash(target.source_path) + "/" + target.source_file != file.original) continue;
    directed = true;
    auto from = documents::parse_ranges(target.source_ranges);
    if (!from) return fail(from.error(), "directed target");
    auto to = documents::parse_ranges(target.destination_ranges);
    if (!to) return fail(to.error(), "directed target");
    part.placements.push_back(
        {file, without_slash(target.destination_path) + "/" + target.destination_file,
         std::move(*from), std::move(*to)});
  }
  return {};
}

void RestoreRun::put_set(Part& part, std::size_t set, const std::string& base) const {
  const std::size_t top = without_slash(part.sets[set].path).size();
  for (const SourceFile& file : part.files[set]) {
    const std::string original = without_slash(file.original);
    const std::string rest = original.size() > top ? original.substr(top) : "";
    std::string destination = without_slash(base);
    if (destination == "/" && !rest.empty()) destination.clear();
    part.placements.push_back({file, destination + rest});
  }
}

bool RestoreRun::any_exists(const Part& part, std::size_t set, const std::string& base) {
  const std::size_t top = without_slash(part.sets[set].path).size();
  return std::any_of(part.files[set].begin(), part.files[set].end(), [&](const SourceFile& file) {
    return file.kind != FileKind::directory &&
           exists(without_slash(base) + file.original.substr(top));
  });
}

// --- copying
// --------------------------------------------------------------------------------------

Status RestoreRun::control_services(ServiceAction action) {
  if (action == ServiceAction::start) {
    Status first;
    for (const std::string& service : std::exchange(stopped_services_, {})) {
      Status done = options_.control_service(service, ServiceAction::start);
      if (!done && first) first = fail(done.error(), "service '" + service + "'");
    }
    return first;
  }
  for (const Part& part : parts_) {
    if (!part.needs_service) continue;
    const std::string& service = part.writer->restore->service;
    const bool known = std::find(stopped_services_.begin(), stopped_services_.end(), service) !=
                       stopped_services_.end();
    if (known) continue;
    // RESTORE_STOP_START stops after PostRestore; stopping before is the same to the files.
    if (Status done = options_.control_service(service, ServiceAction::stop); !done)
      return fail(done.error(), "service '" + service + "'");
    stopped_services_.push_back(service);
  }
  return {};
}

Status RestoreRun::put_files() {
  if (Status placed = place(false); !placed) return placed;
  std::set<std::string> destinations;
  for (const Part& part : parts_) {
    if (Status room = Staging::check_room(part.placements); !room) return room;
    for (const Placement& one : part.placements) {
      if (one.file.kind == FileKind::directory) continue;
      ++progress_.files;
      progress_.bytes += one.file.bytes;
      if (one.from.empty() && !destinations.insert(one.destination).second) {
        return fail(Errc::object_already_exists,
                    "two files of the backup would become '" + one.destination + "'");
      }
    }
  }
  if (Status stopped = control_services(ServiceAction::stop); !stopped) {
    static_cast<void>(control_services(ServiceAction::start));
    return stopped;
  }
  std::list<Staging> stagings;
  Status done;
  for (Part& part : parts_) {
    Staging& staging = stagings.emplace_back([this](std::uint64_t bytes, bool file_done) {
      progress_.bytes_done += bytes;
      progress_.files_done += file_done ? 1 : 0;
      tell("copying");
      return !stop_.load(std::memory_order_relaxed);
    });
    if (done) done = staging.stage(part.placements);
    if (done) {
      tell("flushing");
      done = staging.flush();
    }
  }
  // Writers that are gone, or that umbrad no longer speaks for, may be using the files again.
  if (done && uses_writers()) done = check_writers("copying");
  if (done && stop_) done = fail(Errc::async_cancelled, "cancelled by the caller");
  auto staging = stagings.begin();
  for (Part& part : parts_) {
    if (done) {
      tell("replacing");
      done = staging->commit();
      part.status =
          done ? FileRestoreStatus::all
               : (staging->has_changed() ? FileRestoreStatus::failed : FileRestoreStatus::none);
    }
    for (const std::string& note : staging->notes()) report_.notes.push_back("not kept: " + note);
    ++staging;
  }
  for (auto one = stagings.rbegin(); one != stagings.rend(); ++one) one->rollback();
  Status started = control_services(ServiceAction::start);
  return done ? started : done;
}

Status RestoreRun::finish(Status files) {
  const auto keep_first = [&](Status next) {
    if (files && !next) files = std::move(next);
  };
  for (const Part& part : parts_) {
    if (!part.with_writer) continue;
    if (part.status != FileRestoreStatus::none) {
      for (const AlternateLocation& location : part.used)
        keep_first(logic_.add_alternative_location_mapping(part.ref, location));
    }
    keep_first(logic_.set_file_restore_status(part.ref, part.status));
  }
  tell("post_restore");
  keep_first(logic_.post_restore(options_.time_limit));
  if (logic_.state() == RestoreState::lost) return files;
  keep_first(reread());
  keep_first(check_writers("post_restore"));
  return files;
}

}  // namespace umbra::requester
