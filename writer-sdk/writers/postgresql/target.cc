// SPDX-License-Identifier: Apache-2.0

#include "writer-sdk/writers/postgresql/target.h"

#include <libpq-fe.h>

#include <algorithm>
#include <memory>

namespace umbra::postgresql {

namespace {

struct FreeOptions {
  void operator()(PQconninfoOption* options) const noexcept { PQconninfoFree(options); }
};
struct FreeText {
  void operator()(char* text) const noexcept { PQfreemem(text); }
};

bool is_number(const std::string& text) {
  return !text.empty() && text.size() <= 5 && text.find_first_not_of("0123456789") == text.npos;
}

// "/DIR" or "/DIR:PORT"; a colon inside of the directory's name is no separator.
Target of_socket_directory(const std::string& text) {
  std::string directory = text;
  std::string port = "5432";
  const auto colon = text.rfind(':');
  if (colon != std::string::npos && is_number(text.substr(colon + 1))) {
    directory = text.substr(0, colon);
    port = text.substr(colon + 1);
  }
  while (directory.size() > 1 && directory.back() == '/') directory.pop_back();
  return {{{"host", directory}, {"port", port}}};
}

Result<Target> of_connection_string(const std::string& text) {
  char* message = nullptr;
  const std::unique_ptr<PQconninfoOption, FreeOptions> options(
      PQconninfoParse(text.c_str(), &message));
  const std::unique_ptr<char, FreeText> owned(message);
  if (!options) {
    std::string why = message ? message : "out of memory";
    while (!why.empty() && why.back() == '\n') why.pop_back();
    return fail(Errc::invalid_argument, why);
  }
  Target target;
  for (const PQconninfoOption* option = options.get(); option->keyword != nullptr; ++option) {
    if (option->val != nullptr) target.parameters.emplace_back(option->keyword, option->val);
  }
  if (target.value("port").empty()) target.parameters.emplace_back("port", "5432");
  return target;
}

Status check(const Target& target) {
  if (!target.value("service").empty()) {
    return fail(Errc::invalid_argument, "service= is not read here; give host= and port=");
  }
  const auto host = target.value("host");
  if (!target.value("hostaddr").empty()) return {};
  if (host.empty()) {
    return fail(Errc::invalid_argument,
                "names no host; give the socket directory, for example host=/var/run/postgresql");
  }
  if (host.front() != '/') {
    return fail(Errc::invalid_argument, "host=" + host +
                                            " would have to be looked up, for which there is no "
                                            "time limit; give the socket directory, or hostaddr=");
  }
  return {};
}

}  // namespace

std::string Target::value(const std::string& keyword) const {
  const auto found = std::find_if(parameters.begin(), parameters.end(),
                                  [&](const auto& entry) { return entry.first == keyword; });
  return found == parameters.end() ? std::string() : found->second;
}

std::string Target::address() const {
  const auto host = value("host");
  return (host.empty() ? value("hostaddr") : host) + ":" + value("port");
}

Result<Target> parse_target(const std::string& text, const std::string& user,
                            const std::string& database) {
  auto target =
      !text.empty() && text.front() == '/' ? of_socket_directory(text) : of_connection_string(text);
  if (!target) return fail(std::move(target.error()), "'" + text + "'");
  if (auto sound = check(*target); !sound) return fail(std::move(sound.error()), "'" + text + "'");
  if (!user.empty() && target->value("user").empty()) {
    target->parameters.emplace_back("user", user);
  }
  if (target->value("dbname").empty()) {
    target->parameters.emplace_back("dbname", database.empty() ? "postgres" : database);
  }
  return target;
}

}  // namespace umbra::postgresql
