// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// The rules of documents/file_rules.h over the directories of a backup. Each writer's file sets are
// put into one list first, in the order of its metadata; a file that several of them name is told
// by the first one that is copied at all, so nothing need be remembered of files that were told.
#include "umbra/requester/file_list.h"

#include <algorithm>
#include <set>
#include <utility>

#include "engine/documents/file_rules.h"
#include "engine/documents/rules.h"
#include "engine/documents/selection.h"
#include "requester-sdk/src/convert.h"
#include "requester-sdk/src/files.h"

namespace umbra::requester {
namespace {

constexpr std::size_t kNotesMax = 100;
constexpr std::size_t kRangesBytesMax = 8 + 16 * documents::kRangesPerFileMax;
constexpr std::size_t kNotToBackupBytesMax = 1U << 20U;

using documents::FileSetIndex;
using documents::full_path;
using documents::is_ancestor;
using documents::same_path;

template <class Component>
std::string path_of(const Component& component) {
  return full_path(component.logical_path, component.name);
}

std::string joined(std::string_view directory, std::string_view name) {
  while (directory.ends_with('/')) directory.remove_suffix(1);
  return std::string(directory).append("/").append(name);
}

// What is the same for all writers.
struct Listing {
  const BackupBundle& bundle;
  const FileListOptions& options;
  const OnListedFile& on_file;
  SourceTree tree;
  documents::Variables variables;
  std::vector<documents::NotToBackup> not_to_backup;
  FileListSummary summary;

  void note(std::string text) {
    if (summary.notes.size() < kNotesMax) summary.notes.push_back(std::move(text));
  }
};

// The files of one writer's part.
class WriterFiles {
 public:
  WriterFiles(Listing& listing, const WriterMetadataDocument& metadata,
              const WriterComponents& part)
      : listing_(listing), metadata_(metadata), part_(part) {
    const BackupType wanted = listing.options.type.value_or(listing.bundle.components.backup_type);
    type_ = documents::effective_type(metadata.backup_schema, wanted);
  }

  /// Which choices name something here; by index in the options.
  Status collect(std::vector<bool>& found);
  Status list();
  [[nodiscard]] std::vector<std::string> directories() const;

 private:
  struct Set {
    FileSet files;  // Without variables.
    FileSet declared;
    std::string component;
    std::size_t entry = 0;
    bool mask_says_copy = false;
    bool walk = false;
  };
  struct Partial {
    PartialFile file;  // Without variables.
    std::string component;
    bool alone = false;  // Told also if no set names it.
    bool told = false;
  };

  [[nodiscard]] bool is_chosen(const std::string& path) const;
  Status add_sets(const ComponentInfo& info, std::size_t entry);
  Status add_entry(std::size_t entry, bool whole);
  Status add_excludes();
  Result<FileSet> expand(FileSet files) const;
  Status visit(std::size_t id, FoundFile found);
  Status visit_directory(std::size_t id, FoundFile found);
  Status tell(ListedFile file, const Partial* partial);
  Status tell_partials();
  Result<std::vector<FileRange>> ranges_of(const Partial& partial, std::uint64_t bytes);

