// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "engine/rpc/peer.h"

#include <boost/json/object.hpp>
#include <utility>

#include "engine/platform/log.h"

namespace umbra::rpc {
namespace {

namespace json = boost::json;

json::object envelope() {
  json::object object;
  object["jsonrpc"] = "2.0";
  return object;
}

// An id is a number or a short text; JSON-RPC's null id cannot be answered.
bool is_id(const Json& id) {
  if (id.is_int64() || id.is_uint64()) return true;
  return id.is_string() && id.get_string().size() <= kIdBytesMax;
}

bool is_version_2(const json::object& object) {
  const Json* version = object.if_contains("jsonrpc");
  return version != nullptr && version->is_string() && version->get_string() == "2.0";
}

}  // namespace

Status Peer::violation(std::string why) {
  dead_ = Error{Errc::protocol_violation, std::move(why)};
  refuse(nullptr, *dead_);
  return fail(*dead_);
}

Status Peer::feed(std::string_view bytes) {
  if (dead_) return fail(*dead_);
  while (!bytes.empty()) {
    const std::size_t end = bytes.find('\n');
    const std::string_view piece = bytes.substr(0, end);
    if (partial_.size() + piece.size() > limits_.line_bytes_max) {
      partial_ = {};
      return violation("a line is longer than " + std::to_string(limits_.line_bytes_max) +
                       " bytes");
    }
    if (end == std::string_view::npos) {
      partial_.append(piece);
      return {};
    }
    bytes.remove_prefix(end + 1);
    Status taken;
    if (partial_.empty()) {
      taken = take_line(piece);
    } else {
      partial_.append(piece);
      taken = take_line(std::exchange(partial_, {}));
    }
    if (!taken) return taken;
  }
  return {};
}

std::optional<Incoming> Peer::next() {
  if (incoming_.empty()) return std::nullopt;
  Incoming first = std::move(incoming_.front());
  incoming_.pop_front();
  return first;
}

Status Peer::take_line(std::string_view line) {
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  if (line.empty()) return {};  // Lets a person press Enter in socat.
  Result<Json> parsed = parse(line, limits_.memory_bytes_max);
  if (!parsed) return violation(parsed.error().context);
  if (!parsed->is_object()) return violation("a line is not a JSON object; batches are not served");
  json::object& object = parsed->get_object();
  if (!is_version_2(object)) return violation("the member jsonrpc is not \"2.0\"");
  return object.contains("method") ? take_request(object, line.size()) : take_reply(object);
}

Status Peer::take_request(json::object& object, std::size_t line_bytes) {
  Json& method = object["method"];
  if (!method.is_string() || method.get_string().size() > kMethodBytesMax) {
    return violation("the member method is not a short text");
  }
  std::string name(method.get_string());
  Json params;
  if (Json* given = object.if_contains("params")) params = std::move(*given);
  const Json* id = object.if_contains("id");
  if (id == nullptr) {
    incoming_.emplace_back(IncomingNotification{std::move(name), std::move(params)});
    return {};
  }
  if (!is_id(*id)) return violation("the member id is neither a number nor a short text");
  RequestId request{serialize(*id)};
  if (requests_.contains(request)) return violation("an id is used by two requests at a time");
  if (requests_.size() >= limits_.requests_in_flight_max) {
    refuse(*id,
           {Errc::limit_reached, "more than " + std::to_string(limits_.requests_in_flight_max) +
                                     " requests in flight on one connection"});
    return {};
  }
  if (!requests_.empty() && requests_bytes_ + line_bytes > limits_.requests_bytes_max) {
    refuse(*id, {Errc::limit_reached, "the requests in flight on one connection are longer than " +
                                          std::to_string(limits_.requests_bytes_max) +
                                          " bytes together"});
    return {};
  }
  requests_.emplace(request, line_bytes);
  requests_bytes_ += line_bytes;
  incoming_.emplace_back(IncomingRequest{std::move(request), std::move(name), std::move(params)});
  return {};
}

Status Peer::take_reply(json::object& object) {
  const Json* id = object.if_contains("id");
  Json* result = object.if_contains("result");
  const Json* error = object.if_contains("error");
  if ((result == nullptr) == (error == nullptr)) {
    return violation("a line is no request, and no reply with either result or error");
  }
  if (id == nullptr || id->is_null()) {
    // The peer could not even read the id of what it got from us; nothing can go on after that.
    const Error theirs = error != nullptr ? decode_error(*error) : Error{};
    dead_ = Error{Errc::protocol_violation, "the peer refused the connection: " + theirs.context};
    return fail(*dead_);
  }
  const bool number = id->is_int64() && id->get_int64() > 0;
  const auto call = number ? static_cast<CallId>(id->get_int64()) : 0;
  if (call == 0 || call >= next_call_) return violation("a reply to a call that was never made");
  if (calls_.erase(call) == 0) {
    ++stale_replies_;
    return {};
  }
  if (error != nullptr) {
    incoming_.emplace_back(IncomingReply{call, tl::unexpected<Error>(decode_error(*error))});
  } else {
    incoming_.emplace_back(IncomingReply{call, std::move(*result)});
  }
  return {};
}

Result<CallId> Peer::call(std::string_view method, Json params) {
  if (calls_.size() >= limits_.calls_in_flight_max) {
    return fail(Errc::limit_reached, "too many calls in flight on one connection");
  }
  json::object object = envelope();
  object["id"] = next_call_;
  object["method"] = method;
  object["params"] = std::move(params);
  if (const Status queued = queue(object); !queued) return fail(queued.error(), method);
  calls_.insert(next_call_);
  return next_call_++;
}

void Peer::forget(CallId call) { calls_.erase(call); }

Status Peer::notify(std::string_view method, Json params) {
  json::object object = envelope();
  object["method"] = method;
  object["params"] = std::move(params);
  return queue(object);
}

Status Peer::reply(const RequestId& id, const Result<Json>& result) {
  const auto answered = requests_.extract(id);
  if (answered.empty()) return fail(Errc::bad_state, "this request was answered before");
  requests_bytes_ -= answered.mapped();
  json::object object = envelope();
  // The id is our own serialisation of what the peer sent, so it parses.
  const Json original = *parse(id.text, limits_.memory_bytes_max);
  object["id"] = original;
  if (!result) {
    object["error"] = encode_error(result.error());
    return queue(object);
  }
  object["result"] = result->is_null() ? Json(json::object{}) : *result;
  const Status queued = queue(object);
  if (!queued) refuse(original, queued.error());
  return queued;
}

std::string Peer::take_output() { return std::exchange(output_, {}); }

Status Peer::queue(const json::object& object) {
  std::string line = serialize(object);
  if (line.size() > limits_.line_bytes_max) {
    return fail(Errc::invalid_argument, "a message of " + std::to_string(line.size()) +
                                            " bytes is longer than a line may be");
  }
  output_.append(line).push_back('\n');
  return {};
}

void Peer::refuse(const Json& id, const Error& error) {
  json::object object = envelope();
  object["id"] = id;
  object["error"] = encode_error(error);
  output_.append(serialize(object)).push_back('\n');
}

}  // namespace umbra::rpc
