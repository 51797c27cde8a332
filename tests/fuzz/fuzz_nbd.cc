// SPDX-License-Identifier: Apache-2.0
//
// A client's bytes, from the first to the last: negotiation until it agrees or closes, then
// requests. Every request must get a verdict, a refusal a reply that fits its buffer, and what is
// to be performed must lie inside the export, be aligned and be no longer than was agreed.

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
};

void check_reply(const Request& request, const Agreement& agreement, WireError error) {
  std::array<std::byte, kReplyHeaderBytesMax> out{};
  UMBRA_ASSERT(encode_reply(out, agreement, request, error) <= out.size());
}

void check_block_status(const Request& request) {
  std::array<std::byte, kBlockStatusBytesMax> out{};
  const std::array<umbra::block::Extent, 3> extents{
      {{512, true, true}, {512, false, false}, {1U << 20U, false, true}}};
  UMBRA_ASSERT(encode_block_status(out, request, extents) <= out.size());
}

// False: the connection ends.
bool take_request(std::span<const std::byte>& rest, const Agreement& agreement) {
  const auto decision = decide(rest.first(kRequestBytes), agreement);
  rest = rest.subspan(kRequestBytes);
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
        check_block_status(request);
      } else {
        check_reply(request, agreement, WireError::none);
      }
      break;
  }
  UMBRA_ASSERT(decision.payload_bytes <= agreement.payload_bytes_max);
  rest = rest.subspan(std::min<std::size_t>(decision.payload_bytes, rest.size()));
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::span<const std::byte> rest(reinterpret_cast<const std::byte*>(data), size);
  const OneExport catalog;
  Negotiation negotiation(catalog);
  while (negotiation.state() == Negotiation::State::running) {
    UMBRA_ASSERT(negotiation.wanted() > 0 && negotiation.wanted() <= kOptionBytesMax);
    if (rest.size() < negotiation.wanted()) return 0;
    const auto piece = rest.first(negotiation.wanted());
    rest = rest.subspan(piece.size());
    negotiation.feed(piece);
    UMBRA_ASSERT(negotiation.output().size() <= 4 * kOptionBytesMax);
    negotiation.clear_output();
  }
  if (negotiation.state() != Negotiation::State::agreed) return 0;
  while (rest.size() >= kRequestBytes && take_request(rest, negotiation.agreement())) {
  }
  return 0;
}
