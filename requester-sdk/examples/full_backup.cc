// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Full and incremental backups of chosen components, the long way: every call of VSS's order.
//
//   full_backup DIRECTORY WRITER:COMPONENT...                the first of a chain
//   full_backup --after BASE DIRECTORY WRITER:COMPONENT...   incremental, based on the one in BASE
//
// COMPONENT is "logical\path\name". The volumes are those that its files lie on. Afterwards
// DIRECTORY has the files by their whole paths and the documents, which restore_backup takes.
#include <cstdio>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "requester-sdk/examples/copying.h"
#include "umbra/requester/backup_session.h"

namespace {

using namespace umbra;
using requester::BackupSession;
using requester::ComponentRef;

struct Wish {
  std::string writer;
  std::string path;  // "logical\path\name"
};

template <class T>
Status status_of(const Result<T>& result) {
  if (!result) return fail(result.error());
  return {};
}

std::string full_path(const std::string& logical_path, const std::string& name) {
  return logical_path.empty() ? name : logical_path + "\\" + name;
}

// The stamp that the component's writer left in the backup this one is based on.
std::string stamp_in(const BackupBundle& base, const ComponentRef& ref) {
  for (const auto& writer : base.components.writers)
    for (const auto& component : writer.components)
      if (writer.class_id == ref.class_id && component.logical_path == ref.logical_path &&
          component.name == ref.name)
        return component.backup_stamp.value_or("");
  return {};
}

// Selects a component, and notes which volumes its files lie on.
Result<ComponentRef> select(BackupSession& session,
                            const std::vector<requester::WriterMetadata>& writers, const Wish& wish,
                            std::map<std::uint64_t, VolumeRef>& volumes) {
  for (const auto& writer : writers) {
    if (writer.name != wish.writer) continue;
    for (const auto& component : writer.document.components) {
      if (full_path(component.logical_path, component.name) != wish.path) continue;
      const ComponentRef ref{writer.instance_id, writer.class_id, component.type,
                             component.logical_path, component.name};
      if (auto added = session.add_component(ref); !added) return fail(added.error());
      for (const auto* sets : {&component.files, &component.log_files}) {
        for (const auto& files : *sets) {
          // Where they are read from counts; a writer may put them aside for us.
          const auto volume = requester::resolve_volume(
              files.alternate_path.empty() ? files.path : files.alternate_path);
          if (!volume) return fail(volume.error());
          volumes[volume->device.value_or(0)] = *volume;
        }
      }
      return ref;
    }
  }
  return fail(Errc::object_not_found, "no component " + wish.writer + ":" + wish.path);
}

void print_writers(const std::vector<requester::WriterStatus>& writers) {
  for (const auto& writer : writers)
    std::printf("%s: %s %s\n", writer.name.c_str(), std::string(display_name(writer.state)).c_str(),
                writer.message.c_str());
}

// From Identify to copies that can be read; the components that were selected.
Result<std::vector<ComponentRef>> make_copies(BackupSession& session,
                                              const std::vector<Wish>& wishes,
                                              const BackupBundle* base) {
  const auto refused = [](const auto& result) { return fail(result.error()); };
  if (auto begun = session.initialize_for_backup(); !begun) return refused(begun);
  if (auto set = session.set_context(context::kBackup); !set) return refused(set);
  requester::BackupState state;
  state.backup_type = base == nullptr ? BackupType::full : BackupType::incremental;
  if (auto set = session.set_backup_state(state); !set) return refused(set);
  if (auto gathered = session.gather_writer_metadata(); !gathered) return refused(gathered);
  const auto writers = session.writer_metadata();
  if (!writers) return refused(writers);
  std::vector<ComponentRef> components;
  std::map<std::uint64_t, VolumeRef> volumes;
  for (const auto& wish : wishes) {
    const auto ref = select(session, *writers, wish, volumes);
    if (!ref) return refused(ref);
    components.push_back(*ref);
    const std::string stamp = base == nullptr ? "" : stamp_in(*base, *ref);
    if (stamp.empty()) continue;  // Its writer does not stamp: it looks at times, or does all.
    if (auto set = session.set_previous_backup_stamp(*ref, stamp); !set) return refused(set);
  }
  // Somebody else may be making copies: wait for a minute.
  if (auto set = session.start_snapshot_set(std::chrono::minutes{1}); !set) return refused(set);
  for (const auto& [device, volume] : volumes)
    if (auto added = session.add_to_snapshot_set(volume); !added) return refused(added);
  if (auto prepared = session.prepare_for_backup(); !prepared) return refused(prepared);
  requester::DoOptions options;
  options.writer_policy = WriterPolicy::involved;  // A veto of these writers fails the backup.
  const auto done = session.do_snapshot_set(options);
  print_writers(session.last_report().writers);
  if (!done) return refused(done);
  return components;
}

Status backup(const std::string& directory, const std::vector<Wish>& wishes,
              const BackupBundle* base) {
  auto session = BackupSession::connect();
  if (!session) return status_of(session);
  const auto components = make_copies(*session, wishes, base);
  if (!components) return status_of(components);
  // The documents have what writers noted when the copies were made: stamps, partial files.
  const auto bundle = session->make_bundle();
  if (!bundle) return status_of(bundle);
  const auto copied = example::copy_all({}, *bundle, directory);
  // Writers may truncate their logs on "succeeded" only, so the truth is told first.
  for (const auto& component : *components)
    if (auto told = session->set_backup_succeeded(component, copied.has_value()); !told)
      return told;
  if (auto complete = session->backup_complete(); !complete) return complete;
  if (!copied) return copied;
  const auto final_bundle = session->make_bundle();
  if (!final_bundle) return status_of(final_bundle);
  return requester::save_bundle(*final_bundle, example::bundle_of(directory));
}

int usage() {
  std::cerr << "usage: full_backup [--after BASE] DIRECTORY WRITER:COMPONENT...\n";
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> words(argv + 1, argv + argc);
  Result<BackupBundle> base = BackupBundle{};
  const bool chained = words.size() > 1 && words[0] == "--after";
  if (chained) {
    base = requester::load_bundle(example::bundle_of(words[1]));
    words.erase(words.begin(), words.begin() + 2);
  }
  if (words.size() < 2) return usage();
  std::vector<Wish> wishes;
  for (std::size_t i = 1; i < words.size(); ++i) {
    const std::size_t colon = words[i].find(':');
    if (colon == std::string::npos) return usage();
    wishes.push_back({words[i].substr(0, colon), words[i].substr(colon + 1)});
  }
  const Status done = base ? backup(words[0], wishes, chained ? &*base : nullptr) : status_of(base);
  if (done) return 0;
  std::cerr << done.error().to_string() << "\n";
  return 1;
}
