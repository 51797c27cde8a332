// SPDX-License-Identifier: Apache-2.0
//
// The server's side of NBD's fixed newstyle negotiation, as a pure state machine: exact pieces of
// bytes in, bytes to send out. No socket, no clock, no thread. It is total: any input leads to an
// answer the protocol names, or to `closed`.
//
//   greeting ──client flags──► options ──GO / EXPORT_NAME──► agreed
//                               │ ▲ │ └─ any other option: one or more replies
//                               └─┘ └──STARTTLS──► upgrading ──is_encrypted()──► options
//   closed: ABORT; a wrong magic number; an unknown client flag; an unknown export by EXPORT_NAME;
//           EXPORT_NAME after extended headers; an option longer than kOptionBytesMax; more than
//           kOptionCountMax options.
//
// Where TLS is required nothing but STARTTLS and ABORT is answered before it, not even whether an
// export exists, and nothing that was said before it counts after it. Where it is not offered,
// STARTTLS is refused. Not spoken: resize.

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/platform/block.h"
#include "provider/frontend/nbd/contexts.h"
#include "provider/frontend/nbd/protocol.h"

namespace umbra::nbd {

inline constexpr std::size_t kNameBytesMax = 4096;         // The protocol's limit of a string.
inline constexpr std::size_t kOptionBytesMax = 64 * 1024;  // Data of one option.
inline constexpr std::size_t kOptionCountMax = 256;        // A client needs about ten.
inline constexpr std::size_t kMetaQueriesMax = 64;
/// The most that READ and WRITE may ask for, whatever the device could take.
inline constexpr std::uint32_t kPayloadBytesMax = 32U << 20U;
inline constexpr std::uint32_t kPreferredBlockBytes = 4096;
/// The id of the context that was selected first; the others follow it.
inline constexpr std::uint32_t kFirstContext = 1;

struct ExportDescription {
  std::string name;
  std::string description;  // For people; may be empty, at most kNameBytesMax.
  block::Geometry geometry;
};

/// What can be chosen. Asked during negotiation only; threads are the implementation's matter.
class Catalog {
 public:
  virtual ~Catalog() = default;
  /// The empty name means the default export, if there is one.
  [[nodiscard]] virtual std::optional<ExportDescription> find(std::string_view name) const = 0;
  [[nodiscard]] virtual std::vector<ExportDescription> list() const = 0;
  /// Of an export that find() knows. Null: base:allocation only.
  [[nodiscard]] virtual std::shared_ptr<Contexts> contexts(const std::string& name) const = 0;
};

/// What is selected to be told by BLOCK_STATUS.
struct SelectedContext {
  std::uint32_t id = 0;
  std::string name;  // As the client asked for it: clients look for their own words.
  std::shared_ptr<Context> context;  // Null for base:allocation: the device knows.
};

/// What both sides may rely on during transmission.
struct Agreement {
  std::string export_name;  // As the catalog calls it.
  std::uint64_t size_bytes = 0;
  std::uint32_t block_bytes = 1;
  std::uint32_t payload_bytes_max = kPayloadBytesMax;
  std::uint16_t transmission_flags = 0;
  bool structured_replies = false;
  bool extended_headers = false;          // Then whatever structured_replies says.
  std::vector<SelectedContext> contexts;  // BLOCK_STATUS may be asked for if there are any.
};

/// The transmission flags that a device of this geometry deserves. SEND_DF and
/// BLOCK_STATUS_PAYLOAD are not among them: they depend on what the client negotiated.
[[nodiscard]] std::uint16_t transmission_flags(const block::Geometry& geometry) noexcept;

enum class Encryption : std::uint8_t { none, required, established };

class Negotiation {
 public:
  enum class State : std::uint8_t { running, upgrading, agreed, closed };

  /// The catalog must outlive this. output() holds the greeting. `encryption`: none or required.
  explicit Negotiation(const Catalog& catalog, Encryption encryption = Encryption::none);

  [[nodiscard]] State state() const noexcept { return state_; }
  /// How many bytes the next feed() must bring; not 0 while running.
  [[nodiscard]] std::size_t wanted() const noexcept { return wanted_; }
  /// Takes exactly wanted() bytes while running. Appends to output().
  State feed(std::span<const std::byte> bytes);
  /// In state upgrading, after output() was sent and the TLS handshake has succeeded: the talk goes
  /// on as if nothing had been said.
  void is_encrypted();
  [[nodiscard]] Encryption encryption() const noexcept { return encryption_; }
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
  void start_tls(std::span<const std::byte> data);
  void structured_reply(std::span<const std::byte> data);
  void extended_headers(std::span<const std::byte> data);
  void meta_context(std::span<const std::byte> data);
  void list_contexts(const std::vector<std::string_view>& queries, const Contexts* contexts);
  void select_contexts(const std::vector<std::string_view>& queries, const Contexts* contexts);
  void forget_selection();
  void send_context(std::uint32_t id, std::string_view name);

  [[nodiscard]] std::uint16_t flags_for(const ExportDescription& found) const;
  void send_infos(const ExportDescription& found, bool want_name, bool want_description);
  void agree(const ExportDescription& found);
  void expect_option();
  void close() noexcept;
  std::byte* append(std::size_t size);
  std::byte* begin_reply(OptionReply type, std::size_t size);
  void reply(OptionReply type, std::string_view text = {});

  const Catalog& catalog_;
  Encryption encryption_;
  State state_ = State::running;
  Piece piece_ = Piece::client_flags;
  std::size_t wanted_ = 4;
  std::uint32_t option_ = 0;
  std::size_t option_count_ = 0;
  bool no_zeroes_ = false;
  bool structured_replies_ = false;
  bool extended_headers_ = false;
  std::string meta_export_;  // Of which `selected_` was selected.
  std::vector<SelectedContext> selected_;
  std::vector<std::byte> output_;
  Agreement agreement_;
};

}  // namespace umbra::nbd
