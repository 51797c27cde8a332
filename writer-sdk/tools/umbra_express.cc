// SPDX-License-Identifier: Apache-2.0
//
// umbra-express: registers, unregisters and lists express writers. A customer of the writer SDK;
// `umbra express` runs it.
//
//   umbra-express register FILE       umbra-express unregister CLASS-ID       umbra-express list
//
// Exit status: as umbra's.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>

#include "umbra/writer/express.h"

namespace {

using namespace umbra;
using writer::ExpressWriter;

constexpr int kNotFound = 13;
constexpr int kDenied = 12;
constexpr int kRefused = 14;
constexpr int kFailed = 1;

void say(const std::string& line) { std::puts(line.c_str()); }

int say(const Error& error) {
  std::cerr << "umbra-express: " << error.to_string() << "\n";
  switch (error.code) {
    case Errc::object_not_found: return kNotFound;
    case Errc::access_denied: return kDenied;
    default: return remedy(error.code) == Remedy::fix_the_call ? kRefused : kFailed;
  }
}

int register_file(const std::string& path, const std::string& directory) {
  std::ifstream file(path, std::ios::binary);
  const std::string xml{std::istreambuf_iterator<char>(file), {}};
  if (!file) return say({Errc::object_not_found, path + " cannot be read"});
  const auto express = ExpressWriter::load_metadata(xml);
  if (!express) return say(express.error());
  if (const Status done = express->register_writer(directory); !done) return say(done.error());
  const WriterIdentity& identity = express->metadata().identity;
  say("Registered " + identity.name + " " + identity.class_id.to_string());
  return 0;
}

int unregister(const std::string& text, const std::string& directory) {
  const auto class_id = WriterClassId::parse(text);
  if (!class_id) return say(class_id.error());
  const Status done = ExpressWriter::unregister_writer(*class_id, directory);
  if (!done) return say(done.error());
  say("Unregistered " + class_id->to_string());
  return 0;
}

int list(const std::string& directory) {
  const auto present = ExpressWriter::list(directory);
  if (!present) return say(present.error());
  for (const WriterMetadataDocument& document : present->writers) {
    say(document.identity.class_id.to_string() + "  " + document.identity.name);
  }
  for (const std::string& why : present->refused) {
    std::cerr << "umbra-express: not taken: " << why << "\n";
  }
  return present->refused.empty() ? 0 : 3;
}

int run(int argc, char** argv) {
  std::string run_dir;
  std::string directory;
  std::string argument;
  CLI::App app("Registers express writers: applications that are backed up without a process");
  app.require_subcommand(1);
  app.fallthrough();
  app.add_option("--run-dir", run_dir, "umbrad's run directory (default: docs/umbrad.md)");
  app.add_option("--directory", directory, "The directory itself");
  auto* add = app.add_subcommand("register", "Register the document in a file");
  add->add_option("file", argument, "A Writer Metadata Document (docs/documents.md)")->required();
  auto* remove = app.add_subcommand("unregister", "Forget an express writer");
  remove->add_option("class-id", argument, "Its class id")->required();
  app.add_subcommand("list", "Who is registered; 3 if files are not taken");
  CLI11_PARSE(app, argc, argv);
  if (directory.empty()) {
    const auto found = ExpressWriter::directory_of(run_dir);
    if (!found) return say(found.error());
    directory = *found;
  }
  if (add->parsed()) return register_file(argument, directory);
  if (remove->parsed()) return unregister(argument, directory);
  return list(directory);
}

}  // namespace

int main(int argc, char** argv) { return run(argc, argv); }
