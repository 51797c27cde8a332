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
  Talk() {
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

  TwoExports catalog;
  Negotiation core{catalog};
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
        (kHasFlags | kSendFlush | kSendFua | kSendTrim | kSendWriteZeroes | kCanMultiConn));
  CHECK(load_be<std::uint32_t>(&infos[kInfoBlockSize][2]) == 4096);
  CHECK(load_be<std::uint32_t>(&infos[kInfoBlockSize][6]) == 4096);
  CHECK(load_be<std::uint32_t>(&infos[kInfoBlockSize][10]) == 1U << 20U);
  CHECK(infos[kInfoName].size() == 2 + 4);
  CHECK(infos[kInfoDescription].size() == 2 + 13);
  const auto& agreed = talk.core.agreement();
  CHECK(agreed.export_name == "live");
  CHECK_FALSE(agreed.structured_replies);
  CHECK_FALSE(agreed.allocation_context);
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
        (kHasFlags | kReadOnly | kSendFlush | kSendFua | kCanMultiConn));
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
    CHECK(talk.replies()[0].data == join({number(kAllocationContext), text("base:allocation")}));
    talk.option(Option::go, go_data("live"));
    CHECK(talk.core.agreement().allocation_context);
  }
  SECTION("a selection holds for its own export only") {
    talk.option(Option::set_meta_context, meta_data("live", {"base:allocation"}));
    talk.option(Option::go, go_data("copy"));
    CHECK_FALSE(talk.core.agreement().allocation_context);
  }
  SECTION("a later selection replaces the earlier one, also when it fails") {
    talk.option(Option::set_meta_context, meta_data("live", {"base:allocation"}));
    talk.option(Option::set_meta_context, meta_data("nope", {"base:allocation"}));
    CHECK(talk.answer() == OptionReply::unknown);
    talk.option(Option::go, go_data("live"));
    CHECK_FALSE(talk.core.agreement().allocation_context);
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
  const auto option = GENERATE(Option::starttls, Option::extended_headers, Option{4}, Option{99});
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
