// SPDX-License-Identifier: Apache-2.0
//
// Method: a Talk plays the client's half of a negotiation piece by piece and decodes what the
// server says into a line per reply, so that a case reads as a conversation.
#include "provider/frontend/nbd/negotiation.h"

#include <cstring>
#include <map>

#include "tests/support/catch.h"

using namespace umbra;
using namespace umbra::nbd;

namespace {

using Bytes = std::vector<std::byte>;

Bytes text(std::string_view value) {
  Bytes out(value.size());
  if (!value.empty()) std::memcpy(out.data(), value.data(), value.size());
  return out;
}
template <class T>
Bytes number(T value) {
  Bytes out(sizeof(T));
  store_be(out.data(), value);
  return out;
}
Bytes join(std::initializer_list<Bytes> parts) {
  Bytes out;
  for (const auto& part : parts) out.insert(out.end(), part.begin(), part.end());
  return out;
}
Bytes counted(std::string_view value) {
  return join({number(static_cast<std::uint32_t>(value.size())), text(value)});
}
Bytes go_data(std::string_view name, std::initializer_list<std::uint16_t> infos = {}) {
  Bytes out = join({counted(name), number(static_cast<std::uint16_t>(infos.size()))});
  for (const auto info : infos) out = join({out, number(info)});
  return out;
}
Bytes meta_data(std::string_view name, std::initializer_list<std::string_view> queries) {
  Bytes out = join({counted(name), number(static_cast<std::uint32_t>(queries.size()))});
  for (const auto query : queries) out = join({out, counted(query)});
  return out;
}

class Flat final : public Context {
 public:
  std::size_t extents(std::uint64_t /*offset*/, std::uint64_t size,
                      std::span<StatusExtent> out) noexcept override {
    out[0] = {size, kStateDirty};
    return 1;
  }
};

// Two that are listed, of which one has a second name, and one that is not.
class Bitmaps final : public Contexts {
 public:
  std::vector<std::string> list() const override {
    return {"qemu:dirty-bitmap:monday", "qemu:dirty-bitmap:tuesday"};
  }
  std::shared_ptr<Context> open(std::string_view name) const override {
    for (const char* known : {"qemu:dirty-bitmap:monday", "qemu:dirty-bitmap:1",
                              "qemu:dirty-bitmap:tuesday", "qemu:dirty-bitmap:old"}) {
      if (name == known) return std::make_shared<Flat>();
    }
    if (name.starts_with("x-many:") && name.size() > 7) return std::make_shared<Flat>();
    return nullptr;
  }
};

class TwoExports final : public Catalog {
 public:
  TwoExports() {
    live.name = "live";
    live.description = "a live volume";
    live.geometry = {1U << 20U, 4096, 1, 1U << 20U, false, true};
    copy.name = "copy";
    copy.geometry = {1U << 20U, 512, 1, 64U << 20U, true, false};
  }
  std::optional<ExportDescription> find(std::string_view name) const override {
    if (name == "live" || name.empty()) return live;
    if (name == "copy") return copy;
    return std::nullopt;
  }
  std::vector<ExportDescription> list() const override { return {copy, live}; }
  std::shared_ptr<Contexts> contexts(const std::string& name) const override {
    return name == "copy" ? std::make_shared<Bitmaps>() : nullptr;
  }

