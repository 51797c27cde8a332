// SPDX-License-Identifier: Apache-2.0
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "tests/support/nbd_client.h"

namespace umbra::test {
namespace {

using nbd::load_be;
using nbd::store_be;

constexpr std::uint64_t kStatusBytesMax = 1U << 20U;  // Of one context; our server sends less.

void append_text(std::vector<std::byte>& to, std::string_view text, bool with_length) {
  const auto old = to.size();
  to.resize(old + (with_length ? 4 : 0) + text.size());
  if (with_length) store_be(to.data() + old, static_cast<std::uint32_t>(text.size()));
  std::memcpy(to.data() + to.size() - text.size(), text.data(), text.size());
}

Status put(int socket, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const auto sent = ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return fail(Errc::io_error, "nbd send: " + std::to_string(errno));
    bytes = bytes.subspan(static_cast<std::size_t>(sent));
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<NbdClient>> NbdClient::connect(const std::string& socket_path,
                                                      const std::string& export_name,
                                                      const NbdOptions& options) {
  auto client = std::make_unique<NbdClient>();
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket_path.size() >= sizeof address.sun_path) {
    return fail(Errc::invalid_argument, "socket path too long");
  }
  std::memcpy(address.sun_path, socket_path.data(), socket_path.size());
  client->socket_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::connect(client->socket_.get(), reinterpret_cast<const sockaddr*>(&address),
                sizeof address) != 0) {
    return fail(Errc::io_error, "nbd connect to " + socket_path + ": " + std::to_string(errno));
  }
  if (const auto done = client->negotiate(export_name, options); !done) return fail(done.error());
  return client;
}

Status NbdClient::get(std::span<std::byte> to) {
  while (!to.empty()) {
    const auto got = ::recv(socket_.get(), to.data(), to.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return fail(Errc::coordinator_lost, "nbd: the server ended the connection");
    to = to.subspan(static_cast<std::size_t>(got));
  }
  return {};
}

Status NbdClient::option(nbd::Option option, std::span<const std::byte> data) {
  std::vector<std::byte> bytes(nbd::kOptionHeaderBytes);
  store_be(bytes.data(), nbd::kMagicOption);
  store_be(bytes.data() + 8, static_cast<std::uint32_t>(option));
  store_be(bytes.data() + 12, static_cast<std::uint32_t>(data.size()));
  bytes.insert(bytes.end(), data.begin(), data.end());
  return put(socket_.get(), bytes);
}

// Reads replies until ack or an error.
Status NbdClient::option_replies(nbd::Option option) {
  while (true) {
    std::array<std::byte, nbd::kOptionReplyHeaderBytes> head{};
    if (const auto got = get(head); !got) return got;
    if (load_be<std::uint64_t>(head.data()) != nbd::kMagicOptionReply ||
        load_be<std::uint32_t>(head.data() + 8) != static_cast<std::uint32_t>(option)) {
      return fail(Errc::protocol_violation, "nbd: option reply");
    }
    const auto type = load_be<std::uint32_t>(head.data() + 12);
    std::vector<std::byte> data(load_be<std::uint32_t>(head.data() + 16));
    if (const auto got = get(data); !got) return got;
    if (type == static_cast<std::uint32_t>(nbd::OptionReply::ack)) return {};
    if ((type & 0x80000000U) != 0) {
      return fail(Errc::object_not_found,
                  "nbd option refused: " +
                      std::string(reinterpret_cast<const char*>(data.data()), data.size()));
    }
    if (type == static_cast<std::uint32_t>(nbd::OptionReply::meta_context)) {
      contexts_[{reinterpret_cast<const char*>(data.data()) + 4, data.size() - 4}] =
          load_be<std::uint32_t>(data.data());
    }
    if (type != static_cast<std::uint32_t>(nbd::OptionReply::info) || data.size() < 2) continue;
    const auto info = load_be<std::uint16_t>(data.data());
    if (info == nbd::kInfoExport && data.size() == 12) {
      size_bytes_ = load_be<std::uint64_t>(data.data() + 2);
      flags_ = load_be<std::uint16_t>(data.data() + 10);
    } else if (info == nbd::kInfoBlockSize && data.size() == 14) {
      block_bytes_ = load_be<std::uint32_t>(data.data() + 2);
    }
  }
}

Status NbdClient::negotiate(const std::string& export_name, const NbdOptions& options) {
  std::array<std::byte, nbd::kGreetingBytes> greeting{};
  if (const auto got = get(greeting); !got) return got;
  std::array<std::byte, 4> client_flags{};
  store_be(client_flags.data(), nbd::kFlagFixedNewstyle | nbd::kFlagNoZeroes);
  if (const auto sent = put(socket_.get(), client_flags); !sent) return sent;
  if (options.structured_replies) {
    if (const auto sent = option(nbd::Option::structured_reply, {}); !sent) return sent;
    if (const auto got = option_replies(nbd::Option::structured_reply); !got) return got;
    structured_ = true;
  }
  if (options.extended_headers) {
    if (const auto sent = option(nbd::Option::extended_headers, {}); !sent) return sent;
    if (const auto got = option_replies(nbd::Option::extended_headers); !got) return got;
    extended_ = true;
  }
  std::vector<std::byte> data;
  std::vector<std::string> contexts = options.contexts;
  if (options.allocation_context) contexts.emplace_back("base:allocation");
  if ((structured_ || extended_) && !contexts.empty()) {
    append_text(data, export_name, true);
    data.resize(data.size() + 4);
    store_be(data.data() + data.size() - 4, static_cast<std::uint32_t>(contexts.size()));
    for (const auto& context : contexts) append_text(data, context, true);
    if (const auto sent = option(nbd::Option::set_meta_context, data); !sent) return sent;
    if (const auto got = option_replies(nbd::Option::set_meta_context); !got) return got;
  }
  data.clear();
  if (options.by_export_name) {
    append_text(data, export_name, false);
    if (const auto sent = option(nbd::Option::export_name, data); !sent) return sent;
    std::array<std::byte, 10> head{};
    if (const auto got = get(head); !got) return got;
    size_bytes_ = load_be<std::uint64_t>(head.data());
    flags_ = load_be<std::uint16_t>(head.data() + 8);
    return {};
  }
  append_text(data, export_name, true);
  data.resize(data.size() + 4);
  store_be(data.data() + data.size() - 4, std::uint16_t{1});
  store_be(data.data() + data.size() - 2, nbd::kInfoBlockSize);
  if (const auto sent = option(nbd::Option::go, data); !sent) return sent;
  return option_replies(nbd::Option::go);
}

Status NbdClient::put_header(nbd::Command command, std::uint64_t cookie, std::uint64_t offset_bytes,
                             std::uint64_t size_bytes, std::uint16_t flags) {
  std::array<std::byte, nbd::kExtendedRequestBytes> head{};
  store_be(head.data(), extended_ ? nbd::kMagicExtendedRequest : nbd::kMagicRequest);
  store_be(head.data() + 4, flags);
  store_be(head.data() + 6, static_cast<std::uint16_t>(command));
  store_be(head.data() + 8, cookie);
  store_be(head.data() + 16, offset_bytes);
  if (extended_) {
    store_be(head.data() + 24, size_bytes);
    return put(socket_.get(), head);
  }
  store_be(head.data() + 24, static_cast<std::uint32_t>(size_bytes));
  return put(socket_.get(), std::span(head).first(nbd::kRequestBytes));
}

Status NbdClient::send(nbd::Command command, std::uint64_t cookie, std::uint64_t offset_bytes,
                       std::uint64_t size_bytes, std::byte* data, std::uint16_t flags) {
  const bool writes = command == nbd::Command::write;
  if (extended_ && writes) flags |= nbd::kCommandPayloadLength;
  {
    const std::lock_guard lock(mutex_);
    pending_[cookie] = Pending{command, offset_bytes, size_bytes, data};
  }
  const auto sent = put_header(command, cookie, offset_bytes, size_bytes, flags);
  return sent && writes ? put(socket_.get(), {data, size_bytes}) : sent;
}

Result<NbdReply> NbdClient::status_of(std::uint64_t offset_bytes, std::uint64_t size_bytes,
                                      std::span<const std::uint32_t> ids) {
  constexpr std::uint64_t kCookie = 0x7374617475735F5F;
  std::vector<std::byte> payload(8 + 4 * ids.size());
  store_be(payload.data(), size_bytes);
  for (std::size_t i = 0; i < ids.size(); ++i) store_be(payload.data() + 8 + 4 * i, ids[i]);
  {
    const std::lock_guard lock(mutex_);
    pending_[kCookie] = Pending{nbd::Command::block_status, offset_bytes, size_bytes, nullptr};
  }
  Status sent = put_header(nbd::Command::block_status, kCookie, offset_bytes, payload.size(),
                           nbd::kCommandPayloadLength);
  if (sent) sent = put(socket_.get(), payload);
  if (!sent) return fail(sent.error());
  return receive();
}

Status NbdClient::send_raw(std::span<const std::byte> bytes) { return put(socket_.get(), bytes); }

std::optional<NbdClient::Pending> NbdClient::pending(std::uint64_t cookie, bool take) {
  const std::lock_guard lock(mutex_);
  const auto found = pending_.find(cookie);
  if (found == pending_.end()) return std::nullopt;
  const auto copy = found->second;
  if (take) pending_.erase(found);
  return copy;
}

Result<NbdReply> NbdClient::receive() {
  if (extended_) return receive_extended();
  std::array<std::byte, nbd::kSimpleReplyBytes> head{};
  if (const auto got = get(head); !got) return fail(got.error());
  NbdReply reply;
  reply.cookie = load_be<std::uint64_t>(head.data() + 8);
  const auto request = pending(reply.cookie, true);
  if (!request) return fail(Errc::protocol_violation, "nbd: a reply to no request");
  const auto magic = load_be<std::uint32_t>(head.data());
  if (magic == nbd::kMagicStructuredReply && structured_) {
    std::array<std::byte, 4> length{};
    if (const auto got = get(length); !got) return fail(got.error());
    const Chunk chunk{load_be<std::uint16_t>(head.data() + 4),
                      load_be<std::uint16_t>(head.data() + 6),
                      load_be<std::uint32_t>(length.data())};
    if (const auto got = get_chunks(chunk, *request, reply); !got) return fail(got.error());
    return reply;
  }
  if (magic != nbd::kMagicSimpleReply || (structured_ && request->command == nbd::Command::read)) {
    return fail(Errc::protocol_violation, "nbd: reply magic");
  }
  reply.error = load_be<std::uint32_t>(head.data() + 4);
  if (request->command == nbd::Command::read && reply.error == 0) {
    if (const auto got = get({request->data, request->size_bytes}); !got) return fail(got.error());
  }
  return reply;
}

Result<NbdReply> NbdClient::receive_extended() {
  std::array<std::byte, nbd::kExtendedChunkHeaderBytes> head{};
  if (const auto got = get(head); !got) return fail(got.error());
  NbdReply reply;
  reply.cookie = load_be<std::uint64_t>(head.data() + 8);
  const auto request = pending(reply.cookie, true);
  if (!request) return fail(Errc::protocol_violation, "nbd: a reply to no request");
  if (load_be<std::uint32_t>(head.data()) != nbd::kMagicExtendedReply ||
      load_be<std::uint64_t>(head.data() + 16) != request->offset_bytes) {
    return fail(Errc::protocol_violation, "nbd: magic or offset of an extended reply");
  }
  const Chunk chunk{load_be<std::uint16_t>(head.data() + 4),
                    load_be<std::uint16_t>(head.data() + 6),
                    load_be<std::uint64_t>(head.data() + 24)};
  if (const auto got = get_chunks(chunk, *request, reply); !got) return fail(got.error());
  return reply;
}

// The server sends a reply's chunks one behind the other, and more than one only as block status:
// this client insists on both.
Status NbdClient::get_chunks(Chunk chunk, const Pending& request, NbdReply& reply) {
  while (true) {
    if (const auto got = get_chunk(chunk, request, reply); !got) return got;
    if (chunk.flags == nbd::kReplyDone) return {};
    if (chunk.flags != 0 || request.command != nbd::Command::block_status) {
      return fail(Errc::protocol_violation, "nbd: chunk flags");
    }
    std::array<std::byte, nbd::kExtendedChunkHeaderBytes> bytes{};
    const auto head =
        std::span(bytes).first(extended_ ? nbd::kExtendedChunkHeaderBytes : nbd::kChunkHeaderBytes);
    if (const auto got = get(head); !got) return got;
    if (load_be<std::uint32_t>(head.data()) !=
            (extended_ ? nbd::kMagicExtendedReply : nbd::kMagicStructuredReply) ||
        load_be<std::uint64_t>(head.data() + 8) != reply.cookie) {
      return fail(Errc::protocol_violation, "nbd: a chunk in the middle of another reply");
    }
    chunk = {load_be<std::uint16_t>(head.data() + 4), load_be<std::uint16_t>(head.data() + 6),
             extended_ ? load_be<std::uint64_t>(head.data() + 24)
                       : load_be<std::uint32_t>(head.data() + 16)};
  }
}

Status NbdClient::get_chunk(const Chunk& chunk, const Pending& request, NbdReply& reply) {
  if (chunk.type == nbd::kChunkError && chunk.size_bytes >= 6 && chunk.size_bytes < 4096) {
    std::vector<std::byte> rest(chunk.size_bytes);
    if (const auto got = get(rest); !got) return got;
    reply.error = load_be<std::uint32_t>(rest.data());
    return {};
  }
  if (chunk.type == nbd::kChunkNone && chunk.size_bytes == 0 &&
      request.command != nbd::Command::read && request.command != nbd::Command::block_status) {
    return {};
  }
  if (chunk.type == (extended_ ? nbd::kChunkBlockStatusExtended : nbd::kChunkBlockStatus) &&
      request.command == nbd::Command::block_status) {
    return get_extents(chunk.size_bytes, reply);
  }
  std::array<std::byte, 8> offset{};
  if (chunk.type != nbd::kChunkOffsetData || request.command != nbd::Command::read ||
      chunk.size_bytes != 8 + request.size_bytes) {
    return fail(Errc::protocol_violation, "nbd: chunk type or length");
  }
  if (const auto got = get(offset); !got) return got;
  if (load_be<std::uint64_t>(offset.data()) != request.offset_bytes) {
    return fail(Errc::protocol_violation, "nbd: chunk offset");
  }
  return get({request.data, request.size_bytes});
}

Status NbdClient::get_extents(std::uint64_t size, NbdReply& reply) {
  const std::size_t fixed = extended_ ? 8 : 4;
  const std::size_t each = extended_ ? nbd::kExtendedExtentBytes : nbd::kExtentBytes;
  if (size < fixed + each || (size - fixed) % each != 0 || size > kStatusBytesMax) {
    return fail(Errc::protocol_violation, "nbd: block status length");
  }
  std::vector<std::byte> bytes(size);
  if (const auto got = get(bytes); !got) return got;
  const auto id = load_be<std::uint32_t>(bytes.data());
  const auto context = std::find_if(contexts_.begin(), contexts_.end(),
                                    [&](const auto& known) { return known.second == id; });
  if (context == contexts_.end() || reply.contexts.contains(context->first)) {
    return fail(Errc::protocol_violation, "nbd: block status of an unknown context, or told twice");
  }
  if (extended_ && load_be<std::uint32_t>(bytes.data() + 4) != (size - fixed) / each) {
    return fail(Errc::protocol_violation, "nbd: block status count");
  }
  auto& told = reply.contexts[context->first];
  for (std::size_t at = fixed; at < size; at += each) {
    const std::uint64_t length = extended_ ? load_be<std::uint64_t>(bytes.data() + at)
                                           : load_be<std::uint32_t>(bytes.data() + at);
    const auto flags = extended_ ? load_be<std::uint64_t>(bytes.data() + at + 8)
                                 : load_be<std::uint32_t>(bytes.data() + at + 4);
    if (length == 0 || flags > ~std::uint32_t{0}) {
      return fail(Errc::protocol_violation, "nbd: an extent of block status");
    }
    told.push_back({length, static_cast<std::uint32_t>(flags)});
  }
  if (context->first != "base:allocation") return {};
  for (const auto& extent : told) {
    reply.extents.push_back({extent.size_bytes, (extent.flags & nbd::kStateHole) != 0,
                             (extent.flags & nbd::kStateZero) != 0});
  }
  return {};
}

Result<NbdReply> NbdClient::run(nbd::Command command, std::uint64_t offset_bytes,
                                std::uint64_t size_bytes, std::byte* data, std::uint16_t flags) {
  constexpr std::uint64_t kCookie = 0x72756E5F72756E5F;
  if (const auto sent = send(command, kCookie, offset_bytes, size_bytes, data, flags); !sent) {
    return fail(sent.error());
  }
  return receive();
}

bool NbdClient::at_end() {
  std::byte byte{};
  return ::recv(socket_.get(), &byte, 1, 0) <= 0;
}

void NbdClient::shut_down() { (void)::shutdown(socket_.get(), SHUT_RDWR); }

}  // namespace umbra::test
