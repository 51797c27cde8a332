// SPDX-License-Identifier: Apache-2.0
#include "provider/frontend/nbd/connection_posix.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "engine/platform/assert.h"

namespace umbra::nbd {
namespace {

// The connection whose reader is inside submit() on this thread: its completions are only queued,
// and one send follows for all of them.
thread_local const Connection* t_submitting = nullptr;

block::Op op_of(Command command) {
  switch (command) {
    case Command::read: return block::Op::read;
    case Command::write: return block::Op::write;
    case Command::flush: return block::Op::flush;
    case Command::trim: return block::Op::discard;
    case Command::write_zeroes: return block::Op::write_zeroes;
    case Command::cache: return block::Op::read;
    case Command::disconnect:
    case Command::block_status: break;
  }
  UMBRA_UNREACHABLE();
}

// Of which only a part is with the device at a time.
bool is_in_parts(Command command) {
  return command == Command::trim || command == Command::write_zeroes || command == Command::cache;
}

}  // namespace

void Connection::SlotList::push(Slot& slot) noexcept {
  slot.next = nullptr;
  (last != nullptr ? last->next : first) = &slot;
  last = &slot;
}

Connection::Slot* Connection::SlotList::pop() noexcept {
  Slot* slot = first;
  if (slot == nullptr) return nullptr;
  first = slot->next;
  if (first == nullptr) last = nullptr;
  return slot;
}

Connection::Connection(UniqueFd socket, Host host, Log& log)
    : socket_(std::move(socket)), host_(std::move(host)), log_(log, "nbd"), slots_(kInFlightMax) {
  for (auto& slot : slots_) {
    slot.connection = this;
    slot.io.owner = &slot;
    slot.io.complete = completed;
    free_.push(slot);
  }
  free_count_ = slots_.size();
}

Connection::~Connection() {
  stop();
  if (reader_.joinable()) reader_.join();
}

void Connection::start() {
  reader_ = std::thread([this] { run(); });
}

void Connection::stop() noexcept {
  stopped_ = true;
  (void)::shutdown(socket_.get(), SHUT_RDWR);
}

void Connection::run() noexcept {
  block_signals_of_thread();
  if (host_.agreed ? agree(*host_.agreed) : negotiate()) {
    helper_ = std::thread([this] { help(); });
    // Who has left without a word waits for nothing that is done in parts.
    if (!serve()) stopped_ = true;
    drain_in_flight();
    stream_->say_goodbye();
    {
      const std::lock_guard lock(mutex_);
      helper_stops_ = true;
      help_wanted_.notify_one();
    }
    helper_.join();
  }
  // The client sees the end now, whoever still holds this object.
  (void)::shutdown(socket_.get(), SHUT_RDWR);
  device_.reset();
  host_.finished(*this);
}

bool Connection::negotiate() {
  Negotiation negotiation(*host_.catalog,
                          host_.tls != nullptr ? Encryption::required : Encryption::none);
  const bool agreed = negotiate(negotiation);
  if (!agreed && negotiation.state() != Negotiation::State::upgrading &&
      negotiation.encryption() == Encryption::required) {
    turn_away("it did not ask for TLS");
  }
  return agreed;
}

void Connection::turn_away(std::string_view reason) const {
  log_.warning("a client over TCP was turned away",
               {{"peer", host_.peer}, {"reason", printable(reason)}});
}

bool Connection::negotiate(Negotiation& negotiation) {
  const auto encrypted_by = std::chrono::steady_clock::now() + std::chrono::seconds(kTlsSecondsMax);
  std::vector<std::byte> piece;
  while (true) {
    const bool is_stranger = negotiation.encryption() == Encryption::required;
    plain_.set_deadline(is_stranger ? encrypted_by
                                    : std::chrono::steady_clock::now() +
                                          std::chrono::seconds(kNegotiationSecondsMax));
    if (!send_all(negotiation.output())) return false;
    negotiation.clear_output();
    if (negotiation.state() == Negotiation::State::upgrading) {
      if (!encrypt()) return false;
      negotiation.is_encrypted();
    }
    if (negotiation.state() != Negotiation::State::running) break;
    piece.resize(negotiation.wanted());
    if (!receive_exactly(piece)) return false;
    if (negotiation.feed(piece) != Negotiation::State::agreed) continue;
    // Before the client learns of it: whoever knows that it is connected must find it in use.
    device_ = host_.claim(*this, negotiation.agreement().export_name);
    if (device_ == nullptr) negotiation.export_has_gone();
  }
  plain_.set_deadline(std::nullopt);
  return negotiation.state() == Negotiation::State::agreed && agree(negotiation.agreement());
}

bool Connection::agree(const Agreement& agreement) {
  if (device_ == nullptr) device_ = host_.claim(*this, agreement.export_name);
  if (device_ == nullptr) return false;
  agreement_ = agreement;
  request_bytes_ = request_bytes(agreement_);
  const auto geometry = device_->geometry();
  can_discard_ = geometry.can_discard;
  part_bytes_max_ = std::max<std::uint64_t>(
      geometry.request_bytes_max / agreement_.block_bytes * agreement_.block_bytes,
      agreement_.block_bytes);
  if (encrypted_ != nullptr) {
    log_.info("a client reads or writes over TCP", {{"export", agreement_.export_name},
                                                    {"peer", host_.peer},
                                                    {"who", printable(encrypted_->peer())}});
  }
  return true;
}

bool Connection::encrypt() {
  auto encrypted = TlsStream::accept(plain_, *host_.tls);
  if (!encrypted) {
    // Our own files are an operator's business, a client's proof is the client's.
    if (encrypted.error().code == Errc::access_denied) {
      turn_away(encrypted.error().context);
    } else {
      log_.error("no client over TCP can be served",
                 {{"peer", host_.peer}, {"reason", encrypted.error().context}});
    }
    return false;
  }
  encrypted_ = std::move(*encrypted);
  stream_ = encrypted_.get();
  return true;
}

bool Connection::send_all(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const iovec vector{const_cast<std::byte*>(bytes.data()), bytes.size()};
    const auto outcome = stream_->send(std::span(&vector, 1), true);
    if (outcome.sent != Stream::Sent::some) return false;
    bytes = bytes.subspan(outcome.bytes);
  }
  return true;
}

