// SPDX-License-Identifier: Apache-2.0
//
// Stores on real files. The copy-on-write volume has tests of its own; here it is what happens to
// the files: made, taken over, refused, removed again, locked and unlocked.
#include "provider/daemon/file_stores.h"

#include <filesystem>
#include <fstream>

#include "engine/platform/file_device.h"
#include "provider/daemon/state_dir_posix.h"
#include "tests/support/catch.h"
#include "tests/support/skip.h"
#include "tests/support/temp_dir.h"

namespace fs = std::filesystem;
using namespace umbra;
using namespace umbra::cowd;

namespace {

constexpr std::uint64_t kOriginBytes = 1U << 20U;
constexpr std::uint64_t kDiffBytes = 8U << 20U;

struct Bench {
  Bench() {
    std::ofstream(top / "origin").flush();
    fs::resize_file(top / "origin", kOriginBytes);
  }
  OpenStore request() const {
    OpenStore wanted;
    wanted.origin_path = top / "origin";
    wanted.diff_area_path = top / "diff";
    wanted.may_format = true;
    wanted.diff_initial_bytes = kDiffBytes;
    return wanted;
  }
  OpenedStore open(const OpenStore& wanted) {
    auto opened = stores.open(wanted);
    REQUIRE(opened);
    return std::move(*opened);
  }
  Error refused(const OpenStore& wanted) {
    auto opened = stores.open(wanted);
    REQUIRE_FALSE(opened);
    return opened.error();
  }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(top / name) << text;
  }

  test::TempDir top;
  FileStores stores{{.boot_id = Guid::random()}};
};

}  // namespace

TEST_CASE("a diff area that is not there is made, and taken over the next time", "[cowd]") {
  Bench bench;
  VolumeId id;
  {
    const OpenedStore first = bench.open(bench.request());
    CHECK(first.formatted);
    CHECK(first.store->live()->geometry().size_bytes == kOriginBytes);
    CHECK(fs::file_size(bench.top / "diff") >= kDiffBytes);
    id = first.store->id();
    REQUIRE(first.store->close());
  }
  OpenStore again = bench.request();
  again.volume_id = id;
  const OpenedStore second = bench.open(again);
  CHECK_FALSE(second.formatted);
  CHECK(second.store->id() == id);
}

TEST_CASE("an empty diff area is made; with force anything is", "[cowd]") {
  Bench bench;
  OpenStore wanted = bench.request();
  SECTION("empty") { bench.write("diff", ""); }
  SECTION("forced over a text of odd length") {
    bench.write("diff", std::string(5001, 'x'));
    wanted.force = true;
  }
  SECTION("forced over a diff area") {
    REQUIRE(bench.open(bench.request()).store->close());
    wanted.force = true;
  }
  CHECK(bench.open(wanted).formatted);
}

TEST_CASE("what is not ours is refused and left as it is", "[cowd]") {
  Bench bench;
  for (const std::size_t size : {5001U, 4096U, 1U << 20U}) {
    CAPTURE(size);
    bench.write("diff", std::string(size, 'x'));
    CHECK(bench.refused(bench.request()).code == Errc::diff_area_foreign);
    std::ifstream in(bench.top / "diff");
    const std::string text(std::istreambuf_iterator<char>(in), {});
    CHECK(text == std::string(size, 'x'));
  }
}

TEST_CASE("another volume's diff area, or one of another origin, is refused", "[cowd]") {
  Bench bench;
  REQUIRE(bench.open(bench.request()).store->close());
  OpenStore wanted = bench.request();
  SECTION("another id") { wanted.volume_id = VolumeId::random(); }
  SECTION("an origin of another size") { fs::resize_file(bench.top / "origin", 2 * kOriginBytes); }
  CHECK(bench.refused(wanted).code == Errc::diff_area_wrong_origin);
}

