// SPDX-License-Identifier: Apache-2.0
//
// What a session asks about volumes beyond its own set.

#include <algorithm>
#include <utility>

#include "engine/coordinator/provider_choice.h"
#include "engine/daemon/ask_all.h"
#include "engine/daemon/requester_session.h"

namespace umbra::daemon {

using coord::SessionCall;

// --- IsVolumeSupported --------------------------------------------------------------------------

void RequesterSession::is_volume_supported(const Json& params, const Reply& reply) {
  const auto message = take<rpc::IsVolumeSupported>(params, reply);
  if (!message || !allowed(SessionCall::is_volume_supported, reply)) return;
  if (session_.context() == context::kAll)
    return reply.error({Errc::unsupported_context, "no copy can be made in VSS_CTX_ALL"});
  struct Asking {
    Reply reply;
    std::vector<std::shared_ptr<ProviderLink>> asked;
    std::vector<coord::ProviderCandidate> answers;
    std::size_t left = 0;
  };
  const bool named = !message->provider_id.is_nil();
  auto asking = std::make_shared<Asking>(Asking{reply, {}, {}, 0});
  if (!named) asking->asked = server_.connected_providers();
  if (auto link = named ? server_.provider(message->provider_id) : nullptr)
    asking->asked.push_back(std::move(link));
  const auto answer = [self = shared_from_this(), asking, named] {
    const auto choice = coord::choose_provider(asking->answers, named);
    if (choice) return asking->reply.good(rpc::SupportReply{true});
    // Known, but not with these attributes: that is an answer. Known to nobody is none.
    const bool known = std::any_of(asking->answers.begin(), asking->answers.end(),
                                   [](const auto& one) { return one.supports.has_value(); });
    if (known) return asking->reply.good(rpc::SupportReply{false});
    auto error = choice.error();
    if (error.code == Errc::volume_not_supported) error.code = Errc::object_not_found;
    error.context = with_absent(std::move(error.context), self->server_.absent_providers());
    asking->reply.error(std::move(error));
  };
  asking->left = asking->asked.size();
  asking->answers.resize(asking->asked.size());
  if (asking->asked.empty()) return answer();
  for (std::size_t i = 0; i < asking->asked.size(); ++i) {
    asking->answers[i].type = asking->asked[i]->properties().type;
    asking->asked[i]->call<rpc::SupportReply>(
        "is_volume_supported", rpc::VolumeSupportRequest{message->volume, session_.context()},
        server_.limits().provider_query,
        [asking, i, answer,
         transportable = is_transportable()](Result<rpc::SupportReply> supports) {
          const bool able = !transportable || asking->answers[i].type == ProviderType::hardware;
          asking->answers[i].supports =
              supports.map([able](const rpc::SupportReply& one) { return able && one.supported; });
          if (--asking->left == 0) answer();
        });
  }
}

}  // namespace umbra::daemon