bool Connection::receive_exactly(std::span<std::byte> to) {
  while (!to.empty()) {
    const iovec vector{to.data(), to.size()};
    const auto got = stream_->receive(std::span(&vector, 1));
    if (got == 0) return false;
    to = to.subspan(got);
  }
  return true;
}

// --- the reader ------------------------------------------------------------------------------

// True: the client said goodbye.
bool Connection::serve() {
  received_.resize(kReceiveBytes);
  while (!stopped_ && take_request()) {
  }
  submit_batch();
  return said_goodbye_;
}

// Reads what the socket has: into `first_target` until it is full, the rest behind the bytes
// already received. Submits what is pending first, since it may have to wait. False at the end.
bool Connection::fill(std::span<std::byte> first_target) {
  submit_batch();
  while (true) {
    const std::array<iovec, 2> vectors{
        iovec{first_target.data(), first_target.size()},
        iovec{received_.data() + received_end_, received_.size() - received_end_}};
    const auto got = stream_->receive(std::span(vectors).subspan(first_target.empty() ? 1 : 0));
    if (got == 0) return false;
    if (got < first_target.size()) {
      first_target = first_target.subspan(got);
      continue;
    }
    received_end_ += got - first_target.size();
    return true;
  }
}

bool Connection::take_request() {
  while (received_end_ - received_begin_ < request_bytes_) {
    // Keep the unread bytes at the front, so that a whole request always fits behind them.
    std::memmove(received_.data(), received_.data() + received_begin_,
                 received_end_ - received_begin_);
    received_end_ -= received_begin_;
    received_begin_ = 0;
    if (!fill({})) return false;
  }
  auto decision = decide({received_.data() + received_begin_, request_bytes_}, agreement_);
  received_begin_ += request_bytes_;
  if (decision.verdict == Verdict::finish) {
    said_goodbye_ = true;
    return false;
  }
  if (decision.verdict == Verdict::disconnect) {
    log_.warning("client broke the protocol; disconnected", {{"export", agreement_.export_name}});
    return false;
  }
  if (decision.request.command == Command::block_status && !take_status_payload(decision)) {
    return false;
  }
  const bool perform = decision.verdict == Verdict::perform;
  const std::size_t buffer_bytes = perform ? buffer_bytes_for(decision.request) : 0;
  Slot& slot = acquire(buffer_bytes);
  slot.request = decision.request;
  if (!perform) {
    if (!discard_payload(decision.payload_bytes)) return give_back(slot), false;
    finish(slot, decision.error);
    return true;
  }
  if (decision.payload_bytes > 0 && !take_payload({slot.buffer.data, decision.payload_bytes})) {
    return give_back(slot), false;
  }
  begin(slot);
  return true;
}

