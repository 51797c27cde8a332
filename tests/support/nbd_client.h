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
#include "provider/frontend/nbd/contexts.h"
#include "provider/frontend/nbd/protocol.h"
#include "umbra/result.h"

namespace umbra::test {

struct NbdOptions {
  bool structured_replies = true;
  bool extended_headers = false;
  bool allocation_context = true;       // Only with structured replies or extended headers.
  std::vector<std::string> contexts{};  // Others, as well.
  bool by_export_name = false;          // NBD_OPT_EXPORT_NAME instead of NBD_OPT_GO.
};

struct NbdReply {
  std::uint64_t cookie = 0;
  std::uint32_t error = 0;             // A number of the protocol; 0 for success.
  std::vector<block::Extent> extents;  // Of base:allocation.
  std::map<std::string, std::vector<nbd::StatusExtent>> contexts;  // Of each that told something.
};

class NbdClient {
 public:
  [[nodiscard]] static Result<std::unique_ptr<NbdClient>> connect(const std::string& socket_path,
                                                                  const std::string& export_name,
                                                                  const NbdOptions& options = {});

  [[nodiscard]] std::uint64_t size_bytes() const { return size_bytes_; }
  [[nodiscard]] std::uint16_t flags() const { return flags_; }
  [[nodiscard]] std::uint32_t block_bytes() const { return block_bytes_; }
  [[nodiscard]] bool has_allocation_context() const {
    return contexts_.contains("base:allocation");
  }
  [[nodiscard]] const std::map<std::string, std::uint32_t>& contexts() const { return contexts_; }

  /// `data` is what a WRITE sends, or where a READ's data will be put: it must live until its
  /// reply. Cookies in flight must differ.
  [[nodiscard]] Status send(nbd::Command command, std::uint64_t cookie, std::uint64_t offset_bytes,
                            std::uint64_t size_bytes, std::byte* data = nullptr,
                            std::uint16_t flags = 0);
  [[nodiscard]] Result<NbdReply> receive();
  /// send() and receive() with nothing else in flight.
  [[nodiscard]] Result<NbdReply> run(nbd::Command command, std::uint64_t offset_bytes,
                                     std::uint64_t size_bytes, std::byte* data = nullptr,
                                     std::uint16_t flags = 0);
  /// BLOCK_STATUS of some of the contexts only; with extended headers.
  [[nodiscard]] Result<NbdReply> status_of(std::uint64_t offset_bytes, std::uint64_t size_bytes,
                                           std::span<const std::uint32_t> ids);
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
    std::uint64_t size_bytes;
    std::byte* data;
  };
  struct Chunk {
    std::uint16_t flags;
    std::uint16_t type;
    std::uint64_t size_bytes;
  };
  Status negotiate(const std::string& export_name, const NbdOptions& options);
  Status option(nbd::Option option, std::span<const std::byte> data);
  Status option_replies(nbd::Option option);
  Status get(std::span<std::byte> to);
  Status put_header(nbd::Command command, std::uint64_t cookie, std::uint64_t offset_bytes,
                    std::uint64_t size_bytes, std::uint16_t flags);
  Result<NbdReply> receive_extended();
  Status get_chunks(Chunk chunk, const Pending& request, NbdReply& reply);
  Status get_chunk(const Chunk& chunk, const Pending& request, NbdReply& reply);
  Status get_extents(std::uint64_t size, NbdReply& reply);
  std::optional<Pending> pending(std::uint64_t cookie, bool take);

  UniqueFd socket_;
  std::uint64_t size_bytes_ = 0;
  std::uint16_t flags_ = 0;
  std::uint32_t block_bytes_ = 1;
  bool structured_ = false;
  bool extended_ = false;
  std::map<std::string, std::uint32_t> contexts_;
  std::mutex mutex_;
  std::map<std::uint64_t, Pending> pending_;
};

}  // namespace umbra::test