  Listing& listing_;
  const WriterMetadataDocument& metadata_;
  const WriterComponents& part_;
  BackupType type_ = BackupType::full;
  std::vector<Set> sets_;
  FileSetIndex named_;  // Files of sets that are walked.
  FileSetIndex tops_;   // Directories of them.
  FileSetIndex excluded_;
  FileSetIndex differenced_;  // Index in times_.
  std::vector<std::int64_t> times_;
  std::map<std::string, Partial> partials_;  // By their whole path.
};

ListedFile listed(SourceFile file) {
  ListedFile result;
  result.original = std::move(file.original);
  result.source = std::move(file.source);
  result.kind = file.kind;
  result.bytes = file.bytes;
  result.modify_filetime = file.modify_filetime;
  return result;
}

bool WriterFiles::is_chosen(const std::string& path) const {
  const auto& choices = listing_.options.components;
  if (choices.empty()) return true;
  return std::any_of(choices.begin(), choices.end(), [&](const ComponentChoice& choice) {
    return choice.class_id == part_.class_id &&
           (choice.path.empty() || same_path(choice.path, path) || is_ancestor(choice.path, path));
  });
}

Result<FileSet> WriterFiles::expand(FileSet files) const {
  for (std::string* path : {&files.path, &files.alternate_path}) {
    if (path->empty()) continue;
    auto whole = documents::expanded(*path, listing_.variables);
    if (!whole) return fail(whole.error());
    *path = std::move(*whole);
  }
  return files;
}

Status WriterFiles::collect(std::vector<bool>& found) {
  std::set<std::size_t> entries;
  for (const documents::Included& one : documents::included(metadata_, part_)) {
    const ComponentInfo& info = metadata_.components[one.component];
    const std::string path = path_of(info);
    if (!is_chosen(path)) continue;
    const auto& choices = listing_.options.components;
    for (std::size_t i = 0; i < choices.size(); ++i) {
      if (choices[i].class_id == part_.class_id &&
          (choices[i].path.empty() || same_path(choices[i].path, path)))
        found[i] = true;
    }
    entries.insert(one.entry);
    if (Status added = add_sets(info, one.entry); !added)
      return fail(added.error(), "component '" + path + "'");
  }
  for (const std::size_t entry : entries) {
    const std::string path = path_of(part_.components[entry]);
    if (Status added = add_entry(entry, is_chosen(path)); !added)
      return fail(added.error(), "component '" + path + "'");
  }
  for (std::size_t id = 0; id < sets_.size(); ++id) {
    if (!sets_[id].walk) continue;
    const FileSet& files = sets_[id].files;
    named_.add(files, id);
    if (sets_[id].mask_says_copy) tops_.add({.path = files.path, .recursive = files.recursive}, id);
  }
  return add_excludes();
}

Status WriterFiles::add_sets(const ComponentInfo& info, std::size_t entry) {
  // Of a database a log backup has the logs, whatever the masks of its data files say.
  const bool logs_only = info.type == ComponentType::database && type_ == BackupType::log;
  for (const auto* list : {&info.files, &info.log_files}) {
    for (const FileSet& files : *list) {
      auto whole = expand(files);
      if (!whole) return fail(whole.error());
      const bool copied =
          documents::is_backed_up(files, type_) && !(logs_only && list == &info.files);
      sets_.push_back({std::move(*whole), files, path_of(info), entry, copied, copied});
    }
  }
  return {};
}

// What a writer said of an entry in this backup. `whole`: also of files that no set names.
Status WriterFiles::add_entry(std::size_t entry, bool whole) {
  const BackupComponent& component = part_.components[entry];
  for (const DifferencedFile& one : component.differenced_files) {
    const FileSet declared{.path = one.path, .pattern = one.pattern, .recursive = one.recursive};
    auto files = expand(declared);
    if (!files) return fail(files.error());
    differenced_.add(*files, times_.size());
    times_.push_back(one.last_modify_filetime);
    bool is_new = true;
    for (Set& set : sets_) {
      if (set.entry != entry || set.declared.path != one.path ||
          set.declared.pattern != one.pattern || set.declared.recursive != one.recursive)
        continue;
      set.walk = true;
      is_new = false;
    }
    if (is_new && whole)
      sets_.push_back({std::move(*files), declared, path_of(component), entry, false, true});
  }
  for (const PartialFile& one : component.partial_files) {
    auto directory = documents::expanded(one.path, listing_.variables);
    if (!directory) return fail(directory.error());
    PartialFile file = one;
    file.path = std::move(*directory);
    std::string path = joined(file.path, file.file_name);
    partials_.emplace(std::move(path), Partial{std::move(file), path_of(component), whole, false});
  }
  return {};
}

Status WriterFiles::add_excludes() {
  std::vector<std::string> writers;
  for (const WriterMetadataDocument& writer : listing_.bundle.writers)
    writers.push_back(writer.identity.name);
  std::vector<FileSet> excludes = metadata_.excludes;
  for (FileSet& files : documents::not_to_backup(listing_.not_to_backup, writers))
    excludes.push_back(std::move(files));
  for (FileSet& files : excludes) {
    auto whole = expand(std::move(files));
    if (!whole) return fail(whole.error(), "exclude");
    excluded_.add(*whole, 0);
  }
  return {};
}

std::vector<std::string> WriterFiles::directories() const {
  std::vector<std::string> result;
  for (const Set& set : sets_) {
    if (!set.walk) continue;
    const FileSet& files = set.files;
    result.push_back(files.alternate_path.empty() ? files.path : files.alternate_path);
  }
  for (const auto& [path, partial] : partials_) result.push_back(partial.file.path);
  return result;
}

Status WriterFiles::list() {
  for (std::size_t id = 0; id < sets_.size(); ++id) {
    const Set& set = sets_[id];
    if (!set.walk) continue;
    const auto count = walk_files(listing_.tree, set.files,
                                  [&](FoundFile found) { return visit(id, std::move(found)); });
    if (!count) return fail(count.error(), "component '" + set.component + "'");
    if (*count == 0 && set.mask_says_copy && !documents::has_wildcards(set.files.pattern)) {
      return fail(Errc::object_not_found, "component '" + set.component + "': '" +
                                              set.files.pattern + "' in '" + set.files.path +
                                              "' is not in the backup");
    }
  }
  return tell_partials();
}

Status WriterFiles::visit_directory(std::size_t id, FoundFile found) {
  if (!sets_[id].mask_says_copy || tops_.find(found.directory, "", id)) return {};
  ListedFile file = listed(std::move(found.file));
  file.class_id = part_.class_id;
  file.component = sets_[id].component;
  ++listing_.summary.directories;
  return listing_.on_file(file);
}

Status WriterFiles::visit(std::size_t id, FoundFile found) {
  if (found.file.kind == FileKind::directory) return visit_directory(id, std::move(found));
  if (excluded_.find(found.directory, found.name)) return {};
  if (named_.find(found.directory, found.name, id)) return {};
  const Set& set = sets_[id];
  documents::FileFacts facts{.modify_filetime = found.file.modify_filetime,
                             .base_filetime = listing_.options.base_filetime,
                             .mask_says_copy = set.mask_says_copy};
  if (const auto entry = differenced_.find(found.directory, found.name))
    facts.differenced = times_[*entry];
  const auto partial = partials_.find(joined(found.directory, found.name));
  facts.partial = partial != partials_.end();
  if (facts.partial) partial->second.told = true;
  const documents::FileDecision decision = documents::decide(facts);
  if (decision.writer_error)
    listing_.note(found.file.original + " is both differenced and partial; it is the former");
  if (decision.take == documents::Take::nothing) return {};
  ListedFile file = listed(std::move(found.file));
  file.class_id = part_.class_id;
  file.component = set.component;
  file.from_snapshot = documents::needs_snapshot(set.files, type_);
  return tell(std::move(file),
              decision.take == documents::Take::ranges ? &partial->second : nullptr);
}

Status WriterFiles::tell(ListedFile file, const Partial* partial) {
  std::uint64_t bytes = file.bytes;
  // A writer may name ranges only to a requester that said it can handle them.
  if (partial != nullptr && listing_.bundle.components.partial_file_support) {
    auto ranges = ranges_of(*partial, file.bytes);
    if (!ranges)
      return fail(ranges.error(), "component '" + file.component + "', " + file.original);
    file.ranges = std::move(*ranges);
    bytes = 0;
    for (const FileRange& range : file.ranges) bytes += range.length;
    if (file.ranges.empty()) {
      listing_.note(file.original + ": all of its ranges are behind its end; it is not copied");
      return {};
    }
  }
  ++listing_.summary.files;
  listing_.summary.bytes += bytes;
  return listing_.on_file(file);
}

Result<std::vector<FileRange>> WriterFiles::ranges_of(const Partial& partial, std::uint64_t bytes) {
  auto ranges = documents::parse_ranges(partial.file.ranges);
  if (const std::string_view by = documents::ranges_file(partial.file.ranges); !by.empty()) {
    const auto path = documents::expanded(by, listing_.variables);
    if (!path) return fail(path.error());
    const auto source = listing_.tree.locate(*path);
    if (!source) {
      return fail(Errc::object_not_found,
                  "its list of ranges '" + *path + "' lies on no volume of the backup");
    }
    const auto itself = look_at(*path, *source);
    if (!itself) return fail(itself.error());
    if (itself->kind != FileKind::regular)
      return fail(Errc::invalid_argument, "its list of ranges '" + *path + "' is no file");
    const auto text = read_small_file(*source, kRangesBytesMax);
    if (!text) return fail(text.error());
    ranges = documents::decode_ranges(*text);
  }
  if (!ranges) return fail(ranges.error());
  std::vector<FileRange> result;
  for (const documents::ByteRange& range : *ranges) {
    if (range.offset + range.length <= bytes) continue;
    listing_.note(joined(partial.file.path, partial.file.file_name) + ": ranges pass its end");
    break;
  }
  for (const documents::ByteRange& range : documents::normalized(std::move(*ranges), bytes))
    result.push_back({range.offset, range.length});
  return result;
}

// Those that no set names, and the files that hold ranges, which are needed to restore the others.
Status WriterFiles::tell_partials() {
  std::set<std::string> by;
  for (auto& [path, partial] : partials_) {
    if (!partial.alone || excluded_.find(partial.file.path, partial.file.file_name)) continue;
    const auto named = documents::ranges_file(partial.file.ranges);
    const auto expanded = documents::expanded(named, listing_.variables);
    if (!named.empty() && !expanded) return fail(expanded.error());
    if (!named.empty()) by.insert(*expanded);
    if (!std::exchange(partial.told, true)) by.insert(path);
  }
  for (const std::string& path : by) {
    const std::size_t cut = path.rfind('/');
    const auto found = partials_.find(path);
    const bool is_partial = found != partials_.end();
    if (!is_partial && named_.find(path.substr(0, cut), path.substr(cut + 1))) continue;
    const auto source = listing_.tree.locate(path);
    if (!source) return fail(Errc::object_not_found, "'" + path + "' lies on no volume");
    auto file = look_at(path, *source);
    if (!file) return fail(file.error());
    ListedFile result = listed(std::move(*file));
    result.class_id = part_.class_id;
    if (is_partial) result.component = found->second.component;
    if (Status told = tell(std::move(result), is_partial ? &found->second : nullptr); !told)
      return told;
  }
  return {};
}

// --- all writers --------------------------------------------------------------------------------

Result<Listing> make_listing(const BackupBundle& bundle, const FileListOptions& options,
                             const OnListedFile& on_file) {
  Listing listing{bundle, options, on_file, {}, {}, {}, {}};
  listing.variables = options.variables ? *options.variables : machine_variables();
  if (options.not_to_backup.empty()) return listing;
  const auto text = read_small_file(options.not_to_backup, kNotToBackupBytesMax);
  if (!text) return fail(text.error());
  auto list = documents::parse_not_to_backup(*text);
  if (!list) return fail(list.error(), options.not_to_backup);
  listing.not_to_backup = std::move(*list);
  return listing;
}

// What umbrad's configuration wants left out, as if it stood in the requester's own list.
Status add_configured(Listing& listing, const std::vector<NamedFiles>& configured) {
  for (const NamedFiles& application : configured) {
    std::string lines;
    for (const std::string& file : application.files) lines += file + "\n";
    auto parsed = documents::parse_not_to_backup(lines);
    if (!parsed)
      return fail(parsed.error(), "umbrad's configuration, files of '" + application.application +
                                      "' that are not to be backed up");
    for (documents::NotToBackup& entry : *parsed) {
      entry.name = application.application;
      listing.not_to_backup.push_back(std::move(entry));
    }
  }
  return {};
}

Result<std::vector<WriterFiles>> collect(Listing& listing) {
  const auto& choices = listing.options.components;
  std::vector<bool> found(choices.size());
  std::vector<WriterFiles> writers;
  for (const WriterComponents& part : listing.bundle.components.writers) {
    const WriterMetadataDocument* metadata = metadata_of(listing.bundle, part);
    if (metadata == nullptr) {
      return fail(Errc::invalid_xml_document,
                  "the metadata of writer " + part.class_id.to_string() + " was not kept");
    }
    writers.emplace_back(listing, *metadata, part);
    if (Status done = writers.back().collect(found); !done) return fail(done.error());
  }
  for (std::size_t i = 0; i < choices.size(); ++i) {
    if (found[i]) continue;
    return fail(Errc::object_not_found, "component '" + choices[i].path + "' of writer " +
                                            choices[i].class_id.to_string() +
                                            " is not in the backup");
  }
  return writers;
}

Result<FileListSummary> list_all(Listing& listing, std::vector<WriterFiles>& writers) {
  for (const ResolvedPath& entry : listing.bundle.resolved_paths)
    listing.tree.add_resolved(entry.path, entry.real);
  for (WriterFiles& writer : writers) {
    if (Status done = writer.list(); !done) return fail(done.error());
  }
  return std::move(listing.summary);
}

// Copies that were mounted for this call only.
class Mounts {
 public:
  explicit Mounts(Client& client) : client_(client) {}
  ~Mounts() {
    for (const SnapshotId& id : mounted_) {
      const Status done = client_.unmount_snapshot(id);
      static_cast<void>(done);  // It stays mounted; nothing depends on it.
    }
  }
  Mounts(const Mounts&) = delete;
  Mounts& operator=(const Mounts&) = delete;

