// SPDX-License-Identifier: Apache-2.0
//
// What umbra-test-writer does at each event because of its configuration: fails, sets stamps and
// what else a writer may say, spits files into alternate paths, deletes what was copied so that the
// requester has to read the copy, and checks after a restore what came back.

#pragma once

#include <mutex>
#include <string>

#include "tests/tools/test_writer/config.h"
#include "umbra/writer/writer.h"

namespace umbra::test_writer {

/// Threads: any.
class Behaviour {
 public:
  explicit Behaviour(Config config) : config_(std::move(config)) {}

  [[nodiscard]] const Config& config() const noexcept { return config_; }
  /// Everything that the configuration declares.
  [[nodiscard]] Status describe(writer::MetadataBuilder& metadata) const;
  /// The failure that the event is to have now, counted down.
  [[nodiscard]] Status fail_if_asked(const std::string& event);
  /// What the event does; the error is that of a check or of a call to the SDK.
  [[nodiscard]] Status act(const std::string& event, writer::Context& context) const;

 private:
  [[nodiscard]] Status say(writer::Context& context, bool after_snapshot) const;
  [[nodiscard]] Status direct(writer::Context& context) const;
  [[nodiscard]] Status spit(const writer::Context& context) const;
  [[nodiscard]] Status remove_originals(const writer::Context& context) const;
  [[nodiscard]] Status check(writer::Context& context) const;

  const Config config_;
  std::mutex mutex_;
  std::map<std::string, std::uint32_t> failed_;  // How often an event has failed.
};

/// The files of a set, those that exist. `directory`: instead of its own path, if not empty. Links
/// are not followed.
[[nodiscard]] std::vector<std::string> files_in(const FileSet& files,
                                                const std::string& directory = {});
/// Whether `path` belongs to the set.
[[nodiscard]] bool is_in(const FileSet& files, const std::string& path);

}  // namespace umbra::test_writer
