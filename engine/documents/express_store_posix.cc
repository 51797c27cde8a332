// SPDX-License-Identifier: Apache-2.0 OR MIT
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <set>
#include <system_error>

#include "engine/documents/express.h"
#include "engine/documents/express_store.h"
#include "engine/documents/xml.h"
#include "engine/platform/unique_fd.h"

namespace umbra::documents {
namespace {

constexpr const char* kSystemRunDir = "/run/umbra";
constexpr const char* kSystemDirectory = "/etc/umbra/writers.d";
constexpr std::string_view kSuffix = ".xml";

Error error_of(const std::string& what, int number) {
  const bool denied = number == EACCES || number == EPERM || number == EROFS;
  return {denied ? Errc::access_denied : Errc::io_error,
          what + ": " + std::generic_category().message(number)};
}

// Whether nobody but root and this user may change it.
bool is_safe(const struct stat& status) {
  const bool ours = status.st_uid == 0 || status.st_uid == ::geteuid();
  return ours && (status.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

// The directory, open. An invalid descriptor: there is none.
Result<UniqueFd> open_directory(const std::string& directory) {
  UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd && errno == ENOENT) return fd;
  if (!fd) return fail(error_of(directory, errno));
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) return fail(error_of(directory, errno));
  if (!is_safe(status)) {
    return fail(Errc::access_denied, directory +
                                         ": others than root and this user may write to it; run "
                                         "chmod 0755 and chown root");
  }
  return fd;
}

Result<std::string> read_file(int directory, const std::string& name) {
  // Not blocking: what is no file must not stop us.
  const UniqueFd fd(
      ::openat(directory, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  struct stat status {};
  if (!fd || ::fstat(fd.get(), &status) != 0) return fail(error_of(name, errno));
  if (!S_ISREG(status.st_mode)) return fail(Errc::invalid_argument, name + ": is no file");
  if (!is_safe(status)) {
    return fail(Errc::access_denied, name + ": others than root and this user may write to it");
  }
  if (status.st_size > static_cast<off_t>(kDocumentBytesMax)) {
    return fail(Errc::invalid_xml_document, name + ": longer than 16 MiB");
  }
  std::string text(static_cast<std::size_t>(status.st_size), '\0');
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t count = ::read(fd.get(), text.data() + done, text.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail(error_of(name, errno));
    if (count == 0) break;  // It has become shorter meanwhile.
    done += static_cast<std::size_t>(count);
  }
  text.resize(done);
  return text;
}

// `xml` stays as it was written, unless the instance id has to be settled: requesters see it.
Result<WriterMetadataDocument> parse(const std::string& name, std::string& xml) {
  auto document = parse_writer_metadata(xml);
  if (!document) return fail(document.error(), name);
  if (const Status sound = check_express(*document); !sound) return fail(sound.error(), name);
  if (document->identity.instance_id.is_nil()) {
    settle_express_identity(*document);
    xml = to_xml(*document);
  }
  return document;
}

Status write_file(int directory, const std::string& name, std::string_view text) {
  const UniqueFd fd(::openat(directory, name.c_str(),
                             O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644));
  if (!fd) return fail(error_of(name, errno));
  while (!text.empty()) {
    const ssize_t count = ::write(fd.get(), text.data(), text.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail(error_of(name, errno));
    text.remove_prefix(static_cast<std::size_t>(count));
  }
  // The umask may have left the group's bit.
  if (::fchmod(fd.get(), 0644) != 0 || ::fsync(fd.get()) != 0) return fail(error_of(name, errno));
  return {};
}

Result<UniqueFd> make_directory(const std::string& directory) {
  std::error_code error;
  const bool made = std::filesystem::create_directories(directory, error);
  if (error) return fail(error_of(directory, error.value()));
  if (made && ::chmod(directory.c_str(), 0755) != 0) return fail(error_of(directory, errno));
  return open_directory(directory);
}

const ExpressWriters::Entry* find(const ExpressWriters& present, const WriterClassId& class_id) {
  const auto found =
      std::find_if(present.writers.begin(), present.writers.end(),
                   [&](const auto& entry) { return entry.document.identity.class_id == class_id; });
  return found == present.writers.end() ? nullptr : &*found;
}

}  // namespace

std::string express_directory(const std::string& run_dir) {
  return run_dir == kSystemRunDir ? kSystemDirectory : run_dir + "/writers.d";
}

Result<ExpressWriters> read_express_writers(const std::string& directory) {
  ExpressWriters answer;
  const auto fd = open_directory(directory);
  if (!fd) return fail(fd.error());
  if (!*fd) return answer;
  std::error_code error;
  std::vector<std::string> names;
  for (auto it = std::filesystem::directory_iterator(directory, error);
       !error && it != std::filesystem::directory_iterator{}; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (!name.ends_with(kSuffix) || name.starts_with(".")) continue;
    names.push_back(name);
  }
  if (error) return fail(error_of(directory, error.value()));
  std::sort(names.begin(), names.end());  // The first of a class counts, on every machine.
  std::set<WriterClassId> classes;
  std::size_t bytes = 0;
  for (const std::string& name : names) {
    auto xml = read_file(fd->get(), name);
    if (xml &&
        (answer.writers.size() >= kExpressWritersMax || xml->size() > kExpressBytesMax - bytes)) {
      xml = fail(Errc::limit_reached, name + ": 256 express writers or 64 MiB of them are enough");
    }
    auto document = xml ? parse(name, *xml) : fail(xml.error());
    if (document && !classes.insert(document->identity.class_id).second) {
      document = fail(Errc::object_already_exists, name + ": its class is registered already");
    }
    if (!document) {
      answer.refused.push_back(document.error().context);
      continue;
    }
    bytes += xml->size();
    answer.writers.push_back({name, std::move(*xml), std::move(*document)});
  }
  return answer;
}

Status register_express_writer(const std::string& directory, WriterMetadataDocument document) {
  if (Status sound = check_express(document); !sound) return sound;
  settle_express_identity(document);
  const WriterClassId class_id = document.identity.class_id;
  const auto fd = make_directory(directory);
  if (!fd) return fail(fd.error());
  const auto present = read_express_writers(directory);
  if (!present) return fail(present.error());
  if (find(*present, class_id) != nullptr) {
    return fail(Errc::object_already_exists,
                "an express writer of class " + class_id.to_string() + " is registered");
  }
  const std::string name = class_id.to_string() + std::string(kSuffix);
  const std::string draft = "." + name + ".new";
  (void)::unlinkat(fd->get(), draft.c_str(), 0);  // Of somebody who was killed.
  Status written = write_file(fd->get(), draft, to_xml(document));
  // A link, unlike a rename, replaces nobody.
  if (written && ::linkat(fd->get(), draft.c_str(), fd->get(), name.c_str(), 0) != 0) {
    written = errno == EEXIST ? fail(Errc::object_already_exists, name + " is there already")
                              : Status(fail(error_of(name, errno)));
  }
  (void)::unlinkat(fd->get(), draft.c_str(), 0);
  if (written && ::fsync(fd->get()) != 0) return fail(error_of(directory, errno));
  return written;
}

Status unregister_express_writer(const std::string& directory, const WriterClassId& class_id) {
  const auto present = read_express_writers(directory);
  if (!present) return fail(present.error());
  const auto* entry = find(*present, class_id);
  if (entry == nullptr) {
    return fail(Errc::object_not_found,
                "no express writer of class " + class_id.to_string() + " in " + directory);
  }
  const auto fd = open_directory(directory);
  if (!fd) return fail(fd.error());
  if (::unlinkat(fd->get(), entry->file.c_str(), 0) != 0) return fail(error_of(entry->file, errno));
  if (::fsync(fd->get()) != 0) return fail(error_of(directory, errno));
  return {};
}

}  // namespace umbra::documents
