// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// What the examples of backups share: copying what a backup has to hold into a directory. A real
// backup program has an archive of its own here; the documents beside the files are what makes
// a backup of them.
#pragma once

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>

#include "umbra/requester/bundle.h"
#include "umbra/requester/client.h"
#include "umbra/requester/file_list.h"

namespace example {

inline umbra::Status io_failure(const std::string& path, const std::error_code& why) {
  return umbra::fail(umbra::Errc::io_error, path + ": " + why.message());
}

/// Where a backup in `directory` has its files, by their whole paths, and its documents.
inline std::string files_of(const std::string& directory) { return directory + "/files"; }
inline std::string bundle_of(const std::string& directory) {
  return directory + "/backup.umbra.xml";
}

inline umbra::Status copy_one(const umbra::requester::ListedFile& file, const std::string& top) {
  namespace fs = std::filesystem;
  using umbra::requester::FileKind;
  const std::string target = top + file.original;
  std::error_code why;
  if (file.kind == FileKind::directory) {
    fs::create_directories(target, why);
    return why ? io_failure(target, why) : umbra::Status{};
  }
  fs::create_directories(fs::path(target).parent_path(), why);
  if (file.kind == FileKind::link) {
    fs::copy_symlink(file.source, target, why);
  } else if (file.kind == FileKind::regular) {
    fs::copy_file(file.source, target, fs::copy_options::overwrite_existing, why);
  }
  if (why) return io_failure(target, why);
  return {};
}

/// Copies all that the backup has to hold, from its copies, and keeps the documents with it.
inline umbra::Status copy_all(const umbra::requester::ConnectOptions& connect,
                              const umbra::BackupBundle& bundle, const std::string& directory) {
  auto client = umbra::requester::Client::connect(connect);
  if (!client) return umbra::fail(client.error());
  const auto listed = umbra::requester::list_files(*client, bundle, {},
                                                   [&](const umbra::requester::ListedFile& file) {
                                                     return copy_one(file, files_of(directory));
                                                   });
  if (!listed) return umbra::fail(listed.error());
  for (const auto& note : listed->notes) std::printf("note: %s\n", note.c_str());
  std::printf("%llu files, %llu bytes\n", static_cast<unsigned long long>(listed->files),
              static_cast<unsigned long long>(listed->bytes));
  return {};
}

}  // namespace example
