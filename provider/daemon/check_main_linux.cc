// SPDX-License-Identifier: Apache-2.0
//
// umbra-check: looks at a diff area that nobody has open; `umbra check` runs it. A program of its
// own: the command line knows requester headers only, and umbra-cowd is not needed for this, nor
// can it be trusted to start when an area is damaged.
//
// Exit status: 0 nothing is damaged (or all of it was repaired); 1 damage, or it could not be
// looked at; 2 wrong option; 3 one of two copies is damaged, --repair mends it; 11 it is attached;
// 13 no such file; 130 interrupted.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <iostream>
#include <sstream>
#include <string>

#include "engine/platform/clock.h"
#include "engine/platform/file_device.h"
#include "provider/cow/check.h"
#include "provider/daemon/system_view_linux.h"

namespace {

using namespace umbra;
using cow::CheckReport;
using cow::Finding;

enum Exit {
  kDone = 0,
  kDamaged = 1,
  kUsage = 2,
  kRepairable = 3,
  kBusy = 11,
  kNotFound = 13,
  kInterrupted = 130
};

struct Arguments {
  std::string path;
  bool repair = false;
  bool data = false;
  bool json = false;
  std::uint64_t rate = 0;  // Bytes a second; 0: as fast as it goes.
};

const char* outcome_of(const CheckReport& report) {
  if (report.damaged > 0) return "damaged";
  if (report.repairable > 0) return "repairable";
  return report.repaired > 0 ? "repaired" : "clean";
}

int exit_of(const CheckReport& report) {
  if (report.damaged > 0) return kDamaged;
  if (report.repairable > 0) return kRepairable;
  return report.complete ? kDone : kInterrupted;
}

// Holds the rate, and looks for a signal to stop at. The signals are blocked.
class Pace {
 public:
  explicit Pace(std::uint64_t bytes_per_second) : rate_(bytes_per_second) {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGINT);
    sigaddset(&signals_, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &signals_, nullptr);
  }
  [[nodiscard]] bool go_on(std::uint64_t done_bytes) {
    using Seconds = std::chrono::duration<double>;
    const Seconds passed = std::chrono::steady_clock::now() - begin_;
    const Seconds due(rate_ == 0 ? 0
                                 : static_cast<double>(done_bytes) / static_cast<double>(rate_));
    const double wait = std::max(0.0, (due - passed).count());
    timespec limit{};
    limit.tv_sec = static_cast<time_t>(wait);
    limit.tv_nsec = static_cast<long>((wait - static_cast<double>(limit.tv_sec)) * 1e9);
    return sigtimedwait(&signals_, nullptr, &limit) < 0;
  }

 private:
  std::uint64_t rate_;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  sigset_t signals_{};
};

void print(const std::string& text) { (void)std::fputs(text.c_str(), stdout); }

int complain(const Arguments& arguments, const Error& error) {
  if (arguments.json) {
    const boost::json::object object{
        {"error", {{"code", std::string(code_name(error.code))}, {"message", error.to_string()}}}};
    print(boost::json::serialize(object) + "\n");
  } else {
    std::cerr << "umbra-check: " << error.to_string() << "\n";
  }
  if (error.code == Errc::volume_attached) return kBusy;
  return error.code == Errc::object_not_found ? kNotFound : kDamaged;
}

boost::json::array names_of(const std::vector<SnapshotId>& snapshots) {
  boost::json::array names;
  for (const SnapshotId& id : snapshots) names.emplace_back(id.to_string());
  return names;
}

void print_json(const CheckReport& report) {
  boost::json::array findings;
  for (const Finding& finding : report.findings) {
    findings.emplace_back(boost::json::object{{"kind", text_of(finding.kind)},
                                              {"offset_bytes", finding.offset_bytes},
                                              {"what", finding.what},
                                              {"snapshots", names_of(finding.snapshots)}});
  }
  const boost::json::object object{{"outcome", outcome_of(report)},
                                   {"complete", report.complete},
                                   {"clean_shutdown", report.clean_shutdown},
                                   {"snapshots", report.snapshots},
                                   {"snapshots_lost", report.snapshots_lost},
                                   {"blobs", report.blobs},
                                   {"groups", report.groups},
                                   {"records", report.records},
                                   {"chunks_verified", report.chunks_verified},
                                   {"chunks_unchecked", report.chunks_unchecked},
                                   {"unfinished", report.unfinished},
                                   {"repairable", report.repairable},
                                   {"repaired", report.repaired},
                                   {"damaged", report.damaged},
                                   {"snapshots_damaged", names_of(report.snapshots_damaged)},
                                   {"snapshots_locked", names_of(report.snapshots_locked)},
                                   {"findings", std::move(findings)}};
  print(boost::json::serialize(object) + "\n");
}

void print_text(const CheckReport& report) {
  std::ostringstream text;
  for (const Finding& finding : report.findings) {
    text << text_of(finding.kind) << " at " << finding.offset_bytes << ": " << finding.what << "\n";
  }
  const std::uint64_t all =
      report.unfinished + report.repairable + report.repaired + report.damaged;
  if (all > report.findings.size()) {
    text << "and " << all - report.findings.size() << " more\n";
  }
  for (const SnapshotId& id : report.snapshots_damaged) {
    text << "snapshot " << id.to_string() << " is damaged\n";
  }
  for (const std::string& lock : report.locks) text << lock << "\n";
  text << outcome_of(report) << ": " << report.snapshots << " snapshots (" << report.snapshots_lost
       << " lost before), " << report.records << " records, " << report.chunks_verified
       << " chunks of data verified";
  if (!report.complete) text << " until it was interrupted";
  text << "\n";
  if (report.repairable > 0) text << "run it with --repair\n";
  print(text.str());
}

int run(const Arguments& arguments) {
  FileDeviceOptions device_options;
  device_options.read_only = !arguments.repair;
  auto device = open_file_device(arguments.path, device_options);
  if (!device && device.error().code == Errc::volume_attached) {
    return complain(arguments, Error{Errc::volume_attached,
                                     arguments.path + " is in use: detach its volume first"});
  }
  if (!device) return complain(arguments, device.error());
  Pace pace(arguments.rate);
  cow::CheckOptions options;
  options.repair = arguments.repair;
  options.data = arguments.data;
  options.now_filetime = system_clock().wall_filetime();
  if (const auto boot = cowd::read_boot_id()) options.boot_id = *boot;
  options.progress = [&](std::uint64_t done, std::uint64_t) { return pace.go_on(done); };
  const auto report = cow::check(**device, options);
  if (!report) return complain(arguments, report.error());
  if (arguments.json) {
    print_json(*report);
  } else {
    print_text(*report);
  }
  return exit_of(*report);
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  CLI::App app{"Verifies a diff area that is not attached."};
  app.add_option("diff", arguments.path, "The diff area's file or block device")->required();
  app.add_flag("--repair", arguments.repair, "Write damaged metadata anew from its other copy");
  app.add_flag("--data", arguments.data, "Also read and verify all preserved data");
  app.add_option("--rate", arguments.rate, "Read at most this much data a second, e.g. 100M")
      ->transform(CLI::AsSizeValue(false));
  app.add_flag("--json", arguments.json, "One JSON object");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kDone : kUsage;
  }
  return run(arguments);
}
