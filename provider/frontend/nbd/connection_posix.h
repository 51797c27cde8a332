// SPDX-License-Identifier: Apache-2.0
//
// One NBD client: negotiation, then requests to the device and replies back. Private to the server,
// and to nbd_device, whose client is the kernel: with it nothing is negotiated.
//
// Who owns a slot: free list (lock) → reader (fills it) → device (between submit and complete) →
// ready list (lock) → the sender of the moment → free list. There is at most one sender: the thread
// that found nobody sending when it had a reply. It sends without blocking; when the socket is full
// it hands the role to the helper thread, which may wait.
//
// End: the reader leaves at end of file, at an error, or when stop() shut the socket down. It then
// waits until every slot is free, so that no device callback can come any more.

#pragma once

#include <sys/uio.h>

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string_view>
#include <thread>
#include <vector>

#include "engine/platform/block.h"
#include "engine/platform/log.h"
#include "engine/platform/unique_fd.h"
#include "provider/frontend/nbd/buffer_pool.h"
#include "provider/frontend/nbd/negotiation.h"
#include "provider/frontend/nbd/server.h"
#include "provider/frontend/nbd/stream_posix.h"
#include "provider/frontend/nbd/tls_posix.h"
#include "provider/frontend/nbd/transmission.h"

namespace umbra::nbd {

/// Signals are for the main thread.
void block_signals_of_thread() noexcept;

class Connection {
 public:
  /// Called on the reader's thread. claim() pins the export and gives its device; null if it has
  /// gone since the negotiation.
  struct Host {
    const Catalog* catalog = nullptr;
    const TlsOptions* tls = nullptr;  // Null: none, plain bytes.
    std::string peer;                 // Whom the log names; empty on the local socket.
    std::optional<Agreement> agreed;  // The client knows it: no negotiation, no catalog.
    std::function<std::shared_ptr<block::Device>(Connection&, const std::string&)> claim;
    std::function<void(Connection&)> finished;  // The last thing the reader does.
  };

  Connection(UniqueFd socket, Host host, Log& log);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void start();
  /// Ends the connection soon; returns at once. Threads: any.
  void stop() noexcept;
  /// For Host::finished: the client has ended it in order.
  [[nodiscard]] bool said_goodbye() const noexcept { return said_goodbye_; }

 private:
  struct Slot {
    block::Request io;
    Connection* connection = nullptr;
    Request request;
    BufferPool::Buffer buffer;
    std::uint64_t left_bytes = 0;  // Of what is done in parts: after the part in flight.
    std::uint64_t part_bytes_max = 0;
    WireError error = WireError::none;
    std::array<std::byte, kReplyHeaderBytesMax> header{};
    std::size_t header_bytes = 0;
    std::size_t payload_bytes = 0;  // Of `buffer`, sent after the header.
    Slot* next = nullptr;
  };
  struct SlotList {
    Slot* first = nullptr;
    Slot* last = nullptr;
    void push(Slot& slot) noexcept;
    Slot* pop() noexcept;
  };
  enum class Sending : std::uint8_t { all, would_block, failed };

  static constexpr std::size_t kReceiveBytes = 128 * 1024;
  static constexpr std::size_t kSubmitBatch = 32;
  static constexpr std::size_t kSendBatch = 32;
  static constexpr std::size_t kSendRoundsMax = 8;  // Of a completing thread, then the helper's.

  /// A CACHE reads so much at once, and so much altogether: it is a hint.
  static constexpr std::uint64_t kCachePartBytes = 256U << 10U;
  static constexpr std::uint64_t kCacheBytesMax = std::uint64_t{1} << 30U;
  /// How long replies may take after the client's last request.
  static constexpr std::chrono::seconds kGoodbyeLimit{30};

  // The reader's thread.
  void run() noexcept;
  bool agree(const Agreement& agreement);
  bool negotiate();
  bool negotiate(Negotiation& negotiation);
  void turn_away(std::string_view reason) const;
  bool encrypt();
  bool send_all(std::span<const std::byte> bytes);
  bool receive_exactly(std::span<std::byte> to);
  bool serve();
  bool fill(std::span<std::byte> first_target);
  bool take_request();
  bool take_status_payload(Decision& decision);
  std::size_t buffer_bytes_for(const Request& request) const;
  bool take_payload(std::span<std::byte> to);
  bool discard_payload(std::size_t size);
  Slot& acquire(std::size_t buffer_bytes);
  void give_back(Slot& slot) noexcept;
  void begin(Slot& slot);
  void enqueue(Slot& slot);
  void submit_batch();
  void drain_in_flight();

  // Any thread.
  static void completed(block::Request& io) noexcept;
  void finish(Slot& slot, WireError error) noexcept;
  void ready(Slot& slot) noexcept;
  void give_to_helper(Slot& slot) noexcept;
  void send_ready(std::unique_lock<std::mutex>& lock, bool may_block) noexcept;
  bool take_outgoing() noexcept;
  Sending send_outgoing(bool may_block) noexcept;
  void recycle_sent(std::size_t count) noexcept;
  void drop_replies() noexcept;

  // The helper's thread.
  void help() noexcept;
  void continue_request(Slot& slot) noexcept;
  void answer_block_status(Slot& slot) noexcept;
  std::size_t allocation(const Request& request, std::span<StatusExtent> told) const noexcept;

  UniqueFd socket_;
  SocketStream plain_{socket_.get()};
  std::unique_ptr<TlsStream> encrypted_;
  Stream* stream_ = &plain_;
  Host host_;
  Logger log_;
  std::shared_ptr<block::Device> device_;
  Agreement agreement_;
  bool can_discard_ = false;
  std::size_t request_bytes_ = kRequestBytes;
  std::uint64_t part_bytes_max_ = 0;  // Of a write-zeroes or trim.

  // The reader's.
  std::vector<std::byte> received_;
  std::size_t received_begin_ = 0;
  std::size_t received_end_ = 0;
  bool said_goodbye_ = false;
  block::Request* batch_first_ = nullptr;
  block::Request* batch_last_ = nullptr;
  std::size_t batch_count_ = 0;

  std::mutex mutex_;
  std::condition_variable slot_free_;    // For the reader.
  std::condition_variable help_wanted_;  // For the helper.
  std::vector<Slot> slots_;
  SlotList free_;
  std::size_t free_count_ = 0;
  BufferPool buffers_{kBufferBytesMax};
  SlotList ready_;
  SlotList to_continue_;
  bool sending_ = false;       // Somebody has the sender's role.
  bool helper_sends_ = false;  // It is the helper's.
  bool broken_ = false;        // Replies cannot be sent any more.
  bool helper_stops_ = false;
  // The sender's.
  std::array<Slot*, kSendBatch> outgoing_{};
  std::array<iovec, 2 * kSendBatch> vectors_{};
  std::size_t outgoing_count_ = 0;
  std::size_t vector_begin_ = 0;
  std::size_t vector_count_ = 0;

  std::atomic<bool> stopped_{false};  // Nobody waits for what is done in parts any more.
  std::thread helper_;
  std::thread reader_;
};

}  // namespace umbra::nbd
