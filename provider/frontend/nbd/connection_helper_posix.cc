// SPDX-License-Identifier: Apache-2.0
//
// The connection's helper thread: what may block or takes long.
#include <signal.h>

#include <algorithm>

#include "provider/frontend/nbd/connection_posix.h"

namespace umbra::nbd {

void block_signals_of_thread() noexcept {
  sigset_t all;
  sigfillset(&all);
  (void)pthread_sigmask(SIG_BLOCK, &all, nullptr);
}

void Connection::help() noexcept {
  block_signals_of_thread();
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
  if (stopped_) return finish(slot, WireError::shutdown);
  auto& io = slot.io;
  if (slot.left_bytes > 0) {
    io.offset_bytes += io.size_bytes;
    io.size_bytes = std::min(slot.left_bytes, slot.part_bytes_max);
    slot.left_bytes -= io.size_bytes;
  } else {
    io.op = block::Op::flush;  // FUA of a trim, which the device's discard does not know.
  }
  io.next = nullptr;
  device_->submit(io);
}

void Connection::answer_block_status(Slot& slot) noexcept {
  const auto& request = slot.request;
  const auto& contexts = agreement_.contexts;
  std::array<StatusExtent, kExtentsMax> told{};
  const auto all = static_cast<std::uint32_t>((std::uint64_t{1} << contexts.size()) - 1);
  auto left = request.contexts & all;
  slot.header_bytes = slot.payload_bytes = 0;
  for (std::size_t i = 0; i < contexts.size(); ++i) {
    if ((left >> i & 1U) == 0) continue;
    left &= ~(1U << i);
    const auto count =
        contexts[i].context == nullptr
            ? allocation(request, told)
            : contexts[i].context->extents(request.offset_bytes, request.size_bytes, told);
    const std::span<std::byte> rest(slot.buffer.data, slot.buffer.capacity);
    slot.payload_bytes +=
        encode_block_status(rest.subspan(slot.payload_bytes), agreement_, request, contexts[i].id,
                            std::span(told).first(count), left == 0);
  }
  ready(slot);
}

std::size_t Connection::allocation(const Request& request,
                                   std::span<StatusExtent> told) const noexcept {
  std::array<block::Extent, kExtentsMax> extents{};
  const auto count = device_->extents(request.offset_bytes, request.size_bytes, extents);
  std::transform(extents.begin(), extents.begin() + count, told.begin(), allocation_status);
  return count;
}

}  // namespace umbra::nbd
