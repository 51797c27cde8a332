// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// An express writer: what an installer does so that its application is backed up without a process
// of its own, and what its uninstaller does.
//
//   express_writer install DIRECTORY [RUN-DIR]
//   express_writer uninstall [RUN-DIR]
#include <iostream>

#include "umbra/writer/express.h"

using namespace umbra;

// Made once, by uuidgen.
static constexpr const char* kClass = "a7d0c9c4-0e5a-4c0b-b7f2-6d1f0d3c5b18";

static Status install(const std::string& data, const std::string& directory) {
  auto express = writer::ExpressWriter::create_metadata(
      {.class_id = *WriterClassId::parse(kClass), .name = "recipes", .version_major = 1});
  if (!express) return fail(express.error());
  ComponentInfo component;
  component.name = "recipes";
  component.caption = "All recipes";
  FileSet& files = component.files.emplace_back();
  files.path = data;
  files.recursive = true;
  if (Status added = express->add_component(component); !added) return added;
  FileSet drafts;
  drafts.path = data;
  drafts.pattern = "*.draft";
  drafts.recursive = true;
  if (Status added = express->add_exclude_files(drafts); !added) return added;
  RestoreRules rules;
  rules.method = RestoreMethod::restore_if_can_replace;
  rules.writer_restore = WriterRestore::never;  // Nobody is there to take part.
  if (Status set = express->set_restore_rules(rules); !set) return set;
  return express->register_writer(directory);
}

int main(int argc, char** argv) {
  const std::string action = argc > 1 ? argv[1] : "";
  const bool installs = action == "install" && argc > 2;
  if (!installs && action != "uninstall") {
    std::cerr << "usage: express_writer install DIRECTORY [RUN-DIR] | uninstall [RUN-DIR]\n";
    return 2;
  }
  const int last = installs ? 3 : 2;
  const auto directory = writer::ExpressWriter::directory_of(argc > last ? argv[last] : "");
  if (!directory) {
    std::cerr << directory.error().to_string() << "\n";
    return 1;
  }
  const Status done = installs ? install(argv[2], *directory)
                               : writer::ExpressWriter::unregister_writer(
                                     *WriterClassId::parse(kClass), *directory);
  if (!done) std::cerr << done.error().to_string() << "\n";
  return done ? 0 : 1;
}
