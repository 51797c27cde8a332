// SPDX-License-Identifier: Apache-2.0
//
// The style guide, executable: what a reviewer would otherwise have to say again and again. Reads
// the tree as text. Each rule prints file, line and the reason.

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>
#include <regex>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/catch.h"

namespace fs = std::filesystem;

namespace {

const fs::path kRoot = UMBRA_SOURCE_DIR;

struct File {
  std::string path;  // From the root, with slashes.
  std::vector<std::string> lines;
};

bool is_source(const fs::path& path) {
  return path.extension() == ".h" || path.extension() == ".cc";
}

std::vector<std::string> read_lines(const fs::path& path) {
  std::ifstream in(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

std::vector<File> source_files() {
  std::vector<File> files;
  for (const char* top :
       {"engine", "provider", "writer-sdk", "requester-sdk", "provider-sdk", "tests", "bench"}) {
    for (const auto& entry : fs::recursive_directory_iterator(kRoot / top)) {
      if (!entry.is_regular_file() || !is_source(entry.path())) continue;
      files.push_back(
          {fs::relative(entry.path(), kRoot).generic_string(), read_lines(entry.path())});
    }
  }
  return files;
}

const std::vector<File>& sources() {
  static const std::vector<File> files = source_files();
  return files;
}

bool starts_with(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

void report(const File& file, std::size_t line, const std::string& reason) {
  FAIL_CHECK(file.path << ":" << line + 1 << ": " << reason);
}

// The quoted path of an #include "..." line.
std::optional<std::string> quoted_include(const std::string& line) {
  static const std::regex pattern(R"(^\s*#\s*include\s+"([^"]+)\")");
  std::smatch match;
  if (!std::regex_search(line, match, pattern)) return std::nullopt;
  return match[1].str();
}

std::optional<std::string> angle_include(const std::string& line) {
  static const std::regex pattern(R"(^\s*#\s*include\s+<([^>]+)>)");
  std::smatch match;
  if (!std::regex_search(line, match, pattern)) return std::nullopt;
  return match[1].str();
}

// --- dependency directions --------------------------------------------------------------------

// The folder whose header is meant: "umbra/..." names are looked up in the include roots.
std::string folder_of_include(const std::string& include) {
  if (starts_with(include, "umbra/writer/")) return "writer-sdk/include";
  if (starts_with(include, "umbra/requester/")) return "requester-sdk/include";
  if (starts_with(include, "umbra/provider/")) return "provider-sdk/include";
  if (starts_with(include, "umbra/")) {
    for (const char* root : {"engine/platform", "engine/model", "engine/documents"}) {
      if (fs::exists(kRoot / root / "include" / include)) return root;
    }
    return "nowhere";
  }
  return fs::path(include).parent_path().generic_string();
}

struct Rule {
  std::string folder;                // Longest matching prefix decides.
  std::vector<std::string> allowed;  // Besides itself.
  std::string reason;
};

// Dependencies point one way (docs/architecture.md). A folder may always include itself.
const std::vector<Rule>& rules() {
  static const std::vector<Rule> table = {
      {"engine/platform", {}, "platform is the bottom: it knows nothing of VSS"},
      {"engine/model", {"engine/platform"}, "the model knows types, not how they travel"},
      {"engine/documents", {"engine/platform", "engine/model"}, "documents know no wire"},
      {"engine/shm", {"engine/platform"}, "views are memory: whoever writes or reads them"},
      {"engine/rpc", {"engine/platform", "engine/model"}, "the wire knows messages, not phases"},
      {"engine/coordinator",
       {"engine/platform", "engine/model"},
       "the coordinator is pure: no wire, no sockets, no provider"},
      {"engine/daemon", {"engine"}, "umbrad touches no volume data and links no provider"},
      {"provider/format", {"engine/platform"}, "the format is bytes only"},
      {"provider/cow",
       {"engine/platform", "provider/format"},
       "the store knows bytes, never writers, sets or sockets"},
      {"provider/contract",
       {"engine/platform", "engine/model", "provider/cow"},
       "the contract adapts the store to the provider interface"},
      {"provider/frontend", {"engine/platform"}, "front ends serve any block::Device"},
      {"provider/frontend/shm",
       {"engine/platform", "engine/shm", "provider/cow"},
       "views are written by what the store tells, not by reading devices"},
      {"provider/guardian",
       {"engine/platform", "engine/model", "provider/contract", "provider/frontend/nbd_device",
        "provider/frontend/ublk"},
       "the guardian stays small; of front ends it knows how the kernel's devices are stopped"},
      {"provider/daemon",
       {"engine/platform", "engine/model", "engine/rpc", "engine/shm", "provider"},
       "umbra-cowd joins the provider's parts"},
      {"writer-sdk/include",
       {"engine/platform", "engine/model", "engine/documents"},
       "public headers stand alone"},
      {"writer-sdk/src",
       {"writer-sdk/include", "engine/platform", "engine/model", "engine/rpc", "engine/documents"},
       "SDKs know the wire and the documents, never the coordinator or a provider"},
      {"writer-sdk/writers",
       {"writer-sdk/include", "engine/model", "engine/documents"},
       "writers use the public SDK"},
      {"writer-sdk/examples",
       {"writer-sdk/include", "engine/model"},
       "examples use the public SDK"},
      {"provider-sdk/include", {"engine/platform", "engine/model"}, "public headers stand alone"},
      {"provider-sdk/src",
       {"provider-sdk/include", "engine/platform", "engine/model", "engine/rpc"},
       "SDKs know the wire, never the coordinator or another provider"},
      {"provider-sdk/examples",
       {"provider-sdk/include", "engine/model"},
       "examples use the public SDK"},
      {"requester-sdk/include",
       {"engine/platform", "engine/model", "engine/documents"},
       "public headers stand alone"},
      {"requester-sdk/src",
       {"requester-sdk/include", "engine/platform", "engine/model", "engine/rpc",
        "engine/documents", "engine/shm"},
       "SDKs know the wire and the documents, never the coordinator or a provider"},
      {"requester-sdk/cli",
       {"requester-sdk/include", "engine/model", "engine/documents"},
       "the command line is the SDK's first customer"},
      {"requester-sdk/examples",
       {"requester-sdk/include", "engine/model", "engine/documents"},
       "examples use the public SDK"},
  };
  return table;
}

// Public headers of platform (errc, result, ids, log_sink) are the vocabulary of everyone.
bool is_vocabulary(const std::string& include) {
  return include == "umbra/errc.h" || include == "umbra/result.h" || include == "umbra/ids.h" ||
         include == "umbra/log_sink.h";
}

bool covers(const std::string& allowed, const std::string& folder) {
  return folder == allowed || starts_with(folder, allowed + "/");
}

const Rule* rule_for(const std::string& path) {
  const Rule* best = nullptr;
  for (const auto& rule : rules()) {
    if (!starts_with(path, rule.folder + "/")) continue;
    if (best == nullptr || rule.folder.size() > best->folder.size()) best = &rule;
  }
  return best;
}

bool is_platform_file(const std::string& path) {
  static const std::regex suffix(R"(_(posix|linux|win32)\.(cc|h)$)");
  return std::regex_search(path, suffix);
}

}  // namespace

TEST_CASE("dependencies point one way", "[tidy]") {
  for (const auto& file : sources()) {
    const Rule* rule = rule_for(file.path);
    if (rule == nullptr) continue;  // tests, bench: may see everything.
    for (std::size_t i = 0; i < file.lines.size(); ++i) {
      const auto include = quoted_include(file.lines[i]);
      if (!include || is_vocabulary(*include)) continue;
      const std::string folder = folder_of_include(*include);
      bool allowed = covers(rule->folder, folder);
      for (const auto& other : rule->allowed) allowed = allowed || covers(other, folder);
      if (!allowed)
        report(file, i, rule->folder + " may not include " + *include + ": " + rule->reason);
    }
  }
}

TEST_CASE("OS-specific code lives in *_posix, *_linux and *_win32 files", "[tidy]") {
  static const std::regex os_header(
      R"(^(unistd\.h|fcntl\.h|poll\.h|signal\.h|pthread\.h|dirent\.h|grp\.h|pwd\.h|sched\.h|termios\.h|windows\.h|winsock.*|io\.h|sys/.*|linux/.*|mntent\.h|liburing\.h|libmount.*|blkid.*|netinet/.*|arpa/.*)$)");
  static const std::regex os_condition(
      R"(^\s*#\s*(if|ifdef|ifndef|elif).*(_WIN32|__linux__|__unix__|__APPLE__))");
  for (const auto& file : sources()) {
    if (is_platform_file(file.path)) continue;
    for (std::size_t i = 0; i < file.lines.size(); ++i) {
      const auto include = angle_include(file.lines[i]);
      if (include && std::regex_match(*include, os_header)) {
        report(file, i, "<" + *include + "> belongs in a *_posix.cc or *_linux.cc file");
      }
      // An export header is the one place where a condition cannot be split by suffix.
      const bool is_export = file.path.ends_with("/export.h");
      if (!is_export && std::regex_search(file.lines[i], os_condition)) {
        report(file, i, "an #if on the system: split the file by suffix instead");
      }
    }
  }
}

TEST_CASE("every source file names its licence in the first line", "[tidy]") {
  static const std::vector<std::string> dual = {"engine/platform/",
                                                "engine/model/",
                                                "engine/documents/",
                                                "engine/rpc/",
                                                "engine/shm/",
                                                "writer-sdk/src/",
                                                "writer-sdk/include/",
                                                "requester-sdk/src/",
                                                "requester-sdk/include/",
                                                "writer-sdk/examples/",
                                                "requester-sdk/examples/",
                                                "provider-sdk/"};
  for (const auto& file : sources()) {
    const bool is_dual = std::any_of(dual.begin(), dual.end(), [&](const std::string& prefix) {
      return starts_with(file.path, prefix);
    });
    const std::string wanted = is_dual ? "// SPDX-License-Identifier: Apache-2.0 OR MIT"
                                       : "// SPDX-License-Identifier: Apache-2.0";
    if (file.lines.empty() || file.lines.front() != wanted) report(file, 0, "expected: " + wanted);
  }
}

TEST_CASE("no line is longer than 100 columns", "[tidy]") {
  for (const auto& file : sources()) {
    for (std::size_t i = 0; i < file.lines.size(); ++i) {
      // Columns, not bytes: continuation bytes of UTF-8 do not count. A raw string may be long.
      const auto& line = file.lines[i];
      const auto columns = std::count_if(line.begin(), line.end(), [](char c) {
        return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U;
      });
      if (columns > 100 && line.find("R\"(") == std::string::npos) report(file, i, "too long");
    }
  }
}

TEST_CASE("banned words and calls", "[tidy]") {
  struct Ban {
    std::regex pattern;
    std::string reason;
    std::string except;  // Files whose path contains this.
  };
  static const std::vector<Ban> bans = {
      {std::regex(R"(#\s*include\s*<boost/asio\.hpp>)"), "include the specific Asio header", ""},
      {std::regex(R"(\b(TODO|FIXME|XXX)\b)"), "finish it, or open an issue", ""},
      {std::regex(R"(\bsleep_for\b|\bsleep_until\b|\busleep\()"),
       "wait on a condition with a bound, or own the clock", ""},
      {std::regex(R"(std::cout\b)"), "print through the output module", "/cli/output"},
      {std::regex(R"(^\s*using namespace std\s*;)"), "names a whole library", ""},
      {std::regex(R"(\bstd::(rand|srand)\b|[^_a-z]rand\(\))"), "use umbra::Prng with a seed", ""},
  };
  for (const auto& file : sources()) {
    if (starts_with(file.path, "tests/tidy/")) continue;  // Names what it bans.
    for (std::size_t i = 0; i < file.lines.size(); ++i) {
      for (const auto& ban : bans) {
        if (!ban.except.empty() && file.path.find(ban.except) != std::string::npos) continue;
        if (std::regex_search(file.lines[i], ban.pattern)) report(file, i, ban.reason);
      }
    }
  }
}

TEST_CASE("the store waits only where the deterministic scheduler sees it", "[tidy]") {
  static const std::regex wait(
      R"(\bstd::(shared_|recursive_|timed_)?mutex\b|\bstd::condition_var)");
  for (const auto& file : sources()) {
    if (!starts_with(file.path, "provider/cow/") || file.path == "provider/cow/sync.h") continue;
    for (std::size_t i = 0; i < file.lines.size(); ++i) {
      if (std::regex_search(file.lines[i], wait)) {
        report(file, i, "use provider/cow/sync.h: tests/sched would hang here");
      }
    }
  }
}

TEST_CASE("public headers include only the standard library, tl::expected and umbra", "[tidy]") {
  for (const auto& file : sources()) {
    if (file.path.find("/include/umbra/") == std::string::npos) continue;
    for (std::size_t i = 0; i < file.lines.size(); ++i) {
      const auto quoted = quoted_include(file.lines[i]);
      if (quoted && !starts_with(*quoted, "umbra/")) report(file, i, "not a public header");
      const auto angle = angle_include(file.lines[i]);
      const bool is_standard =
          angle && angle->find('/') == std::string::npos && angle->find('.') == std::string::npos;
      if (angle && !is_standard && *angle != "tl/expected.hpp") report(file, i, "not standard");
    }
  }
}

TEST_CASE("every source file belongs to a target", "[tidy]") {
  for (const auto& file : sources()) {
    if (fs::path(file.path).extension() != ".cc") continue;
    // Named in the CMakeLists.txt of its folder or of one above it.
    bool named = false;
    // A fuzz target is named without its suffix.
    const bool is_fuzz_target = starts_with(file.path, "tests/fuzz/");
    const auto base = fs::path(file.path);
    const std::string name = (is_fuzz_target ? base.stem() : base.filename()).string();
    for (fs::path folder = fs::path(file.path).parent_path(); !named;
         folder = folder.parent_path()) {
      for (const auto& line : read_lines(kRoot / folder / "CMakeLists.txt")) {
        named = named || line.find(name) != std::string::npos;
      }
      if (folder.empty()) break;
    }
    if (!named) report(file, 0, "is in no CMakeLists.txt");
  }
}

TEST_CASE("every error code is documented", "[tidy]") {
  std::string documentation;
  for (const auto& line : read_lines(kRoot / "docs/errors.md")) documentation += line + "\n";
  static const std::regex code(R"re("((?:VSS|UMBRA)_[ES]_[A-Z_]+)")re");
  for (const auto& line : read_lines(kRoot / "engine/platform/include/umbra/errc.h")) {
    std::smatch match;
    if (!std::regex_search(line, match, code)) continue;
    CAPTURE(match[1].str());
    CHECK(documentation.find("`" + match[1].str() + "`") != std::string::npos);
  }
}

TEST_CASE("the rules themselves are checked: a wrong include would be seen", "[tidy]") {
  CHECK(rule_for("provider/cow/volume.cc")->folder == "provider/cow");
  CHECK_FALSE(covers("engine/platform", folder_of_include("engine/rpc/messages.h")));
  CHECK(folder_of_include("umbra/provider.h") == "engine/model");
  CHECK(is_platform_file("engine/platform/unique_fd_posix.cc"));
  CHECK_FALSE(is_platform_file("engine/platform/block.cc"));
}
