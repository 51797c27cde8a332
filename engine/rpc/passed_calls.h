// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// What ends a set or a session passes calls that are under way: Abort must not wait for a blocked
// EndPrepare. Then it may find nothing to end yet, and what it passed may leave a set behind that
// nobody knows any more. So it is carried out once more when nothing that it passed is under way.
// A question passes calls too: what is there of a set cannot be said while it is being deleted.
// Pure: whoever serves a provider's calls tells what happens and is told what to repeat.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "engine/rpc/codec.h"

namespace umbra::rpc {

/// Threads: one at a time.
class PassedCalls {
 public:
  struct Call {
    std::string method;
    Json params;
  };

  /// A call came, and will be carried out some time.
  void begun(const std::string& method, const Json& params);
  /// It is over, carried out or not. What is to be carried out now; nobody waits for an answer.
  [[nodiscard]] std::vector<Call> ended(const std::string& method, const Json& params);
  /// What the call is answered with instead of being carried out; nothing: it is carried out.
  [[nodiscard]] std::optional<Json> answer_for(const std::string& method, const Json& params) const;
  /// umbrad was lost and is back: all other sessions have ended (Provider::retain_sessions()).
  void retain_sessions(const std::vector<SessionId>& alive);

 private:
  struct UnderWay {
    std::size_t calls = 0;
    std::vector<Call> again;
  };
  std::map<std::string, UnderWay, std::less<>> under_way_;  // By member and id.
  std::multiset<std::string> deletions_;                    // Under way: of which set or copy.
};

}  // namespace umbra::rpc
