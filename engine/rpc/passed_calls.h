// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// What ends a set or a session passes calls that are under way: Abort must not wait for a blocked
// EndPrepare. Then it may find nothing to end yet, and what it passed may leave a set behind that
// nobody knows any more. So it is carried out once more when nothing that it passed is under way.
// Pure: whoever serves a provider's calls tells what happens and is told what to repeat.
#pragma once

#include <map>
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
  /// umbrad was lost and is back: all other sessions have ended (Provider::retain_sessions()).
  void retain_sessions(const std::vector<SessionId>& alive);

 private:
  struct UnderWay {
    std::size_t calls = 0;
    std::vector<Call> again;
  };
  std::map<std::string, UnderWay, std::less<>> under_way_;  // By member and id.
};

}  // namespace umbra::rpc
