// SPDX-License-Identifier: Apache-2.0
//
// Requests that wait for something. Private to provider/cow.

#pragma once

#include <utility>

#include "engine/platform/block.h"

namespace umbra::cow {

/// A FIFO of requests, linked by Request::next.
class RequestQueue {
 public:
  void push(block::Request& request) noexcept {
    request.next = nullptr;
    (tail_ != nullptr ? tail_->next : head_) = &request;
    tail_ = &request;
  }
  /// Moves everything of `other` to the end.
  void append(RequestQueue& other) noexcept {
    if (other.head_ == nullptr) return;
    (tail_ != nullptr ? tail_->next : head_) = other.head_;
    tail_ = other.tail_;
    other.head_ = other.tail_ = nullptr;
  }
  /// Takes all, chained.
  [[nodiscard]] block::Request* take() noexcept {
    tail_ = nullptr;
    return std::exchange(head_, nullptr);
  }
  [[nodiscard]] block::Request* pop() noexcept {
    block::Request* first = head_;
    if (first != nullptr && (head_ = std::exchange(first->next, nullptr)) == nullptr) {
      tail_ = nullptr;
    }
    return first;
  }
  /// To be followed by Request::next.
  [[nodiscard]] const block::Request* front() const noexcept { return head_; }
  [[nodiscard]] bool empty() const noexcept { return head_ == nullptr; }

 private:
  block::Request* head_ = nullptr;
  block::Request* tail_ = nullptr;
};

}  // namespace umbra::cow
