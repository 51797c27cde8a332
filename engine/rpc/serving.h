// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// What the tables of served calls are made of: from a message to a call and from its result back.

#pragma once

#include <utility>

#include "engine/rpc/codec.h"
#include "engine/rpc/messages.h"

namespace umbra::rpc {

/// A call that takes a message; `At` is what it is made on.
template <class Request, auto kCall, class At>
Result<Json> served(const At& at, const Json& params) {
  const Result<Request> request = decode<Request>(params);
  if (!request) return fail(request.error());
  return kCall(at, *request);
}

inline Result<Json> nothing_or(const Status& status) {
  if (!status) return fail(status.error());
  return encode(Nothing{});
}

/// The value in the message that carries it.
template <class Message, class Value>
Result<Json> reply(Result<Value> value) {
  if (!value) return fail(value.error());
  return encode(Message{std::move(*value)});
}
template <class Message>
Result<Json> reply_itself(const Result<Message>& message) {
  if (!message) return fail(message.error());
  return encode(*message);
}

inline Result<Json> started(const Result<OperationId>& operation) {
  if (!operation) return fail(operation.error());
  return encode(StartedProviderOperation{*operation});
}

}  // namespace umbra::rpc
