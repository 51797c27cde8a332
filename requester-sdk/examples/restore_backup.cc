// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Puts back what full_backup kept: a chain of backups, oldest first, with the writers taking part.
//
//   restore_backup DIRECTORY...               where the writers' rules say: in place, or to the
//                                             alternate location that the writer declares
//   restore_backup --to PLACE DIRECTORY...    below PLACE, whatever the rules say
#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

#include "requester-sdk/examples/copying.h"
#include "umbra/requester/restore_session.h"

namespace {

using namespace umbra;

// One backup of the chain. Writers recover after the last one only.
Status restore(const std::string& directory, const std::string& place, bool first, bool last) {
  const auto bundle = requester::load_bundle(example::bundle_of(directory));
  if (!bundle) return fail(bundle.error());
  auto session = requester::RestoreSession::connect();
  if (!session) return fail(session.error());
  requester::RestoreOptions options;
  options.source_directory = example::files_of(directory);
  options.additional_restores = !last;
  options.replace = !first;  // Files of the older ones are there by now.
  if (!place.empty()) {
    options.relocations = {{"/", place}};
    options.only_relocated = true;
  }
  const auto report = session->restore(*bundle, options);
  for (const auto& component : session->last_report().components) {
    for (const auto& file : component.files)
      std::printf("%s -> %s\n", file.original.c_str(), file.destination.c_str());
    for (const auto& words : {component.pre_restore_failure, component.post_restore_failure})
      if (!words.empty()) std::printf("%s: %s\n", component.writer.c_str(), words.c_str());
  }
  for (const auto& note : session->last_report().notes) std::printf("note: %s\n", note.c_str());
  if (!report) return fail(report.error());
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> words(argv + 1, argv + argc);
  std::string place;
  if (words.size() > 1 && words[0] == "--to") {
    place = words[1];
    words.erase(words.begin(), words.begin() + 2);
  }
  if (words.empty()) {
    std::cerr << "usage: restore_backup [--to PLACE] DIRECTORY...\n";
    return 2;
  }
  for (std::size_t i = 0; i < words.size(); ++i) {
    const Status done = restore(words[i], place, i == 0, i + 1 == words.size());
    if (done) continue;
    std::cerr << done.error().to_string() << "\n";
    return 1;
  }
  return 0;
}
