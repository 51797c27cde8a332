// SPDX-License-Identifier: Apache-2.0
#include "bench/baselines/nbdkit.h"

#include <filesystem>

#include "bench/harness/failure.h"

namespace umbra::bench {

NbdkitFile::NbdkitFile(World& world, std::uint64_t size_bytes, const std::string& directory)
    : world_(world),
      program_(require_program("nbdkit", "nbdkit")),
      directory_(directory.empty() ? world.scratch().path() : directory) {
  const std::string name = world.fresh_name("nbdkit");
  file_ = directory_ + "/" + name + ".img";
  socket_ = world.scratch().path(name + ".sock");
  make_touched_file(file_, size_bytes);
  serve(false);
}

NbdkitFile::~NbdkitFile() {
  server_.stop();
  std::error_code ignored;
  (void)std::filesystem::remove(file_, ignored);
  (void)std::filesystem::remove(socket_, ignored);
}

std::string NbdkitFile::uri() const { return "nbd+unix:///?socket=" + socket_; }

void NbdkitFile::serve(bool with_cow) {
  server_.stop();
  (void)std::filesystem::remove(socket_);
  std::vector<std::string> words{program_, "--foreground", "--unix", socket_};
  if (with_cow) words.emplace_back("--filter=cow");
  words.insert(words.end(), {"file", file_});
  ChildOptions options;
  options.log_path = world_.scratch().path("nbdkit.log");
  options.environment = {"TMPDIR=" + world_.scratch().path()};  // Of the overlay.
  server_ = Child::start(words, options);
  server_.wait_until_listening(socket_);
}

std::uint32_t NbdkitCow::verify_copy(const Content& content, std::uint32_t digest) {
  return verify_file(file(), content, digest, name() + ", the file below,");
}

void XfsReflink::protect() { clone_file(file(), file() + ".copy"); }

std::uint32_t XfsReflink::verify_copy(const Content& content, std::uint32_t digest) {
  return verify_file(file() + ".copy", content, digest, name());
}

void XfsReflink::release() { std::filesystem::remove(file() + ".copy"); }

void BtrfsSnapshot::protect() {
  (void)run_program(
      {require_program("btrfs", "btrfs-progs"), "subvolume", "snapshot", "-r", directory(), copy_});
}

std::uint32_t BtrfsSnapshot::verify_copy(const Content& content, std::uint32_t digest) {
  const auto name_in_copy = std::filesystem::path(file()).filename().string();
  return verify_file(copy_ + "/" + name_in_copy, content, digest, name());
}

void BtrfsSnapshot::release() {
  (void)run_program(
      {require_program("btrfs", "btrfs-progs"), "subvolume", "delete", "--commit-after", copy_});
}

}  // namespace umbra::bench