// What the client asks for is in the payload, and decided with it. Afterwards it has none.
bool Connection::take_status_payload(Decision& decision) {
  const std::size_t size = decision.payload_bytes;
  if (size == 0 || decision.verdict != Verdict::perform) return true;
  std::array<std::byte, kStatusPayloadBytesMax> payload{};
  if (!take_payload(std::span(payload).first(size))) return false;
  decision = decide_status(decision, std::span(payload).first(size), agreement_);
  decision.payload_bytes = 0;
  return true;
}

std::size_t Connection::buffer_bytes_for(const Request& request) const {
  switch (request.command) {
    case Command::read:
    case Command::write: return request.size_bytes;
    case Command::block_status: return agreement_.contexts.size() * kBlockStatusBytesMax;
    case Command::cache:
      return std::min(
          {request.size_bytes, kCachePartBytes, std::uint64_t{agreement_.payload_bytes_max}});
    default: return 0;
  }
}

void Connection::give_back(Slot& slot) noexcept {
  const std::lock_guard lock(mutex_);
  buffers_.release(std::exchange(slot.buffer, {}));
  free_.push(slot);
  ++free_count_;
}

bool Connection::take_payload(std::span<std::byte> to) {
  const auto here = std::min(to.size(), received_end_ - received_begin_);
  std::memcpy(to.data(), received_.data() + received_begin_, here);
  received_begin_ += here;
  if (here == to.size()) return true;
  received_begin_ = received_end_ = 0;
  return fill(to.subspan(here));
}

bool Connection::discard_payload(std::size_t size) {
  while (true) {
    const auto here = std::min(size, received_end_ - received_begin_);
    received_begin_ += here;
    size -= here;
    if (size == 0) return true;
    received_begin_ = received_end_ = 0;
    if (!fill({})) return false;
  }
}

// Waits for a free slot, and for the budget if a buffer is wanted.
Connection::Slot& Connection::acquire(std::size_t buffer_bytes) {
  std::unique_lock lock(mutex_);
  BufferPool::Buffer buffer;
  const auto have_all = [&] {
    if (free_.first == nullptr) return false;
    if (buffer_bytes > 0 && buffer.data == nullptr) buffer = buffers_.acquire(buffer_bytes);
    return buffer_bytes == 0 || buffer.data != nullptr;
  };
  if (!have_all()) {
    lock.unlock();
    submit_batch();  // What we wait for may be in it.
    lock.lock();
    slot_free_.wait(lock, have_all);
  }
  Slot& slot = *free_.pop();
  --free_count_;
  slot.buffer = buffer;
  slot.payload_bytes = 0;
  slot.left_bytes = 0;
  return slot;
}

// Turns the slot's request into the device's.
void Connection::begin(Slot& slot) {
  const auto& request = slot.request;
  if (request.command == Command::block_status) return give_to_helper(slot);
  if (request.command == Command::flush && (agreement_.transmission_flags & kReadOnly) != 0) {
    return finish(slot, WireError::none);
  }
  auto& io = slot.io;
  io.op = op_of(request.command);
  io.fua = (request.flags & kCommandFua) != 0 &&
           (request.command == Command::write || request.command == Command::write_zeroes);
  io.no_hole = (request.flags & kCommandNoHole) != 0;
  io.error = 0;
  io.offset_bytes = request.offset_bytes;
  io.size_bytes = request.size_bytes;
  io.buffer = slot.buffer.data;
  if (is_in_parts(request.command)) {
    const bool caches = request.command == Command::cache;
    slot.part_bytes_max = caches ? buffer_bytes_for(request) : part_bytes_max_;
    const auto whole = caches ? std::min(io.size_bytes, kCacheBytesMax) : io.size_bytes;
    io.size_bytes = std::min(io.size_bytes, slot.part_bytes_max);
    slot.left_bytes = whole - io.size_bytes;
  }
  enqueue(slot);
}

void Connection::enqueue(Slot& slot) {
  slot.io.next = nullptr;
  (batch_last_ != nullptr ? batch_last_->next : batch_first_) = &slot.io;
  batch_last_ = &slot.io;
  if (++batch_count_ >= kSubmitBatch) submit_batch();
}

void Connection::submit_batch() {
  if (batch_first_ == nullptr) return;
  block::Request& first = *batch_first_;
  batch_first_ = batch_last_ = nullptr;
  batch_count_ = 0;
  t_submitting = this;
  device_->submit(first);
  t_submitting = nullptr;
  std::unique_lock lock(mutex_);
  if (ready_.first == nullptr || sending_) return;
  sending_ = true;
  send_ready(lock, false);
}

