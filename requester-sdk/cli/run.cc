// SPDX-License-Identifier: Apache-2.0
#include "requester-sdk/cli/run.h"

#include "requester-sdk/cli/parse.h"

namespace umbra::cli {
namespace {

constexpr const char* kSocketName = "umbrad.sock";

std::string trimmed(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

int say(const Said& said, Output& output) {
  if (!said.mistake) {
    output.line(trimmed(said.text));
    return static_cast<int>(ExitCode::done);
  }
  if (said.json) {
    output.use_json();
    (void)output.error({Errc::invalid_argument, trimmed(said.text)}, {}, ExitCode::usage);
  } else {
    output.note("umbra: " + trimmed(said.text));
  }
  return static_cast<int>(ExitCode::usage);
}

}  // namespace

int run(const std::vector<std::string>& words, Output& output, const MakeService& make_service) {
  auto parsed = parse(words);
  if (const auto* said = std::get_if<Said>(&parsed)) return say(*said, output);
  const auto& invocation = std::get<Invocation>(parsed);
  if (invocation.json) output.use_json();
  std::string socket = invocation.socket;
  if (socket.empty() && !invocation.run_dir.empty()) {
    socket = invocation.run_dir + "/" + kSocketName;
  }
  const auto service = make_service(socket);
  return invocation.command(*service, output);
}

}  // namespace umbra::cli
