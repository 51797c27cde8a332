// SPDX-License-Identifier: Apache-2.0
//
// A small NBD client for tests and the stamping workload: negotiates once, then sends requests
// without waiting and receives replies in whatever order they come. Strict: a reply that the
// protocol does not allow is an error, never ignored.
//
// Threads: one for send(), one for receive(), at the same time or the same thread.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/platform/block.h"
#include "engine/platform/unique_fd.h"
#include "provider/frontend/nbd/protocol.h"
#include "umbra/result.h"

namespace umbra::test {

struct NbdOptions {
  bool structured_replies = true;
  bool allocation_context = true;  // Only with structured replies.
  bool by_export_name = false;     // NBD_OPT_EXPORT_NAME instead of NBD_OPT_GO.
};

struct NbdReply {
  std::uint64_t cookie = 0;
  std::uint32_t error = 0;  // A number of the protocol; 0 for success.
  std::vector<block::Extent> extents;
};

class NbdClient {
 public:
  [[nodiscard]] static Result<std::unique_ptr<NbdClient>> connect(const std::string& socket_path,
                                                                  const std::string& export_name,
                                                                  const NbdOptions& options = {});

  [[nodiscard]] std::uint64_t size_bytes() const { return size_bytes_; }
  [[nodiscard]] std::uint16_t flags() const { return flags_; }
  [[nodiscard]] std::uint32_t block_bytes() const { return block_bytes_; }
  [[nodiscard]] bool has_allocation_context() const { return allocation_context_; }

  /// `data` is what a WRITE sends, or where a READ's data will be put: it must live until its
  /// reply. Cookies in flight must differ.
  [[nodiscard]] Status send(nbd::Command command, std::uint64_t cookie, std::uint64_t offset_bytes,
                            std::uint32_t size_bytes, std::byte* data = nullptr,
                            std::uint16_t flags = 0);
  [[nodiscard]] Result<NbdReply> receive();
  /// send() and receive() with nothing else in flight.
  [[nodiscard]] Result<NbdReply> run(nbd::Command command, std::uint64_t offset_bytes,
                                     std::uint32_t size_bytes, std::byte* data = nullptr,
                                     std::uint16_t flags = 0);
  /// Raw bytes, for misuse.
  [[nodiscard]] Status send_raw(std::span<const std::byte> bytes);
  /// True if the server ended the connection; waits for it.
  [[nodiscard]] bool at_end();
  void shut_down();
  [[nodiscard]] int socket() const { return socket_.get(); }

 private:
  struct Pending {
    nbd::Command command;
    std::uint64_t offset_bytes;
    std::uint32_t size_bytes;
    std::byte* data;
  };
  Status negotiate(const std::string& export_name, const NbdOptions& options);
  Status option(nbd::Option option, std::span<const std::byte> data);
  Status option_replies(nbd::Option option);
  Status get(std::span<std::byte> to);
  Status get_chunks(std::span<const std::byte> head, NbdReply& reply);
  Status get_extents(std::uint32_t size, NbdReply& reply);
  std::optional<Pending> pending(std::uint64_t cookie, bool take);

  UniqueFd socket_;
  std::uint64_t size_bytes_ = 0;
  std::uint16_t flags_ = 0;
  std::uint32_t block_bytes_ = 1;
  bool structured_ = false;
  bool allocation_context_ = false;
  std::mutex mutex_;
  std::map<std::uint64_t, Pending> pending_;
};

}  // namespace umbra::test