  ExportDescription live;
  ExportDescription copy;
};

struct Reply {
  std::uint32_t option = 0;
  std::uint32_t type = 0;
  Bytes data;
};

class Talk {
 public:
  explicit Talk(Encryption encryption = Encryption::none) : core(catalog, encryption) {
    REQUIRE(core.output().size() == kGreetingBytes);
    core.clear_output();
  }
  Negotiation::State say(const Bytes& bytes) {
    core.clear_output();
    std::size_t at = 0;
    while (at < bytes.size() && core.state() == Negotiation::State::running) {
      REQUIRE(bytes.size() - at >= core.wanted());
      const auto size = core.wanted();
      core.feed({bytes.data() + at, size});
      at += size;
    }
    return core.state();
  }
  Negotiation::State flags(std::uint32_t value = kFlagFixedNewstyle | kFlagNoZeroes) {
    return say(number(value));
  }
  Negotiation::State option(Option which, const Bytes& data = {}) {
    return say(join({number(kMagicOption), number(static_cast<std::uint32_t>(which)),
                     number(static_cast<std::uint32_t>(data.size())), data}));
  }
  std::vector<Reply> replies() const {
    std::vector<Reply> all;
    const auto& out = core.output();
    for (std::size_t at = 0; at < out.size();) {
      REQUIRE(out.size() - at >= kOptionReplyHeaderBytes);
      REQUIRE(load_be<std::uint64_t>(&out[at]) == kMagicOptionReply);
      Reply reply{load_be<std::uint32_t>(&out[at + 8]), load_be<std::uint32_t>(&out[at + 12]), {}};
      const std::size_t size = load_be<std::uint32_t>(&out[at + 16]);
      at += kOptionReplyHeaderBytes;
      REQUIRE(out.size() - at >= size);
      reply.data.assign(out.begin() + static_cast<std::ptrdiff_t>(at),
                        out.begin() + static_cast<std::ptrdiff_t>(at + size));
      at += size;
      all.push_back(std::move(reply));
    }
    return all;
  }
  // The type of the only, or the last, reply.
  OptionReply answer() const {
    const auto all = replies();
    REQUIRE_FALSE(all.empty());
    return static_cast<OptionReply>(all.back().type);
  }
  // By NBD_INFO number.
  std::map<std::uint16_t, Bytes> infos() const {
    std::map<std::uint16_t, Bytes> found;
    for (const auto& reply : replies()) {
      if (static_cast<OptionReply>(reply.type) != OptionReply::info) continue;
      found[load_be<std::uint16_t>(reply.data.data())] = reply.data;
    }
    return found;
  }

  // The contexts that the last option told of, by id and name.
  std::vector<std::pair<std::uint32_t, std::string>> contexts() const {
    std::vector<std::pair<std::uint32_t, std::string>> all;
    for (const auto& reply : replies()) {
      if (static_cast<OptionReply>(reply.type) != OptionReply::meta_context) continue;
      all.emplace_back(
          load_be<std::uint32_t>(reply.data.data()),
          std::string(reinterpret_cast<const char*>(reply.data.data()) + 4, reply.data.size() - 4));
    }
    return all;
  }

  TwoExports catalog;
  Negotiation core;
};

using State = Negotiation::State;

}  // namespace

TEST_CASE("the greeting offers fixed newstyle without zeroes", "[nbd]") {
  const TwoExports catalog;
  const Negotiation core(catalog);
  const auto& out = core.output();
  CHECK(load_be<std::uint64_t>(out.data()) == kMagicGreeting);
  CHECK(load_be<std::uint64_t>(out.data() + 8) == kMagicOption);
  CHECK(load_be<std::uint16_t>(out.data() + 16) == 3);
  CHECK(core.wanted() == 4);
}

TEST_CASE("GO describes the export and starts transmission", "[nbd]") {
  Talk talk;
  talk.flags();
  REQUIRE(talk.option(Option::go, go_data("live", {kInfoName, kInfoDescription})) == State::agreed);
  auto infos = talk.infos();
  CHECK(talk.answer() == OptionReply::ack);
  CHECK(load_be<std::uint64_t>(&infos[kInfoExport][2]) == 1U << 20U);
  CHECK(load_be<std::uint16_t>(&infos[kInfoExport][10]) ==
        (kHasFlags | kSendFlush | kSendFua | kSendTrim | kSendWriteZeroes | kCanMultiConn |
         kSendCache | kSendFastZero));
  CHECK(load_be<std::uint32_t>(&infos[kInfoBlockSize][2]) == 4096);
  CHECK(load_be<std::uint32_t>(&infos[kInfoBlockSize][6]) == 4096);
  CHECK(load_be<std::uint32_t>(&infos[kInfoBlockSize][10]) == 1U << 20U);
  CHECK(infos[kInfoName].size() == 2 + 4);
  CHECK(infos[kInfoDescription].size() == 2 + 13);
  const auto& agreed = talk.core.agreement();
  CHECK(agreed.export_name == "live");
  CHECK_FALSE(agreed.structured_replies);
  CHECK(agreed.contexts.empty());
  CHECK_FALSE(agreed.extended_headers);
  CHECK(agreed.payload_bytes_max == 1U << 20U);
}

TEST_CASE("the empty name is the default export, under its own name", "[nbd]") {
  Talk talk;
  talk.flags();
  REQUIRE(talk.option(Option::go, go_data("")) == State::agreed);
  CHECK(talk.core.agreement().export_name == "live");
}

