// SPDX-License-Identifier: Apache-2.0
//
// umbra-udev: what a block device is to Umbra, for udev's rules (59- and 61-umbra.rules). Prints
// properties, or nothing. Runs for block devices as they appear, before umbra-cowd does: it reads
// the state and the run directory and sysfs, asks nobody, and never opens the device. Exit status:
// 0; 2 for a wrong option.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <system_error>

#include "provider/daemon/device_role.h"

namespace {

namespace fs = std::filesystem;
using namespace umbra::cowd;

std::vector<VolumeConfig> read_configs(const std::string& state_dir) {
  std::vector<VolumeConfig> configs;
  std::error_code error;
  for (fs::directory_iterator entry(state_dir + "/volumes", error), end;
       !error && entry != end && configs.size() < kVolumesMax; entry.increment(error)) {
    std::ifstream file(entry->path(), std::ios::binary);
    const std::string text((std::istreambuf_iterator<char>(file)), {});
    // One that cannot be read is umbra-cowd's to complain of.
    if (auto config = parse_config(text)) configs.push_back(std::move(*config));
  }
  return configs;
}

std::string read_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::vector<std::string> names_of(const std::string& node, const std::string& run_dir) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(run_dir + "/dev", error), end; !error && entry != end;
       entry.increment(error)) {
    std::error_code gone;
    if (fs::read_symlink(entry->path(), gone) == node && !gone) {
      names.push_back(entry->path().filename().string());
    }
  }
  return names;
}

}  // namespace

int main(int argc, char** argv) {
  BlockDeviceView device;
  std::string run_dir = "/run/umbra";
  std::string state_dir = "/var/lib/umbra";
  CLI::App app{"Says what a block device is to Umbra; udev's rules run it."};
  app.add_option("--run-dir", run_dir, "umbra-cowd's run directory");
  app.add_option("--state-dir", state_dir, "umbra-cowd's state directory");
  app.add_option("node", device.node, "The device, /dev/...")->required();
  app.add_option("names", device.names, "Its other names");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  // As udev gives them: below /dev.
  for (std::string& name : device.names) {
    if (!name.starts_with('/')) name = "/dev/" + name;
  }
  const std::string facts = "/sys/class/block/" + fs::path(device.node).filename().string();
  device.backing_file = read_line(facts + "/loop/backing_file");
  device.identifier = read_line(facts + "/backend");
  device.named = names_of(device.node, run_dir);
  const auto role = role_of(device, run_dir, read_configs(state_dir));
  (void)std::fputs(to_properties(role).c_str(), stdout);
  return 0;
}
