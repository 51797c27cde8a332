// SPDX-License-Identifier: Apache-2.0

#include "engine/daemon/express.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "engine/documents/express.h"
#include "engine/documents/xml.h"

namespace umbra::daemon {
namespace {

void add_store_itself(documents::ExpressWriters& found, const std::string& directory) {
  const auto is_store = [](const auto& entry) {
    return entry.document.identity.class_id == documents::metadata_store_class();
  };
  if (found.writers.empty() || std::any_of(found.writers.begin(), found.writers.end(), is_store))
    return;
  auto document = documents::metadata_store_writer(directory);
  auto xml = documents::to_xml(document);
  found.writers.push_back({"", std::move(xml), std::move(document)});
}

}  // namespace

void read_express(Server& server, std::function<void(documents::ExpressWriters)> done) {
  const auto directory = server.writers_dir();
  if (directory.empty()) return done({});
  server.aside([&server, directory, done = std::move(done)]() mutable {
    auto found = std::make_shared<Result<documents::ExpressWriters>>(
        documents::read_express_writers(directory));
    if (*found) add_store_itself(**found, directory);
    return [&server, found, done = std::move(done)] {
      if (!*found) {
        server.log().warning("express writers are not read",
                             {{"why", printable(found->error().context)}});
        return done({});
      }
      for (const auto& why : (*found)->refused)
        server.log().warning("express writer not taken", {{"why", printable(why)}});
      done(std::move(**found));
    };
  });
}

coord::RegisteredWriter express_entry(const WriterIdentity& identity) {
  coord::RegisteredWriter entry;
  entry.instance_id = identity.instance_id;
  entry.class_id = identity.class_id;
  entry.name = identity.name;
  entry.instance_name = identity.instance_name;
  entry.level = ApplicationLevel::unknown;
  entry.freeze_window = coord::milliseconds{0};
  entry.subscription = 0;
  return entry;
}

}  // namespace umbra::daemon
