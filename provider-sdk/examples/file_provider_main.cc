// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// A third-party provider as a program:
//
//   file_provider STORE NAME=FILE...       then, elsewhere: umbra create shadow NAME
//
// Copies are files in STORE; `umbra list shadows --json` says which (device_object).
#include <csignal>
#include <cstdio>
#include <iostream>
#include <mutex>
#include <string>

#include "provider-sdk/examples/file_provider.h"
#include "umbra/provider/session.h"

namespace {

umbra::provider::Session* serving = nullptr;

int complain(const umbra::Error& error) {
  std::cerr << "file_provider: " << error.to_string() << "\n";
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: file_provider STORE NAME=FILE...\n";
    return 2;
  }
  umbra::ProviderProperties properties;
  properties.provider_id =
      *umbra::ProviderId::parse("6c0f2b0e-52b6-4a63-9f0c-3d7c4d2a8f15");  // uuidgen
  properties.name = "file provider";
  properties.type = umbra::ProviderType::software;
  properties.version = "1";
  auto provider = example::FileProvider::open(argv[1], properties);
  if (!provider) return complain(provider.error());
  for (int i = 2; i < argc; ++i) {
    const std::string word = argv[i];
    const auto equals = word.find('=');
    const auto path = equals == std::string::npos ? std::string() : word.substr(equals + 1);
    if (const auto added = (*provider)->add_volume(word.substr(0, equals), path); !added)
      return complain(added.error());
  }

  umbra::provider::Options options;
  options.coordinator_required = false;  // It may be started before umbrad.
  options.log = [](umbra::LogLevel, std::string_view line) {
    static std::mutex mutex;
    const std::lock_guard lock(mutex);
    std::cerr << line << "\n";
  };
  auto session = umbra::provider::Session::connect(**provider, options);
  if (!session) return complain(session.error());
  serving = &*session;
  std::signal(SIGTERM, [](int) { serving->request_stop(); });
  std::signal(SIGINT, [](int) { serving->request_stop(); });
  std::puts("serving");
  std::fflush(stdout);
  const auto ended = session->run();
  std::signal(SIGTERM, SIG_DFL);
  std::signal(SIGINT, SIG_DFL);
  return ended ? 0 : complain(ended.error());
}
