// SPDX-License-Identifier: Apache-2.0

#include "engine/coordinator/provider_choice.h"

namespace umbra::coord {
namespace {

int rank(ProviderType type) {
  switch (type) {
    case ProviderType::hardware: return 3;
    case ProviderType::software:
    case ProviderType::file_share: return 2;
    case ProviderType::system: return 1;
    case ProviderType::unknown: return 0;
  }
  return 0;
}

}  // namespace

Result<std::size_t> choose_provider(const std::vector<ProviderCandidate>& candidates, bool named) {
  if (candidates.empty()) return fail(Errc::provider_not_registered, "no provider is connected");
  std::optional<std::size_t> best;
  bool known = false;
  const Error* trouble = nullptr;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    const auto& one = candidates[i];
    known = known || one.supports.has_value();
    if (!one.supports && one.supports.error().code != Errc::object_not_found)
      trouble = &one.supports.error();
    if (!one.supports || !*one.supports) continue;
    if (!best || rank(one.type) > rank(candidates[*best].type)) best = i;
  }
  if (best) return *best;
  // A provider that could not answer may be the one that has it: its error says more than ours.
  if (!known && trouble != nullptr) return fail(*trouble);
  if (named && known)
    return fail(Errc::volume_not_supported_by_provider, "not with these attributes");
  if (named) return fail(Errc::object_not_found, "the named provider has no such volume");
  return fail(Errc::volume_not_supported,
              known ? "no provider offers these attributes" : "no provider has this volume");
}

}  // namespace umbra::coord
