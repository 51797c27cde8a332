// SPDX-License-Identifier: Apache-2.0
//
// qemu-storage-daemon: fleecing (copy-before-write into a file, read through snapshot-access), and
// internal snapshots of a qcow2 image.
#pragma once

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <string>

#include "bench/load/subject.h"
#include "bench/umbra/world.h"
#include "engine/platform/unique_fd.h"

namespace umbra::bench {

/// One qemu-storage-daemon and the conversation with it. Throws Skipped without one.
class StorageDaemon {
 public:
  StorageDaemon(World& world, const std::vector<std::string>& words);
  ~StorageDaemon();

  /// Its answer's "return". Throws Failed with its "desc".
  boost::json::value ask(const std::string& command, boost::json::object arguments = {});
  /// Exports a node by its own name, for writing if it can be.
  void add_export(const std::string& node, bool writable);
  /// Returns when it is gone, and its connections with it.
  void remove_export(const std::string& node);
  [[nodiscard]] std::string uri(const std::string& node) const;

 private:
  [[nodiscard]] std::string read_line();

  std::string socket_;
  std::string monitor_path_;
  Child child_;
  UniqueFd monitor_;
  std::string buffer_;
};

/// A raw file, with the copy-before-write filter over it while it is protected; its clusters are 64
/// KiB. Old data goes into a raw file of the volume's size, which is there and touched beforehand.
class QemuFleecing final : public Subject {
 public:
  QemuFleecing(World& world, std::uint64_t size_bytes);
  ~QemuFleecing() override;
  [[nodiscard]] std::string name() const override {
    return "qemu-storage-daemon copy-before-write (64 KiB)";
  }
  [[nodiscard]] std::string medium() const override { return medium_; }
  [[nodiscard]] std::string uri() const override;
  void protect() override;
  [[nodiscard]] std::uint32_t verify_copy(const Content& content, std::uint32_t digest) override;
  void release() override;

 private:
  std::string medium_;
  std::string file_;
  std::string target_;
  bool protected_ = false;
  std::optional<StorageDaemon> daemon_;
};

/// A qcow2 image, all of it allocated, with an internal snapshot while it is protected.
class Qcow2Internal final : public Subject {
 public:
  Qcow2Internal(World& world, std::uint64_t size_bytes);
  ~Qcow2Internal() override;
  [[nodiscard]] std::string name() const override { return "qcow2 internal snapshot (64 KiB)"; }
  [[nodiscard]] std::string medium() const override { return world_.medium(); }
  [[nodiscard]] std::string uri() const override { return daemon_->uri("live"); }
  void protect() override;
  [[nodiscard]] std::uint32_t verify_copy(const Content& content, std::uint32_t digest) override;
  void release() override;

 private:
  void start();
  World& world_;
  std::string file_;
  std::optional<StorageDaemon> daemon_;
};

}  // namespace umbra::bench
