// SPDX-License-Identifier: Apache-2.0
//
// The life of an umbra-writer-NAME between its arguments and its exit status: the options that all
// have, the log on standard error, and a session that runs until SIGTERM or SIGINT.

#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "umbra/result.h"
#include "umbra/writer/writer.h"
#include "writer-sdk/writers/common/options.h"

namespace umbra::writers {

struct ProgramArguments {
  std::string config;
  std::string run_dir;
  ProgramOptions options;
  std::int64_t freeze_window_ms = 0;
};

/// Declares --config, --socket, --run-dir, --instance-name, --freeze-window-ms and --log-level.
/// `manual` is where the keys of the configuration are listed. `arguments` outlives `app`.
void declare(CLI::App& app, const std::string& manual, ProgramArguments& arguments);
/// Parses. The exit status if the program ends here: 0 after --help, 2 after a wrong argument.
[[nodiscard]] std::optional<int> parse(CLI::App& app, int argc, char** argv);
/// The arguments that were given win over the file.
void apply(const CLI::App& app, const ProgramArguments& arguments, ProgramOptions& options);

/// Gives the text of the file at `path` to `read`; nothing to do without a path. Errors: those of
/// `read`, with the path; invalid_argument (it cannot be read).
[[nodiscard]] Status read_config_file(const std::string& path,
                                      const std::function<Status(std::string_view text)>& read);

/// Lines of `options`' level and above, on standard error, headed by the program's name. `program`
/// is kept as it is.
[[nodiscard]] LogSink log_to_standard_error(const char* program, const ProgramOptions& options);

/// For a writer of a database: what the SDK is to be told, without the log.
[[nodiscard]] writer::Options session_options(const WriterClassId& class_id, std::string name,
                                              const ProgramOptions& options);

/// Runs until SIGTERM or SIGINT, one session per process. `started` is called once the signals are
/// caught, before the session runs. The exit status: 0 stopped by a signal; 1 umbrad refused it,
/// which is logged.
[[nodiscard]] int run(const char* program, writer::Writer& writer, writer::Options options,
                      const std::function<void()>& started);

}  // namespace umbra::writers