TEST_CASE("a read-only export offers no command that writes", "[nbd]") {
  Talk talk;
  talk.flags();
  REQUIRE(talk.option(Option::go, go_data("copy")) == State::agreed);
  CHECK(talk.core.agreement().transmission_flags ==
        (kHasFlags | kReadOnly | kSendFlush | kSendFua | kCanMultiConn | kSendCache));
  CHECK(talk.core.agreement().payload_bytes_max == kPayloadBytesMax);
}

TEST_CASE("INFO describes and goes on negotiating", "[nbd]") {
  Talk talk;
  talk.flags();
  REQUIRE(talk.option(Option::info, go_data("copy")) == State::running);
  CHECK(talk.infos().count(kInfoExport) == 1);
  CHECK(talk.answer() == OptionReply::ack);
  REQUIRE(talk.option(Option::go, go_data("live")) == State::agreed);
}

TEST_CASE("an unknown export is answered by GO and ends EXPORT_NAME", "[nbd]") {
  Talk talk;
  talk.flags();
  CHECK(talk.option(Option::go, go_data("nope")) == State::running);
  CHECK(talk.answer() == OptionReply::unknown);
  CHECK(talk.option(Option::export_name, text("nope")) == State::closed);
  CHECK(talk.core.output().empty());
}

TEST_CASE("EXPORT_NAME answers with zeroes only to a client that wants them", "[nbd]") {
  const auto [flags, size] =
      GENERATE(std::pair<std::uint32_t, std::size_t>{kFlagFixedNewstyle, 134},
               std::pair<std::uint32_t, std::size_t>{kFlagFixedNewstyle | kFlagNoZeroes, 10},
               std::pair<std::uint32_t, std::size_t>{0, 134});
  Talk talk;
  talk.flags(flags);
  REQUIRE(talk.option(Option::export_name, text("live")) == State::agreed);
  CHECK(talk.core.output().size() == size);
  CHECK(load_be<std::uint64_t>(talk.core.output().data()) == 1U << 20U);
}

TEST_CASE("an export that goes between the choice and its reply is taken back", "[nbd]") {
  Talk talk;
  talk.flags();
  REQUIRE(talk.option(Option::go, go_data("live")) == State::agreed);
  CHECK(talk.core.export_has_gone() == State::running);
  CHECK(talk.answer() == OptionReply::unknown);
  CHECK(talk.replies().size() == 1);
  REQUIRE(talk.option(Option::export_name, text("live")) == State::agreed);
  CHECK(talk.core.export_has_gone() == State::closed);
  CHECK(talk.core.output().empty());
}

TEST_CASE("LIST names every export", "[nbd]") {
  Talk talk;
  talk.flags();
  REQUIRE(talk.option(Option::list) == State::running);
  const auto all = talk.replies();
  REQUIRE(all.size() == 3);
  CHECK(all[0].data == counted("copy"));
  CHECK(all[1].data == join({counted("live"), text("a live volume")}));
  CHECK(talk.answer() == OptionReply::ack);
  CHECK(talk.option(Option::list, text("x")) == State::running);
  CHECK(talk.answer() == OptionReply::invalid);
}

TEST_CASE("ABORT is acknowledged and closes", "[nbd]") {
  Talk talk;
  talk.flags();
  CHECK(talk.option(Option::abort) == State::closed);
  CHECK(talk.answer() == OptionReply::ack);
}

TEST_CASE("structured replies bring DF, and take no data", "[nbd]") {
  Talk talk;
  talk.flags();
  talk.option(Option::structured_reply, text("x"));
  CHECK(talk.answer() == OptionReply::invalid);
  talk.option(Option::structured_reply);
  CHECK(talk.answer() == OptionReply::ack);
  REQUIRE(talk.option(Option::go, go_data("live")) == State::agreed);
  CHECK(talk.core.agreement().structured_replies);
  CHECK((talk.core.agreement().transmission_flags & kSendDf) != 0);
  CHECK((load_be<std::uint16_t>(&talk.infos()[kInfoExport][10]) & kSendDf) != 0);
}