  Result<std::string> mount(const SnapshotProperties& snapshot) {
    if (snapshot.lost)
      return fail(Errc::snapshot_lost, "snapshot " + snapshot.snapshot_id.to_string());
    if (!snapshot.exposed_path.empty()) return snapshot.exposed_path;
    auto place = client_.mount_snapshot(snapshot.snapshot_id);
    if (!place) return fail(place.error());
    mounted_.push_back(snapshot.snapshot_id);
    return std::move(place->path);
  }

 private:
  Client& client_;
  std::vector<SnapshotId> mounted_;
};

bool is_needed(const BundleVolume& volume, const std::set<std::string>& directories) {
  for (const MountPoint& mount : volume.mounts) {
    for (const std::string& directory : directories) {
      if (documents::below(mount.point, directory) || documents::below(directory, mount.point))
        return true;
    }
  }
  return false;
}

// The copy of a volume: the one that was asked for, or the one of the set.
Result<SnapshotProperties> copy_of(const BundleVolume& volume, const SnapshotList& list,
                                   const std::vector<SnapshotId>& chosen) {
  SnapshotId id = volume.snapshot_id;
  for (const SnapshotProperties& snapshot : list.snapshots) {
    const bool asked =
        std::find(chosen.begin(), chosen.end(), snapshot.snapshot_id) != chosen.end();
    if (asked && snapshot.volume_id == volume.volume_id) id = snapshot.snapshot_id;
  }
  return find_snapshot(list, id);
}

}  // namespace

const WriterMetadataDocument* metadata_of(const BackupBundle& bundle,
                                          const WriterComponents& part) {
  for (const WriterMetadataDocument& writer : bundle.writers) {
    const bool same = writer.identity.class_id == part.class_id &&
                      writer.identity.instance_name == part.instance_name;
    if (same) return &writer;
  }
  return nullptr;
}

Result<FileListSummary> list_files(const BackupBundle& bundle, const FileListOptions& options,
                                   const OnListedFile& on_file) {
  if (options.sources.empty())
    return fail(Errc::invalid_argument, "list_files: say where the copies can be read");
  auto listing = make_listing(bundle, options, on_file);
  if (!listing) return fail(listing.error());
  auto writers = collect(*listing);
  if (!writers) return fail(writers.error());
  for (const Relocation& source : options.sources) listing->tree.add(source.from, source.to);
  return list_all(*listing, *writers);
}

Result<FileListSummary> list_files(Client& client, const BackupBundle& bundle,
                                   const FileListOptions& options, const OnListedFile& on_file) {
  if (!options.sources.empty()) return list_files(bundle, options, on_file);
  auto listing = make_listing(bundle, options, on_file);
  if (!listing) return fail(listing.error());
  const auto settings = client.settings();
  if (!settings) return fail(settings.error());
  for (const auto* configured : {&settings->files_not_to_snapshot, &settings->files_not_to_backup})
    if (Status added = add_configured(*listing, *configured); !added) return fail(added.error());
  auto writers = collect(*listing);
  if (!writers) return fail(writers.error());
  const auto list = client.list_snapshots();
  if (!list) return fail(list.error());
  for (const SnapshotId& id : options.snapshots) {
    if (const auto found = find_snapshot(*list, id); !found) return fail(found.error());
  }
  std::set<std::string> directories;
  for (const WriterFiles& writer : *writers) {
    for (std::string& directory : writer.directories()) {
      for (const ResolvedPath& entry : bundle.resolved_paths)
        if (documents::below(entry.path, directory) == "") directory = entry.real;
      directories.insert(std::move(directory));
    }
  }
  Mounts mounts(client);
  for (const BundleVolume& volume : bundle.volumes) {
    if (!is_needed(volume, directories)) continue;
    const auto snapshot = copy_of(volume, *list, options.snapshots);
    if (!snapshot) return fail(snapshot.error(), "volume '" + volume.name + "'");
    const auto place = mounts.mount(*snapshot);
    if (!place) return fail(place.error(), "volume '" + volume.name + "'");
    for (const MountPoint& mount : volume.mounts)
      listing->tree.add(mount.point, mount.root == "/" ? *place : *place + mount.root);
  }
  return list_all(*listing, *writers);
}

}  // namespace umbra::requester
