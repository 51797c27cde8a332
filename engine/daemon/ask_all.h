// SPDX-License-Identifier: Apache-2.0
//
// One question to every provider at once. Who is away or does not answer is named to whoever asked.

#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/daemon/provider_link.h"
#include "engine/daemon/server.h"
#include "engine/platform/log.h"

namespace umbra::daemon {

/// `text`, and who is away: one of them may have what was not found.
[[nodiscard]] inline std::string with_absent(std::string text,
                                             const std::vector<std::string>& absent) {
  for (const auto& name : absent) text += "; provider '" + printable(name) + "' is away";
  return text;
}

/// Asks every connected provider; `done` gets the good answers and the names of who gave none.
template <class Answer, class Request>
void ask_all(Server& server, const std::string& member, const Request& request,
             std::function<void(std::vector<Answer>, std::vector<std::string>)> done) {
  struct Gathering {
    std::vector<Answer> answers;
    std::vector<std::string> absent;
    std::size_t left = 1;
  };
  const auto gathering = std::make_shared<Gathering>();
  gathering->absent = server.absent_providers();
  const auto count_down = [gathering, done = std::move(done)] {
    if (--gathering->left == 0) done(std::move(gathering->answers), std::move(gathering->absent));
  };
  for (const auto& link : server.connected_providers()) {
    ++gathering->left;
    link->call<Answer>(member, request, server.limits().provider_query,
                       [gathering, link, &server, count_down](Result<Answer> answer) {
                         if (answer) {
                           gathering->answers.push_back(std::move(*answer));
                         } else {
                           server.log().warning("provider did not answer a query",
                                                {{"why", answer.error().context}});
                           gathering->absent.push_back(link->properties().name);
                         }
                         count_down();
                       });
  }
  count_down();
}

}  // namespace umbra::daemon