TEST_CASE("base:allocation can be listed and selected", "[nbd]") {
  Talk talk;
  talk.flags();
  talk.option(Option::structured_reply);
  SECTION("listed by no query, by its namespace and by its name") {
    auto data = GENERATE(meta_data("live", {}), meta_data("live", {"base:"}),
                         meta_data("live", {"x:y", "base:allocation"}));
    talk.option(Option::list_meta_context, data);
    const auto all = talk.replies();
    REQUIRE(all.size() == 2);
    CHECK(all[0].data == join({number(std::uint32_t{0}), text("base:allocation")}));
  }
  SECTION("selected by its name only") {
    talk.option(Option::set_meta_context, meta_data("live", {"base:", "base:alloc"}));
    CHECK(talk.replies().size() == 1);
    talk.option(Option::set_meta_context, meta_data("live", {"base:allocation"}));
    REQUIRE(talk.replies().size() == 2);
    CHECK(talk.replies()[0].data == join({number(kFirstContext), text("base:allocation")}));
    talk.option(Option::go, go_data("live"));
    REQUIRE(talk.core.agreement().contexts.size() == 1);
    CHECK(talk.core.agreement().contexts[0].context == nullptr);
  }
  SECTION("a selection holds for its own export only") {
    talk.option(Option::set_meta_context, meta_data("live", {"base:allocation"}));
    talk.option(Option::go, go_data("copy"));
    CHECK(talk.core.agreement().contexts.empty());
  }
  SECTION("a later selection replaces the earlier one, also when it fails") {
    talk.option(Option::set_meta_context, meta_data("live", {"base:allocation"}));
    talk.option(Option::set_meta_context, meta_data("nope", {"base:allocation"}));
    CHECK(talk.answer() == OptionReply::unknown);
    talk.option(Option::go, go_data("live"));
    CHECK(talk.core.agreement().contexts.empty());
  }
}

TEST_CASE("meta contexts need structured replies first", "[nbd]") {
  Talk talk;
  talk.flags();
  talk.option(Option::set_meta_context, meta_data("live", {"base:allocation"}));
  CHECK(talk.answer() == OptionReply::invalid);
}

TEST_CASE("options this server does not know are refused, and the talk goes on", "[nbd]") {
  Talk talk;
  talk.flags();
  const auto option = GENERATE(Option{4}, Option{12}, Option{99});
  CHECK(talk.option(option, text("whatever")) == State::running);
  CHECK(talk.answer() == OptionReply::unsupported);
}

TEST_CASE("lengths that do not add up are invalid", "[nbd]") {
  Talk talk;
  talk.flags();
  talk.option(Option::structured_reply);
  const auto data = GENERATE(
      Bytes{}, number(std::uint32_t{5}), join({number(std::uint32_t{0xFFFFFFFF}), text("ab")}),
      join({counted("live"), number(std::uint16_t{2}), number(kInfoName)}),
      join({go_data("live"), text("trailing")}), join({counted("live"), text("x")}));
  CAPTURE(data.size());
  CHECK(talk.option(Option::go, data) == State::running);
  CHECK(talk.answer() == OptionReply::invalid);
  CHECK(talk.option(Option::info, data) == State::running);
  CHECK(talk.answer() == OptionReply::invalid);
}

TEST_CASE("a meta context option whose lengths do not add up is invalid", "[nbd]") {
  Talk talk;
  talk.flags();
  talk.option(Option::structured_reply);
  const auto data = GENERATE(
      Bytes{}, number(std::uint32_t{5}), join({counted("live"), number(std::uint32_t{1})}),
      join({counted("live"), number(std::uint32_t{1}), number(std::uint32_t{9}), text("ab")}),
      join({meta_data("live", {"base:allocation"}), text("trailing")}));
  CAPTURE(data.size());
  CHECK(talk.option(Option::set_meta_context, data) == State::running);
  CHECK(talk.answer() == OptionReply::invalid);
}

TEST_CASE("names longer than the protocol allows are refused", "[nbd]") {
  Talk talk;
  talk.flags();
  const std::string longest(kNameBytesMax + 1, 'n');
  CHECK(talk.option(Option::go, go_data(longest)) == State::running);
  CHECK(talk.answer() == OptionReply::invalid);
  CHECK(talk.option(Option::export_name, text(longest)) == State::closed);
}

TEST_CASE("more queries than a client needs are too big", "[nbd]") {
  Talk talk;
  talk.flags();
  talk.option(Option::structured_reply);
  talk.option(Option::list_meta_context,
              join({counted("live"), number(std::uint32_t{kMetaQueriesMax + 1})}));
  CHECK(talk.answer() == OptionReply::too_big);
}

