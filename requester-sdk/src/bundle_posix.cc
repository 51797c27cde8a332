// SPDX-License-Identifier: Apache-2.0 OR MIT
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>

#include "engine/documents/xml.h"
#include "engine/platform/unique_fd.h"
#include "requester-sdk/src/files.h"
#include "umbra/requester/bundle.h"

namespace umbra::requester {

Status save_bundle(const BackupBundle& bundle, const std::string& path) {
  const std::string xml = documents::to_xml(bundle);
  if (xml.size() > documents::kDocumentBytesMax) {
    return fail(Errc::limit_reached, "the documents are longer than 16 MiB");
  }
  std::string beside = path + ".XXXXXX";
  const UniqueFd file(::mkostemp(beside.data(), O_CLOEXEC));
  if (!file) return file_error("cannot write " + path);
  Status done;
  for (std::size_t at = 0; done && at < xml.size();) {
    const ssize_t count = ::write(file.get(), xml.data() + at, xml.size() - at);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) done = file_error("cannot write " + path);
    at += static_cast<std::size_t>(std::max<ssize_t>(count, 0));
  }
  if (done && ::fsync(file.get()) != 0) done = file_error("cannot write " + path);
  if (done && ::rename(beside.c_str(), path.c_str()) != 0)
    done = file_error("cannot write " + path);
  if (done) return sync_directory(std::filesystem::path(path).parent_path().string());
  (void)::unlink(beside.c_str());
  return done;
}

Result<BackupBundle> load_bundle(const std::string& path) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return file_error("cannot read " + path);
  std::string xml;
  std::array<char, 65536> buffer{};
  while (xml.size() <= documents::kDocumentBytesMax) {
    const ssize_t count = ::read(file.get(), buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return file_error("cannot read " + path);
    if (count == 0) break;
    xml.append(buffer.data(), static_cast<std::size_t>(count));
  }
  auto bundle = documents::parse_bundle(xml);
  if (!bundle) return fail(bundle.error(), path);
  return bundle;
}

}  // namespace umbra::requester
