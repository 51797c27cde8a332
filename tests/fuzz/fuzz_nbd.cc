// SPDX-License-Identifier: Apache-2.0
//
// A client's bytes, from the first to the last: negotiation until it agrees or closes, then
// requests. Every request must get a verdict, a refusal a reply that fits its buffer, and what is
// to be performed must lie inside the export, be aligned and be no longer than was agreed. The
// first byte decides whether TLS is required; its handshake always succeeds.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/platform/assert.h"
#include "provider/frontend/nbd/negotiation.h"
#include "provider/frontend/nbd/transmission.h"

namespace {

using namespace umbra::nbd;

class Nothing final : public Context {
 public:
  std::size_t extents(std::uint64_t /*offset*/, std::uint64_t size,
                      std::span<StatusExtent> out) noexcept override {
    out[0] = {size, 0};
    return 1;
  }
};

// Any leaf-name in "x:" is a context, so that any number of them can be selected.
class XContexts final : public Contexts {
 public:
  std::vector<std::string> list() const override { return {"x:a", "x:b"}; }
  std::shared_ptr<Context> open(std::string_view name) const override {
    return name.starts_with("x:") && name.size() > 2 ? std::make_shared<Nothing>() : nullptr;
  }
};

class OneExport final : public Catalog {
 public:
  std::optional<ExportDescription> find(std::string_view name) const override {
    if (!name.empty() && name != "a") return std::nullopt;
    umbra::block::Geometry geometry;
    geometry.size_bytes = 1U << 20U;
    geometry.can_discard = true;
    geometry.request_bytes_max = 64U << 10U;
    return ExportDescription{"a", "an export", geometry};
  }
  std::vector<ExportDescription> list() const override { return {*find("a")}; }
  std::shared_ptr<Contexts> contexts(const std::string& /*name*/) const override {
    return std::make_shared<XContexts>();
  }
};

void check_reply(const Request& request, const Agreement& agreement, WireError error) {
  std::array<std::byte, kReplyHeaderBytesMax> out{};
  UMBRA_ASSERT(encode_reply(out, agreement, request, error) <= out.size());
}

void check_block_status(const Request& request, const Agreement& agreement) {
  UMBRA_ASSERT(!agreement.contexts.empty() && agreement.contexts.size() <= kContextsMax);
  UMBRA_ASSERT((request.contexts & ((std::uint64_t{1} << agreement.contexts.size()) - 1)) != 0);
  static std::array<std::byte, kBlockStatusBytesMax> out{};
  const std::array<StatusExtent, 3> extents{{{512, 3}, {512, 0}, {1U << 20U, 2}}};
  UMBRA_ASSERT(encode_block_status(out, agreement, request, kFirstContext, extents, true) <=
               out.size());
}

// False: the connection ends.
bool take_request(std::span<const std::byte>& rest, const Agreement& agreement) {
  auto decision = decide(rest.first(request_bytes(agreement)), agreement);
  rest = rest.subspan(request_bytes(agreement));
  UMBRA_ASSERT(decision.payload_bytes <= agreement.payload_bytes_max);
  if (decision.verdict == Verdict::perform && decision.payload_bytes > 0 &&
      decision.request.command == Command::block_status) {
    UMBRA_ASSERT(decision.payload_bytes <= kStatusPayloadBytesMax);
    if (rest.size() < decision.payload_bytes) return false;
    decision = decide_status(decision, rest.first(decision.payload_bytes), agreement);
  }
  const auto& request = decision.request;
  switch (decision.verdict) {
    case Verdict::finish:
    case Verdict::disconnect: return false;
    case Verdict::refuse:
      UMBRA_ASSERT(decision.error != WireError::none);
      check_reply(request, agreement, decision.error);
      break;
    case Verdict::perform:
      UMBRA_ASSERT(request.offset_bytes <= agreement.size_bytes &&
                   request.size_bytes <= agreement.size_bytes - request.offset_bytes);
      UMBRA_ASSERT(request.offset_bytes % agreement.block_bytes == 0);
      if (request.command == Command::block_status) {
        check_block_status(request, agreement);
      } else {
        check_reply(request, agreement, WireError::none);
      }
      break;
  }
  rest = rest.subspan(std::min<std::size_t>(decision.payload_bytes, rest.size()));
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::span<const std::byte> rest(reinterpret_cast<const std::byte*>(data), size);
  if (rest.empty()) return 0;
  const bool wants_tls = (rest.front() & std::byte{1}) != std::byte{0};
  rest = rest.subspan(1);
  const OneExport catalog;
  Negotiation negotiation(catalog, wants_tls ? Encryption::required : Encryption::none);
  while (negotiation.state() == Negotiation::State::running) {
    UMBRA_ASSERT(negotiation.wanted() > 0 && negotiation.wanted() <= kOptionBytesMax);
    if (rest.size() < negotiation.wanted()) return 0;
    const auto piece = rest.first(negotiation.wanted());
    rest = rest.subspan(piece.size());
    negotiation.feed(piece);
    UMBRA_ASSERT(negotiation.output().size() <= 4 * kOptionBytesMax);
    negotiation.clear_output();
    if (negotiation.state() == Negotiation::State::upgrading) negotiation.is_encrypted();
  }
  UMBRA_ASSERT(negotiation.encryption() != Encryption::required ||
               negotiation.state() == Negotiation::State::closed);
  if (negotiation.state() != Negotiation::State::agreed) return 0;
  const auto& agreement = negotiation.agreement();
  while (rest.size() >= request_bytes(agreement) && take_request(rest, agreement)) {
  }
  return 0;
}