TEST_CASE("broken framing closes the connection", "[nbd]") {
  Talk talk;
  SECTION("unknown client flags") { CHECK(talk.flags(4) == State::closed); }
  SECTION("wrong option magic") {
    talk.flags();
    CHECK(talk.say(Bytes(kOptionHeaderBytes)) == State::closed);
  }
  SECTION("an option longer than is read says so first") {
    talk.flags();
    CHECK(talk.say(join({number(kMagicOption), number(std::uint32_t{7}),
                         number(std::uint32_t{kOptionBytesMax + 1})})) == State::closed);
    CHECK(talk.answer() == OptionReply::too_big);
  }
  SECTION("an endless talk") {
    talk.flags();
    for (std::size_t i = 0; i < kOptionCountMax; ++i) {
      REQUIRE(talk.option(Option::list) == State::running);
    }
    CHECK(talk.option(Option::list) == State::closed);
  }
  CHECK(talk.core.wanted() == 0);
}

// --- extended headers -------------------------------------------------------------------------

TEST_CASE("extended headers are agreed with or without structured replies before them", "[nbd]") {
  const bool first = GENERATE(false, true);
  Talk talk;
  talk.flags();
  if (first) talk.option(Option::structured_reply);
  talk.option(Option::extended_headers, text("x"));
  CHECK(talk.answer() == OptionReply::invalid);
  talk.option(Option::extended_headers);
  CHECK(talk.answer() == OptionReply::ack);
  REQUIRE(talk.option(Option::go, go_data("live")) == State::agreed);
  const auto& agreed = talk.core.agreement();
  CHECK(agreed.extended_headers);
  CHECK((agreed.transmission_flags & kSendDf) != 0);
  CHECK((agreed.transmission_flags & kBlockStatusPayload) == 0);
}

TEST_CASE("after extended headers there is no way back, and no EXPORT_NAME", "[nbd]") {
  Talk talk;
  talk.flags();
  talk.option(Option::extended_headers);
  CHECK(talk.option(Option::structured_reply) == State::running);
  CHECK(talk.answer() == OptionReply::extended_headers_required);
  CHECK(talk.option(Option::export_name, text("live")) == State::closed);
}

TEST_CASE("a choice among contexts is offered only with extended headers and contexts", "[nbd]") {
  Talk talk;
  talk.flags();
  talk.option(Option::structured_reply);
  talk.option(Option::set_meta_context, meta_data("copy", {"base:allocation"}));
  REQUIRE(talk.core.state() == State::running);
  SECTION("not with structured replies") {}
  SECTION("not for another export") {
    talk.option(Option::extended_headers);
    talk.option(Option::go, go_data("live"));
    CHECK((talk.core.agreement().transmission_flags & kBlockStatusPayload) == 0);
    return;
  }
  SECTION("with both") {
    talk.option(Option::extended_headers);
    talk.option(Option::info, go_data("copy"));
    CHECK((load_be<std::uint16_t>(&talk.infos()[kInfoExport][10]) & kBlockStatusPayload) != 0);
    talk.option(Option::go, go_data("copy"));
    CHECK((talk.core.agreement().transmission_flags & kBlockStatusPayload) != 0);
    return;
  }
  talk.option(Option::go, go_data("copy"));
  CHECK((talk.core.agreement().transmission_flags & kBlockStatusPayload) == 0);
}

// --- contexts of an export --------------------------------------------------------------------

TEST_CASE("contexts are listed by no query, by the beginning of their names, and by name",
          "[nbd]") {
  Talk talk;
  talk.flags();
  talk.option(Option::structured_reply);
  const auto listed = [&](std::initializer_list<std::string_view> queries) {
    talk.option(Option::list_meta_context, meta_data("copy", queries));
    CHECK(talk.answer() == OptionReply::ack);
    std::string names;
    for (const auto& [id, name] : talk.contexts()) {
      CHECK(id == 0);
      names += (names.empty() ? "" : " ") + name;
    }
    return names;
  };
  const std::string both = "qemu:dirty-bitmap:monday qemu:dirty-bitmap:tuesday";
  CHECK(listed({}) == "base:allocation " + both);
  CHECK(listed({"qemu:"}) == both);
  CHECK(listed({"qemu:dirty-bitmap:"}) == both);
  CHECK(listed({"qemu:dirty-bitmap:tuesday"}) == "qemu:dirty-bitmap:tuesday");
  CHECK(listed({"qemu:dirty-bitmap:1", "base:"}) == "base:allocation qemu:dirty-bitmap:1");
  CHECK(listed({"qemu:dirty-bitmap:old"}) == "qemu:dirty-bitmap:old");  // Known, not listed.
  CHECK(listed({"qemu:", "qemu:dirty-bitmap:monday"}) == both);         // Each once.
  CHECK(listed({":", "qemu", "qemu:dirty", "nope:"}).empty());
}