TEST_CASE("a diff area is nobody's origin", "[cowd]") {
  Bench bench;
  REQUIRE(bench.open(bench.request()).store->close());
  OpenStore wanted = bench.request();
  wanted.origin_path = bench.top / "diff";
  wanted.diff_area_path = bench.top / "another";
  const Error error = bench.refused(wanted);
  CHECK(error.code == Errc::invalid_argument);
  CHECK(error.context.find("itself the diff area") != std::string::npos);
  CHECK_FALSE(fs::exists(bench.top / "another"));
  // With something else on it, it is an ordinary file.
  std::fstream file(bench.top / "diff", std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(1024);
  file << "a file system";
  file.close();
  CHECK(bench.open(wanted).formatted);
}

TEST_CASE("stores are opened with the engine and the cache that are asked for", "[cowd]") {
  Bench bench;
  FileStores threads{{.boot_id = Guid::random(), .engine = FileEngine::threads}};
  OpenStore wanted = bench.request();
  {
    const auto opened = threads.open(wanted);
    REQUIRE(opened);
    CHECK(opened->store->io_text() ==
          "origin: threads, page cache; diff area: threads, page cache");
    REQUIRE(opened->store->close());
  }
  wanted.direct = true;
  const auto opened = threads.open(wanted);
  if (!opened) {
    CHECK(opened.error().code == Errc::not_supported);
    return test::skip("needs a file system with O_DIRECT");
  }
  CHECK(opened->store->io_text() == "origin: threads, O_DIRECT; diff area: threads, page cache");
}

TEST_CASE("sharing that cannot be done is refused at attach, and copied at a start", "[cowd]") {
  Bench bench;
  REQUIRE(bench.open(bench.request()).store->close());
  fs::remove(bench.top / "diff");
  OpenStore wanted = bench.request();
  wanted.reflink = true;
  FileStores stores{{.boot_id = Guid::random()}};
  {
    const auto opened = stores.open(wanted);
    if (opened) {
      CHECK(opened->store->statistics().reflink);
      return test::skip("needs a file system whose files cannot share blocks");
    }
    CHECK(opened.error().code == Errc::not_supported);
    CHECK(opened.error().context.find("--preserve copy") != std::string::npos);
    CHECK_FALSE(fs::exists(bench.top / "diff"));
  }
  REQUIRE(bench.open(bench.request()).store->close());
  wanted.may_format = false;
  const auto opened = stores.open(wanted);
  REQUIRE(opened);
  CHECK_FALSE(opened->store->statistics().reflink);
}

TEST_CASE("a diff area file that an attempt made goes with its failure", "[cowd]") {
  Bench bench;
  OpenStore wanted = bench.request();
  SECTION("bad chunk size") { wanted.chunk_bytes = 12345; }
  SECTION("maximum too small for a diff area") {
    wanted.diff_initial_bytes = 4096;
    wanted.diff_maximum_bytes = 4096;
  }
  (void)bench.refused(wanted);
  CHECK_FALSE(fs::exists(bench.top / "diff"));
  CHECK(bench.open(bench.request()).formatted);  // No lock is left either.
}

TEST_CASE("re-attaching makes nothing", "[cowd]") {
  Bench bench;
  OpenStore wanted = bench.request();
  wanted.may_format = false;
  wanted.volume_id = VolumeId::random();
  CHECK(bench.refused(wanted).code == Errc::object_not_found);
  CHECK_FALSE(fs::exists(bench.top / "diff"));
  bench.write("diff", "");
  (void)bench.refused(wanted);
  CHECK(fs::file_size(bench.top / "diff") == 0);
}

TEST_CASE("the locks are held while anybody has the store, and not longer", "[cowd]") {
  Bench bench;
  OpenedStore opened = bench.open(bench.request());
  CHECK(bench.refused(bench.request()).code == Errc::volume_attached);
  auto live = opened.store->live();
  const auto volume = volume_of(*opened.store);
  REQUIRE(opened.store->close());
  opened.store.reset();
  CHECK(bench.refused(bench.request()).code == Errc::volume_attached);
}

TEST_CASE("a lock of a dying process is waited for", "[cowd]") {
  Bench bench;
  REQUIRE(bench.open(bench.request()).store->close());
  auto dying = open_file_device(bench.top / "origin", {});
  REQUIRE(dying);
  OpenStore wanted = bench.request();
  wanted.lock_patience = std::chrono::milliseconds(50);
  CHECK(bench.refused(wanted).code == Errc::volume_attached);
  dying->reset();
  CHECK_FALSE(bench.open(wanted).formatted);
}

namespace {

constexpr std::int64_t kHour = 36'000'000'000;  // Of FILETIME.

// Two copies, one of them under retention lock until then (0: it is not); the store is closed.
struct Copies : Bench {
  explicit Copies(std::int64_t until) {
    const OpenedStore opened = open(request());
    const auto volume = volume_of(*opened.store);
    for (const SnapshotId& id : {plain, locked}) {
      REQUIRE(volume->prepare({id, SnapshotSetId::random(), {}, 0, true}));
      volume->hold();
      REQUIRE(volume->drain(std::chrono::seconds(10)));
      volume->commit(id, system_clock().wall_filetime());
      volume->release();
      REQUIRE(volume->post_commit(id, {id}));
      REQUIRE(volume->confirm(id));
    }
    REQUIRE(volume->set_retention({.longest_seconds = 24 * 3600, .reserve_bytes = 0}));
    if (until != 0) REQUIRE(volume->retain(locked, until));
    area = opened.store->id();
    REQUIRE(opened.store->close());
  }
  SnapshotId plain = SnapshotId::random();
  SnapshotId locked = SnapshotId::random();
  VolumeId area;
};

class Told final : public cow::EventSink {
 public:
  void on_event(const cow::Event& event) noexcept override { events.push_back(event); }
  std::vector<cow::Event> events;
};

}  // namespace

TEST_CASE("force does not overwrite a diff area with a copy under retention lock", "[cowd]") {
  Copies bench(system_clock().wall_filetime() + kHour);
  OpenStore wanted = bench.request();
  wanted.force = true;
  const Error error = bench.refused(wanted);
  CHECK(error.code == Errc::access_denied);
  CHECK(error.context.find(bench.locked.to_string()) != std::string::npos);
  CHECK(error.context.find("under retention lock until 20") != std::string::npos);
  CHECK(error.context.find("another diff area") != std::string::npos);
  // Neither does a byte behind it, which is cut off for a forced attach.
  std::ofstream(bench.top / "diff", std::ios::app) << "x";
  CHECK(bench.refused(wanted).code == Errc::access_denied);
  wanted.force = false;
  CHECK_FALSE(bench.open(wanted).formatted);
}

TEST_CASE("a diff area whose volume has gone is deleted, and each copy told", "[cowd]") {
  Copies bench(0);
  Told told;
  FileStores stores({.boot_id = Guid::random(), .events = &told});
  const DiscardArea wanted{bench.top / "diff", bench.area, "uid 0"};
  {
    const OpenedStore opened = bench.open(bench.request());
    CHECK(stores.discard_area(wanted).error().code == Errc::volume_attached);
    REQUIRE(opened.store->close());
  }
  REQUIRE(stores.discard_area(wanted));
  CHECK_FALSE(fs::exists(bench.top / "diff"));
  REQUIRE(told.events.size() == 2);
  for (const cow::Event& event : told.events) {
    CHECK(event.kind == cow::EventKind::snapshot_deleted);
    CHECK(event.removal == cow::Removal::requested);
    CHECK(event.who == "uid 0");
    CHECK(event.volume == bench.area);
  }
  CHECK(told.events[0].snapshot == bench.plain);
  CHECK(told.events[1].snapshot == bench.locked);
}

TEST_CASE("only the volume's own diff area is deleted, and none with a locked copy", "[cowd]") {
  Copies bench(system_clock().wall_filetime() + kHour);
  Told told;
  FileStores stores({.boot_id = Guid::random(), .events = &told});
  DiscardArea wanted{bench.top / "diff", bench.area, "uid 0"};
  const Status locked = stores.discard_area(wanted);
  REQUIRE_FALSE(locked);
  CHECK(locked.error().code == Errc::access_denied);
  CHECK(locked.error().context.find(bench.locked.to_string()) != std::string::npos);
  wanted.volume_id = VolumeId::random();
  CHECK(stores.discard_area(wanted).error().code == Errc::diff_area_wrong_origin);
  wanted.path = bench.top / "nothing";
  CHECK(stores.discard_area(wanted));  // It has gone already.
  bench.write("text", std::string(8192, 'x'));
  wanted.path = bench.top / "text";
  CHECK(stores.discard_area(wanted).error().code == Errc::diff_area_foreign);
  CHECK(told.events.empty());
  CHECK(fs::exists(bench.top / "diff"));
  CHECK(fs::exists(bench.top / "text"));
}