void Connection::drain_in_flight() {
  const auto all_free = [this] { return free_count_ == slots_.size() && !sending_; };
  std::unique_lock lock(mutex_);
  if (slot_free_.wait_for(lock, kGoodbyeLimit, all_free)) return;
  // The client has left without reading its replies, or the device is slow; sending must not wait
  // any longer, the device we wait for.
  stopped_ = true;
  (void)::shutdown(socket_.get(), SHUT_RDWR);
  slot_free_.wait(lock, all_free);
}

// --- completion and sending: any thread --------------------------------------------------------

void Connection::completed(block::Request& io) noexcept {
  Slot& slot = *static_cast<Slot*>(io.owner);
  Connection& self = *slot.connection;
  const bool more = slot.left_bytes > 0 ||
                    (slot.request.command == Command::trim && io.op == block::Op::discard &&
                     (slot.request.flags & kCommandFua) != 0);
  // Not from here: a device that completes inside submit() would recurse once per part.
  if (io.error == 0 && more) return self.give_to_helper(slot);
  self.finish(slot, wire_error(io.error));
}

void Connection::finish(Slot& slot, WireError error) noexcept {
  slot.error = error;
  slot.payload_bytes = error == WireError::none && slot.request.command == Command::read
                           ? slot.request.size_bytes
                           : 0;
  slot.header_bytes = encode_reply(slot.header, agreement_, slot.request, error);
  ready(slot);
}

void Connection::ready(Slot& slot) noexcept {
  std::unique_lock lock(mutex_);
  ready_.push(slot);
  if (sending_ || t_submitting == this) return;
  sending_ = true;
  send_ready(lock, false);
}

void Connection::give_to_helper(Slot& slot) noexcept {
  const std::lock_guard lock(mutex_);
  to_continue_.push(slot);
  help_wanted_.notify_one();
}

// Runs with the sender's role and the lock; gives up the role before it returns, or hands it to the
// helper.
void Connection::send_ready(std::unique_lock<std::mutex>& lock, bool may_block) noexcept {
  for (std::size_t round = 0;; ++round) {
    if (broken_) drop_replies();
    if (!take_outgoing()) {
      sending_ = false;
      if (free_count_ == slots_.size()) slot_free_.notify_one();
      return;
    }
    Sending result = Sending::would_block;
    if (may_block || round < kSendRoundsMax) {
      lock.unlock();
      result = send_outgoing(may_block);
      lock.lock();
    }
    if (result == Sending::would_block) {
      helper_sends_ = true;
      help_wanted_.notify_one();
      return;
    }
    if (result == Sending::failed) {
      broken_ = true;
      (void)::shutdown(socket_.get(), SHUT_RDWR);  // The reader leaves.
    }
    recycle_sent(outgoing_count_);
  }
}

// Moves ready replies to the sender's vectors, unless some are still there. False: nothing to send.
bool Connection::take_outgoing() noexcept {
  if (outgoing_count_ > 0) return true;
  vector_begin_ = vector_count_ = 0;
  while (outgoing_count_ < kSendBatch && ready_.first != nullptr) {
    Slot& slot = *ready_.pop();
    outgoing_[outgoing_count_++] = &slot;
    vectors_[vector_count_++] = {slot.header.data(), slot.header_bytes};
    if (slot.payload_bytes > 0) vectors_[vector_count_++] = {slot.buffer.data, slot.payload_bytes};
  }
  return outgoing_count_ > 0;
}

Connection::Sending Connection::send_outgoing(bool may_block) noexcept {
  while (vector_begin_ < vector_count_) {
    const auto outcome =
        stream_->send({vectors_.data() + vector_begin_, vector_count_ - vector_begin_}, may_block);
    if (outcome.sent == Stream::Sent::would_block) return Sending::would_block;
    if (outcome.sent == Stream::Sent::failed) return Sending::failed;
    auto left = outcome.bytes;
    while (vector_begin_ < vector_count_ && left >= vectors_[vector_begin_].iov_len) {
      left -= vectors_[vector_begin_++].iov_len;
    }
    if (vector_begin_ < vector_count_) {
      auto& vector = vectors_[vector_begin_];
      vector.iov_base = static_cast<std::byte*>(vector.iov_base) + left;
      vector.iov_len -= left;
    }
  }
  return Sending::all;
}

void Connection::recycle_sent(std::size_t count) noexcept {
  for (std::size_t i = 0; i < count; ++i) {
    Slot& slot = *outgoing_[i];
    buffers_.release(std::exchange(slot.buffer, {}));
    free_.push(slot);
  }
  free_count_ += count;
  outgoing_count_ = 0;
  slot_free_.notify_one();
}

void Connection::drop_replies() noexcept {
  while (take_outgoing()) recycle_sent(outgoing_count_);
}

}  // namespace umbra::nbd
