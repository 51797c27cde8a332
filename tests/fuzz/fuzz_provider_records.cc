// SPDX-License-Identifier: Apache-2.0
//
// What the provider reads of its own records, and of its processes' messages, is total: any bytes
// give a value or a reason, and what was read is written as bytes that read the same. The first
// byte says which: a volume's configuration, a set of chunks, the changes of checkpoints and their
// note, a fingerprint, an exemption, a datagram of the guardian.
#include <algorithm>
#include <array>
#include <span>
#include <string_view>
#include <vector>

#include "engine/platform/assert.h"
#include "provider/cow/change_log.h"
#include "provider/cow/chunk_set.h"
#include "provider/cow/exempt.h"
#include "provider/cow/fingerprint.h"
#include "provider/daemon/volume_config.h"
#include "provider/guardian/protocol.h"

namespace {

using namespace umbra;

constexpr std::uint64_t kChunks = 100'000;

void config(std::span<const std::byte> bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const auto parsed = cowd::parse_config(text);
  if (!parsed) return;
  const auto again = cowd::parse_config(cowd::to_text(*parsed));
  UMBRA_ASSERT(again.has_value() && *again == *parsed);
}

void chunks(std::span<const std::byte> bytes) {
  const auto set = cow::ChunkSet::decode(bytes, kChunks);
  if (!set) return;
  std::vector<std::byte> written;
  set->encode(written);
  const auto again = cow::ChunkSet::decode(written, kChunks);
  UMBRA_ASSERT(again && *again == *set);
}

// Two checkpoints and a note, cut where the first byte says.
void changes(std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  const std::size_t third = static_cast<std::size_t>(bytes[0]) * bytes.size() / 512;
  const std::array<cow::ChangeLog::Loaded, 2> loaded = {
      {{Guid{{1}}, bytes.subspan(1, std::min(third, bytes.size() - 1))},
       {Guid{{2}}, bytes.subspan(std::min(third, bytes.size()))}}};
  const std::array<std::uint64_t, 2> snapshots = {2, 5};
  cow::ChangeLog log(kChunks);
  log.load(loaded, bytes.subspan(1), snapshots);
  for (const auto& checkpoint : log.checkpoints()) (void)log.encode(checkpoint.id);
}

void fingerprint(std::span<const std::byte> bytes) {
  std::array<std::byte, cow::kFingerprintBytes> whole{};
  std::copy_n(bytes.begin(), std::min(bytes.size(), whole.size()), whole.begin());
  const cow::Fingerprint read = cow::decode_fingerprint(whole);
  std::array<std::byte, cow::kFingerprintBytes> written{};
  cow::encode(read, written);
  UMBRA_ASSERT(cow::decode_fingerprint(written) == read);
}

void exemption(std::span<const std::byte> bytes) {
  const auto read = cow::Exemption::decode(bytes, kChunks);
  if (read == nullptr) return;
  const auto again = cow::Exemption::decode(read->encode(), kChunks);
  UMBRA_ASSERT(again != nullptr && again->free == read->free);
}

void datagram(std::span<const std::byte> bytes) {
  const auto message = guardian::decode(bytes);
  if (!message) return;
  const auto written = guardian::encode(*message);
  UMBRA_ASSERT(written.has_value());
  const auto again = guardian::decode(*written);
  UMBRA_ASSERT(again.has_value() && *again == *message);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* input, std::size_t size) {
  constexpr std::array kReaders{config, chunks, changes, fingerprint, exemption, datagram};
  if (size == 0) return 0;
  kReaders[input[0] % kReaders.size()](std::as_bytes(std::span(input + 1, size - 1)));
  return 0;
}
