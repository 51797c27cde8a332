// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Private to client.cc and management.cc.

#pragma once

#include <memory>
#include <utility>

#include "requester-sdk/src/link.h"
#include "umbra/requester/client.h"

namespace umbra::requester {

class Client::Impl {
 public:
  explicit Impl(std::unique_ptr<Link> link_) : link(std::move(link_)) {}
  std::unique_ptr<Link> link;
};

}  // namespace umbra::requester
