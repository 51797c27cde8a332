// SPDX-License-Identifier: Apache-2.0
#include "provider/frontend/nbd/connection_posix.h"

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "engine/platform/assert.h"

namespace umbra::nbd {
namespace {

// The connection whose reader is inside submit() on this thread: its completions are only queued,
// and one send follows for all of them.
thread_local const Connection* t_submitting = nullptr;

void block_signals() {
  sigset_t all;
  sigfillset(&all);
  (void)pthread_sigmask(SIG_BLOCK, &all, nullptr);
}

block::Op op_of(Command command) {
  switch (command) {
    case Command::read: return block::Op::read;
    case Command::write: return block::Op::write;
    case Command::flush: return block::Op::flush;
    case Command::trim: return block::Op::discard;
    case Command::write_zeroes: return block::Op::write_zeroes;
    case Command::disconnect:
    case Command::cache:
    case Command::block_status: break;
  }
  UMBRA_UNREACHABLE();
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
  block_signals();
  if (negotiate()) {
    helper_ = std::thread([this] { help(); });
    serve();
    drain_in_flight();
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
  const timeval limit{kNegotiationSecondsMax, 0};
  (void)::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  (void)::setsockopt(socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  Negotiation negotiation(*host_.catalog);
  std::vector<std::byte> piece;
  while (true) {
    if (!send_all(negotiation.output())) return false;
    negotiation.clear_output();
    if (negotiation.state() != Negotiation::State::running) break;
    piece.resize(negotiation.wanted());
    if (!receive_exactly(piece)) return false;
    if (negotiation.feed(piece) != Negotiation::State::agreed) continue;
    // Before the client learns of it: whoever knows that it is connected must find it in use.
    device_ = host_.claim(*this, negotiation.agreement().export_name);
    if (device_ == nullptr) negotiation.export_has_gone();
  }
  if (negotiation.state() != Negotiation::State::agreed) return false;
  agreement_ = negotiation.agreement();
  const auto geometry = device_->geometry();
  can_discard_ = geometry.can_discard;
  part_bytes_max_ = std::max<std::uint64_t>(
      geometry.request_bytes_max / agreement_.block_bytes * agreement_.block_bytes,
      agreement_.block_bytes);
  const timeval none{0, 0};
  (void)::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &none, sizeof none);
  (void)::setsockopt(socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &none, sizeof none);
  return true;
}

bool Connection::send_all(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const auto sent = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(sent));
  }
  return true;
}

bool Connection::receive_exactly(std::span<std::byte> to) {
  while (!to.empty()) {
    const auto got = ::recv(socket_.get(), to.data(), to.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    to = to.subspan(static_cast<std::size_t>(got));
  }
  return true;
}

// --- the reader ------------------------------------------------------------------------------

void Connection::serve() {
  received_.resize(kReceiveBytes);
  while (!stopped_ && take_request()) {
  }
  submit_batch();
}

// Reads what the socket has: into `first_target` until it is full, the rest behind the bytes
// already received. Submits what is pending first, since it may have to wait. False at the end.
bool Connection::fill(std::span<std::byte> first_target) {
  submit_batch();
  while (true) {
    std::array<iovec, 2> vectors{};
    vectors[0] = {first_target.data(), first_target.size()};
    vectors[1] = {received_.data() + received_end_, received_.size() - received_end_};
    msghdr message{};
    message.msg_iov = first_target.empty() ? vectors.data() + 1 : vectors.data();
    message.msg_iovlen = first_target.empty() ? 1 : 2;
    const auto got = ::recvmsg(socket_.get(), &message, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    const auto size = static_cast<std::size_t>(got);
    if (size < first_target.size()) {
      first_target = first_target.subspan(size);
      continue;
    }
    received_end_ += size - first_target.size();
    return true;
  }
}

bool Connection::take_request() {
  while (received_end_ - received_begin_ < kRequestBytes) {
    // Keep the unread bytes at the front, so that a whole request always fits behind them.
    std::memmove(received_.data(), received_.data() + received_begin_,
                 received_end_ - received_begin_);
    received_end_ -= received_begin_;
    received_begin_ = 0;
    if (!fill({})) return false;
  }
  const auto decision = decide({received_.data() + received_begin_, kRequestBytes}, agreement_);
  received_begin_ += kRequestBytes;
  if (decision.verdict == Verdict::finish) return false;
  if (decision.verdict == Verdict::disconnect) {
    log_.warning("client broke the protocol; disconnected", {{"export", agreement_.export_name}});
    return false;
  }
  const auto command = decision.request.command;
  const bool perform = decision.verdict == Verdict::perform;
  std::size_t buffer_bytes = 0;
  if (perform && (command == Command::read || command == Command::write)) {
    buffer_bytes = decision.request.size_bytes;
  } else if (perform && command == Command::block_status) {
    buffer_bytes = kBlockStatusBytesMax;
  }
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
  if (request.command == Command::trim || request.command == Command::write_zeroes) {
    io.size_bytes = std::min<std::uint64_t>(io.size_bytes, part_bytes_max_);
    slot.left_bytes = request.size_bytes - io.size_bytes;
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
    Sent result = Sent::would_block;
    if (may_block || round < kSendRoundsMax) {
      lock.unlock();
      result = send_outgoing(may_block);
      lock.lock();
    }
    if (result == Sent::would_block) {
      helper_sends_ = true;
      help_wanted_.notify_one();
      return;
    }
    if (result == Sent::failed) {
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

Connection::Sent Connection::send_outgoing(bool may_block) noexcept {
  while (vector_begin_ < vector_count_) {
    msghdr message{};
    message.msg_iov = vectors_.data() + vector_begin_;
    message.msg_iovlen = vector_count_ - vector_begin_;
    const auto sent =
        ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL | (may_block ? 0 : MSG_DONTWAIT));
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return Sent::would_block;
    if (sent < 0) return Sent::failed;
    auto left = static_cast<std::size_t>(sent);
    while (vector_begin_ < vector_count_ && left >= vectors_[vector_begin_].iov_len) {
      left -= vectors_[vector_begin_++].iov_len;
    }
    if (vector_begin_ < vector_count_) {
      auto& vector = vectors_[vector_begin_];
      vector.iov_base = static_cast<std::byte*>(vector.iov_base) + left;
      vector.iov_len -= left;
    }
  }
  return Sent::all;
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

// --- the helper --------------------------------------------------------------------------------

void Connection::help() noexcept {
  block_signals();
  std::unique_lock lock(mutex_);
  while (true) {
    help_wanted_.wait(
        lock, [this] { return helper_stops_ || helper_sends_ || to_continue_.first != nullptr; });
    if (Slot* slot = to_continue_.pop()) {
      lock.unlock();
      continue_request(*slot);
      lock.lock();
      continue;
    }
    if (helper_sends_) {
      helper_sends_ = false;
      send_ready(lock, true);
      continue;
    }
    if (helper_stops_) return;
  }
}

void Connection::continue_request(Slot& slot) noexcept {
  if (slot.request.command == Command::block_status) return answer_block_status(slot);
  auto& io = slot.io;
  if (slot.left_bytes > 0) {
    io.offset_bytes += io.size_bytes;
    io.size_bytes = std::min<std::uint64_t>(slot.left_bytes, part_bytes_max_);
    slot.left_bytes -= io.size_bytes;
  } else {
    io.op = block::Op::flush;  // FUA of a trim, which the device's discard does not know.
  }
  io.next = nullptr;
  device_->submit(io);
}

void Connection::answer_block_status(Slot& slot) noexcept {
  std::array<block::Extent, kExtentsMax> extents{};
  const auto count = device_->extents(slot.request.offset_bytes, slot.request.size_bytes, extents);
  slot.header_bytes = 0;
  slot.payload_bytes = encode_block_status({slot.buffer.data, slot.buffer.capacity}, slot.request,
                                           {extents.data(), count});
  ready(slot);
}

}  // namespace umbra::nbd
