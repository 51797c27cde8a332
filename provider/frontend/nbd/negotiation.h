// SPDX-License-Identifier: Apache-2.0
//
// The server's side of NBD's fixed newstyle negotiation, as a pure state machine: exact pieces of
// bytes in, bytes to send out. No socket, no clock, no thread. It is total: any input leads to an
// answer the protocol names, or to `closed`.
//
//   greeting ──client flags──► options ──GO / EXPORT_NAME──► agreed
//                                 │ ▲ └─ any other option: one or more replies
//                                 └─┘
//   closed: ABORT; a wrong magic number; an unknown client flag; an unknown export by EXPORT_NAME;
//           an option longer than kOptionBytesMax; more than kOptionCountMax options.
//
// Not spoken: TLS (the transport is a local socket with permissions), extended headers, resize.

#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/platform/block.h"
#include "provider/frontend/nbd/protocol.h"

namespace umbra::nbd {

inline constexpr std::size_t kNameBytesMax = 4096;         // The protocol's limit of a string.
inline constexpr std::size_t kOptionBytesMax = 64 * 1024;  // Data of one option.
inline constexpr std::size_t kOptionCountMax = 256;        // A client needs about ten.
inline constexpr std::size_t kMetaQueriesMax = 64;
/// The most that READ and WRITE may ask for, whatever the device could take.
inline constexpr std::uint32_t kPayloadBytesMax = 32U << 20U;
inline constexpr std::uint32_t kPreferredBlockBytes = 4096;
/// The id under which base:allocation is reported.
inline constexpr std::uint32_t kAllocationContext = 1;

struct ExportDescription {
  std::string name;
  std::string description;  // For people; may be empty.
  block::Geometry geometry;
};

/// What can be chosen. Asked during negotiation only; threads are the implementation's matter.
class Catalog {
 public:
  virtual ~Catalog() = default;
  /// The empty name means the default export, if there is one.
  [[nodiscard]] virtual std::optional<ExportDescription> find(std::string_view name) const = 0;
  [[nodiscard]] virtual std::vector<ExportDescription> list() const = 0;
};

/// What both sides may rely on during transmission.
struct Agreement {
  std::string export_name;  // As the catalog calls it.
  std::uint64_t size_bytes = 0;
  std::uint32_t block_bytes = 1;
  std::uint32_t payload_bytes_max = kPayloadBytesMax;
  std::uint16_t transmission_flags = 0;
  bool structured_replies = false;
  bool allocation_context = false;  // BLOCK_STATUS may be asked for.
};

/// The transmission flags that a device of this geometry deserves. SEND_DF is not among them: it
/// depends on what the client negotiated.
[[nodiscard]] std::uint16_t transmission_flags(const block::Geometry& geometry) noexcept;

class Negotiation {
 public:
  enum class State : std::uint8_t { running, agreed, closed };

  /// The catalog must outlive this. output() holds the greeting.
  explicit Negotiation(const Catalog& catalog);

  [[nodiscard]] State state() const noexcept { return state_; }
  /// How many bytes the next feed() must bring; not 0 while running.
  [[nodiscard]] std::size_t wanted() const noexcept { return wanted_; }
  /// Takes exactly wanted() bytes while running. Appends to output().
  State feed(std::span<const std::byte> bytes);
  /// In state agreed, before output() is sent: the export has gone meanwhile. Takes the agreement
  /// back: GO is answered with an error and the talk goes on, EXPORT_NAME closes.
  State export_has_gone();
  /// To be sent, also when the state is closed or agreed.
  [[nodiscard]] const std::vector<std::byte>& output() const noexcept { return output_; }
  void clear_output() noexcept { output_.clear(); }
  /// Valid in state agreed.
  [[nodiscard]] const Agreement& agreement() const noexcept { return agreement_; }

 private:
  enum class Piece : std::uint8_t { client_flags, option_header, option_data };

  void take_client_flags(std::span<const std::byte> bytes);
  void take_option_header(std::span<const std::byte> bytes);
  void take_option(std::span<const std::byte> data);
  void export_name(std::span<const std::byte> data);
  void list(std::span<const std::byte> data);
  void info_or_go(std::span<const std::byte> data);
  void structured_reply(std::span<const std::byte> data);
  void meta_context(std::span<const std::byte> data);

  void send_infos(const ExportDescription& found, bool want_name, bool want_description);
  void agree(const ExportDescription& found);
  void expect_option();
  void close() noexcept;
  std::byte* append(std::size_t size);
  std::byte* begin_reply(OptionReply type, std::size_t size);
  void reply(OptionReply type, std::string_view text = {});

  const Catalog& catalog_;
  State state_ = State::running;
  Piece piece_ = Piece::client_flags;
  std::size_t wanted_ = 4;
  std::uint32_t option_ = 0;
  std::size_t option_count_ = 0;
  bool no_zeroes_ = false;
  bool structured_replies_ = false;
  std::optional<std::string> meta_export_;  // base:allocation was selected for this export.
  std::vector<std::byte> output_;
  Agreement agreement_;
};

}  // namespace umbra::nbd
