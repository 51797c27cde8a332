// SPDX-License-Identifier: Apache-2.0
//
// nbdkit over a file: as it is; behind its cow filter; and over a file system that shares blocks,
// which makes the copy (XFS reflink, btrfs snapshot).
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "bench/load/subject.h"
#include "bench/umbra/world.h"

namespace umbra::bench {

/// `nbdkit file`. No snapshots: what is plain beside it.
class NbdkitFile : public Subject {
 public:
  /// Throws Skipped without nbdkit. `directory`: of the file; empty: the scratch directory.
  NbdkitFile(World& world, std::uint64_t size_bytes, const std::string& directory = {});
  ~NbdkitFile() override;
  NbdkitFile(const NbdkitFile&) = delete;
  NbdkitFile& operator=(const NbdkitFile&) = delete;

  [[nodiscard]] std::string name() const override { return "nbdkit file"; }
  [[nodiscard]] std::string medium() const override { return medium_of(directory_); }
  [[nodiscard]] std::string uri() const override;
  void protect() override {}
  [[nodiscard]] std::uint32_t verify_copy(const Content&, std::uint32_t digest) override {
    return digest;
  }
  void release() override {}

 protected:
  void serve(bool with_cow);
  [[nodiscard]] const std::string& file() const noexcept { return file_; }
  [[nodiscard]] const std::string& directory() const noexcept { return directory_; }

 private:
  World& world_;
  std::string program_;
  std::string directory_;
  std::string file_;
  std::string socket_;
  Child server_;
};

/// `nbdkit --filter=cow file`: the file is the copy, the overlay the live volume. Its overlay is a
/// new temporary file each time.
class NbdkitCow final : public NbdkitFile {
 public:
  using NbdkitFile::NbdkitFile;
  [[nodiscard]] std::string name() const override { return "nbdkit --filter=cow"; }
  void protect() override { serve(true); }
  [[nodiscard]] std::uint32_t verify_copy(const Content& content, std::uint32_t digest) override;
  void release() override { serve(false); }
  [[nodiscard]] bool keeps_writes() const override { return false; }
};

/// `nbdkit file` on XFS; the copy is a reflink of the file. Root.
class XfsReflink final : public NbdkitFile {
 public:
  XfsReflink(World& world, std::uint64_t size_bytes, const std::string& directory)
      : NbdkitFile(world, size_bytes, directory) {}
  [[nodiscard]] std::string name() const override { return "XFS reflink copy"; }
  void protect() override;
  [[nodiscard]] std::uint32_t verify_copy(const Content& content, std::uint32_t digest) override;
  void release() override;
};

/// `nbdkit file` in a subvolume of btrfs; the copy is a snapshot of that. Root.
class BtrfsSnapshot final : public NbdkitFile {
 public:
  /// `directory` is the subvolume, `copy` where its snapshot goes.
  BtrfsSnapshot(World& world, std::uint64_t size_bytes, const std::string& directory,
                std::string copy)
      : NbdkitFile(world, size_bytes, directory), copy_(std::move(copy)) {}
  [[nodiscard]] std::string name() const override { return "btrfs snapshot"; }
  void protect() override;
  [[nodiscard]] std::uint32_t verify_copy(const Content& content, std::uint32_t digest) override;
  void release() override;

 private:
  std::string copy_;
};

}  // namespace umbra::bench
