// SPDX-License-Identifier: Apache-2.0
#include "provider/frontend/nbd_device/identity.h"

#include <charconv>

namespace umbra::nbd_device {
namespace {

constexpr std::string_view kOurs = "umbra:";
constexpr std::string_view kStateName = "umbra-nbd ";
constexpr std::string_view kStateMagic = "umbra-nbd 1 ";

}  // namespace

std::string identifier_for(std::string_view run_dir, const VolumeId& volume) {
  return std::string(kOurs) + std::string(run_dir) + ":" + volume.to_string();
}

std::optional<VolumeId> volume_of(std::string_view identifier, std::string_view run_dir) {
  const std::string start = std::string(kOurs) + std::string(run_dir) + ":";
  if (!identifier.starts_with(start)) return {};
  const auto id = Guid::parse(identifier.substr(start.size()));
  return id ? std::optional<VolumeId>(VolumeId{*id}) : std::nullopt;
}

std::string to_text(const SavedState& state) {
  return std::string(kStateMagic) + std::to_string(state.id) + " " + state.identifier;
}

Result<SavedState> parse_state(std::string_view text) {
  if (!text.starts_with(kStateName)) {
    return fail(Errc::invalid_argument, "not the state of an NBD device");
  }
  if (!text.starts_with(kStateMagic)) {
    return fail(Errc::version_mismatch,
                "state of an NBD device: " + std::string(text.substr(0, 32)));
  }
  text.remove_prefix(kStateMagic.size());
  SavedState state;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), state.id);
  const auto used = static_cast<std::size_t>(end - text.data());
  if (error != std::errc() || used + 1 >= text.size() || text[used] != ' ') {
    return fail(Errc::invalid_argument, "the state of an NBD device is damaged");
  }
  state.identifier = text.substr(used + 1);
  return state;
}

std::string block_path(std::uint32_t id) { return "/dev/nbd" + std::to_string(id); }

}  // namespace umbra::nbd_device
