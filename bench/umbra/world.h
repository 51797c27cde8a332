// SPDX-License-Identifier: Apache-2.0
//
// umbrad and umbra-cowd of this build, in a scratch directory of their own, and volumes that they
// serve: the shipped programs, driven through the requester SDK like by anybody else.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bench/harness/scenario.h"
#include "bench/harness/system.h"
#include "bench/load/subject.h"
#include "umbra/requester/backup_session.h"
#include "umbra/requester/client.h"

namespace umbra::bench {

/// Starts what is asked for first. Threads: one at a time.
class World {
 public:
  explicit World(const std::string& directory)
      : scratch_(directory), medium_(medium_of(directory)) {}
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  [[nodiscard]] const Scratch& scratch() const noexcept { return scratch_; }
  [[nodiscard]] const std::string& medium() const noexcept { return medium_; }
  /// Starts the daemons.
  [[nodiscard]] requester::Client& client();
  [[nodiscard]] requester::ConnectOptions connect_options() const;
  [[nodiscard]] std::string run_directory() const { return scratch_.path("run"); }
  /// Whoever runs at the moment, of the daemons that were started; 0: nobody.
  [[nodiscard]] int umbrad_pid() const noexcept { return umbrad_.pid(); }
  [[nodiscard]] int guardian_pid() const noexcept { return cowd_.pid(); }
  [[nodiscard]] int cowd_pid() const;
  /// kill -9 of umbra-cowd, which its guardian starts anew. Returns when the dead is gone.
  void kill_cowd();
  /// kill -9 of umbra-cowd and its guardian, after which nobody starts it.
  void kill_cowd_for_good();
  /// umbra-cowd after that.
  void start_cowd();
  /// Waits until umbra-cowd answers for the volume. Throws Failed after kStartLimit.
  void await(const VolumeRef& volume);
  /// Ends the daemons. Throws Failed if one did not end in good order.
  void stop();
  /// A name that nothing in the scratch directory has.
  [[nodiscard]] std::string fresh_name(const std::string& beginning) {
    return beginning + std::to_string(++names_);
  }

 private:
  Scratch scratch_;  // Goes last.
  std::string medium_;
  Child umbrad_;
  Child cowd_;
  std::optional<requester::Client> client_;
  int names_ = 0;
};

struct VolumeShape {
  std::uint64_t size_bytes = 0;
  std::uint32_t chunk_bytes = 16U << 10U;
  double copies = 2;        // How often the whole volume fits into the diff area, at first.
  std::string directory{};  // Of its files; empty: the scratch directory.
  bool is_sparse = false;   // The origin has no blocks: for what reads and writes few of them.
};

/// A volume of umbra-cowd, reached over NBD.
class UmbraVolume : public Subject {
 public:
  enum class Copies : std::uint8_t { none, auto_release, persistent, auto_release_over_persistent };

  UmbraVolume(World& world, const VolumeShape& shape, Copies copies);
  ~UmbraVolume() override;
  UmbraVolume(const UmbraVolume&) = delete;
  UmbraVolume& operator=(const UmbraVolume&) = delete;

  [[nodiscard]] std::string name() const override;
  [[nodiscard]] std::string medium() const override;
  [[nodiscard]] std::string uri() const override { return volume_.nbd_uri; }
  void protect() override;
  [[nodiscard]] std::uint32_t verify_copy(const Content& content, std::uint32_t digest) override;
  void release() override;

  /// One more copy, which stays until the volume goes.
  const SnapshotProperties& take(bool persistent);
  /// The newest copy goes. There is one.
  void drop_newest();
  /// Of the diff area, in whole segments.
  [[nodiscard]] std::uint64_t used_bytes();
  [[nodiscard]] std::uint64_t segment_bytes() const;
  [[nodiscard]] const VolumeProperties& properties() const noexcept { return volume_; }
  [[nodiscard]] VolumeRef ref() const;
  [[nodiscard]] const std::string& origin_path() const noexcept { return origin_; }
  [[nodiscard]] const std::string& diff_path() const noexcept { return diff_; }

 private:
  struct Copy {
    SnapshotProperties properties;
    std::optional<requester::BackupSession> session;  // Of an auto-release copy.
  };

  World& world_;
  VolumeShape shape_;
  Copies copies_;
  std::string origin_;
  std::string diff_;
  VolumeProperties volume_;
  std::deque<Copy> taken_;
  std::size_t kept_ = 0;           // Of `taken_`: before protect().
  std::uint64_t used_before_ = 0;  // At protect().
};

}  // namespace umbra::bench