TEST_CASE("contexts are selected by whole names, each under its words and an id of its own",
          "[nbd]") {
  Talk talk;
  talk.flags();
  talk.option(Option::structured_reply);
  talk.option(Option::set_meta_context,
              meta_data("copy", {"qemu:", "qemu:dirty-bitmap:1", "base:allocation",
                                 "qemu:dirty-bitmap:1", "qemu:dirty-bitmap:nope"}));
  CHECK(talk.answer() == OptionReply::ack);
  using Told = std::vector<std::pair<std::uint32_t, std::string>>;
  CHECK(talk.contexts() == Told{{1, "qemu:dirty-bitmap:1"}, {2, "base:allocation"}});
  REQUIRE(talk.option(Option::go, go_data("copy")) == State::agreed);
  const auto& contexts = talk.core.agreement().contexts;
  REQUIRE(contexts.size() == 2);
  CHECK(contexts[0].context != nullptr);
  CHECK(contexts[1].context == nullptr);
}

TEST_CASE("more contexts than a connection can have are too big, and none is selected", "[nbd]") {
  Talk talk;
  talk.flags();
  talk.option(Option::structured_reply);
  Bytes data = join({counted("copy"), number(static_cast<std::uint32_t>(kContextsMax + 1))});
  for (std::size_t i = 0; i <= kContextsMax; ++i) {
    data = join({data, counted("x-many:" + std::to_string(i))});
  }
  talk.option(Option::set_meta_context, data);
  CHECK(talk.answer() == OptionReply::too_big);
  CHECK(talk.replies().size() == 1);
  talk.option(Option::go, go_data("copy"));
  CHECK(talk.core.agreement().contexts.empty());
}

// --- TLS ----------------------------------------------------------------------------------------

TEST_CASE("where TLS is required nothing else is answered before it", "[nbd]") {
  Talk talk(Encryption::required);
  talk.flags();
  const auto option = GENERATE(Option::list, Option::info, Option::go, Option::structured_reply,
                               Option::extended_headers, Option::list_meta_context,
                               Option::set_meta_context, Option{99});
  CHECK(talk.option(option, text("whatever")) == State::running);
  CHECK(talk.answer() == OptionReply::tls_required);
  CHECK(talk.replies().size() == 1);
}

TEST_CASE("without TLS, where it is required, only ABORT has a good end", "[nbd]") {
  Talk talk(Encryption::required);
  SECTION("EXPORT_NAME closes, of what exists as of what does not") {
    talk.flags();
    CHECK(talk.option(Option::export_name, text("live")) == State::closed);
    CHECK(talk.core.output().empty());
  }
  SECTION("ABORT") {
    talk.flags();
    CHECK(talk.option(Option::abort) == State::closed);
    CHECK(talk.answer() == OptionReply::ack);
  }
  SECTION("a client without fixed newstyle cannot have TLS") {
    CHECK(talk.flags(kFlagNoZeroes) == State::closed);
  }
}

TEST_CASE("STARTTLS is answered in plain, and nothing said before it counts after it", "[nbd]") {
  Talk talk(Encryption::required);
  talk.flags();
  CHECK(talk.option(Option::starttls, text("x")) == State::running);
  CHECK(talk.answer() == OptionReply::invalid);
  REQUIRE(talk.option(Option::starttls) == State::upgrading);
  CHECK(talk.answer() == OptionReply::ack);
  CHECK(talk.core.wanted() == 0);
  talk.core.is_encrypted();
  CHECK(talk.core.encryption() == Encryption::established);
  CHECK(talk.core.wanted() == kOptionHeaderBytes);
  CHECK(talk.option(Option::starttls) == State::running);
  CHECK(talk.answer() == OptionReply::invalid);
  CHECK(talk.option(Option::set_meta_context, meta_data("live", {"base:allocation"})) ==
        State::running);
  CHECK(talk.answer() == OptionReply::invalid);  // No structured replies yet.
  CHECK(talk.option(Option::go, go_data("live")) == State::agreed);
}

TEST_CASE("STARTTLS on a local socket is refused, and the talk goes on", "[nbd]") {
  Talk talk;
  talk.flags();
  CHECK(talk.option(Option::starttls) == State::running);
  CHECK(talk.answer() == OptionReply::policy);
  CHECK(talk.option(Option::go, go_data("live")) == State::agreed);
}
