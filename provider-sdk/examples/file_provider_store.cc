// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// The example provider's volumes, created copies, and what it keeps on disk.
#include <algorithm>
#include <sstream>
#include <utility>

#include "provider-sdk/examples/file_provider.h"

namespace example {

using namespace umbra;

namespace {

constexpr const char* kHead = "umbra-file-provider 1";
constexpr const char* kVolumesName = "volumes";
constexpr const char* kRecordSuffix = ".set";
constexpr const char* kImageSuffix = ".img";

tl::unexpected<Error> not_ours(const std::string& path) {
  return fail(Errc::invalid_argument, path + " is not what this provider writes");
}

}  // namespace

Result<std::unique_ptr<FileProvider>> FileProvider::open(const std::string& store,
                                                         ProviderProperties properties) {
  std::unique_ptr<FileProvider> provider(new FileProvider(store, std::move(properties)));
  if (const auto loaded = provider->load(); !loaded) return fail(loaded.error());
  provider->leases_ = std::thread([raw = provider.get()] { raw->end_leases(); });
  return provider;
}

FileProvider::FileProvider(std::string store, ProviderProperties properties)
    : store_(std::move(store)), properties_(std::move(properties)) {}

FileProvider::~FileProvider() {
  {
    const Lock lock(mutex_);
    ending_ = true;
    changed_.notify_all();
  }
  if (leases_.joinable()) leases_.join();
}

std::string FileProvider::image(const SnapshotId& id) const {
  return store_ + "/" + id.to_string() + kImageSuffix;
}
std::string FileProvider::record(const SnapshotSetId& id) const {
  return store_ + "/" + id.to_string() + kRecordSuffix;
}

// --- the store ----------------------------------------------------------------------------------

Status FileProvider::load() {
  const auto names = list_directory(store_);
  if (!names) return fail(names.error());
  const auto has = [&](const std::string& name) {
    return std::find(names->begin(), names->end(), name) != names->end();
  };
  if (has(kVolumesName)) {
    const auto text = read_text(store_ + "/" + kVolumesName);
    if (!text) return fail(text.error());
    std::istringstream lines(*text);
    std::string id;
    std::string name;
    while (lines >> id >> name) {
      const auto parsed = VolumeId::parse(id);
      if (!parsed) return not_ours(store_ + "/" + kVolumesName);
      volumes_[*parsed].name = name;
    }
  }
  for (const auto& name : *names)
    if (name.ends_with(kRecordSuffix))
      if (const auto loaded = load_set(name); !loaded) return loaded;
  // All records could be read. What they say is not to stay goes, and copies that none names.
  for (auto it = sets_.begin(); it != sets_.end();) {
    const auto id = (it++)->first;
    const Set& set = sets_.at(id);
    if (set.step != Step::created && !set.in_doubt()) discard(id);
  }
  ended_.clear();
  for (const auto& name : *names) {
    if (!name.ends_with(kImageSuffix)) continue;
    const bool named = std::any_of(sets_.begin(), sets_.end(), [&](const auto& entry) {
      return std::any_of(
          entry.second.copies.begin(), entry.second.copies.end(),
          [&](const Copy& copy) { return copy.id.to_string() + kImageSuffix == name; });
    });
    if (!named)
      if (const auto removed = remove_file(store_ + "/" + name); !removed) return removed;
  }
  return {};
}

Status FileProvider::load_set(const std::string& name) {
  const auto path = store_ + "/" + name;
  const auto id = SnapshotSetId::parse(name.substr(0, name.size() - 4));
  const auto text = read_text(path);
  if (!text) return fail(text.error());
  std::istringstream lines(*text);
  std::string line;
  if (!id || !std::getline(lines, line) || line != kHead) return not_ours(path);
  Set set;
  bool ended = false;
  while (std::getline(lines, line)) {
    std::istringstream words(line);
    std::string key;
    std::string first;
    std::string second;
    words >> key >> first;
    if (key == "end") {
      ended = true;
    } else if (key == "state") {
      set.step = first == "created"     ? Step::created
                 : first == "postfinal" ? Step::postfinal
                                        : Step::postcommitted;
    } else if (key == "session") {
      const auto session = SessionId::parse(first);
      if (!session) return not_ours(path);
      set.session = *session;
    } else if (key == "member") {
      const auto member = SnapshotId::parse(first);
      if (!member) return not_ours(path);
      set.members.push_back(*member);
    } else if (key == "copy") {
      Copy copy;
      words >> second >> copy.attributes >> copy.filetime;
      const auto snapshot = SnapshotId::parse(first);
      const auto volume = VolumeId::parse(second);
      if (!words || !snapshot || !volume || volumes_.count(*volume) == 0) return not_ours(path);
      copy.id = *snapshot;
      copy.volume = *volume;
      set.copies.push_back(copy);
    } else {
      return not_ours(path);
    }
  }
  if (!ended || set.copies.empty()) return not_ours(path);
  sets_[*id] = std::move(set);
  return {};
}

Status FileProvider::store(const SnapshotSetId& id, const Set& set) const {
  std::ostringstream text;
  text << kHead << "\n"
       << "state "
       << (set.step == Step::created     ? "created"
           : set.step == Step::postfinal ? "postfinal"
                                         : "postcommitted")
       << "\n"
       << "session " << set.session.to_string() << "\n";
  for (const auto& member : set.members) text << "member " << member.to_string() << "\n";
  for (const auto& copy : set.copies)
    text << "copy " << copy.id.to_string() << " " << copy.volume.to_string() << " "
         << copy.attributes << " " << copy.filetime << "\n";
  text << "end\n";
  return write_text(record(id), text.str());
}

Status FileProvider::store_volumes() const {
  std::ostringstream text;
  for (const auto& [id, volume] : volumes_) text << id.to_string() << " " << volume.name << "\n";
  return write_text(store_ + "/" + kVolumesName, text.str());
}

// --- volumes ------------------------------------------------------------------------------------

Result<VolumeId> FileProvider::add_volume(const std::string& name, const std::string& path) {
  const Lock lock(mutex_);
  if (name.empty() || name.find_first_of(" \t\r\n") != std::string::npos)
    return fail(Errc::invalid_argument, "'" + name + "': a volume's name is one word");
  if (const auto size = size_of(path); !size) return fail(size.error());
  for (auto& [id, volume] : volumes_) {
    if (volume.name != name) continue;
    if (!volume.path.empty())
      return fail(Errc::invalid_argument, "there is a volume '" + name + "'");
    volume.path = path;
    return id;
  }
  const auto id = VolumeId::random();
  volumes_[id] = {name, path};
  if (const auto stored = store_volumes(); !stored) {
    volumes_.erase(id);
    return fail(stored.error());
  }
  return id;
}

Result<VolumeId> FileProvider::locate(const VolumeRef& ref) const {
  for (const auto& [id, volume] : volumes_) {
    if (volume.path.empty() || ref.device) continue;  // A file is no device.
    if (ref.id && *ref.id != id) continue;
    if (!ref.name.empty() && ref.name != volume.name && ref.name != id.to_string()) continue;
    if (ref.id || !ref.name.empty()) return id;
  }
  return fail(Errc::object_not_found, "no such volume here");
}

std::size_t FileProvider::copies_of(const VolumeId& id, bool created_only) const {
  std::size_t count = 0;
  for (const auto& [set_id, set] : sets_)
    if (set.step == Step::created || !created_only)
      count += static_cast<std::size_t>(
          std::count_if(set.copies.begin(), set.copies.end(),
                        [&](const Copy& copy) { return copy.volume == id; }));
  return count;
}

VolumeProperties FileProvider::describe(const VolumeId& id) const {
  const Volume& volume = volumes_.at(id);
  VolumeProperties properties;
  properties.volume_id = id;
  properties.name = volume.name;
  properties.origin_path = volume.path;
  properties.diff_area_path = store_;
  const auto size = size_of(volume.path);
  properties.size_bytes = size ? *size : 0;
  properties.state = size ? "ok" : size.error().context;
  properties.snapshot_count = static_cast<std::uint32_t>(copies_of(id, true));
  return properties;
}

Result<VolumeProperties> FileProvider::find_volume(const VolumeRef& ref) {
  const Lock lock(mutex_);
  const auto id = locate(ref);
  if (!id) return fail(id.error());
  return describe(*id);
}

Result<std::vector<VolumeProperties>> FileProvider::list_volumes() {
  const Lock lock(mutex_);
  std::vector<VolumeProperties> list;
  for (const auto& [id, volume] : volumes_) {
    if (volume.path.empty()) continue;
    list.push_back(describe(id));
  }
  return list;
}

Result<bool> FileProvider::is_volume_supported(const VolumeRef& ref, std::uint32_t attributes) {
  const Lock lock(mutex_);
  if (const auto id = locate(ref); !id) return fail(id.error());
  return (attributes & kAttributesNotOffered) == 0;
}

// --- created copies -----------------------------------------------------------------------------

SnapshotProperties FileProvider::describe(const SnapshotSetId& set_id, const Set& set,
                                          const Copy& copy) const {
  SnapshotProperties properties;
  properties.snapshot_id = copy.id;
  properties.set_id = set_id;
  properties.volume_id = copy.volume;
  properties.provider_id = properties_.provider_id;
  properties.snapshots_count = static_cast<std::uint32_t>(set.members.size());
  properties.device_object = image(copy.id);
  properties.original_volume = volumes_.at(copy.volume).name;
  properties.attributes = copy.attributes;
  properties.creation_filetime = copy.filetime;
  properties.state = set.step == Step::created ? SnapshotState::created
                                               : SnapshotState::processing_postfinalcommit;
  return properties;
}

Result<std::vector<SnapshotProperties>> FileProvider::query_snapshots(bool incomplete) {
  const Lock lock(mutex_);
  std::vector<SnapshotProperties> list;
  for (const auto& [id, set] : sets_) {
    if (set.step != Step::created && !(incomplete && set.step >= Step::prefinal)) continue;
    for (const auto& copy : set.copies) list.push_back(describe(id, set, copy));
  }
  return list;
}

DeleteReport FileProvider::delete_snapshots(const Guid& id, ObjectType type, bool force) {
  const Lock lock(mutex_);
  DeleteReport report;
  report.status = fail(Errc::object_not_found, "no such snapshot or set");
  if (type != ObjectType::snapshot && type != ObjectType::snapshot_set) {
    report.status = fail(Errc::invalid_argument, "a snapshot or a set");
    return report;
  }
  for (auto it = sets_.begin(); it != sets_.end();) {
    const auto set_id = it->first;
    Set& set = (it++)->second;
    if (set.step < Step::postfinal) continue;
    for (std::size_t i = 0; i < set.copies.size();) {
      const Copy copy = set.copies[i];
      const bool meant = type == ObjectType::snapshot ? Guid{copy.id} == id : Guid{set_id} == id;
      if (!meant) {
        ++i;
        continue;
      }
      // Whoever reads a copy may keep a lock on it.
      const auto unused = force ? Result<std::optional<Gate>>{} : Gate::try_shut(image(copy.id));
      report.status = {};
      if (!unused)
        report.status = fail(unused.error());
      else if (!force && !*unused)
        report.status = fail(Errc::volume_in_use, image(copy.id) + " is open");
      // The record first, so that none names a copy that is gone.
      set.copies.erase(set.copies.begin() + static_cast<std::ptrdiff_t>(i));
      if (report.status)
        report.status = set.copies.empty() ? remove_file(record(set_id)) : store(set_id, set);
      if (!report.status) {
        set.copies.insert(set.copies.begin() + static_cast<std::ptrdiff_t>(i), copy);
        report.not_deleted = copy.id;
        return report;
      }
      ++report.deleted;
      static_cast<void>(remove_file(image(copy.id)));  // Else at the next start.
    }
    if (set.copies.empty()) sets_.erase(set_id);
  }
  return report;
}

}  // namespace example
