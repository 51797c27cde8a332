// SPDX-License-Identifier: Apache-2.0
//
// The third-party provider of the examples passes the suite, over real files; what is not its own
// in its store stops it before it removes anything.

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <future>
#include <map>
#include <memory>

#include "engine/platform/assert.h"
#include "engine/platform/unique_fd.h"
#include "provider-sdk/examples/file_provider.h"
#include "tests/conformance/provider_suite.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace {

using namespace umbra;
using namespace umbra::test;
using example::FileProvider;

constexpr std::size_t kVolumeBytes = 64 * 1024;

const ProviderProperties& properties() {
  static const ProviderProperties properties{ProviderId::random(), "files", ProviderType::software,
                                             "1"};
  return properties;
}

class FileWorld final : public ProviderWorld {
 public:
  FileWorld() { start(); }

  Provider& provider() override { return *provider_; }
  VolumeRef add_volume(const std::string& name) override {
    const auto path = directory_ / ("volume " + std::to_string(paths_.size()));
    std::ofstream(path) << std::string(kVolumeBytes, '\0');
    // One word, as it wants a name.
    auto word = name;
    for (auto& c : word)
      if (c == ' ') c = '-';
    volumes_.emplace_back(word, path);
    const auto id = provider_->add_volume(word, path);
    REQUIRE(id);
    paths_[*id] = path;
    VolumeRef ref;
    ref.id = *id;
    return ref;
  }
  // As whoever writes to such a volume does. The suite calls it from threads of its own, where the
  // test framework may not be used.
  void write(const VolumeRef& volume, std::size_t offset, std::string_view bytes) override {
    const UniqueFd fd(::open(paths_.at(*volume.id).c_str(), O_RDWR | O_CLOEXEC));
    UMBRA_ASSERT(fd && ::flock(fd.get(), LOCK_SH) == 0);
    UMBRA_ASSERT(::pwrite(fd.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset)) ==
                 static_cast<ssize_t>(bytes.size()));
  }
  Result<std::string> read_snapshot(const SnapshotId& snapshot, std::size_t offset,
                                    std::size_t size) override {
    const auto copies = provider_->query_snapshots(true);
    if (!copies) return fail(copies.error());
    for (const auto& copy : *copies) {
      if (copy.snapshot_id != snapshot) continue;
      std::ifstream file(copy.device_object);
      std::string bytes(size, '?');
      file.seekg(static_cast<std::streamoff>(offset));
      file.read(bytes.data(), static_cast<std::streamsize>(size));
      if (!file) return fail(Errc::io_error, copy.device_object);
      return bytes;
    }
    return fail(Errc::object_not_found, "no such copy");
  }
  // Leases are of the machine's clock.
  void pass(std::chrono::milliseconds time) override {
    static_cast<void>(std::promise<void>().get_future().wait_for(time));
  }
  bool restart() override {
    provider_.reset();
    start();
    for (const auto& [name, path] : volumes_) REQUIRE(provider_->add_volume(name, path));
    return true;
  }
  bool set_in_use(const SnapshotId& snapshot, bool in_use) override {
    reader_.reset();
    if (!in_use) return true;
    reader_ = UniqueFd(
        ::open((store() + "/" + snapshot.to_string() + ".img").c_str(), O_RDONLY | O_CLOEXEC));
    REQUIRE(::flock(reader_.get(), LOCK_SH) == 0);
    return true;
  }

 private:
  [[nodiscard]] std::string store() const { return directory_ / "store"; }
  void start() {
    auto opened = FileProvider::open(store(), properties());
    REQUIRE(opened);
    provider_ = std::move(*opened);
  }

  TempDir directory_{TempDir::memory()};
  std::vector<std::pair<std::string, std::string>> volumes_;
  std::map<VolumeId, std::string> paths_;
  UniqueFd reader_;
  std::unique_ptr<FileProvider> provider_;
};

TEST_CASE("the example of a third-party provider is a provider",
          "[conformance]"
          "[vss:IVssSoftwareSnapshotProvider.BeginPrepareSnapshot]"
          "[vss:IVssProviderCreateSnapshotSet.CommitSnapshots]") {
  for (const auto& fact : provider_facts()) {
    DYNAMIC_SECTION(fact.name) {
      FileWorld world;
      fact.check(world);
    }
  }
}

std::vector<std::string> names_in(const std::string& directory) {
  auto names = example::list_directory(directory);
  REQUIRE(names);
  std::sort(names->begin(), names->end());
  return *names;
}

TEST_CASE("a store with a record that cannot be read is left alone", "[conformance]") {
  const TempDir directory;
  const auto store = directory / "store";
  const auto set = SnapshotSetId::random();
  const auto good = "umbra-file-provider 1\nstate created\nsession " +
                    SessionId::random().to_string() + "\nmember ";
  for (const std::string& text :
       {std::string(), std::string("something else\n"), good + "nonsense\nend\n",
        good + SnapshotId::random().to_string() + "\nend\n",
        good + SnapshotId::random().to_string() + "\ncopy " + SnapshotId::random().to_string() +
            " " + VolumeId::random().to_string() + " 9 1\nend\n",
        good + SnapshotId::random().to_string() + "\n"}) {
    INFO(text);
    static_cast<void>(names_in(store));  // Makes it.
    std::ofstream(store + "/" + set.to_string() + ".set") << text;
    std::ofstream(store + "/" + SnapshotId::random().to_string() + ".img") << "data";
    const auto before = names_in(store);
    const auto opened = FileProvider::open(store, properties());
    REQUIRE(!opened);
    CHECK(opened.error().code == Errc::invalid_argument);
    CHECK(opened.error().context.find(set.to_string()) != std::string::npos);
    CHECK(names_in(store) == before);
  }
}

TEST_CASE("copies that no record names are removed at the start", "[conformance]") {
  const TempDir directory;
  const auto store = directory / "store";
  static_cast<void>(names_in(store));
  std::ofstream(store + "/" + SnapshotId::random().to_string() + ".img") << "of a killed commit";
  REQUIRE(FileProvider::open(store, properties()));
  CHECK(names_in(store).empty());
}

TEST_CASE("a volume keeps its id under its name", "[conformance]") {
  const TempDir directory;
  std::ofstream(directory / "a") << "a";
  VolumeId first;
  {
    const auto provider = FileProvider::open(directory / "store", properties());
    REQUIRE(provider);
    const auto id = (*provider)->add_volume("a", directory / "a");
    REQUIRE(id);
    first = *id;
    for (const auto& [name, path] : std::map<std::string, std::string>{
             {"a", directory / "a"}, {"", directory / "a"}, {"two words", directory / "a"}}) {
      const auto refused = (*provider)->add_volume(name, path);
      REQUIRE(!refused);
      CHECK(refused.error().code == Errc::invalid_argument);
    }
    CHECK(!(*provider)->add_volume("b", directory / "nothing"));
    CHECK(!(*provider)->add_volume("b", directory.path().string()));
  }
  const auto provider = FileProvider::open(directory / "store", properties());
  REQUIRE(provider);
  CHECK((*provider)->list_volumes()->empty());
  CHECK((*provider)->add_volume("a", directory / "a") == first);
}

}  // namespace
